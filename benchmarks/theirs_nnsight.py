"""nnsight's ways: traces of the transformers model whose attention is computed eagerly.

Each way is a function of a case, as those of benchmarks/theirs_hf.py.
"""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.cases import Shape, build_model, build_pair, chosen_cells, segment_bounds, token_ids
from benchmarks.theirs_hf import Cut, Run, difference, next_ones, segment_sums


def traced(shape: dict[str, Any]) -> Any:
    """The model of a shape, to be traced. nnsight does not reach into SDPA."""
    from nnsight import NNsight  # pyright: ignore[reportMissingImports]

    return NNsight(build_model.__wrapped__(Shape(**shape), "eager"))  # a model of its own: it is changed in place


def nnsight_masses(shape: dict[str, Any], n_tokens: int) -> Run:
    """Segment sums of the weights that every layer's attention returns."""
    model, bounds = traced(shape), segment_bounds(n_tokens)
    ids = torch.tensor([token_ids(Shape(**shape), n_tokens)])

    def run() -> list[float]:
        sums = []  # for type checkers; nnsight runs the block elsewhere
        with model.trace(input_ids=ids, use_cache=False, logits_to_keep=1):
            sums = [].save()  # pyright: ignore[reportAttributeAccessIssue] (nnsight gives lists one)
            for layer in model.model.layers:
                sums.append(torch.stack(segment_sums(layer.self_attn.output[1][0], bounds)))
        return torch.stack(sums).double().flatten().tolist()

    return run


def nnsight_cells(shape: dict[str, Any], n_tokens: int, count: int) -> Run:
    """Some cells, a trace each that edits what enters a layer; the next ones each time it is called."""
    model, pair = traced(shape), build_pair(n_tokens)
    plain, given = build_model(Shape(**shape), "eager"), torch.tensor([pair.clean])
    clean = plain(input_ids=given, use_cache=False, output_hidden_states=True).hidden_states

    def cell(place: tuple[int, int]) -> float:
        layer, token = place
        with model.trace(input_ids=torch.tensor([pair.corrupted]), use_cache=False, logits_to_keep=1):
            model.model.layers[layer].input[0, token] = clean[layer][0, token]
            found = model.lm_head.output.save()
        return difference(found[0, -1])

    return next_ones(cell, chosen_cells(pair, shape["n_layers"]), count)


def nnsight_sets(shape: dict[str, Any], n_tokens: int, count: int) -> Run:
    """An edit of what eager attention hands to its softmax, in every layer with heads of the set; a trace a set."""
    model, cut = traced(shape), Cut(shape, n_tokens, count)

    def logits(heads: dict[int, list[int]]) -> torch.Tensor:
        with model.trace(input_ids=cut.ids, use_cache=False, logits_to_keep=len(cut.answer)):
            for layer, own in sorted(heads.items()):
                attention = model.model.layers[layer].self_attn.source.attention_interface_1
                scores = attention.source.nn_functional_softmax_0.inputs[0][0]
                scores[:, own, cut.rows, cut.keys] = -torch.inf
            found = model.lm_head.output.save()
        return found  # noqa: RET504 (nothing returns from inside a trace)

    return cut.by(logits)


WAYS: dict[str, Callable[..., Run]] = {way.__name__: way for way in (nnsight_masses, nnsight_cells, nnsight_sets)}
