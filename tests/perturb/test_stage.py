"""The stages perturb and figures_perturb on a random tiny model and responses made up here."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.data.items import Item
from r2a_core.perturb import stage as jobs
from tests.random_models import contents, save_answers, save_random_model
from tests.study import PARAMS, call, params_with, study_folder
from tools.data_docs import faults

ITEMS = [
    Item(f"story-{number}", f"{number} + 2?", str(number + 2), "math", extra='{"options": ["2", "3", "9"]}')
    for number in range(5)
]
PERTURB: dict[str, Any] = {
    "traces": 4,
    "levels": [0.5, 1.0],
    "answer_tokens": 4,
    "free": {"traces": 1, "max_new_tokens": 5, "batch_size": 4},
    "shard_traces": 2,
    "bootstrap_draws": 100,
}
MADE = ("perturb", "figures", "metrics")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose model has answered."""
    monkeypatch.setenv("R2A_DEVICE", "cpu")
    params = params_with(
        run={"models": ["tiny"], "datasets": ["stories"]},
        models={"tiny": {"kind": "texts"}},
        datasets={"stories": PARAMS["datasets"]["arithmetic"]},
        perturb=PERTURB,
    )
    root = study_folder(tmp_path / "project", params)
    save_random_model(root / "data/models/tiny", "qwen2", 1, num_hidden_layers=2)
    save_answers(root / "data", "tiny", "stories", ITEMS)
    (root / "data/metrics").mkdir()
    return root


def test_from_traces_to_a_figure_and_again_after_a_kill(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(root, "perturb", "tiny", "stories")
    call(root, "figures_perturb")
    found = pl.read_parquet(root / "data/perturb/tiny/stories.parquet")
    assert list(faults(root / "data")) == []
    assert found["item_id"].unique(maintain_order=True).to_list() == [item.item_id for item in ITEMS[:4]]
    cuts = found.filter(family="cut", item_id="story-1")
    assert cuts["level"].to_list() == [0, 0.25, 0.5, 0.75, 1]
    jumps = cuts["log_prob"].exp().diff().to_list()
    assert jumps[cuts["boundary"][0]] == max(jumps[1:])
    base = cuts["log_prob"].to_list()
    rows = found.filter(item_id="story-1")
    expected = pl.when(pl.col("part") == "before").then(base[cuts["boundary"][0]]).otherwise(base[-1])
    assert rows.select((pl.col("log_prob_base") == expected).all()).item()
    other = found.filter(family="other")
    assert other["donor"].to_list() == ["story-1", "story-0", "story-1", "story-2"]  # nearest, the first of two
    assert other["planted"].to_list() == ["3", "2", "3", "4"]
    assert found["same"].null_count() + found["score"].null_count() == 0
    assert found.filter(pl.col("took").is_null())["family"].unique().sort().to_list() == [
        *("cut", "filler", "number", "paraphrase"),
    ]
    written = found.filter(pl.col("free").is_not_null())
    assert set(written["item_id"]) == {"story-0"}
    assert written.filter(family="cut")["level"].to_list() == [0, 1]
    assert written.filter(family="number")["level"].unique().to_list() == [1]
    metrics = json.loads((root / "data/metrics/perturb-tiny-stories.json").read_text())
    assert [metrics["n_items"], metrics["n_noise"]] == [4, 4 - found.filter(family="cut", level=1)["same"].sum()]
    first = contents(root / "data", MADE)
    for place in (root / ".work", *(root / "data" / name for name in MADE)):
        shutil.rmtree(place)
    (root / "data/metrics").mkdir()
    own = jobs.save_frame

    def killed(path: Path, frame: pl.DataFrame) -> None:
        if frame["item_id"][0] != "story-0":
            raise KeyboardInterrupt
        own(path, frame)

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "save_frame", killed)
        with pytest.raises(KeyboardInterrupt):
            call(root, "perturb", "tiny", "stories")
    ran: list[int] = []
    rows_of = jobs.forced_rows
    monkeypatch.setattr(jobs, "forced_rows", lambda job, number: ran.append(number) or rows_of(job, number))
    call(root, "perturb", "tiny", "stories")
    assert ran == [2, 3]
    call(root, "figures_perturb")
    assert contents(root / "data", MADE) == first
