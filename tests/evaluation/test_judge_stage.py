"""From a WildBench file to Figure 1b: the stages in a project of their own, against a judge that often fails."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.config import ModelParams, parse
from r2a_core.data.hub import load_wildbench
from r2a_core.data.items import Item, items_frame
from r2a_core.evaluation.judge_reply import JUDGEMENT_SCHEMA
from r2a_core.infra.files import write_frame
from r2a_core.models.prepare import prepare
from r2a_core.tokenizer import LoadedTokenizer
from r2a_core.trace import SETTINGS
from tests.evaluation.judge_server import JUDGE, answers_asked, asked, failed, grade, judge_section, responses, said
from tests.servers import CANARY, KEY_ENV, FaultServer, files_with
from tests.study import ROOT, call, params_with, study_folder, write_params

KINDS = "Creative Writing, Editing, Role playing, Coding & Debugging, Data Analysis, Planning"
TAGS = {f"s{number}": tag for number, tag in enumerate(KINDS.split(", "), 1)}
ANSWERS: dict[str, tuple[str | None, str | None]] = {  # with and without reasoning; None: not finished
    "s1": ("answer one", "answer two"),
    "s2": ("answer three", "answer four"),
    "s3": ("answer five", "answer six"),
    "s4": ("answer seven", "answer eight"),
    "s5": ("answer nine", "answer ten"),
    "s6": (None, "answer eleven"),
}
SCORES = {"one": 9, "two": 7, "three": 8, "four": 7, "five": 9, "six": 6, "seven": 5, "eight": 6, "ten": 6}
FAULTS = [
    failed(500, "answer two", 1, message="try later"),
    said(grade(8)[:-3], "answer three", 1),  # broken JSON
    said(f"My verdict: {grade(9)} I hope this helps.", "answer five", 1),
    said(grade(11), "answer six", 1),
    said(grade(6)[:-3], "answer nine"),  # never a score: counts in no test
    said(None, "answer eleven", refusal="I cannot help with that."),
]
JUDGEMENTS = "data/judgements/m/wildbench.parquet"
PLAN = FAULTS + [said(grade(score, f"about {name}"), f"answer {name}") for name, score in SCORES.items()]


def wildbench_file(path: Path) -> list[Item]:
    """A file in the published schema, with a Math item and a checklist each, and its items."""
    rows = [
        {"session_id": name, "checklist": [f"Does it fit {name}?"], "primary_tag": tag, "secondary_tags": []}
        | {"conversation_input": [{"role": "user", "content": f"Request {name}.", "language": "English"}]}
        for name, tag in {**TAGS, "s7": "Math"}.items()
    ]
    pl.DataFrame(rows).write_parquet(path)
    return load_wildbench(path).items


def judge_stage(root: Path, **key: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | key
    command = [sys.executable, "-m", "stages.judge", "m", "wildbench"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def project(built_in_tokenizer: LoadedTokenizer, server: FaultServer, tmp_path: Path) -> Path:
    """A project with a judge and responses that are not judged yet."""
    data = tmp_path / "data"
    items = wildbench_file(tmp_path / "wildbench.parquet")
    assert [item.item_id for item in items] == list(TAGS)
    write_frame(data / "datasets" / "wildbench.parquet", items_frame(items))
    prepare(parse(ModelParams, {"kind": "texts"}, "models.m"), data / "models" / "m")
    for side, setting in enumerate(SETTINGS):
        frame = responses(built_in_tokenizer, setting, {name: pair[side] for name, pair in ANSWERS.items()}, items)
        write_frame(data / "generations" / "m" / "wildbench" / f"{setting}.parquet", frame)
    server.plan(*PLAN)
    return study_folder(tmp_path, study_params(server))


def study_params(server: FaultServer, repeats: int = 1) -> dict[str, Any]:
    params = params_with(
        run={"models": ["m"], "datasets": ["wildbench"]},
        models={"m": {"kind": "texts"}},
        evaluate={"bootstrap_draws": 200},
    )
    return params | {"judge": judge_section(server, key_env=KEY_ENV, attempts=2, repeats=repeats)}


def test_every_response_ends_in_a_score_or_a_counted_failure(
    project: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_ENV)
    keyless = judge_stage(project)
    assert keyless.returncode == 3, keyless.stderr
    way_out = "in the shell that runs dvc; or name a local judge in judge.endpoint"
    assert keyless.stderr.strip().endswith(f"hint: export {KEY_ENV}=... {way_out}")
    assert not asked(server)
    done = judge_stage(project, **{KEY_ENV: CANARY})
    assert done.returncode == 0, done.stderr
    frame = pl.read_parquet(project / JUDGEMENTS)
    assert dict(frame.schema) == JUDGEMENT_SCHEMA
    assert set(frame["judge_model"].drop_nulls()) == {JUDGE}
    with_ = [("ok", 9, 1), ("ok", 8, 2), ("ok", 9, 2), ("ok", 5, 1), ("bad_reply", None, 2)]
    # HTTP 500, to s1 without reasoning, is the endpoint's matter, not a reply
    without = [("ok", 7, 1), ("ok", 7, 1), ("ok", 6, 2), ("ok", 6, 1), ("ok", 6, 1), ("refused", None, 1)]
    assert frame.select("status", "score", "attempts").rows() == with_ + without
    answered = [(name, SETTINGS[0]) for name in list(TAGS)[:5]] + [(name, SETTINGS[1]) for name in TAGS]
    assert frame.select("item_id", "setting").rows() == answered
    assert frame["strengths"].to_list()[0] == "about one"
    assert "11 judgements: 9 ok, 1 bad_reply, 1 refused" in done.stderr
    # 10 replies at the first attempt, 4 at the second, and one refusal: 15 times 100 tokens read and 10 written
    assert "1500 tokens read, 150 written, 0.01 in money" in done.stderr
    assert "Traceback" not in done.stderr
    seen = dict(zip(answers_asked(server), asked(server), strict=True))
    content = seen["answer one"]["messages"][0]["content"]
    assert "Request s1." in content
    assert "- Does it fit s1?" in content
    assert not [body for body in seen.values() if "Some thoughts." in body["messages"][0]["content"]]
    call(project, "evaluate", "m", "wildbench")
    call(project, "figures_evaluation")
    summary = json.loads((project / "data" / "metrics" / "evaluate-m-wildbench.json").read_text())
    poems, overall = summary["areas"]["creative tasks"], summary["areas"]["overall"]
    # creative: 9 8 9 against 7 7 6, differences 2 1 3; overall also 5 against 6
    assert (poems["n"], poems["mean_with"], poems["mean_without"]) == (3, round(26 / 3, 6), round(20 / 3, 6))
    assert summary["areas"]["coding & analysis"]["reason"] == "one item has no variance"
    assert (overall["n"], overall["difference"]) == (4, 1.25)
    assert summary["judge"]["replies"] == {"ok": 9, "bad_reply": 1, "refused": 1}
    assert summary["funnel"]["with_reasoning"]["once"]["answer_format"] == 5
    folder = project / "data" / "figures" / "evaluation"
    assert (folder / "judge-scores.png").stat().st_size > 10_000
    table = pl.read_csv(folder / "table-judge-scores.csv")
    assert table["area"].to_list()[-1] == "overall"
    assert table["n"].to_list() == [1, 3, 0, 4]
    assert CANARY not in done.stderr
    assert not files_with(CANARY, project)


def test_a_second_run_asks_nothing_and_repeats_ask_for_the_new(project: Path, server: FaultServer) -> None:
    def judged(repeats: int) -> tuple[bytes, int]:
        """The table and how many requests it took."""
        count = len(asked(server))
        write_params(project, study_params(server, repeats))
        call(project, "judge", "m", "wildbench")
        return (project / JUDGEMENTS).read_bytes(), len(asked(server)) - count

    first, count = judged(1)
    assert count == 11 + 1 + 4  # HTTP 500 once; four replies are asked for again
    (project / JUDGEMENTS).unlink()
    assert judged(1) == (first, 0)
    assert judged(2)[1] == 10 + 1 + 1  # every response, and again the one that is always broken
    assert pl.read_parquet(project / JUDGEMENTS).height == 22
    assert judged(1) == (first, 0)
    # a dataset without open items needs no judge
    data, count = project / "data", len(asked(server))
    write_frame(data / "datasets" / "arithmetic.parquet", items_frame([Item("a", "1 + 1?", "2", "math")]))
    shutil.copytree(data / "generations" / "m" / "wildbench", data / "generations" / "m" / "arithmetic")
    call(project, "judge", "m", "arithmetic")
    frame = pl.read_parquet(data / "judgements" / "m" / "arithmetic.parquet")
    assert (frame.height, dict(frame.schema)) == (0, JUDGEMENT_SCHEMA)
    assert len(asked(server)) == count
