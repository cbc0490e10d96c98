"""The stages sentences and figures_sentences on a random tiny model whose traces are captured here."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from r2a_core.sentences import stage as jobs
from tests.random_models import check_made_again_after_a_kill
from tests.study import call, write_params
from tests.walks import test_stage as captured_study
from tools.data_docs import faults

root = captured_study.root  # traces of 2, 4 and 6 sentences, of a model with 4 layers and 4 heads


def test_from_captured_traces_to_a_figure_and_again_after_a_kill(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = captured_study.study_params()
    params["sentences"]["least"] = 4
    write_params(root, params)
    call(root, "sentences", "tiny", "stories")
    call(root, "figures_sentences")
    found = pl.read_parquet(root / "data/sentences/tiny/stories.parquet")
    assert list(faults(root / "data")) == []
    assert found["sentence"].to_list() == [None, 0, 1, None, *range(4), None, *range(6)]
    assert found["later_kl"].list.len().to_list() == [1, 1, 0, 3, 3, 2, 1, 0, 5, 5, 4, 3, 2, 1, 0]
    again, hidden = found.filter(pl.col("sentence").is_null()), found.drop_nulls("sentence")
    assert again["answer_kl"].abs().max() < 1e-6  # type: ignore[operator]
    assert hidden["answer_kl"].min() > 1e-5  # type: ignore[operator]
    assert hidden["text"].str.strip_chars().unique().sort().to_list() == ["First add 1.", "Wait, so much."]
    attention = pl.read_parquet(root / "data/attention/tiny/stories/with_reasoning.parquet").filter(source="answer")
    whole = attention.group_by("item_id").agg(pl.col("reasoning", "uniform_share").mean()).sort("item_id")
    sums = hidden.group_by("item_id").agg(pl.col("mass", "even").sum()).sort("item_id")
    assert sums["mass"].to_numpy() == pytest.approx(whole["reasoning"].to_numpy(), abs=1e-6)
    assert sums["even"].to_numpy() == pytest.approx(whole["uniform_share"].to_numpy(), abs=1e-6)
    heads = pl.read_parquet(root / "data/sentences/tiny/stories-heads.parquet")
    assert heads.height == 3 * 2 * 4 * 4
    assert heads.drop_nulls("kurtosis").select("item_id", "proximity").unique().rows() == [("story-2", 2)]
    check_made_again_after_a_kill(root, monkeypatch, "sentences", jobs)


def test_without_stored_activations_sentences_are_hidden_and_no_head_is_measured(root: Path) -> None:
    write_params(root, captured_study.study_params(store=False))
    shutil.rmtree(root / "data/activations")
    captured_study.captured(root)
    call(root, "sentences", "tiny", "stories")
    assert pl.read_parquet(root / "data/sentences/tiny/stories.parquet").height == 15
    assert pl.read_parquet(root / "data/sentences/tiny/stories-heads.parquet").is_empty()
