"""The plan of a study: times by hand, counts as the core has them, and models whose sizes are known."""

import sys
from dataclasses import replace
from pathlib import Path

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
    more = logits + 4096 * 128256 * 2 / 1e9 + 32 * 7 * 10 * 2 * 8 * 128 * 2 / 1e9
    assert device.passing(own, cached) == pytest.approx(2 * (computed + moved + 16 + more))
    blocks = replace(cached, unembeddings=4, logit_bytes=34)
    more += 3 * 4096 * 128256 * 2 / 1e9 + 3 * 128256 * 10 / 1e9
    assert device.passing(own, blocks) == pytest.approx(2 * (computed + moved + 16 + more))
    work = StageWork("any", 2, (one,), weights=6, kept=3e9)
    assert device.seconds(own, work) == pytest.approx(2 * (3 + 5) + device.passing(own, one) + 6 + 3)
    on_cpu = StageWork("any", 1, head_rows=200, entries=8)
    assert replace(device, head_row=0.1, entries=4).seconds(own, on_cpu) == pytest.approx(3 + 20 + 2)


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
    start, step = works["generate"].passes[:2]
    assert start.count * start.rows == datasets * 60 * 50
    assert step.count * step.rows == pytest.approx(datasets * 60 * 464)
    assert step.caches == step.logits == step.rows
    assert (works["perturb"].runs, len(works["perturb"].passes), works["heads"].runs) == (4, 5, 1)


@pytest.mark.parametrize(
    ("mib", "device", "sizes"), [(150, "cuda", [1] * 32), (2000, "cpu", [1] * 32), (1024, "cuda", [9, 9, 9, 5])]
)
def test_a_pack_of_cells_skips_the_layers_below_its_first(mib, device, sizes):
    own = study("r1_llama_8b", limit_of_generate_of_pairs=10, memory_mib_of_sweep_of_patch=mib)
    whole, *cells = next(work for work in study_work(replace(own, device=device)) if work.stage == "patch").passes
    pairs, n_tokens = 10 * 2, 515 + 9  # two probes
    assert (whole.count, whole.rows) == (pairs, n_tokens)
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    assert [(each.count, each.layers, each.logits) for each in cells] == [
        (pairs, 32 - start, 12 * size) for start, size in zip(starts, sizes, strict=True)
    ]
    token_layers = sum(each.count * each.rows * each.layers for each in cells)
    assert token_layers == pytest.approx(pairs * patched_passes(n_tokens, patched(515), 32) * n_tokens * 32)


def test_walks_read_the_answer_twice_and_the_reasoning_where_it_is_kept():
    def work(**changed: object) -> StageWork:
        own = study("r1_llama_8b", limit_of_capture=3, **changed)
        return next(each for each in study_work(own) if each.stage == "walks")

    answer, last, reasoning = 62 * (514 - 31), 200 * (451 - 100), 400 * (451 - 200)
    heads = 3 * 4 * 32 * 32
    assert work().weights == heads * (2 * answer + last + reasoning)
    assert work(views_of_walks=["answer"]).weights == heads * (2 * answer + last)
    assert work(rows_of_capture="answer").weights == heads * 2 * answer
    assert work().head_rows == heads * 62


def test_sentences_read_the_unembedding_in_blocks_and_score_shuffled_matrices():
    def work(**changed: object) -> StageWork:
        own = study("r1_llama_8b", limit_of_capture=3, traces_of_sentences=2, **changed)
        return next(each for each in study_work(own) if each.stage == "sentences")

    base, hidden = work().passes
    assert (base.count, hidden.count) == (2 * 4, 2 * 4 * (400 // 16 + 1))
    rows, block = 62 + 200, 256 * 2**20 // (24 * 128256)
    assert (hidden.rows, hidden.logits, hidden.unembeddings) == (rows, 2 * rows, 1 + -(-rows // block))
    assert hidden.logit_bytes == 26 + 2 + 2 + 4  # 13 float32 numbers a pair; bfloat16, converted
    assert work().weights == 12 * 32 * 32 * 400 * (451 - 200)
    assert work().entries == 12 * 2 * (20 + 2) * 32 * 32 * 25**2
    assert work(proximity_of_sentences=[4, 20]).entries == work().entries / 2  # 5 sentences left, 8 are asked for
    assert (work(rows_of_capture="answer").weights, work(rows_of_capture="answer").entries) == (0, 0)


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
    assert 0 < machine.head_row_seconds(own) < 0.01
    assert machine.entries_a_second(own) > 1e5
    assert 0 < machine.child("-c", "pass") < 5
    with pytest.raises(R2AError, match="smollm2_reasoner is not there"):
        machine.measured(own)


def test_cells_take_the_tokens_behind_and_the_layers_above():
    assert patched_passes(10, [8], 2) == pytest.approx((2 * 2 + 2 * 1) / (10 * 2))


@pytest.mark.parametrize(("name", "billions"), [("smollm2_reasoner", 0.1345), ("phi4_reasoning", 14.66)])
def test_sizes_of_models_that_are_not_at_hand(name, billions):
    assert study(name).weight_bytes / 2e9 == pytest.approx(billions, rel=1e-3)


def test_a_model_trained_from_nothing_has_the_sizes_of_its_recipe():
    own = study("tiny_qwen2")
    assert (own.shape.n_layers, own.shape.d_model, own.dtype) == (6, 96, "float32")
    assert 0.6e6 < own.weight_bytes / 4 < 0.8e6


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, folder: Path = ROOT) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["plan", *arguments])
    return plan.main()


def test_the_command_says_first_what_fits(monkeypatch, capsys):
    for memory, verdict in (("80", "It fits into 80 GB"), ("16", "It does not fit into 16 GB")):
        assert run(monkeypatch, "r1_llama_8b", "--gpu-memory", memory, "--lengths", "50,400,62") == 0
        printed = capsys.readouterr().out
        assert printed.startswith(verdict)
        assert "| generate | 8 |" in printed


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nothing"], "the sizes of 'nothing' are not known here"),
        (["r1_llama_8b", "--lengths", "50,4000,62"], "pass generate.max_new_tokens"),
        (["r1_llama_8b", "--lengths", "999999999,300,100"], "1000000402 tokens passes the 131072 that r1_llama_8b"),
        (["smollm2", "--lengths", "8000,300,100"], "8403 tokens passes the 8192"),
    ],
)
def test_what_cannot_be_planned_is_refused(monkeypatch, capsys, arguments, error):
    assert run(monkeypatch, *arguments) == 2
    assert error in capsys.readouterr().err


def test_without_a_project_it_says_where_to_run(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "r1_llama_8b", folder=tmp_path) == 2
    assert "hint: run it in the folder of the project" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--run"], "give --measured too"),
        (["--efficiency", "2"], "argument --efficiency: takes a number above 0, at most 1, found '2'"),
        (["--gpu-memory", "x"], "argument --gpu-memory: takes a number above 0, found 'x'"),
        (["--tflops", "inf"], "argument --tflops: takes a number above 0, found 'inf'"),
        (["--bandwidth", "nan"], "argument --bandwidth: takes a number above 0, found 'nan'"),
    ],
)
def test_options_say_what_they_take(monkeypatch, capsys, arguments, error):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "r1_llama_8b", *arguments)
    assert ended.value.code == 2
    assert error in capsys.readouterr().err
