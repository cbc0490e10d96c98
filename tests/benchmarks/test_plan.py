"""The plan of a study: times by hand, counts as the core has them, and models whose sizes are known."""

import sys

import polars as pl
import pytest

from benchmarks import machine, plan
from benchmarks.cases import patched_passes
from benchmarks.passes import Lengths, Passes, StageWork, StudyOf
from benchmarks.stage_work import study_work
from r2a_core.config import Params, parse, read_yaml
from r2a_core.infra.errors import R2AError
from tests.study import ROOT

LENGTHS = Lengths(question=50, reasoning=400, answer=62, without=20, longest=500)


def study(name: str, **changed: object) -> StudyOf:
    """Keys of params.yaml have `_of_` for a dot, innermost first: limit_of_capture."""
    values = read_yaml(ROOT / "params.yaml")
    for key, value in changed.items():
        last, *outer = key.split("_of_")
        section = values
        for each in reversed(outer):
            section = section[each]
        section[last] = value
    params = parse(Params, values, "")
    return StudyOf(name, params, plan.model_of(name, params), LENGTHS, 80e9)


def test_a_pass_takes_what_it_computes_what_it_moves_and_its_calls():
    own = study("r1_llama_8b")
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096
    assert own.layer_weights == layer
    device = machine.Machine(rate=1e12, bandwidth=1e9, statistics=1, layer=0.5, start=3, load=5)
    one = Passes(count=2, rows=100, seen=10, layers=32, logits=0, caches=0)
    computed = 32 * 100 * (2 * layer + 4 * 10 * 4096) / 1e12
    moved = 32 * 2 * layer / 1e9
    assert device.passing(own, one) == pytest.approx(2 * (computed + moved + 16))
    cached = Passes(count=2, rows=100, seen=10, layers=32, logits=3, caches=7)
    logits = 3 * 128256 * (2 * 4096 / 1e12 + 24 / 1e9)
    more = logits + 32 * 7 * 10 * 2 * 8 * 128 * 2 / 1e9
    assert device.passing(own, cached) == pytest.approx(2 * (computed + moved + 16 + more))
    work = StageWork("any", 2, (one,), weights=6, kept=3e9)
    assert device.seconds(own, work) == pytest.approx(2 * (3 + 5) + device.passing(own, one) + 6 + 3)


def test_stages_are_counted_as_params_have_them():
    own = study(
        "r1_llama_8b",
        limit_of_generate=60,
        limit_of_capture=3,
        limit_of_generate_of_pairs=10,
        traces_of_knockout=1,
        anew_of_knockout=None,
        traces_of_free_of_perturb=0,
    )
    works = {work.stage: work for work in study_work(own)}
    t, short, datasets = 50 + 1 + 400 + 62 + 2, 50 + 1 + 11 + 20 + 2, 4
    assert works["capture"].kept == 3 * datasets * (t + short) * 32 * (32 + 8) * 128 * 2  # queries and keys of all rows
    assert [(each.count, each.rows) for each in works["capture"].passes] == [(12, t), (12, short)]
    unchanged, cut = works["knockout"].passes
    assert (unchanged.count, unchanged.rows) == (datasets, t)
    n_arms = 1 + 3 * 4 + 2 * 3 + 1 + 2 * 20  # none, three rankings in four sizes, two kinds of ten heads, all, random
    assert cut.count * cut.rows == pytest.approx(datasets * n_arms * 62)
    assert 20 < cut.layers < 28
    whole, cells = works["patch"].passes
    pairs = 10 * 2  # probes
    assert (whole.count, whole.rows) == (pairs, t + 9)
    assert cells.count * cells.rows == pytest.approx(pairs * patched_passes(t + 9, patched(t), 32) * (t + 9))
    start, step = works["generate"].passes[:2]
    assert start.count * start.rows == datasets * 60 * 50
    assert step.count * step.rows == pytest.approx(datasets * 60 * 464)
    assert (works["perturb"].runs, len(works["perturb"].passes), works["heads"].runs) == (4, 5, 1)


def patched(n_tokens: int) -> list[int]:
    close = n_tokens - 64 + 9
    return [*range(close - 8, close + 1), *range(n_tokens + 6, n_tokens + 9)]


def test_lengths_are_means_of_what_was_written():
    def frame(*lengths: int) -> pl.DataFrame:
        rows = pl.DataFrame({"response_ids": [[0] * length for length in lengths]})
        bounds = {"think_open": 4, "think_close": 7, "answer_start": 8, "answer_end": 13, "status": "ok"}
        return rows.with_columns(**{key: pl.lit(value) for key, value in bounds.items()})

    found = plan.written_lengths([frame(10, 20), frame(30, 100)], [frame(3), frame(7)])
    assert found == Lengths(question=4, reasoning=2, answer=5, without=5, longest=60)


def test_figures_of_this_cpu_are_measured(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "CACHE", 0)  # two layers
    own = study("smollm2_reasoner")
    one, many = machine.layer_seconds(own, (1, 512))
    assert 0 < one < many
    assert machine.weights_a_second(own) > 1e5
    assert 0 < machine.child("-c", "pass") < 5
    with pytest.raises(R2AError, match="smollm2_reasoner is not there"):
        machine.measured(own)


def test_cells_take_the_tokens_behind_and_the_layers_above():
    assert patched_passes(10, [8], 2) == pytest.approx((2 * 2 + 2 * 1) / (10 * 2))


@pytest.mark.parametrize(("name", "billions"), [("smollm2_reasoner", 0.1345), ("phi4_reasoning", 14.66)])
def test_sizes_of_models_that_are_not_at_hand(name, billions):
    assert study(name).weight_bytes / 2e9 == pytest.approx(billions, rel=1e-3)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["plan", *arguments])
    return plan.main()


def test_the_command_says_what_fits_and_what_is_not_known(monkeypatch, capsys):
    for memory, verdict in (("80", "fits into 80 GB"), ("16", "does not fit into 16 GB")):
        assert run(monkeypatch, "r1_llama_8b", "--gpu-memory", memory, "--lengths", "50,400,62") == 0
        printed = capsys.readouterr().out
        assert verdict in printed
        assert "| generate | 8 |" in printed
    assert run(monkeypatch, "tiny_qwen2") == 2
    assert "the sizes of 'tiny_qwen2' are not known here" in capsys.readouterr().err
    assert run(monkeypatch, "r1_llama_8b", "--lengths", "50,4000,62") == 2
    assert "pass generate.max_new_tokens" in capsys.readouterr().err
