"""Low-rank fine-tuning of a base model on texts with reasoning -> a LoRA adapter in PEFT format.

    out_dir/adapter_config.json, adapter_model.safetensors (bfloat16), loss.csv (step, tokens, rate, loss)

The trained parts and their loss are in models.low_rank. The base is held in bfloat16, what is trained in float32. The
same recipe gives the same bytes on the same machine, through any number of interruptions (models.training_state).
"""

import json
import math
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save_file

from r2a_core.builtin.batches import Batch, batches_of
from r2a_core.builtin.tasks.encode import encode_text
from r2a_core.builtin.texts import TrainingText
from r2a_core.config import AdapterRecipe
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import write_text_whole
from r2a_core.infra.memory import give_back_memory
from r2a_core.models.low_rank import PREFIX, Tuned
from r2a_core.models.training_state import Progress, States, kept_steps, restore, snapshot
from r2a_core.tokenizer import LoadedTokenizer

SORTED_AT_ONCE = 256  # texts; batches are of texts of like length


def fine_tune(
    recipe: AdapterRecipe,
    model: Any,
    tokenizer: LoadedTokenizer,
    texts: Iterator[TrainingText],
    states: States | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    start: Path | None = None,
) -> tuple[dict[str, torch.Tensor], Progress]:
    """Trains on `texts` (endless, seeded); returns the adapter's tensors by their names in PEFT format, and the course.

    model: a transformers model, which is changed. progress(step, steps, loss) is called after every step. start: folder
    of an adapter to go on from. Sets torch's thread count to recipe.threads. Raises R2AError when the loss is not
    finite, or the adapter does not fit.
    """
    torch.set_num_threads(recipe.threads)
    model.set_attn_implementation("eager")  # texts are short, and the CPU's flash backward in bfloat16 is slow
    tuned = Tuned(model, recipe, tokenizer)
    if start is not None:
        tuned.take(start)
    optimizer = torch.optim.AdamW(tuned.learnt.values(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    done = Progress()
    if states is not None and (state := states.last()) is not None:
        restore(state, tuned, optimizer, done)
    drawn = enumerate(batches(texts, tokenizer, recipe))
    for step, batch in islice(drawn, len(done.losses), recipe.steps):  # draws the batches of finished steps again
        done.losses.append(train_step(tuned, batch, optimizer, step))
        done.tokens.append(batch.ids.numel())
        give_back_memory()
        if progress is not None:
            progress(step + 1, recipe.steps, done.losses[-1])
        if states is not None and step + 1 in kept_steps(recipe):
            states.keep(step + 1, snapshot(tuned, optimizer, done))
    return tuned.tensors(), done


def save_adapter(
    recipe: AdapterRecipe, tokenizer: LoadedTokenizer, tensors: dict[str, torch.Tensor], done: Progress, out_dir: Path
) -> None:
    """Writes an adapter in PEFT format, and the loss by step."""
    from peft import LoraConfig, TaskType

    names = [name.removeprefix(PREFIX) for name in tensors]
    layers = sorted(name.removesuffix(".lora_A.weight") for name in names if name.endswith(".lora_A.weight"))
    table = next(name.split(".")[-3] for name in names if name.endswith("trainable_tokens_delta"))
    out_dir.mkdir(parents=True, exist_ok=True)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=recipe.rank,
        lora_alpha=recipe.alpha,  # type: ignore[arg-type]
        target_modules=sorted({layer.split(".")[-1] for layer in layers}),
        trainable_token_indices={table: [tokenizer.ids.think_open, tokenizer.ids.think_close]},
        inference_mode=True,
    )
    values = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    write_text_whole(out_dir / "adapter_config.json", json.dumps(values, indent=2, sort_keys=True) + "\n")
    save_file(tensors, out_dir / "adapter_model.safetensors", {"format": "pt"})
    rows = zip(done.tokens, done.losses, strict=True)
    lines = [
        f"{step},{tokens},{recipe.learning_rate * rate_share(step, recipe):.8g},{loss:.6f}"
        for step, (tokens, loss) in enumerate(rows)
    ]
    write_text_whole(out_dir / "loss.csv", "\n".join(["step,tokens,rate,loss", *lines]) + "\n")


def rate_share(step: int, recipe: AdapterRecipe) -> float:
    """Returns the share of the full learning rate at a step: rising, flat, then linearly to recipe.final_share."""
    flat = recipe.flat_share * recipe.steps
    past = max(0.0, (step - flat) / max(recipe.steps - flat, 1.0))
    return min(1.0, (step + 1) / recipe.ramp_steps, 1.0 - (1.0 - recipe.final_share) * past)


def train_step(tuned: Tuned, batch: Batch, optimizer: torch.optim.Optimizer, number: int) -> float:
    """Takes the optimizer step of this number; returns the loss before it. Raises R2AError unless finite."""
    for group in optimizer.param_groups:
        group["lr"] = tuned.recipe.learning_rate * rate_share(number, tuned.recipe)
    loss = tuned.loss(batch)
    if not math.isfinite(value := loss.item()):
        raise R2AError(f"training step {number}: the loss is {value}", "lower learning_rate of the recipe")
    loss.backward()
    torch.nn.utils.clip_grad_norm_(tuned.learnt.values(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    tuned.merge()
    return value


def batches(texts: Iterator[TrainingText], tokenizer: LoadedTokenizer, recipe: AdapterRecipe) -> Iterator[Batch]:
    """Returns the batches of a training, the same for the same texts and recipe."""
    random = Random(recipe.seed)
    encoded = (encode_text(text, tokenizer, random) for text in texts)
    return batches_of(encoded, SORTED_AT_ONCE, recipe.batch_tokens, random, tokenizer.ids.pad)
