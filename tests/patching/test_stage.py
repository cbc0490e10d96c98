"""The stages of activation patching, one after the other, on two random tiny models and responses made up here."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import DatasetParams, Tags, parse
from r2a_core.data.items import Item, items_frame, read_items
from r2a_core.data.prepare import load_dataset
from r2a_core.generation.rows import generation_row
from r2a_core.infra.errors import R2AError
from r2a_core.models.load import load_model, load_tokenizer
from r2a_core.models.pointer import ModelPointer
from r2a_core.pairs import filter as candidates
from r2a_core.pairs.tables import aligned_pairs
from r2a_core.patching import stage as jobs
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, plain_ids
from r2a_core.trace import GENERATION_SCHEMA, has_boxed
from tests.patching.oracle import Oracle
from tests.study import call, params_with, study_folder, write_params

MODELS = ("tiny_a", "tiny_b")
BRIEF = " Please reason step by step (but not overthinking), and put your final answer within \\boxed{}."
N_PAIRS, N_LAYERS = 9, 3
PARAMS: dict[str, Any] = {
    "run": {"models": list(MODELS), "pairs": "couples"},
    "models": {name: {"kind": "texts"} for name in MODELS},
    "datasets": {"couples": {"kind": "generated_pairs", "instruction": BRIEF, "n": N_PAIRS, "seed": 3}},
    "pairs": {
        "generate": {"max_new_tokens": 3, "batch_size": 4, "tie_margin": 0.001, "shard_items": 8},
        "align": {
            "probes": ["plain", "boxed"],
            "padding": "visible",
            "probe_in": "reasoning",
            "keep_reasoning": True,
            "ending_tokens": 3,
            "timeout_seconds": 10.0,
        },
    },
    "patch": {
        "capture": {"logit_diff_threshold": 0.0, "with_z": True, "shard_pairs": 2},
        "sweep": {"components": ["resid_pre", "z"], "restored_roles": ["flip"], "memory_mib": 64},
        "crossing": {"bootstrap_draws": 50, "confidence": 0.95, "seed": 0},
        "figures": {"example": None},
    },
}


def save_random_model(folder: Path, kind: str) -> None:
    """A random model with the built-in tokenizer, as a prepared model folder."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(10 + len(kind))  # seeds for which some pairs differ between clean and corrupted
    tokenizer = build_tokenizer()
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "initializer_range": 0.3,
    }
    model = Qwen2ForCausalLM(Qwen2Config(**sizes)) if kind == "qwen2" else LlamaForCausalLM(LlamaConfig(**sizes))
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    ModelPointer("train", "float32", Tags()).write(folder)


def response(tokenizer: LoadedTokenizer, item: Item, answer: str, number: int) -> dict[str, Any]:
    """A response of the right form, of a length that differs from question to question."""
    thinking = "".join(f"First, clearly speed gives {item.gold}={step} here.\n" for step in range(1 + number % 3))
    said = "".join(f"Second, it is {answer}.\n" for _ in range(1 + number % 2))
    after = f"\n\n{said}\nThus, the best one is \\boxed{{{answer}}}."
    ids = [*plain_ids(tokenizer, thinking), tokenizer.ids.think_close, *plain_ids(tokenizer, after), tokenizer.ids.eos]
    prompt = prompt_ids(tokenizer, item.question, BRIEF, "with_reasoning")
    return generation_row(tokenizer, item, 0, prompt, ids, 0, has_boxed)


def made_up_responses(data: Path, model: str) -> None:
    """Right responses, but: pair 0 is not finished on its corrupted side, pair 1 wrong on its clean side."""
    items = read_items(data / "datasets" / "couples.parquet")
    text = load_tokenizer(data / "models" / model)
    other = {left.item_id: right.gold for left, right in zip(items[::2], items[1::2], strict=True)}
    rows = []
    for number, item in enumerate(items):
        answer = other["builtin-00001-clean"] if item.item_id == "builtin-00001-clean" else item.gold
        rows.append(response(text, item, str(answer), number))
    rows[1] |= {"status": "unfinished", "finish": "length"}
    frame = pl.DataFrame(rows, schema=GENERATION_SCHEMA)
    frame.write_parquet(data / "generations" / model / "couples" / "with_reasoning.parquet")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with two random models and a dataset of pairs."""
    root = tmp_path_factory.mktemp("project")
    for model, kind in zip(MODELS, ("qwen2", "llama"), strict=True):
        save_random_model(root / "data" / "models" / model, kind)
    entry = parse(DatasetParams, PARAMS["datasets"]["couples"], "datasets.couples")
    (root / "data" / "datasets").mkdir()
    items_frame(load_dataset(entry, root).items).write_parquet(root / "data" / "datasets" / "couples.parquet")
    return root


@pytest.fixture(scope="module")
def finished(project: Path) -> Path:
    """The project folder after all stages, with the real grader."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("R2A_DEVICE", "cpu")
        run_all(study_folder(project, params_with(**PARAMS)))
    return project


@pytest.fixture
def at_project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a copy of the finished project, which the stages read and write. Graded by equality."""
    copy = tmp_path / "project"
    shutil.copytree(finished, copy)
    monkeypatch.setenv("R2A_DEVICE", "cpu")
    monkeypatch.setattr(candidates, "grade_many", lambda answers, timeout: [Verdict(a == b) for a, b in answers])
    return copy / "data"


@dataclass(frozen=True)
class Verdict:
    score: bool


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


def outputs(data: Path) -> dict[str, bytes]:
    folders = [*(data / "activations").rglob("*"), *(data / "patching").rglob("*"), *(data / "figures").rglob("*")]
    folders += [*(data / "pairs").rglob("*"), *(data / "metrics").rglob("*")]
    return {str(path.relative_to(data)): path.read_bytes() for path in folders if path.is_file()}


def test_from_questions_to_figures(at_project: Path) -> None:
    data = at_project
    selected = pl.read_parquet(data / "pairs" / "selected.parquet")
    assert selected["kept"].to_list() == [True] * N_PAIRS
    for model in MODELS:
        check_pairs_table(pl.read_parquet(data / "pairs" / f"{model}.parquet"))
        check_cells(data, model)
    first = outputs(data)
    assert {name for name in first if name.startswith("figures")} == {
        f"figures/patching/patching-{name}.{kind}" for name in ("positions", "layers") for kind in ("png", "pdf")
    }
    shutil.rmtree(data.parent / ".work")
    for name in ("pairs", "activations", "patching", "figures", "metrics"):
        shutil.rmtree(data / name)
    run_all(data.parent)
    assert outputs(data) == first, "the same bytes from the start"


def check_pairs_table(table: pl.DataFrame) -> None:
    assert table.height == 2 * N_PAIRS
    dropped = table.filter(pl.col("status") != "aligned").select("pair_id", "probe", "status", "reason").rows()
    clean, corrupted = (
        table.filter(pl.col("pair_id") == "builtin-00001").select("clean_answer", "corrupted_answer").row(0)
    )
    assert dropped == [
        *(("builtin-00000", p, "unfinished", "the corrupted response does not end") for p in ("plain", "boxed")),
        *(
            ("builtin-00001", p, "wrong", f"the clean response answers {corrupted!r}, not {clean!r}")
            for p in ("plain", "boxed")
        ),
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
        ld_clean, ld_corrupted = oracle.ld_clean, oracle.ld_corrupted
        assert (row["ld_clean"], row["ld_corrupted"]) == pytest.approx((ld_clean, ld_corrupted), abs=1e-4)
        assert (row["status"] == "captured") == (ld_clean >= 0 and ld_corrupted <= 0)
        own = cells.filter(pl.col("pair_id") == pair.pair_id, pl.col("probe") == pair.probe)
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
        weak = index.filter(pl.col("probe") == probe, pl.col("status") == "weak").height
        assert found["left_out"] == {"unfinished": 1, "wrong": 1} | ({"weak": weak} if weak else {})
        assert found["n_pairs"] == N_PAIRS - 2 - weak
        own = cells.filter(pl.col("probe") == probe, pl.col("component") == "resid_pre")
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
    before = outputs(at_project)

    def no_model(*args: Any, **options: Any) -> None:
        raise AssertionError("a finished shard was computed again")

    monkeypatch.setattr(jobs, "load_model", no_model)
    for model in MODELS:
        call(at_project.parent, "capture_pairs", model)
        call(at_project.parent, "patch", model)
    assert outputs(at_project) == before
    capture = PARAMS["patch"]["capture"] | {"logit_diff_threshold": 0.001}
    write_params(at_project.parent, params_with(**PARAMS | {"patch": PARAMS["patch"] | {"capture": capture}}))
    with pytest.raises(AssertionError, match="computed again"):
        call(at_project.parent, "capture_pairs", MODELS[0])


def test_damaged_and_foreign_shards_are_refused(at_project: Path) -> None:
    folder = at_project / "activations" / MODELS[0] / "couples" / "clean"
    shard = sorted(folder.glob("shard-*"))[0]
    content = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(content[:-1])
    with pytest.raises(R2AError, match="was altered or cut off"):
        patch_again(at_project)
    shard.write_bytes(content)
    table = at_project / "pairs" / f"{MODELS[0]}.parquet"
    rows = pl.read_parquet(table)
    moved = rows.with_columns(positions=pl.col("positions").list.eval(pl.element() - 1))
    moved.write_parquet(table)
    with pytest.raises(R2AError, match="captured from another alignment"):
        patch_again(at_project)
    rows.write_parquet(table)


def patch_again(data: Path) -> None:
    """The patch stage of the first model without its finished shards."""
    for path in (data.parent / ".work" / "patch").rglob("*.parquet*"):
        path.unlink()
    call(data.parent, "patch", MODELS[0])


def test_short_responses_of_a_random_model_are_reported_as_unfinished(at_project: Path) -> None:
    call(at_project.parent, "select_pairs")
    call(at_project.parent, "generate_pairs", MODELS[1])
    rows = pl.read_parquet(at_project / "generations" / MODELS[1] / "couples" / "with_reasoning.parquet")
    assert rows["item_id"].to_list() == [
        item.item_id for item in read_items(at_project / "datasets" / "couples.parquet")
    ]
    assert rows["response_ids"].list.len().max() == 3
    call(at_project.parent, "pairs", MODELS[1])
    table = pl.read_parquet(at_project / "pairs" / f"{MODELS[1]}.parquet")
    assert set(table["status"]) == {"unfinished"}
    for stage in ("capture_pairs", "patch"):
        call(at_project.parent, stage, MODELS[1])
    cells = pl.read_parquet(at_project / "patching" / f"{MODELS[1]}.parquet")
    assert cells.is_empty()
    metrics = json.loads((at_project / "metrics" / f"patching-{MODELS[1]}.json").read_text())
    assert metrics["probes"]["plain"] == {
        "crossing": None,
        "final": None,
        "flip": None,
        "left_out": {"unfinished": N_PAIRS},
        "n_pairs": 0,
        "other_probe": None,
    }
    (at_project / "patching" / f"{MODELS[0]}.parquet").write_bytes(
        (at_project / "patching" / f"{MODELS[1]}.parquet").read_bytes()
    )
    call(at_project.parent, "figures_patching")


def test_dropped_pairs_change_their_own_shard_only(at_project: Path) -> None:
    call(at_project.parent, "select_pairs")
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
    call(at_project.parent, "pairs", MODELS[0])
    lost = pl.read_parquet(at_project / "pairs" / f"{MODELS[0]}.parquet").filter(pl.col("status") == "not_selected")
    assert lost.select("pair_id", "reason").unique().rows() == [("builtin-00005", "tiny_x: no")]
