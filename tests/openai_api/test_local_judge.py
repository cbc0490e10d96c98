"""A local judge: `transformers serve` with a random model, whose words are no verdict. The stage ends and says so."""

import logging
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml

from r2a_core.config import ModelParams, parse
from r2a_core.data.items import items_frame
from r2a_core.infra.files import write_frame
from r2a_core.models.prepare import prepare
from r2a_core.models.tokenizers import load_tokenizer
from r2a_core.tokenizer import LoadedTokenizer
from tests.evaluation.judge_server import open_item, responses
from tests.servers import RealServer
from tests.study import PARAMS, call, params_with, study_folder


@pytest.fixture
def project(tmp_path: Path, real_server: RealServer) -> Path:
    """A study of two open items with their responses, and the local judge."""
    data = tmp_path / "data"
    prepare(parse(ModelParams, {"kind": "texts"}, "models.m"), data / "models" / "m")
    text: LoadedTokenizer = load_tokenizer(data / "models" / "m")
    write_frame(data / "datasets" / "chat.parquet", items_frame([open_item("poem-1"), open_item("code-2")]))
    for setting in ("with_reasoning", "without_reasoning"):
        frame = responses(text, setting, {"poem-1": "A rose.", "code-2": "print(1)"})
        write_frame(data / "generations" / "m" / "chat" / f"{setting}.parquet", frame)
    endpoint = {"base_url": real_server.base_url, "model": real_server.model, "key_env": None}
    params = params_with(
        models={"m": {"kind": "texts"}},
        datasets={"chat": PARAMS["datasets"]["wildbench"]},
        judge={"max_tokens": 12, "attempts": 2, "endpoint": PARAMS["judge"]["endpoint"] | endpoint},
    )
    return study_folder(tmp_path, params)


def test_prose_is_counted_each_time_the_same_and_the_stages_go_on(
    project: Path, real_server: RealServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        call(project, "judge", "m", "chat")
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
    call(project, "evaluate", "m", "chat")
    evaluated = pl.read_parquet(tmp_path / "data" / "evaluation" / "m" / "chat.parquet")
    assert evaluated["score"].null_count() == 4
    assert not evaluated["common"].any()
    summary = yaml.safe_load((tmp_path / "data" / "metrics" / "evaluate-m-chat.json").read_text())
    assert summary["areas"]["overall"]["n"] == 0
    assert summary["judge"]["replies"]["bad_reply"] == 4
    path = tmp_path / "data" / "judgements" / "m" / "chat.parquet"
    first = path.read_bytes()
    shutil.rmtree(tmp_path / ".work")
    call(project, "judge", "m", "chat")
    assert path.read_bytes() == first  # greedy: nothing of the first run is needed to come out the same
