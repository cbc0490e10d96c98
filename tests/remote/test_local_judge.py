"""A local judge: `transformers serve` with a random model, whose words are no verdict. The stage ends and says so."""

import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from r2a_core.config import model_params
from r2a_core.data.items import items_frame
from r2a_core.infra.files import write_frame
from r2a_core.models.load import load_tokenizer
from r2a_core.models.prepare import prepare
from r2a_core.tokenizer import LoadedTokenizer
from stages import evaluate, judge
from tests.judging.served_judge import open_item, responses
from tests.remote.conftest import RealServer

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def project(tmp_path: Path, real_server: RealServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two open items with their responses; the params that the stages see, with the local judge."""
    data = tmp_path / "data"
    prepare(model_params({"kind": "texts"}, "models.m"), data / "models" / "m")
    text: LoadedTokenizer = load_tokenizer(data / "models" / "m")
    write_frame(data / "datasets" / "chat.parquet", items_frame([open_item("poem-1"), open_item("code-2")]))
    for setting in ("with_reasoning", "without_reasoning"):
        frame = responses(text, setting, {"poem-1": "A rose.", "code-2": "print(1)"})
        write_frame(data / "generations" / "m" / "chat" / f"{setting}.parquet", frame)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["datasets"]["chat"] = params["datasets"]["wildbench"]
    params["judge"] |= {"max_tokens": 12, "attempts": 2}
    params["judge"]["endpoint"] |= {"base_url": real_server.base_url, "model": real_server.model, "key_env": None}
    for stage in (judge, evaluate):
        monkeypatch.setattr(stage, "DATA", data)
        monkeypatch.setattr(stage, "read_params", lambda name: params)
    monkeypatch.setattr(judge, "WORK", tmp_path / "work")
    return params


def test_prose_is_counted_and_the_stages_go_on(
    project: dict[str, Any], real_server: RealServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        judge.judge("m", "chat")
    frame = pl.read_parquet(tmp_path / "data" / "judgements" / "m" / "chat.parquet")
    assert frame["status"].to_list() == ["bad_reply"] * 4
    assert frame["attempts"].to_list() == [2] * 4
    assert set(frame["judge_model"]) == {real_server.model}
    assert frame["completion_tokens"].to_list() == [24] * 4  # cut off both times
    assert all(reply.strip() for reply in frame["reply"])
    said = caplog.text
    assert "4 of 4 replies cannot be used: it was cut off before its end (4)" in said
    assert "4 judgements: 0 ok, 4 bad_reply, 0 refused" in said
    assert "no reply of the judge could be used" in said
    evaluate.evaluate("m", "chat")
    evaluated = pl.read_parquet(tmp_path / "data" / "evaluation" / "m" / "chat.parquet")
    assert evaluated["score"].null_count() == 4
    assert not evaluated["common"].any()
    summary = yaml.safe_load((tmp_path / "data" / "metrics" / "evaluate-m-chat.json").read_text())
    assert summary["areas"]["overall"]["n"] == 0
    assert summary["judge"]["replies"]["bad_reply"] == 4


def test_the_same_judge_gives_the_same_words(
    project: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge.judge("m", "chat")
    path = tmp_path / "data" / "judgements" / "m" / "chat.parquet"
    first = path.read_bytes()
    monkeypatch.setattr(judge, "WORK", tmp_path / "elsewhere")
    judge.judge("m", "chat")
    assert path.read_bytes() == first  # greedy: nothing of the first run is needed to come out the same
