"""The stages of activation patching, one after the other, on two random tiny models and responses made up here."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from r2a_core.config import DatasetParams, parse
from r2a_core.data.items import items_frame, read_items
from r2a_core.data.prepare import load_dataset
from r2a_core.generation.rows import generation_row
from r2a_core.infra.errors import R2AError
from r2a_core.models.load import load_model
from r2a_core.models.tokenizers import load_tokenizer
from r2a_core.pairs import filter as candidates
from r2a_core.pairs.tables import aligned_pairs
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import plain_ids
from r2a_core.trace import GENERATION_SCHEMA, has_boxed
from tests.patching.oracle import Oracle
from tests.random_models import contents, save_random_model
from tests.study import call, params_with, study_folder, write_params

MODELS = ("tiny_a", "tiny_b")
MADE = ("pairs", "activations", "patching", "figures", "metrics")
PARAMS: dict[str, Any] = json.loads((Path(__file__).parent / "params.json").read_text())
BRIEF, N_PAIRS, N_LAYERS = PARAMS["datasets"]["couples"]["instruction"], PARAMS["datasets"]["couples"]["n"], 3


def made_up_responses(data: Path, model: str) -> None:
    """Right responses of different lengths, but: pair 0 is not finished on its corrupted side, pair 1 wrong on its
    clean side."""
    items = read_items(data / "datasets" / "couples.parquet")
    text = load_tokenizer(data / "models" / model)
    rows = []
    for number, item in enumerate(items):
        answer = items[3].gold if number == 2 else item.gold
        thinking = "".join(f"First, clearly speed gives {item.gold}={step} here.\n" for step in range(1 + number % 3))
        said = f"Second, it is {answer}.\n" * (1 + number % 2)
        after = plain_ids(text, f"\n\n{said}\nThus, the best one is \\boxed{{{answer}}}.")
        ids = [*plain_ids(text, thinking), text.ids.think_close, *after, text.ids.eos]
        prompt = prompt_ids(text, item.question, BRIEF, "with_reasoning")
        rows.append(generation_row(text, item, 0, prompt, ids, 0, has_boxed))
    rows[1] |= {"status": "unfinished", "finish": "length"}
    frame = pl.DataFrame(rows, schema=GENERATION_SCHEMA)
    frame.write_parquet(data / "generations" / model / "couples" / "with_reasoning.parquet")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder of two random models and a dataset of pairs after all stages, with the real grader."""
    root = tmp_path_factory.mktemp("project")
    for model, kind in zip(MODELS, ("qwen2", "llama"), strict=True):
        seed = 10 + len(kind)  # for which some pairs differ between clean and corrupted
        save_random_model(root / "data" / "models" / model, kind, seed, num_hidden_layers=N_LAYERS)
    entry = parse(DatasetParams, PARAMS["datasets"]["couples"], "datasets.couples")
    (root / "data" / "datasets").mkdir()
    items_frame(load_dataset(entry, root, "couples").items).write_parquet(
        root / "data" / "datasets" / "couples.parquet"
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("R2A_DEVICE", "cpu")
        run_all(study_folder(root, params_with(**PARAMS)))
    return root


@pytest.fixture
def at_project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a copy of the finished project, which the stages read and write. Graded by equality."""
    copy = tmp_path / "project"
    shutil.copytree(finished, copy)
    monkeypatch.setenv("R2A_DEVICE", "cpu")
    monkeypatch.setattr(
        candidates, "grade_many", lambda pairs, timeout: [SimpleNamespace(score=a == b) for a, b in pairs]
    )
    return copy / "data"


def run_all(root: Path) -> None:
    """All stages of the study, with the made-up responses in the place of the random models' own."""
    call(root, "select_pairs")
    for model in MODELS:
        call(root, "generate_pairs", model)
        made_up_responses(root / "data", model)
        call(root, "pairs", model)
        call(root, "capture_pairs", model)
        call(root, "patch", model)
    call(root, "figures_patching")


def test_from_questions_to_figures(at_project: Path) -> None:
    data = at_project
    assert pl.read_parquet(data / "pairs" / "selected.parquet")["kept"].to_list() == [True] * N_PAIRS
    for model in MODELS:
        check_pairs_table(pl.read_parquet(data / "pairs" / f"{model}.parquet"))
        check_cells(data, model)
    first = contents(data, MADE)
    assert {name for name in first if name.startswith("figures")} == {
        f"figures/patching/patching-{name}.{kind}" for name in ("positions", "layers") for kind in ("png", "pdf")
    }
    for path in (data.parent / ".work", *(data / name for name in MADE)):
        shutil.rmtree(path)
    run_all(data.parent)
    assert contents(data, MADE) == first, "the same bytes from the start"


def check_pairs_table(table: pl.DataFrame) -> None:
    assert table.height == 2 * N_PAIRS
    dropped = table.filter(pl.col("status") != "aligned")
    wrong = table.filter(pair_id="builtin-00001").row(0, named=True)
    said = f"the clean response answers {wrong['corrupted_answer']!r}, not {wrong['clean_answer']!r}"
    assert dropped.select("pair_id", "probe", "status", "reason").rows() == [
        *(("builtin-00000", p, "unfinished", "the corrupted response does not end") for p in ("plain", "boxed")),
        *(("builtin-00001", p, "wrong", said) for p in ("plain", "boxed")),
    ]


def check_cells(data: Path, name: str) -> None:
    """One cell of each captured pair against a full forward, and the metrics file against the table."""
    index = pl.read_parquet(data / "activations" / name / "couples" / "clean" / "index.parquet")
    assert index.height == 2 * (N_PAIRS - 2)
    cells = pl.read_parquet(data / "patching" / f"{name}.parquet")
    model = load_model(data / "models" / name, "cpu").model
    pairs_by_key = {(p.pair_id, p.probe): p for p in aligned_pairs(pl.read_parquet(data / "pairs" / f"{name}.parquet"))}
    kept = 0
    for row in index.iter_rows(named=True):
        pair = pairs_by_key[row["pair_id"], row["probe"]]
        oracle = Oracle(model, pair)
        ends = (oracle.ld_clean, oracle.ld_corrupted)
        assert (row["ld_clean"], row["ld_corrupted"]) == pytest.approx(ends, abs=1e-4)
        assert (row["status"] == "captured") == (ends[0] >= 0 >= ends[1])
        own = cells.filter(pair_id=pair.pair_id, probe=pair.probe)
        if row["status"] == "weak":
            assert "logit difference" in row["reason"]
            assert own.is_empty()
            continue
        kept += 1
        assert own.filter(component="resid_pre").height == N_LAYERS * len(pair.positions)
        assert own.filter(component="z").height == N_LAYERS * 4 * len(pair.positions)
        flip = next(place.index for place in pair.positions if place.role == "flip")
        cell = own.filter(component="resid_pre", layer=1, position=flip).row(0, named=True)
        assert cell["role"] == "flip"
        assert cell["nld"] == pytest.approx(oracle.nld(oracle.resid(1, flip)), abs=1e-4)
    assert kept >= 1, "the random models must leave some pairs"
    check_metrics(json.loads((data / "metrics" / f"patching-{name}.json").read_text()), index, cells)


def check_metrics(metrics: dict[str, Any], index: pl.DataFrame, cells: pl.DataFrame) -> None:
    assert metrics["n_candidates"] == N_PAIRS
    for probe in ("plain", "boxed"):
        found = metrics["probes"][probe]
        weak = index.filter(probe=probe, status="weak").height
        assert found["left_out"] == {"unfinished": 1, "wrong": 1} | ({"weak": weak} if weak else {})
        assert found["n_pairs"] == N_PAIRS - 2 - weak
        own = cells.filter(probe=probe, component="resid_pre")
        if found["n_pairs"] == 0:
            assert found["flip"] is None
            continue
        flips = own.filter(role="flip").sort("layer")["nld"].to_numpy().reshape(N_LAYERS, -1).mean(1)
        assert found["flip"]["nld"] == pytest.approx(flips.max(), abs=1e-5)
        assert found["flip"]["layer"] == flips.argmax()
        last = own.filter(pl.col("position") == pl.col("position").max().over("pair_id")).sort("layer")
        finals = last["nld"].to_numpy().reshape(N_LAYERS, -1).mean(1)
        assert found["final"]["last_layer_nld"] == pytest.approx(finals[-1], abs=1e-5)


def test_finished_shards_need_no_model(at_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(at_project, MADE)
    monkeypatch.setattr("r2a_core.models.job.load_model", lambda *args, **options: pytest.fail("computed again"))
    for model in MODELS:
        call(at_project.parent, "capture_pairs", model)
        call(at_project.parent, "patch", model)
    assert contents(at_project, MADE) == before
    capture = PARAMS["patch"]["capture"] | {"logit_diff_threshold": 0.001}
    write_params(at_project.parent, params_with(**PARAMS | {"patch": PARAMS["patch"] | {"capture": capture}}))
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        call(at_project.parent, "capture_pairs", MODELS[0])


def test_shards_of_another_alignment_are_refused(at_project: Path) -> None:
    table = at_project / "pairs" / f"{MODELS[0]}.parquet"
    moved = pl.col("positions").list.eval(pl.element() - 1)
    pl.read_parquet(table).with_columns(positions=moved).write_parquet(table)
    shutil.rmtree(at_project.parent / ".work" / "patch")
    with pytest.raises(R2AError, match="captured from another alignment"):
        call(at_project.parent, "patch", MODELS[0])


def test_short_responses_of_a_random_model_are_reported_as_unfinished(at_project: Path) -> None:
    model = MODELS[1]
    call(at_project.parent, "generate_pairs", model)
    rows = pl.read_parquet(at_project / "generations" / model / "couples" / "with_reasoning.parquet")
    items = read_items(at_project / "datasets" / "couples.parquet")
    assert rows["item_id"].to_list() == [item.item_id for item in items]
    assert rows["response_ids"].list.len().max() == 3
    for stage in ("pairs", "capture_pairs", "patch"):
        call(at_project.parent, stage, model)
    assert set(pl.read_parquet(at_project / "pairs" / f"{model}.parquet")["status"]) == {"unfinished"}
    cells = at_project / "patching" / f"{model}.parquet"
    assert pl.read_parquet(cells).is_empty()
    metrics = json.loads((at_project / "metrics" / f"patching-{model}.json").read_text())["probes"]["plain"]
    assert metrics.pop("left_out") == {"unfinished": N_PAIRS}
    assert metrics.pop("n_pairs") == 0
    assert metrics == dict.fromkeys(("crossing", "final", "flip", "other_probe"))
    shutil.copy(cells, at_project / "patching" / f"{MODELS[0]}.parquet")
    call(at_project.parent, "figures_patching")


def test_dropped_pairs_change_their_own_shard_only(at_project: Path) -> None:
    call(at_project.parent, "generate_pairs", MODELS[0])
    work = at_project.parent / ".work" / "generate_pairs"
    before = {path.name for path in work.rglob("*.parquet")}
    table = at_project / "pairs" / "selected.parquet"
    kept = pl.read_parquet(table)
    dropped = pl.col("pair_id") == "builtin-00005"
    kept.with_columns(kept=~dropped, reason=pl.when(dropped).then(pl.lit("tiny_x: no"))).write_parquet(table)
    call(at_project.parent, "generate_pairs", MODELS[0])
    assert len({path.name for path in work.rglob("*.parquet")} - before) == 1, "8 questions a shard: pairs 4 to 7"
    rows = pl.read_parquet(at_project / "generations" / MODELS[0] / "couples" / "with_reasoning.parquet")
    assert rows.height == 2 * (N_PAIRS - 1)


def test_a_limit_takes_the_first_selected_pairs(at_project: Path) -> None:
    root, table = at_project.parent, at_project / "pairs" / "selected.parquet"
    params = json.loads((root / "params.yaml").read_text(encoding="utf-8"))
    params["pairs"]["generate"]["limit"] = 2
    write_params(root, params)
    first, *rest = pl.read_parquet(table)["pair_id"].to_list()
    kept = pl.col("pair_id") != first
    pl.read_parquet(table).with_columns(kept=kept).write_parquet(table)
    call(root, "generate_pairs", MODELS[0])
    rows = pl.read_parquet(at_project / "generations" / MODELS[0] / "couples" / "with_reasoning.parquet")
    assert rows["item_id"].to_list() == [f"{pair}-{side}" for pair in rest[:2] for side in ("clean", "corrupted")]


def test_a_limit_of_none_leaves_activation_patching_out(at_project: Path) -> None:
    root = at_project.parent
    params = json.loads((root / "params.yaml").read_text(encoding="utf-8"))
    params["pairs"]["generate"]["limit"] = 0
    write_params(root, params)
    for stage in ("generate_pairs", "pairs", "capture_pairs", "patch"):
        call(root, stage, MODELS[0])
    call(root, "figures_patching")
    assert pl.read_parquet(at_project / "patching" / f"{MODELS[0]}.parquet").is_empty()
