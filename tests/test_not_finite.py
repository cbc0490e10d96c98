"""A NaN or an infinity planted in any stage's numbers ends in an error with its place, never in a table."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from r2a_core.activations.capture import capture_trace
from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.attention.heads import HEAD_SCHEMA, rank_heads
from r2a_core.attention.induction import induction_scores
from r2a_core.attention.map_selection import ShownMaps, Span
from r2a_core.attention.map_views import choose_views, query_blocks
from r2a_core.attention.maps import span_rows
from r2a_core.attention.retrieval import NeedleTest, retrieval_scores
from r2a_core.attention.tables import ATTENTION_SCHEMA, medians, tables_from_activations
from r2a_core.config import (
    CrossingParams,
    HeadsParams,
    InductionParams,
    PairCaptureParams,
    ResponseParams,
    SweepParams,
    parse,
)
from r2a_core.generation.decode import GenerationRequest, generate
from r2a_core.pairs.align import AlignedPair, PaddedSequence, PatchPosition
from r2a_core.patching.metrics import AnswerMetrics, Sweep, answer_metrics, normalised_logit_diff, sweep_frame
from r2a_core.patching.runs import capture_clean
from r2a_core.patching.stage import capture_pair
from r2a_core.patching.summary import crossing, layer_curves
from r2a_core.patching.sweep import sweep_pair
from r2a_core.tokenizer import TagIds
from r2a_core.trace import SEGMENTS, TraceSegments
from tests.small_models import kept, two_layers
from tests.study import PARAMS

NAN, INF = float("nan"), float("inf")
SEGMENTED = TraceSegments(think_open=2, think_close=6, n_tokens=10)  # three reasoning tokens, two of the answer
LOOK = "look at the model"


def tiny_model(layer: int | None = None) -> Any:
    """A random Llama of two layers whose `layer` holds a NaN; 2: the output matrix does."""
    model = two_layers(LlamaForCausalLM, LlamaConfig, 40)
    if layer is not None:
        weight = model.lm_head.weight if layer == 2 else model.model.layers[layer].self_attn.q_proj.weight
        with torch.no_grad():
            weight[9, 3] = NAN  # of the queries: head 1, dimension 1
    return model


# Captured activations


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (None, "queries of layer 1: the value at head 1, row 0, dimension"),  # the model itself computes NaN
        ("k", "keys of layer 1: the value at KV head 0, token 0, dimension 0"),
        ("residual", "residual stream of layer 1: the value at row 0, dimension 0"),
        ("z", "head outputs of layer 1: the value at row 0, dimension 0"),
    ],
)
def test_captured_activations(refused, kind: str | None, says: str) -> None:
    config = kept("all", "bfloat16", residual_layers=(1,), z_layers=(1,))
    trace = capture_trace(tiny_model(None if kind else 1), list(range(1, 11)), SEGMENTED, config)
    if kind:
        getattr(trace, kind)[1].view(-1)[0] = NAN
    refused(lambda: trace.record("arithmetic-00007", range(1, 11)), ["'arithmetic-00007': " + says, "is nan"], LOOK)


# Attention statistics


class Trace:
    """A trace in memory: one layer, two heads; queries and keys are given."""

    def __init__(self, scale: float = 1.0, constant: bool = False, window: int | None = None, bounds: Any = SEGMENTED):
        generator = torch.Generator().manual_seed(0)
        self.segments, self.first_row = bounds, 0
        self.layers = {0: LayerAttention(0, n_heads=2, n_kv_heads=1, head_dim=4, scaling=0.5, window=window)}
        shape = (bounds.n_tokens, 4)
        self.q = torch.zeros(2, *shape) if constant else torch.randn(2, *shape, generator=generator) * scale
        self.k = torch.randn(1, *shape, generator=generator) * scale

    def queries(self, layer: int) -> torch.Tensor:
        return self.q

    def keys(self, layer: int) -> torch.Tensor:
        return self.k


def statistics(trace: Any) -> Any:
    pieces = [f" t{number}" for number in range(trace.segments.n_tokens)]
    return tables_from_activations("q1", trace, pieces, ("wait",))


@pytest.mark.parametrize("value", [NAN, INF, None], ids=["nan", "inf", "overflow"])
def test_a_planted_query_of_the_reasoning_and_attention_that_overflows(refused, value: float | None) -> None:
    trace, rows = Trace(scale=1.0 if value else 1e30), "reasoning" if value else "answer"
    if value:
        trace.q[1, 4, 0] = value
    says = f"'q1', layer 0: mean attention of the {rows} rows: the value at head"
    refused(lambda: statistics(trace), says, LOOK)


def test_maps_of_attention_that_overflows(refused) -> None:
    trace: Any = Trace(scale=1e30)
    views = choose_views(trace, ShownMaps(((0, 1),), ((0, 0),), ("q1",), ()))
    says = "attention map head, layer and head (0, 1): the value at row 0, token 0 is nan"
    refused(lambda: list(query_blocks(trace, views, range(trace.segments.n_tokens), "cpu")), says, LOOK)
    refused(lambda: span_rows(trace, Span("q1", 7, 9), views, "cpu"), "the value at row 0, token 0 is nan", LOOK)


@pytest.mark.parametrize(
    "trace", [Trace(constant=True), Trace(bounds=TraceSegments(2, 6, 9))], ids=["constant attention", "one token"]
)
def test_a_correlation_that_does_not_exist_is_null(trace: Trace) -> None:
    answer = statistics(trace).attention.filter(pl.col("source") == "answer")
    correlations = ("walk_correlation", "walk_correlation_weighted", "walk_p")
    assert answer.select(correlations).null_count().row(0) == (2, 2, 2)
    assert answer.select(SEGMENTS).sum_horizontal().to_list() == pytest.approx([1.0, 1.0], abs=1e-6)
    assert answer["n_source_tokens"].to_list() == [len(trace.segments.answer)] * 2


# Heads


HEADS = parse(HeadsParams, PARAMS["heads"], "heads")


def attention_frame(**change: float) -> pl.DataFrame:
    row = {"item_id": "q1", "layer": 3, "source": "answer", "n_source_tokens": 2, "n_reasoning_tokens": 3}
    row |= dict.fromkeys((*SEGMENTS, "reflection", "uniformity", "uniform_share", "walk_correlation_weighted"), 0.25)
    return pl.DataFrame([row | {"head": 0}, row | {"head": 1} | change], schema=ATTENTION_SCHEMA)


def scores(**change: float) -> pl.DataFrame:
    row = {"layer": 3, "induction": 0.1, "induction_match": 0.1, "retrieval": 0.1}
    frame = pl.DataFrame([row | {"head": 0}, row | {"head": 1} | change])
    return frame.cast({"layer": pl.Int16, "head": pl.Int16})


def test_rankings_and_medians_take_only_finite_numbers(refused) -> None:
    good = {"arithmetic": attention_frame()}
    assert dict(rank_heads(good, scores(), HEADS).schema) == HEAD_SCHEMA
    for column in ("reasoning", "walk_correlation_weighted"):
        says = f"attention of arithmetic: {column} is nan at item_id 'q1', layer 3, head 1"
        bad = {"arithmetic": attention_frame(**{column: NAN})}
        refused(lambda bad=bad: rank_heads(bad, scores(), HEADS), says, "dvc repro attention")
    says = "scores of heads: retrieval is inf at layer 3, head 1"
    refused(lambda: rank_heads(good, scores(retrieval=INF), HEADS), says, "dvc repro heads")
    says = "attention: reasoning is nan at item_id 'q1', layer 3, head 1, source 'answer'"
    refused(lambda: medians(attention_frame(reasoning=NAN)), says, "dvc repro attention")


def test_scores_of_a_model_that_computes_nan(refused) -> None:
    config = InductionParams(sequences=1, period=4, seed=0)
    says = "of layer 1 on repeated random tokens: the value at head 1 is nan"
    refused(lambda: induction_scores(tiny_model(1), range(10, 30), 1, config), says, LOOK)
    test = NeedleTest((1, 5, 6, 7), range(1, 3), 2, (5, 6))
    says = "attention logits of layer 1 in a needle test: the value at head 1, row 0 is nan"
    refused(lambda: retrieval_scores(tiny_model(1), [test]), says, LOOK)
    config = InductionParams(sequences=1, period=20, seed=0)
    refused(lambda: induction_scores(tiny_model(), range(5), 1, config), "found 5", "lower heads.induction.period")
    refused(lambda: retrieval_scores(tiny_model(), []), "the needle test has no tests", "capture more traces")


# Patching


def pair() -> AlignedPair:
    sides = [PaddedSequence((1, 2, 9, token, 5, 6), (False,) * 6, masked=False) for token in (3, 4)]
    places = (PatchPosition(3, "flip", "c", "k"), PatchPosition(4, "think_close", "x", "x"))
    return AlignedPair(
        "p7", "plain", sides[0], sides[1], (*places, PatchPosition(5, "answer_end", "{", "{")), 3, 4, 2, 4
    )


def test_clean_runs_of_a_model_that_computes_nan(refused) -> None:
    params = PairCaptureParams(logit_diff_threshold=0, with_z=True, shard_pairs=1)
    of_layer = {0: "queries of layer 0: the value at row 0, head 1", 2: "the answers' log-probability difference"}
    for layer, says in of_layer.items():
        capture = lambda layer=layer: capture_pair(tiny_model(layer), pair(), params)  # noqa: E731
        refused(capture, ["pair 'p7' (plain), clean run", says, "is nan"], LOOK)


def test_cells_of_a_model_that_computes_nan(refused) -> None:
    clean = capture_clean(tiny_model(), pair())
    params = SweepParams(components=("resid_pre",), restored_roles=(), memory_mib=64)
    assert sweep_pair(tiny_model(), pair(), clean, params, 64)
    says = ["pair 'p7' (plain)", "queries of layer 1: the value at row 0, head 1, token 0, dimension 1 is nan"]
    refused(lambda: sweep_pair(tiny_model(1), pair(), clean, params, 64), says, LOOK)
    says = ["pair 'p7' (plain)", "the value at row", "is nan"]
    spoilt = replace(clean, resid_pre=clean.resid_pre.clone())
    spoilt.resid_pre[1, 0, 0] = INF
    refused(lambda: sweep_pair(tiny_model(), pair(), spoilt, params, 64), says, LOOK)


def sweep(**change: Any) -> Sweep:
    metrics = AnswerMetrics(*(np.ones((2, 3)) for _ in range(3)), np.zeros((2, 3), np.int64))  # type: ignore[arg-type]
    labels = {"roles": ("flip", "think_close", "answer_end"), "clean_tokens": [*"aaa"], "corrupted_tokens": [*"bbb"]}
    values = {"metrics": metrics, "ld_clean": 5.0, "ld_corrupted": -5.0, "positions": (3, 4, 5), **labels} | change
    return Sweep(pair_id="p7", probe="plain", component="resid_pre", **values)


def test_a_cell_that_is_nan_and_runs_without_a_scale(refused) -> None:
    assert sweep_frame(sweep()).height == 6
    assert normalised_logit_diff(np.array([0.0]), 5.0, -5.0).tolist() == [0.5]
    spoilt = sweep().metrics
    spoilt.prob_diff[1, 2] = NAN
    cell = "at pair_id 'p7', probe 'plain', component 'resid_pre', layer 1, head None, position 5"
    refused(lambda: sweep_frame(sweep(metrics=spoilt)), ["patching: prob_diff is nan", cell], LOOK)
    refused(lambda: sweep_frame(sweep(ld_clean=INF)), "patching: ld_clean is inf at pair_id 'p7'", LOOK)
    for change in ({"ld_clean": NAN}, {"ld_corrupted": NAN}, {"ld_clean": -5.0}):
        refused(lambda change=change: sweep_frame(sweep(**change)), "NLD has no scale", "drop the pair")


@pytest.mark.parametrize(
    ("run", "token", "value", "says"),
    [
        (2, 4, NAN, "the answers' logit difference: the value at run 2 is"),
        (2, 4, -INF, "the answers' logit difference: the value at run 2 is"),
        (1, 0, NAN, "the answers' log-probability difference: the value at run 1"),  # elsewhere in the vocabulary
    ],
)
def test_logits_that_are_no_numbers(refused, run: int, token: int, value: float, says: str) -> None:
    logits = torch.zeros(3, 8)
    logits[run, token] = value
    refused(lambda: answer_metrics(logits, 4, 5), says, LOOK)
    logits[run, token], logits[1, 0] = 0, -INF  # a token that the model rules out
    assert answer_metrics(logits, 4, 5).log_prob_diff.tolist() == [0, 0, 0]


def test_curves_take_no_nan_and_one_pair_has_no_spread_and_no_interval(refused) -> None:
    frame, params = sweep_frame(sweep()), CrossingParams(bootstrap_draws=10, confidence=0.95, seed=0)
    spoilt = frame.with_columns(nld=pl.Series([0.1, 0.2, NAN, 0.1, 0.2, 0.3]))
    says = "patching: nld is nan at pair_id 'p7', probe 'plain', layer 0, position 5"
    refused(lambda: layer_curves(spoilt), says, "dvc repro patch")
    refused(lambda: crossing(spoilt, "plain", params), says, "dvc repro patch")
    curves = layer_curves(frame)
    assert curves["sd"].null_count() == curves.height
    assert curves["n_pairs"].to_list() == [1] * curves.height
    found = crossing(frame, "plain", params)
    assert (found.layer, found.low, found.high, found.share_crossing) == (None, None, None, 0.0)


# Generation


def test_logits_that_are_no_numbers_end_generation(refused) -> None:
    loaded: Any = SimpleNamespace(model=tiny_model(2), ids=TagIds(1, 2, 3, 4, 0))
    request = GenerationRequest("arithmetic-00003", 0, (1, 7, 3))
    for temperature in (0.0, 0.7):
        config = ResponseParams(max_new_tokens=4, batch_size=1, tie_margin=0.001, shard_items=1).sampled(temperature)
        says = "arithmetic-00003: the logits of response token 0 are not numbers"
        refused(lambda config=config: generate(loaded, [request], config), says, "weights")
