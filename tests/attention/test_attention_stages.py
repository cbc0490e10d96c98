"""The stages of the attention analysis, one after the other, on random tiny models and responses made up here."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from r2a_core.activations import capture as capture_jobs
from r2a_core.attention import head_scores as scoring
from r2a_core.attention import tables
from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import Tags
from r2a_core.data.items import Item
from r2a_core.generation.rows import generation_row
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.models.load import load_model
from r2a_core.models.pointer import ModelPointer
from r2a_core.models.tokenizers import load_tokenizer
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import plain_ids
from r2a_core.trace import GENERATION_SCHEMA, SEGMENTS, SETTINGS, Setting, has_boxed
from tests.attention.cases import eager_patterns
from tests.random_models import contents, save_random_model
from tests.small_models import byte_tokenizer
from tests.study import PARAMS, call, params_with, study_folder, write_params

MODELS = ("tiny_a", "tiny_b")
N_LAYERS, N_HEADS, N_TRACES = 4, 4, 5
TEXTS_ONLY = "no_weights"
READER = "reader"  # of the first model's texts
MADE = ("activations", "attention", "heads", "maps", "figures", "metrics")


def study_params() -> dict[str, Any]:
    """The project's own params, for the models and the dataset of these tests."""
    return params_with(
        run={
            "models": [*MODELS, TEXTS_ONLY],
            "readers": [{"model": READER, "texts": MODELS[0]}],
            "datasets": ["stories"],
            "settings": list(SETTINGS),
        },
        capture={"dtype": "float32", "shard_mb": 1},
        models={name: {"kind": "texts"} for name in (*MODELS, TEXTS_ONLY, READER)},
        datasets={"stories": PARAMS["datasets"]["arithmetic"]},
        heads={
            "top": 3,
            "rule": "paper",
            "retrieval": {"default": PARAMS["heads"]["retrieval"]["default"] | {"tests": 2}, "models": {}},
        },
        maps={"top_heads": 1, "traces": 1},
    )


def made_up_responses(data: Path, model: str, setting: Setting) -> None:
    """Responses of the right form and of different lengths; the fourth is not finished."""
    text = load_tokenizer(data / "models" / model)
    rows = []
    for number in range(N_TRACES + 1):
        item = Item(f"story-{number}", f"Considering speed: {number} + 2?", str(number + 2), "math")
        prompt = prompt_ids(text, item.question, "", setting)
        steps = "".join(f"First add {step}. Wait, now so much.\n" for step in range(1 + number))
        thinking = [*plain_ids(text, steps), text.ids.think_close] if setting == "with_reasoning" else []
        answer = plain_ids(text, f"\nSo we add {number} and 2.\nThus \\boxed{{{number + 2}}}.")
        row = generation_row(text, item, 0, prompt, [*thinking, *answer, text.ids.eos], 0, has_boxed)
        rows.append(row | ({"status": "unfinished"} if number == 3 else {}))
    path = data / "generations" / model / "stories" / f"{setting}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=GENERATION_SCHEMA).write_parquet(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder after all stages: two random models and one without weights."""
    root = tmp_path_factory.mktemp("project")
    data = root / "data"
    for model, kind in zip((*MODELS, READER), ("qwen2", "llama", "qwen3"), strict=True):
        sizes = {"num_hidden_layers": N_LAYERS, "head_dim": 32}  # a shard of 1 MB holds two or three traces
        save_random_model(data / "models" / model, kind, seed=len(kind), **sizes)
    build_tokenizer().save_pretrained(str(data / "models" / TEXTS_ONLY))
    ModelPointer("texts", None, Tags()).write(data / "models" / TEXTS_ONLY)
    for model in (*MODELS, TEXTS_ONLY):
        for setting in SETTINGS:
            made_up_responses(data, model, setting)
    study_folder(root, study_params())
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("R2A_DEVICE", "cpu")
        run_all(root)
    return root


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a copy of the finished project, which the stages read and write."""
    root = tmp_path / "project"
    shutil.copytree(finished, root)
    monkeypatch.setenv("R2A_DEVICE", "cpu")
    return root / "data"


def run_all(root: Path, figures: bool = True) -> None:
    for model in (*MODELS, TEXTS_ONLY):
        for setting in SETTINGS:
            call(root, "capture", model, "stories", setting)
            call(root, "attention", model, "stories", setting)
        call(root, "heads", model)
        call(root, "maps", model, "stories")
    call(root, "read", READER, MODELS[0], "stories")
    if figures:
        call(root, "figures_attention")


def masses_of(data: Path, model: str, setting: str = "with_reasoning") -> pl.DataFrame:
    return pl.read_parquet(data / "attention" / model / "stories" / f"{setting}.parquet")


@pytest.mark.parametrize(("model", "setting"), zip(MODELS, SETTINGS, strict=True))
def test_masses_are_those_of_eager_attention(project: Path, model: str, setting: str) -> None:
    eager = load_model(project / "models" / model, "cpu").model
    eager.set_attn_implementation("eager")
    generated = pl.read_parquet(project / "generations" / model / "stories" / f"{setting}.parquet")
    row = generated.row(4, named=True)
    ids = [*row["prompt_ids"], *row["response_ids"]]
    patterns = eager_patterns(eager, ids)
    o, c, end = row["think_open"], row["think_close"], len(ids) - 1
    bounds = [(0, 1), (1, o), (o, o + 1), (o + 1, c), (c, c + 1), (c + 1, end)]
    found = masses_of(project, model, setting).filter(item_id="story-4").sort("layer", "head")
    for source, (start, stop) in (("answer", bounds[5]), ("reasoning", bounds[3])):
        rows = patterns[:, :, start:stop].mean(dim=2)  # (layer, head, token)
        expected = np.stack([rows[..., low:high].sum(-1) for low, high in bounds], axis=-1).reshape(-1, 6)
        masses = found.filter(source=source).select(SEGMENTS).to_numpy()
        np.testing.assert_allclose(masses, expected, atol=1e-5)
        np.testing.assert_allclose(masses.sum(axis=1), 1, atol=1e-5)


def test_metrics_and_ranking_follow_from_the_masses(project: Path) -> None:
    frame = masses_of(project, "tiny_a")
    assert frame["item_id"].unique(maintain_order=True).to_list() == [f"story-{n}" for n in (0, 1, 2, 4, 5)]
    reasoning = frame.filter(source="answer").sort("item_id", "layer", "head")["reasoning"].to_numpy()
    by_head = reasoning.astype(np.float64).reshape(N_TRACES, -1)
    metrics = json.loads((project / "metrics" / "attention-tiny_a-stories-with_reasoning.json").read_text())
    assert metrics["answer"]["n_traces"] == N_TRACES
    assert metrics["answer"]["reasoning"] == pytest.approx(np.median(by_head.mean(axis=1)), abs=1e-6)
    first = [f"L{head // N_HEADS}.H{head % N_HEADS}" for head in np.argsort(-by_head.mean(axis=0), kind="stable")[:3]]
    summary = json.loads((project / "metrics" / "heads-tiny_a.json").read_text())["datasets"]["stories"]
    assert summary["reasoning_focus_heads"] == first
    assert summary["first_mass"] == pytest.approx(by_head.mean(axis=0).max(), abs=1e-6)
    ranked = pl.read_parquet(project / "heads" / "tiny_a.parquet")
    assert ranked.height == N_LAYERS * N_HEADS
    middle = ranked.filter(pl.col("layer").is_in([1, 2]))
    least = np.maximum(middle["walk_null_95"], 0.7)
    margins = np.minimum(middle["answer_to_reasoning"] / 0.6, middle["walk_correlation_weighted"] / least)
    best = middle.row(int(np.argmax(margins)), named=True)
    assert summary["best_walk"]["head"] == f"L{best['layer']}.H{best['head']}"
    assert summary["best_walk"]["null_95"] == pytest.approx(best["walk_null_95"], abs=1e-6)
    assert summary["best_walk"]["reworded"]["n_traces"] == best["n_reworded"]
    assert summary["walking_heads"] == int((margins >= 1).sum())


def test_maps_show_the_first_head_and_representative_traces(project: Path) -> None:
    frame = pl.read_parquet(project / "maps" / "tiny_b" / "stories.parquet")
    ranked = pl.read_parquet(project / "heads" / "tiny_b.parquet").sort("rank")
    single = frame.filter(kind="head")
    assert single.select("layer", "head").rows() == ranked.select("layer", "head").rows()[:1]
    tokens = pl.read_parquet(project / "maps" / "tiny_b" / "stories-tokens.parquet")
    assert tokens["item_id"].to_list() == frame["item_id"].unique(maintain_order=True).to_list()
    for table in ("links", "lines"):
        rows = pl.read_parquet(project / "maps" / "tiny_b" / f"stories-{table}.parquet")
        assert set(rows["item_id"]) == set(tokens["item_id"])
    span = pl.read_parquet(project / "maps" / "tiny_b" / "stories-spans.parquet").row(0, named=True)
    texts = tokens.filter(item_id=span["item_id"])["tokens"][0].to_list()
    assert "".join(texts[span["span_start"] : span["span_end"]]) == str(int(span["item_id"][-1]) + 2)


def test_figures_of_a_model_with_weights_and_empty_tables_of_one_without(project: Path) -> None:
    drawn = {path.stem for path in (project / "figures" / "attention").glob("*.png")}
    common = {f"{name}-stories" for name in ("segment-masses", "head-maps", "walk-overview", f"reader-{READER}-tiny_a")}
    assert {*common, "segment-masses-stories-from-reasoning"} <= drawn
    names = {name.removeprefix("attention-map-tiny_b-stories-") for name in drawn if "map-tiny_b" in name}
    assert {"RFH-mean", "head-mean"} < names
    assert len(names) == 3
    assert [name for name in drawn if name.startswith("span-attention-tiny_b")] == ["span-attention-tiny_b-stories-0"]
    assert not [name for name in drawn if TEXTS_ONLY in name]
    folder = project / "activations" / TEXTS_ONLY / "stories" / "with_reasoning"
    assert pl.read_parquet(folder / "index.parquet").is_empty()
    assert masses_of(project, TEXTS_ONLY).equals(masses_of(project, "tiny_a").clear())
    assert pl.read_parquet(project / "heads" / f"{TEXTS_ONLY}.parquet").is_empty()
    metrics = json.loads((project / "metrics" / f"heads-{TEXTS_ONLY}.json").read_text())
    assert metrics == {"datasets": {}, "needle_copied": None}


def test_finished_shards_need_no_model_and_the_rest_comes_again_byte_for_byte(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, captured, real = contents(project, MADE), [], capture_jobs.capture_trace
    monkeypatch.setattr(capture_jobs, "capture_trace", lambda *args: captured.append(len(args[1])) or real(*args))
    with monkeypatch.context() as finished:
        finished.setattr(scoring, "head_scores", lambda *args: pytest.fail("scores were computed again"))
        run_all(project.parent, figures=False)
    assert captured == []
    assert contents(project, MADE) == before
    params = study_params()
    params["capture"]["limit"] = 4
    write_params(project.parent, params)
    call(project.parent, "capture", "tiny_a", "stories", "with_reasoning")
    folder = project / "activations" / "tiny_a" / "stories" / "with_reasoning"
    index = pl.read_parquet(folder / "index.parquet")
    assert index.height == 4
    assert len(captured) < 4, "the first shard was kept"
    assert {path.name for path in folder.iterdir()} == {"index.parquet", *index["shard"]}
    write_params(project.parent, study_params())
    for path in (project.parent / ".work", *(project / name for name in MADE)):
        shutil.rmtree(path)
    with monkeypatch.context() as full:
        full.setattr(capture_jobs.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1))
        with pytest.raises(MissingPrerequisite, match="the activations need"):
            call(project.parent, "capture", "tiny_a", "stories", "with_reasoning")
    run_all(project.parent)
    again = contents(project, MADE)
    assert again.keys() == before.keys()
    assert [name for name in before if before[name] != again[name]] == []


def test_without_stored_activations_everything_but_maps_is_the_same(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, model = project.parent, MODELS[0]
    folder = project / "attention" / model / "stories"
    names = [f"{setting}{suffix}.parquet" for setting in SETTINGS for suffix in ("", "-sentences")]
    before = [pl.read_parquet(folder / name) for name in names]
    ranked = pl.read_parquet(project / "heads" / f"{model}.parquet")
    params = study_params()
    params["capture"]["store"] = False
    params["run"]["models"] = [model]
    write_params(root, params)
    for setting in SETTINGS:
        call(root, "capture", model, "stories", setting)
        left = (project / "activations" / model / "stories" / setting).iterdir()
        assert [path.name for path in left] == ["index.parquet"]
        call(root, "attention", model, "stories", setting)
    for name, expected in zip(names, before, strict=True):
        assert_frame_equal(pl.read_parquet(folder / name), expected, check_exact=False, rel_tol=0, abs_tol=1e-5)
    call(root, "heads", model)
    assert pl.read_parquet(project / "heads" / f"{model}.parquet")["rank"].equals(ranked["rank"])
    call(root, "maps", model, "stories")
    assert f"{model}, stories: capture.store is false, so there are no maps" in caplog.text
    assert [pl.read_parquet(path).height for path in (project / "maps" / model).glob("*.parquet")] == [0] * 5
    shutil.rmtree(project / "figures")
    call(root, "figures_attention")
    drawn = {path.stem for path in (project / "figures" / "attention").glob("*.png")}
    assert {"segment-masses-stories", "head-maps-stories"} <= drawn
    assert not [name for name in drawn if name.startswith(("attention-map", "span"))]


def test_a_reader_of_its_own_texts_has_the_same_attention_and_the_same_heads(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, model = project.parent, MODELS[0]
    shutil.rmtree(project / "models" / READER)
    shutil.copytree(project / "models" / model, project / "models" / READER)
    params = study_params()
    params["capture"] |= {"store": False, "limit": 4}
    write_params(root, params)
    for stage in ("capture", "attention"):
        call(root, stage, model, "stories", "with_reasoning")
    call(root, "read", READER, model, "stories")
    found = pl.read_parquet(project / "attention" / READER / model / "stories.parquet")
    assert found["item_id"].n_unique() == 4
    assert_frame_equal(found, masses_of(project, model))
    heads = pl.read_parquet(project / "heads" / READER / model / "stories.parquet")
    before, after = heads.partition_by("model", include_key=False)
    assert before.equals(after)
    call(root, "heads", model)
    assert after.equals(pl.read_parquet(project / "heads" / f"{model}.parquet").select(after.columns))
    names = (f"read-{READER}-{model}-stories", f"heads-{model}")
    metrics, of_heads = (json.loads((project / "metrics" / f"{name}.json").read_text()) for name in names)
    walking = of_heads["datasets"]["stories"]["walking_heads"]
    assert (metrics["n_traces"], metrics["walking_heads"]) == (4, {"before": walking, "after": walking})
    mass = metrics["answer_to_reasoning"]
    assert (mass["n_heads"], mass["spearman"]) == (N_LAYERS * N_HEADS, pytest.approx(1))
    assert all(each["before"] == each["after"] for each in mass["changed_most"].values())
    files = contents(project, ("attention", "heads", "metrics"))
    monkeypatch.setattr(tables, "tables_in_forward", lambda *args: pytest.fail("a trace was read again"))
    call(root, "read", READER, model, "stories")
    assert contents(project, ("attention", "heads", "metrics")) == files


def test_what_changed_from_a_reader_to_the_model_that_wrote(project: Path) -> None:
    model = MODELS[0]
    before, after = pl.read_parquet(project / "heads" / READER / model / "stories.parquet").partition_by("model")
    assert (before["model"][0], after["model"][0]) == (READER, model)
    read = pl.read_parquet(project / "attention" / READER / model / "stories.parquet").filter(source="answer")
    expected = read.group_by("layer", "head").agg(pl.col("reasoning").cast(pl.Float64).mean()).sort("layer", "head")
    np.testing.assert_allclose(before["answer_to_reasoning"], expected["reasoning"], rtol=1e-12)
    metrics = json.loads((project / "metrics" / f"read-{READER}-{model}-stories.json").read_text())[
        "answer_to_reasoning"
    ]
    change = np.abs(after["answer_to_reasoning"] - before["answer_to_reasoning"])
    row = int(np.argmax(change))
    name, most = next(iter(metrics["changed_most"].items()))
    assert name == f"L{after['layer'][row]}.H{after['head'][row]}"
    assert most["before"] == pytest.approx(before["answer_to_reasoning"][row], abs=1e-6)
    assert most["after"] == pytest.approx(after["answer_to_reasoning"][row], abs=1e-6)
    assert len(metrics["changed_most"]) == 3
    ranks = [frame["answer_to_reasoning"].rank() for frame in (before, after)]
    assert metrics["spearman"] == pytest.approx(np.corrcoef(ranks)[0, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "says", "hint"),
    [
        ("tokenizer", "reader has another vocabulary than tiny_a, whose texts it should read: ", "the same tokenizer"),
        ("layers", "cannot be compared head by head: 12 heads of the same layers, and 16", "the same architecture"),
        ("limit", "reader and tiny_a on stories were not measured on the same traces", "dvc repro attention read"),
    ],
)
def test_a_reader_that_cannot_be_compared_is_refused(project: Path, change: str, says: str, hint: str) -> None:
    folder, params = project / "models" / READER, study_params()
    params["capture"]["limit"] = 2 if change == "limit" else None
    write_params(project.parent, params)
    if change == "layers":
        save_random_model(folder, "qwen2", seed=0, num_hidden_layers=3)
    if change == "tokenizer":
        byte_tokenizer().save_pretrained(str(folder))
    with pytest.raises(R2AError, match=says) as caught:
        call(project.parent, "read", READER, MODELS[0], "stories")
    assert hint in caught.value.hint


def test_a_first_dataset_without_traces_for_the_needle_test_is_said(project: Path) -> None:
    path = project / "generations" / "tiny_a" / "stories" / "with_reasoning.parquet"
    pl.read_parquet(path).with_columns(status=pl.lit("unfinished")).write_parquet(path)
    with pytest.raises(R2AError, match="tiny_a: no well-formed trace of the first dataset has a question") as caught:
        call(project.parent, "heads", "tiny_a")
    assert "name another dataset first in run.datasets" in caught.value.hint
