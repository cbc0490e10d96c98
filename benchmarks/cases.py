"""What both sides of a benchmark get: the same random model, the same tokens, the same pair, the same cuts.

Shape -> model, number of tokens -> token ids, segments, pairs, sets of heads. Needs torch and transformers alone, so
that it runs in the peers' environment too; torch's seed gives both the same weights, which `weights_digest` tells.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

VOCABULARY, SUFFIX, PROBE, LAST, CELLS_SEED = 1024, 130, 9, 3, 3
N_SETS, SET_SIZE, SETS_SEED = 20, 10, 4
TOKENS = "tokens.json"  # in the folder of a model
KINDS = {"qwen2": "Qwen2", "llama": "Llama"}


@dataclass(frozen=True)
class Shape:
    """Sizes of a random model, or of one whose weights lie in a folder."""

    kind: str  # qwen2 | llama
    n_layers: int
    width: int
    n_heads: int
    n_kv_heads: int
    mlp: int
    dtype: str = "float32"
    folder: str = ""


SMALL = Shape("qwen2", 8, 512, 8, 2, 1536)
REAL = Shape("qwen2", 2, 1536, 12, 2, 8960)  # two layers of the sizes of R1-Distill-Qwen-1.5B, which has 28
TINY = Shape("qwen2", 2, 32, 4, 2, 48)


@functools.lru_cache(maxsize=1)
def build_model(shape: Shape, attention: str = "sdpa") -> Any:
    """The model of a shape, in eval mode; the last one is kept."""
    import transformers

    if shape.folder:
        own = {"dtype": getattr(torch, shape.dtype), "attn_implementation": attention}
        return transformers.AutoModelForCausalLM.from_pretrained(shape.folder, **own).eval()
    torch.manual_seed(0)
    config = getattr(transformers, f"{KINDS[shape.kind]}Config")(
        vocab_size=VOCABULARY,
        hidden_size=shape.width,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.n_kv_heads,
        max_position_embeddings=32768,
        initializer_range=0.08 if shape.width <= 512 else 0.02,  # wide, so that patched cells have an effect
    )
    model = getattr(transformers, f"{KINDS[shape.kind]}ForCausalLM")(config)
    model.set_attn_implementation(attention)
    return model.to(getattr(torch, shape.dtype)).eval()


def end_of_text(model: Any) -> int:
    """The token that ends a text: the pretrained model's own, 1 for random models."""
    found = model.generation_config.eos_token_id
    return 1 if found is None else found


def generate_padded(model: Any, prompts: Sequence[list[int]], config: Any) -> list[list[int]]:
    """Responses of transformers' generate, padded on the left, to the first end of a text or the cap.

    config: GenerationConfig, with one token that ends a text and one for padding.
    """
    width, end, pad = max(map(len, prompts)), config.eos_token_id, config.pad_token_id
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    texts = model.generate(ids, attention_mask=mask, generation_config=config)[:, width:].tolist()
    return [text[: text.index(end) + 1] if end in text else text for text in texts]


def weights_digest(shape: Shape) -> str:
    """Digest of the weights; equal on both sides."""
    digest = hashlib.sha256()
    for name, tensor in sorted(build_model(shape).state_dict().items()):
        digest.update(f"{name} {tensor.double().sum().item()!r} {tensor.double().abs().sum().item()!r}".encode())
    return digest.hexdigest()


def token_ids(shape: Shape, n_tokens: int) -> list[int]:
    """Tokens of real traces for a model that lies in a folder, random ones for the others."""
    if not shape.folder:
        return random_ids(n_tokens)
    return json.loads(Path(shape.folder, TOKENS).read_text(encoding="utf-8"))[:n_tokens]


def random_ids(n_tokens: int, seed: int = 1, vocabulary: int = VOCABULARY) -> list[int]:
    return torch.randint(1, vocabulary, (n_tokens,), generator=torch.Generator().manual_seed(seed)).tolist()


def segment_bounds(n_tokens: int) -> dict[str, range]:
    """Token ranges of a trace: 50 tokens of question, 14% of answer (as in the paper's traces), the rest reasoning."""
    close = n_tokens - n_tokens * 14 // 100 - 2
    bounds = [0, 1, 50, 51, close, close + 1, n_tokens - 1]
    names = ("bos", "query", "think_open", "reasoning", "think_close", "answer")
    return {name: range(*pair) for name, pair in zip(names, pairwise(bounds), strict=True)}


@dataclass(frozen=True)
class Pair:
    """Two sequences and the tokens to patch: 9 tokens of a probe before `</think>`, and the last 3."""

    clean: list[int]
    corrupted: list[int]
    positions: list[int]
    close: int  # of `</think>`


def build_pair(n_tokens: int, vocabulary: int = VOCABULARY) -> Pair:
    """A pair of random tokens, 130 of them from `</think>` on; the paper's published cases have 171 and 197."""
    close = n_tokens - min(SUFFIX, n_tokens // 2)
    positions = [*range(close - PROBE, close), *range(n_tokens - LAST, n_tokens)]
    clean, corrupted = (random_ids(n_tokens, seed, vocabulary) for seed in (1, 2))
    return Pair(clean, corrupted, positions, close)


def chosen_cells(pair: Pair, n_layers: int) -> list[tuple[int, int]]:
    """All (layer, token) cells of a pair in a fixed shuffled order."""
    cells = [(layer, token) for layer in range(n_layers) for token in pair.positions]
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(CELLS_SEED)).tolist()
    return [cells[index] for index in order]


Heads = list[tuple[int, int]]  # layer, head


def random_sets(n_layers: int, n_heads: int) -> list[Heads]:
    """Sets of heads from all layers, each in order."""
    heads = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    generator = torch.Generator().manual_seed(SETS_SEED)
    drawn = [torch.randperm(len(heads), generator=generator)[:SET_SIZE].tolist() for _ in range(N_SETS)]
    return [sorted(heads[number] for number in numbers) for numbers in drawn]


def by_layer(heads: Heads) -> dict[int, list[int]]:
    """The numbers of the heads of each layer."""
    found: dict[int, list[int]] = {}
    for layer, head in heads:
        found.setdefault(layer, []).append(head)
    return found


def patched_passes(n_tokens: int, positions: Sequence[int], n_layers: int) -> float:
    """Forward passes that the token-layers of all cells make: a cell changes what lies behind it and above it."""
    return sum(n_tokens - position for position in positions) * (n_layers + 1) / 2 / n_tokens


def patched_forward(
    model: Any, ids: Sequence[int], layer: int, token: int, vector: torch.Tensor, **cache: Any
) -> torch.Tensor:
    """Logits of the last token when the residual stream entering `layer` is `vector` at `token`: one forward pass.

    cache: past_key_values, of the tokens before `ids`.
    """

    def hook(module: Any, args: Any, kwargs: Any) -> Any:
        hidden = args[0].clone()
        hidden[0, token] = vector
        return (hidden, *args[1:]), kwargs

    handle = model.model.layers[layer].register_forward_pre_hook(hook, with_kwargs=True)
    given = torch.tensor([list(ids)], device=model.device)
    logits = model(input_ids=given, use_cache=bool(cache), logits_to_keep=1, **cache).logits[0, -1]
    handle.remove()
    return logits


def masked_forward(
    model: Any, ids: torch.Tensor, heads: dict[int, list[int]], rows: slice, keys: slice, n_logits: int, **cache: Any
) -> torch.Tensor:
    """Logits of the last tokens when these heads' rows do not see these keys: one forward pass.

    heads: by layer; such a layer is given a mask of its own, (1, head, row, key). cache: past_key_values, of the tokens
    before `ids`; rows count from the first of `ids`, keys from the first of all.
    """
    n_rows, n_before = ids.shape[1], sum(each.get_seq_length() for each in cache.values())
    blank = torch.full((n_rows, n_before + n_rows), -torch.inf, dtype=model.dtype, device=model.device)
    causal = blank.triu(1 + n_before)

    def hook(module: Any, args: Any, kwargs: Any) -> Any:
        mask = causal.repeat(1, model.config.num_attention_heads, 1, 1)
        mask[:, heads[module.layer_idx], rows, keys] = -torch.inf
        return args, {**kwargs, "attention_mask": mask}

    layers = [model.model.layers[layer].self_attn for layer in heads]
    handles = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]
    logits = model(input_ids=ids, use_cache=bool(cache), logits_to_keep=n_logits, **cache).logits
    for handle in handles:
        handle.remove()
    return logits
