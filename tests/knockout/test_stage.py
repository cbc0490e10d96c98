"""The stages knockout and figures_knockout on a random tiny model and responses made up here."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.attention.heads import HEAD_SCHEMA
from r2a_core.config import KnockoutParams, ViewName, parse
from r2a_core.data.items import Item
from r2a_core.infra.errors import R2AError
from r2a_core.knockout import stage as jobs
from r2a_core.knockout.prefix import PrefixRun, run_prefix
from r2a_core.trace import TokenTrace, select_traces
from tests.random_models import contents, save_answers, save_random_model
from tests.study import PARAMS, call, params_with, study_folder, write_params
from tools.data_docs import faults

N_TRACES, N_LAYERS, N_HEADS = 5, 3, 4
ITEMS = [Item(f"story-{number}", f"{number} + 2?", str(number + 2), "math") for number in range(N_TRACES)]
KNOCKOUT: dict[str, Any] = {
    "traces": 4,
    "views": ["answer", "earlier_reasoning"],
    "kinds": ["mask", "mean_head"],
    "sets": ["mass", "all"],
    "k": [2],
    "random": {"sets": ["mass"], "k": 2, "draws": 3, "seed": 0},
    "anew": {"traces": 2, "k": 2, "draws": 1, "max_new_tokens": 6},
    "shard_traces": 2,
    "bootstrap_draws": 100,
}
MADE = ("knockout", "figures", "metrics")


def study_params(**knockout: Any) -> dict[str, Any]:
    return params_with(
        run={"models": ["tiny"], "datasets": ["stories"]},
        models={"tiny": {"kind": "texts"}},
        datasets={"stories": PARAMS["datasets"]["arithmetic"]},
        knockout=KNOCKOUT | knockout,
    )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose model has answered and whose heads are ranked."""
    monkeypatch.setenv("R2A_DEVICE", "cpu")
    root = study_folder(tmp_path / "project", study_params())
    data = root / "data"
    save_random_model(data / "models" / "tiny", "qwen2", 1, num_hidden_layers=N_LAYERS)
    save_answers(data, "tiny", "stories", ITEMS)
    heads = pl.DataFrame({"layer": [n // N_HEADS for n in range(12)], "head": [n % N_HEADS for n in range(12)]})
    scores = {name: pl.lit(0.5 if kind == pl.Float64 else 0) for name, kind in HEAD_SCHEMA.items()}
    kinds = {name: pl.lit(value=False) for name, kind in HEAD_SCHEMA.items() if kind == pl.Boolean}
    heads = heads.with_columns(**scores | kinds | {"dataset": pl.lit("stories")})
    heads = heads.with_columns(rank=13 - pl.int_range(1, 13), count_rank=pl.int_range(1, 13))
    (data / "heads").mkdir()
    heads.select(list(HEAD_SCHEMA)).cast(HEAD_SCHEMA).write_parquet(data / "heads/tiny.parquet")  # type: ignore[arg-type]
    (data / "metrics").mkdir()
    return root


def test_from_traces_to_a_figure_and_again_after_a_kill(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(root, "knockout", "tiny", "stories")
    call(root, "figures_knockout")
    found = pl.read_parquet(root / "data/knockout/tiny/stories.parquet")
    assert list(faults(root / "data")) == []
    cases = [("none", 0, None, "mask")] + [
        (name, k, draw, kind)
        for name, k, draw in (("mass", 2, None), ("all", 12, None), *(("mass", 2, draw) for draw in range(3)))
        for kind in KNOCKOUT["kinds"]
    ]
    assert found.select("item_id", "view", "set", "k", "draw", "kind").rows() == [
        (item.item_id, view, *case) for item in ITEMS[:4] for view in KNOCKOUT["views"] for case in cases
    ]
    assert (found["reasoning_log_prob"].is_null() == (found["view"] == "answer")).all()
    assert sorted(path.name for path in (root / "data/figures/knockout").glob("*.png")) == [
        "knockout-stories-earlier_reasoning.png",
        "knockout-stories.png",
    ]
    written = found.filter(pl.col("anew").is_not_null())
    assert written.select("item_id", "set", "draw", "kind").unique().height == 2 * (1 + 2 * 3)
    assert set(written["item_id"]) == {"story-0", "story-1"}
    assert set(written["score"]) == {0.0}  # a random model boxes nothing
    result = found.filter(set="all").select((pl.col("result_log_prob_base") - pl.col("log_prob_base")).min()).item()
    assert found["n_result_tokens"].to_list() == [1] * found.height
    assert result > 0
    check_rounding(found)
    first = contents(root / "data", MADE)
    for place in (root / ".work", *(root / "data" / name for name in MADE)):
        shutil.rmtree(place)
    (root / "data/metrics").mkdir()
    with monkeypatch.context() as killed:
        killed.setattr(jobs, "save_frame", lambda path, frame: saved(path, frame, frame["item_id"][0] == "story-0"))
        with pytest.raises(KeyboardInterrupt):
            call(root, "knockout", "tiny", "stories")
    ran: list[str] = []

    def counted(model: Any, trace: TokenTrace, view: ViewName) -> PrefixRun:
        ran.append(trace.item_id)
        return run_prefix(model, trace, view)

    monkeypatch.setattr(jobs, "run_prefix", counted)
    call(root, "knockout", "tiny", "stories")
    assert ran[-4:] == ["story-2", "story-2", "story-3", "story-3"]
    assert ran.count("story-0") == 2  # for the means alone
    call(root, "figures_knockout")
    assert contents(root / "data", MADE) == first


def check_rounding(found: pl.DataFrame) -> None:
    """The run again differs by rounding alone; a cut does not."""
    moved = (pl.col("log_prob") - pl.col("log_prob_base")).abs()
    assert found.filter(set="none").select(moved.max()).item() < 1e-4
    assert found.filter(pl.col("set") != "none").select(moved.min()).item() > 1e-3


def saved(path: Path, frame: pl.DataFrame, whole: bool) -> None:
    if not whole:
        raise KeyboardInterrupt
    frame.write_parquet(path)


def test_means_are_those_of_the_other_traces_and_need_one(root: Path) -> None:
    params = parse(KnockoutParams, PARAMS["knockout"] | KNOCKOUT, "knockout")
    generations = pl.read_parquet(root / "data/generations/tiny/stories/with_reasoning.parquet")
    job = jobs.KnockoutJob(root / "data/models/tiny", "cpu", params, [], select_traces(generations)[:3])
    own = {trace.item_id: run_prefix(job.loaded.model, trace).mean_z for trace in job.traces}
    for layer, means in job.other_means("story-1", "answer").items():
        assert (means - (own["story-0"][layer] + own["story-2"][layer]) / 2).abs().max() < 1e-6
    write_params(root, study_params(traces=1))
    with pytest.raises(R2AError, match="mean_head needs a second trace"):
        call(root, "knockout", "tiny", "stories")


def test_without_ranked_heads_the_table_is_empty_and_the_figure_is_not_drawn(root: Path) -> None:
    path = root / "data/heads/tiny.parquet"
    pl.read_parquet(path).clear().write_parquet(path)
    shutil.rmtree(root / "data/models/tiny")  # no model is loaded
    (root / "data/models/tiny").mkdir()
    call(root, "knockout", "tiny", "stories")
    assert pl.read_parquet(root / "data/knockout/tiny/stories.parquet").is_empty()
    call(root, "figures_knockout")
    assert list((root / "data/figures/knockout").iterdir()) == []
