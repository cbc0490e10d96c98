"""Forced answers after changed traces against one whole forward pass per arm, by the model's own attention."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from r2a_core.activations import suffix
from r2a_core.perturb import run as runs
from r2a_core.perturb.arms import Arm
from r2a_core.perturb.reading import Reading
from r2a_core.perturb.run import Forced, run_arms, trace_cache
from r2a_core.trace import TokenTrace
from tests.knockout.test_run import made_up_trace
from tests.small_models import EVERY_KIND, tiny_model

END = 9  # the token that ends an answer


def reading_of(trace: TokenTrace, result: Sequence[int]) -> Reading:
    ids, reasoning = trace.token_ids, trace.segments.reasoning
    stem = (ids[trace.segments.think_close], 21, 22, 23)
    return Reading(trace, [""] * len(ids), [reasoning], reasoning, stem, tuple(result), "")


def made_up_arms(trace: TokenTrace) -> list[Arm]:
    """Of any length, with any part in common with the trace; one is the trace as it is, and one begins otherwise."""
    own = trace.token_ids[: trace.segments.think_close]
    ids = [
        own[:7],
        own,
        (*own[:12], 30, 31, 32, *own[14:]),
        (*own[:9], *range(40, 60)),
        (own[0], 17, *own[1:]),
        (5, *own[1:]),
    ]
    return [Arm("cut", "", 1, each, 0) for each in ids]


def oracle(model: Any, arm: Arm, reading: Reading, limit: int) -> tuple[float, list[int]]:
    """Log-probability of the result, and what is written greedily, by whole passes."""
    start = [*arm.ids, *reading.stem]
    with torch.no_grad():
        logits = model(torch.tensor([[*start, *reading.result]]), use_cache=False).logits[0, len(start) - 1 : -1]
        log_probs = logits.double().log_softmax(-1)
        written: list[int] = []
        while len(written) < limit and END not in written:
            written.append(int(model(torch.tensor([[*start, *written]]), use_cache=False).logits[0, -1].argmax()))
    return sum(float(row[token]) for row, token in zip(log_probs, reading.result, strict=True)), written


def forced(model: Any, reading: Reading, arms: Sequence[Arm], limit: int, mib: int = 64) -> list[Forced]:
    return run_arms(model, reading, trace_cache(model, reading), arms, lambda ids: END in ids, limit, mib)


@pytest.mark.parametrize(("kind", "rows"), [*((kind, 512) for kind in EVERY_KIND), ("qwen2", 5), ("gemma3_text", 5)])
def test_every_arm_is_a_whole_pass_of_its_own(kind: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suffix, "MASK_ROWS", rows)  # 5: suffixes are longer than a block
    model, trace = tiny_model(kind), made_up_trace()
    arms = made_up_arms(trace)
    by_hand = oracle(model, arms[1], reading_of(trace, [11]), 3)[1]  # so that one arm writes the trace's own result
    reading = reading_of(trace, by_hand)
    found = forced(model, reading, arms, 6)
    for arm, each in zip(arms, found, strict=True):
        log_prob, written = oracle(model, arm, reading, 6)
        assert abs(each.log_prob - log_prob) < 1e-4
        assert list(each.written) == (by_hand if each.same else written)
        assert each.same == (written[: len(by_hand)] == by_hand)
    assert found[1].same
    assert [each.whole for each in found] == [each.same or END in each.written for each in found]
    assert len({round(each.log_prob, 4) for each in found}) > 3  # a short window sees few changes


def test_company_changes_nothing_and_a_shared_beginning_is_run_once() -> None:
    model, trace = tiny_model("qwen2"), made_up_trace()
    reading, arms = reading_of(trace, [11, 12]), made_up_arms(trace)
    together = forced(model, reading, arms, 4)
    assert not any(each.same for each in together)
    alone = [forced(model, reading, [arm], 4)[0] for arm in arms]
    for one, other in zip(together, alone, strict=True):
        assert abs(one.log_prob - other.log_prob) < 1e-5
        assert (one.written, one.n_run) == (other.written, other.n_run)
    end = len(reading.stem) + 1
    assert [each.n_run for each in together[:5]] == [end, end, 3 + 7 + end, 20 + end, trace.segments.think_close + end]


def test_small_memory_makes_more_passes_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    model, trace = tiny_model("llama"), made_up_trace()
    reading, arms = reading_of(trace, [11, 12]), made_up_arms(trace)
    packs: list[int] = []
    own = runs.forced_pack

    def counted(model: Any, reading: Reading, cache: Any, arms: Sequence[Arm], *more: Any) -> list[Forced]:
        packs.append(len(arms))
        return own(model, reading, cache, arms, *more)

    monkeypatch.setattr(runs, "forced_pack", counted)
    monkeypatch.setattr(runs, "MIB", 1 << 10)
    whole, parts = forced(model, reading, arms, 4, 1 << 20), forced(model, reading, arms, 4, 1)
    assert packs[0] == len(arms)
    assert len(packs) > 3
    assert [each.written for each in whole] == [each.written for each in parts]
