"""A small model that knows the right responses to the pairs of the small study by heart.

usage: python -m tests.reliability.memorised MODEL_FOLDER          -> MODEL_FOLDER/ in Hugging Face format
"""

import sys
from pathlib import Path
from typing import Any

import torch

from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import Tags
from r2a_core.generation.rows import tagged_ids
from r2a_core.models.load import resolve_tags
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer
from tests.reliability.small_project import BRIEF, questions, response

STEPS, RATE, ENOUGH = 400, 0.004, 0.01  # optimizer steps at most, their rate, loss in nats a token at which to stop
N_LAYERS = 2


def learn(sequences: list[list[int]], starts: list[int], pad: int, vocabulary: int) -> Any:
    """A random model after learning every sequence from its start on."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    sizes: Any = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen2Config(**sizes, vocab_size=vocabulary, num_hidden_layers=N_LAYERS, max_position_embeddings=2048)
    model: Any = Qwen2ForCausalLM(config)
    width = max(map(len, sequences))
    ids = torch.tensor([sequence + [pad] * (width - len(sequence)) for sequence in sequences])
    targets = ids.clone()
    for row, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
        targets[row, :start] = -100
        targets[row, len(sequence) :] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    for _ in range(STEPS):
        loss = model(input_ids=ids, labels=targets).loss
        if loss.item() < ENOUGH:
            return model
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    raise SystemExit(f"error: after {STEPS} steps the loss is still above {ENOUGH}")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    items, tokenizer, tags = questions(), build_tokenizer(), Tags()
    text = LoadedTokenizer(tokenizer, tags, resolve_tags(tokenizer, tags))
    prompts = [prompt_ids(text, item.question, BRIEF, "with_reasoning") for item in items]
    sequences = [
        prompt + tagged_ids(text, response(item, 2 + number % 3))
        for number, (prompt, item) in enumerate(zip(prompts, items, strict=True))
    ]
    learn(sequences, [len(prompt) for prompt in prompts], text.ids.pad, len(tokenizer)).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
