"""transformers' own ways: eager attention, one forward pass a cell or a set of heads, batched generation.

Also what the ways of TransformerLens and nnsight share: sums by segment, the next few cells or sets of a case.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from benchmarks.cases import (
    Shape,
    build_model,
    build_pair,
    by_layer,
    chosen_cells,
    end_of_text,
    generate_padded,
    masked_forward,
    patched_forward,
    random_sets,
    segment_bounds,
    token_ids,
    weights_digest,
)

Run = Callable[[], Any]


def digest(shape: dict[str, Any]) -> Run:
    return lambda: weights_digest(Shape(**shape))


def segment_sums(pattern: torch.Tensor, bounds: dict[str, range]) -> list[torch.Tensor]:
    """Mean mass of each segment over answer rows and over reasoning rows, (head,) each; pattern (head, row, key)."""
    rows = [pattern[:, bounds[name].start : bounds[name].stop] for name in ("answer", "reasoning")]
    return [part[..., keys.start : keys.stop].sum(-1).mean(-1) for part in rows for keys in bounds.values()]


def eager_masses(shape: dict[str, Any], n_tokens: int) -> Run:
    """transformers' output_attentions=True, and the segment sums of every layer's matrices."""
    model, bounds = build_model(Shape(**shape), "eager"), segment_bounds(n_tokens)
    ids = torch.tensor([token_ids(Shape(**shape), n_tokens)])

    def run() -> list[float]:
        out = model(input_ids=ids, use_cache=False, logits_to_keep=1, output_attentions=True)
        sums = [torch.stack(segment_sums(pattern[0], bounds)) for pattern in out.attentions]
        return torch.stack(sums).double().flatten().tolist()

    return run


def difference(logits: torch.Tensor) -> float:
    """Logit difference of the two answers, tokens 1 and 2."""
    one, other = logits[1:3].tolist()  # as float64: a difference of bfloat16 logits is not rounded again
    return one - other


def full_runs(shape: dict[str, Any], n_tokens: int) -> Run:
    """Clean and corrupted run."""
    model, pair = build_model(Shape(**shape)), build_pair(n_tokens)
    sides = [torch.tensor([ids]) for ids in (pair.clean, pair.corrupted)]
    return lambda: [difference(model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1]) for ids in sides]


def full_forward_cells(shape: dict[str, Any], n_tokens: int, count: int) -> Run:
    """Some cells by a forward pre-hook on a layer of the transformers model and an ordinary forward pass each."""
    model, pair = build_model(Shape(**shape)), build_pair(n_tokens)
    clean = model(input_ids=torch.tensor([pair.clean]), use_cache=False, output_hidden_states=True).hidden_states

    def cell(place: tuple[int, int]) -> float:
        layer, token = place
        return difference(patched_forward(model, pair.corrupted, layer, token, clean[layer][0, token]))

    return next_ones(cell, chosen_cells(pair, shape["n_layers"]), count)


def cached_cells(shape: dict[str, Any], n_tokens: int, count: int) -> Run:
    """The same with keys and values of the tokens before the patched one kept: a pass over the others, all layers."""
    model, pair = build_model(Shape(**shape)), build_pair(n_tokens)
    clean = model(input_ids=torch.tensor([pair.clean]), use_cache=False, output_hidden_states=True).hidden_states
    whole = DynamicCache()
    model(input_ids=torch.tensor([pair.corrupted]), past_key_values=whole, logits_to_keep=1)
    before: dict[int, Any] = {}
    for token in pair.positions:
        before[token] = copy.deepcopy(whole)
        before[token].crop(token - n_tokens)

    def cell(place: tuple[int, int]) -> float:
        layer, token = place
        kept, rest = before[token], pair.corrupted[token:]
        logits = patched_forward(model, rest, layer, 0, clean[layer][0, token], past_key_values=kept)
        kept.crop(token - n_tokens)
        return difference(logits)

    cells = [(layer, token) for layer in range(shape["n_layers"]) for token in pair.positions]  # each position in turn
    return next_ones(cell, cells, count)


def next_ones(compute: Callable[[Any], Any], cases: Sequence[Any], count: int) -> Run:
    """A call that computes the next `count` of the cases: each with what was found."""
    done = [0]

    def run() -> list[tuple[Any, Any]]:
        chosen = [cases[(done[0] + step) % len(cases)] for step in range(count)]
        done[0] += count
        return [(case, compute(case)) for case in chosen]

    return run


class Cut:
    """A trace whose answer is forced, and some next sets of heads: in these, `rows` no longer see `keys`."""

    def __init__(self, shape: dict[str, Any], n_tokens: int, count: int) -> None:
        bounds, ids = segment_bounds(n_tokens), token_ids(Shape(**shape), n_tokens)
        answer, reasoning = bounds["answer"], bounds["reasoning"]
        self.ids = torch.tensor([ids[: answer.stop - 1]])
        self.answer = torch.tensor(ids[answer.start : answer.stop])
        self.rows, self.keys = slice(answer.start - 1, None), slice(reasoning.start, reasoning.stop)
        self.sets, self.count = random_sets(shape["n_layers"], shape["n_heads"]), count

    def by(self, logits: Callable[[dict[int, list[int]]], torch.Tensor]) -> Run:
        """A call for log-probabilities of the answer by number of set. logits: heads by layer -> (1, row, token)."""

        def log_probs(number: int) -> list[float]:
            found = logits(by_layer(self.sets[number]))[0]
            exact = found.to(torch.promote_types(found.dtype, torch.float32))
            return exact.log_softmax(-1).gather(1, self.answer[:, None])[:, 0].tolist()

        return next_ones(log_probs, range(len(self.sets)), self.count)


def masked_forwards(shape: dict[str, Any], n_tokens: int, count: int, attention: str) -> Run:
    """An ordinary forward pass a set; the layers of its heads are given a mask of their own, (1, head, row, key)."""
    model, cut = build_model(Shape(**shape), attention), Cut(shape, n_tokens, count)
    return cut.by(lambda heads: masked_forward(model, cut.ids, heads, cut.rows, cut.keys, len(cut.answer)))


def cached_sets(shape: dict[str, Any], n_tokens: int, count: int) -> Run:
    """The same with keys and values of the tokens before the answer kept: a pass over its rows, all layers, a set."""
    model, cut = build_model(Shape(**shape)), Cut(shape, n_tokens, count)
    first, kept = cut.rows.start, DynamicCache()
    model(input_ids=cut.ids[:, :first], past_key_values=kept, logits_to_keep=1)

    def logits(heads: dict[int, list[int]]) -> torch.Tensor:
        ids = cut.ids[:, first:]
        found = masked_forward(model, ids, heads, slice(None), cut.keys, len(cut.answer), past_key_values=kept)
        kept.crop(-ids.shape[1])
        return found

    return cut.by(logits)


def generate_batched(
    shape: dict[str, Any], prompts: list[list[int]], max_new_tokens: int, batch_size: int, temperature: float
) -> Run:
    """transformers' generate, batch_size prompts at a time, padded on the left."""
    from transformers import GenerationConfig

    model = build_model(Shape(**shape))
    options = {"max_new_tokens": max_new_tokens, "do_sample": temperature > 0}
    options |= {"temperature": temperature, "top_k": 0} if temperature > 0 else {}
    config = GenerationConfig(eos_token_id=end_of_text(model), pad_token_id=0, **options)

    def run() -> list[list[int]]:
        made = []
        for start in range(0, len(prompts), batch_size):
            made += generate_padded(model, prompts[start : start + batch_size], config)
        return made

    return run


WAYS: dict[str, Callable[..., Run]] = {
    "digest": digest,
    "eager_masses": eager_masses,
    "full_runs": full_runs,
    "full_forward_cells": full_forward_cells,
    "cached_cells": cached_cells,
    "masked_forwards": masked_forwards,
    "cached_sets": cached_sets,
    "generate_batched": generate_batched,
}
