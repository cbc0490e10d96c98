"""The stages walks and figures_walks on a random tiny model whose traces are captured here."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.attention import job
from r2a_core.config import WalkThresholds
from r2a_core.data.items import Item
from r2a_core.infra.errors import R2AError
from r2a_core.walks import stage as jobs
from r2a_core.walks.summary import WALK_SCHEMA
from tests.random_models import check_made_again_after_a_kill, save_answers, save_random_model
from tests.study import PARAMS, call, params_with, study_folder, write_params
from tests.walks.cases import row
from tools.data_docs import faults

ITEMS = [Item(f"story-{number}", f"{number} + 2?", str(number + 2), "math") for number in range(3)]
HEADS = {"layer": pl.Int16, "head": pl.Int16, "walk_null_95": pl.Float64}


def study_params(**capture: Any) -> dict[str, Any]:
    needles = PARAMS["heads"]["retrieval"]["default"] | {"needle": "question", "tests": 1}
    return params_with(
        run={"models": ["tiny"], "datasets": ["stories"], "settings": ["with_reasoning"]},
        models={"tiny": {"kind": "texts"}},
        datasets={"stories": PARAMS["datasets"]["arithmetic"]},
        capture=capture,
        heads={"retrieval": {"default": needles, "models": {}}},
    )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose model has answered, one answer wrong, and whose heads are ranked."""
    monkeypatch.setenv("R2A_DEVICE", "cpu")
    root = study_folder(tmp_path / "project", study_params())
    data = root / "data"
    save_random_model(data / "models" / "tiny", "qwen2", 1, num_hidden_layers=4)
    save_answers(data, "tiny", "stories", ITEMS, wrong={"story-0": "0"})
    (data / "metrics").mkdir()
    call(root, "judge", "tiny", "stories")
    call(root, "evaluate", "tiny", "stories")
    captured(root)
    return root


def captured(root: Path) -> None:
    call(root, "capture", "tiny", "stories", "with_reasoning")
    call(root, "attention", "tiny", "stories", "with_reasoning")
    call(root, "heads", "tiny")


def test_from_captured_traces_to_a_figure_and_again_after_a_kill(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(root, "walks", "tiny", "stories")
    call(root, "figures_walks")
    found = pl.read_parquet(root / "data/walks/tiny/stories.parquet")
    assert list(faults(root / "data")) == []
    assert found["view"].value_counts(sort=True)["count"].to_list() == [3 * 4 * 4] * 3
    assert found.select("item_id", "score").unique().sort("item_id")["score"].to_list() == [0.0, 1.0, 1.0]
    assert found["reflection"].list.len().unique().sort().to_list() == [1, 2, 3]
    attention = pl.read_parquet(root / "data/attention/tiny/stories/with_reasoning.parquet")
    key = ["item_id", "layer", "head"]
    asked = found.filter(view="question").join(attention.filter(source="reasoning"), on=key, maintain_order="left")
    assert asked["mass"].to_numpy() == pytest.approx(asked["query"].to_numpy(), abs=1e-6)
    found = found.filter(view="answer")
    both = found.join(attention.filter(source="answer"), on=key, maintain_order="left")
    assert both["mass"].to_numpy() == pytest.approx(both["reasoning"].to_numpy(), abs=1e-6)
    assert both["walk"].to_list() == both["walk_correlation_weighted"].to_list()
    assert set(found.drop_nulls("walk_rank")["layer"]) <= {1, 2}
    check_made_again_after_a_kill(root, monkeypatch, "walks", job)


def test_without_stored_activations_the_table_is_empty_and_nothing_is_drawn(root: Path) -> None:
    write_params(root, study_params(store=False))
    shutil.rmtree(root / "data/activations")
    captured(root)
    call(root, "walks", "tiny", "stories")
    call(root, "figures_walks")
    assert pl.read_parquet(root / "data/walks/tiny/stories.parquet").is_empty()
    assert list((root / "data/figures/walks").iterdir()) == []
    shutil.rmtree(root / "data/heads")
    with pytest.raises(R2AError, match="does not exist"):
        call(root, "walks", "tiny", "stories")


def test_a_trace_has_no_say_in_which_heads_are_asked_of_it() -> None:
    """Head 0 walks over the traces 0 and 2, head 1 over 1 and 3, head 2 over none though it reads."""
    own = [row(f"t{at}", head, walk=0.9 if head == at % 2 else 0.0, mass=0.5) for at in range(4) for head in range(3)]
    walks = pl.DataFrame(own, schema=WALK_SCHEMA)
    walks = pl.concat([walks, walks.with_columns(view=pl.lit("question"), walk=pl.lit(0.9, pl.Float32))])
    heads = pl.DataFrame({"layer": [1] * 3, "head": range(3), "walk_null_95": [0.1] * 3}, schema=HEADS)
    ranks = jobs.held_out_ranks(walks, heads, WalkThresholds(mass=0.1, correlation=0.2))
    assert sorted(ranks.rows()) == [(f"t{at}", "answer", 1, 1 - at % 2, 1) for at in range(4)]
    by_chance = heads.with_columns(walk_null_95=pl.lit(0.95))
    assert jobs.held_out_ranks(walks, by_chance, WalkThresholds(mass=0.1, correlation=0.2)).is_empty()
    assert jobs.held_out_ranks(walks.filter(item_id="t0"), heads, WalkThresholds(mass=0.1, correlation=0.2)).is_empty()
