"""From a WildBench file to Figure 1b: the stages in a project of their own, against a judge that often fails."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
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
from tests.evaluation.judge_server import Answer, JudgeServer, answer_of, grade, responses_to, said, serving
from tests.study import ROOT, call, params_with, study_folder, write_params

KEY_ENV, KEY = "R2A_TEST_JUDGE_KEY", "sk-canary-1357902468"
KINDS = "Creative Writing, Editing, Role playing, Coding & Debugging, Data Analysis, Planning"
TAGS = {f"s{number}": tag for number, tag in enumerate(KINDS.split(", "), 1)}
# Answers name what the judge shall do with them: the score, and what comes in its place the first time or always.
ANSWERS: dict[str, tuple[str | None, str | None]] = {  # with and without reasoning; None: not finished
    "s1": ("one: 9", "two: 7, first HTTP 500"),
    "s2": ("three: 8, first broken JSON", "four: 7"),
    "s3": ("five: 9, first prose around", "six: 6, first score out of range"),
    "s4": ("seven: 5", "eight: 6"),
    "s5": ("nine: 6, always broken JSON", "ten: 6"),  # never a score: counts in no test
    "s6": (None, "eleven: 4, always refused"),
}


def scripted(server: JudgeServer) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        text = answer_of(body)
        score = int(text.split(": ")[1].split()[0].rstrip(","))
        plan = text.partition(", ")[2]
        if plan.startswith("always") or (plan.startswith("first") and server.times(text) == 1):
            return fault(plan.split(" ", 1)[1], score)
        return said(grade(score, f"about {text.split(':')[0]}"))

    server.answer = answer


def fault(kind: str, score: int) -> Answer:
    return {
        "HTTP 500": (500, {"error": {"message": "try later"}}),
        "broken JSON": said(grade(score)[:-3]),
        "prose around": said(f"My verdict: {grade(score)} I hope this helps."),
        "score out of range": said(grade(11)),
        "refused": said(None, refusal="I cannot help with that."),
    }[kind]


def wildbench_file(path: Path) -> list[Item]:
    """A file in the published schema, with a Math item and a checklist each, and its items."""
    rows = [
        {"session_id": name, "checklist": [f"Does it fit {name}?"], "primary_tag": tag, "secondary_tags": []}
        | {"conversation_input": [{"role": "user", "content": f"Request {name}.", "language": "English"}]}
        for name, tag in {**TAGS, "s7": "Math"}.items()
    ]
    pl.DataFrame(rows).write_parquet(path)
    return load_wildbench(path).items


@dataclass(frozen=True)
class Project:
    """A project folder, its judge, and what the judge stage said there."""

    root: Path
    server: JudgeServer
    params: dict[str, Any]
    said: str

    @property
    def judgements(self) -> pl.DataFrame:
        return pl.read_parquet(self.root / "data" / "judgements" / "m" / "wildbench.parquet")


def stage(root: Path, *command: str, key: str | None = KEY) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | ({KEY_ENV: key} if key else {})
    call = [sys.executable, "-m", f"stages.{command[0]}", *command[1:]]
    return subprocess.run(call, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project(built_in_tokenizer: LoadedTokenizer, tmp_path_factory: pytest.TempPathFactory):
    """A project with responses, judged, evaluated and drawn by its stages."""
    root = tmp_path_factory.mktemp("judged")
    data = root / "data"
    items = wildbench_file(root / "wildbench.parquet")
    assert [item.item_id for item in items] == list(TAGS)
    write_frame(data / "datasets" / "wildbench.parquet", items_frame(items))
    prepare(parse(ModelParams, {"kind": "texts"}, "models.m"), data / "models" / "m")
    for side, setting in enumerate(("with_reasoning", "without_reasoning")):
        answers = {name: pair[side] for name, pair in ANSWERS.items()}
        frame = responses_to(built_in_tokenizer, setting, items, answers)  # type: ignore[arg-type]
        write_frame(data / "generations" / "m" / "wildbench" / f"{setting}.parquet", frame)
    params = params_with(
        run={"models": ["m"], "datasets": ["wildbench"]},
        models={"m": {"kind": "texts"}},
        evaluate={"bootstrap_draws": 200},
    )
    with serving() as server:
        scripted(server)
        params["judge"] = server.section(attempts=2)
        params["judge"]["endpoint"]["key_env"] = KEY_ENV
        study_folder(root, params)
        keyless = stage(root, "judge", "m", "wildbench", key=None)
        assert keyless.returncode == 3, keyless.stderr
        assert keyless.stderr.strip().endswith(
            f"hint: export {KEY_ENV}=... in the shell that runs dvc; or name a local judge in judge.endpoint"
        )
        assert not server.asked
        done = stage(root, "judge", "m", "wildbench")
        assert done.returncode == 0, done.stderr
        call(root, "evaluate", "m", "wildbench")
        call(root, "figures_evaluation")
        yield Project(root, server, params, done.stderr)


def test_every_response_ends_in_a_score_or_a_counted_failure(project: Project) -> None:
    frame = project.judgements
    assert dict(frame.schema) == JUDGEMENT_SCHEMA
    with_ = [("ok", 9, 1), ("ok", 8, 2), ("ok", 9, 2), ("ok", 5, 1), ("bad_reply", None, 2)]
    # HTTP 500, to s1 without reasoning, is the endpoint's matter, not a reply
    without = [("ok", 7, 1), ("ok", 7, 1), ("ok", 6, 2), ("ok", 6, 1), ("ok", 6, 1), ("refused", None, 1)]
    assert frame.select("status", "score", "attempts").rows() == with_ + without
    assert frame["item_id"].to_list() == [*list(TAGS)[:5], *TAGS]
    assert frame["setting"].to_list() == ["with_reasoning"] * 5 + ["without_reasoning"] * 6
    assert frame["strengths"].to_list()[0] == "about one"
    assert "11 judgements: 9 ok, 1 bad_reply, 1 refused" in project.said
    # 10 replies at the first attempt, 4 at the second, and one refusal: 15 times 100 tokens read and 10 written
    assert "1500 tokens read, 150 written, 0.01 in money" in project.said
    assert "Traceback" not in project.said
    assert KEY not in project.said


def test_the_judge_saw_request_checklist_and_answer_but_no_reasoning(project: Project) -> None:
    content = next(b for b in project.server.asked if answer_of(b) == "one: 9")["messages"][0]["content"]
    assert "Request s1." in content
    assert "- Does it fit s1?" in content
    assert not [body for body in project.server.asked if "Some thoughts." in body["messages"][0]["content"]]


def test_scores_by_area_are_compared_by_hand(project: Project) -> None:
    summary = json.loads((project.root / "data" / "metrics" / "evaluate-m-wildbench.json").read_text())
    poems, overall = summary["areas"]["creative tasks"], summary["areas"]["overall"]
    # creative: 9 8 9 against 7 7 6, differences 2 1 3; overall also 5 against 6
    assert (poems["n"], poems["mean_with"], poems["mean_without"]) == (3, round(26 / 3, 6), round(20 / 3, 6))
    assert poems["t"] == round(2 / (1 / math.sqrt(3)), 6)
    assert summary["areas"]["coding & analysis"]["n"] == 1
    assert summary["areas"]["coding & analysis"]["reason"] == "one item has no variance"
    assert summary["areas"]["reasoning & planning"]["n"] == 0
    # differences 2 1 3 -1: mean 1.25, squares 15, variance (15 - 4 * 1.5625) / 3 = 2.91667
    assert (overall["n"], overall["difference"]) == (4, 1.25)
    assert overall["t"] == round(1.25 / math.sqrt((15 - 4 * 1.25**2) / 3 / 4), 6)
    assert summary["judge"]["replies"] == {"ok": 9, "bad_reply": 1, "refused": 1}
    assert summary["funnel"]["with_reasoning"]["once"]["answer_format"] == 5


def test_the_figure_and_its_table_are_drawn_and_no_file_holds_the_key(project: Project) -> None:
    folder = project.root / "data" / "figures" / "evaluation"
    assert (folder / "judge-scores.png").stat().st_size > 10_000
    table = pl.read_csv(folder / "table-judge-scores.csv")
    assert table["area"].to_list()[-1] == "overall"
    assert table["n"].to_list() == [1, 3, 0, 4]
    holding = [p for p in project.root.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]
    assert not holding


def again(project: Project, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> bytes:
    """The judge stage once more, in this process, with changed params; the table's bytes."""
    write_params(project.root, project.params | {"judge": project.params["judge"] | changes})
    monkeypatch.setenv(KEY_ENV, KEY)
    call(project.root, "judge", "m", "wildbench")
    return (project.root / "data" / "judgements" / "m" / "wildbench.parquet").read_bytes()


def test_a_second_run_asks_nothing_and_repeats_ask_for_the_new(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.root / "data" / "judgements" / "m" / "wildbench.parquet"
    before, asked = path.read_bytes(), len(project.server.asked)
    path.unlink()
    assert again(project, monkeypatch) == before
    assert len(project.server.asked) == asked
    again(project, monkeypatch, repeats=2)
    assert len(project.server.asked) - asked == 10 + 1 + 1  # every response, and again the one that is always broken
    assert project.judgements.height == 22
    assert again(project, monkeypatch) == before


def test_datasets_without_open_items_need_no_judge(project: Project) -> None:
    data, asked = project.root / "data", len(project.server.asked)
    write_frame(data / "datasets" / "arithmetic.parquet", items_frame([Item("a", "1 + 1?", "2", "math")]))
    shutil.copytree(data / "generations" / "m" / "wildbench", data / "generations" / "m" / "arithmetic")
    call(project.root, "judge", "m", "arithmetic")
    frame = pl.read_parquet(data / "judgements" / "m" / "arithmetic.parquet")
    assert (frame.height, dict(frame.schema)) == (0, JUDGEMENT_SCHEMA)
    assert len(project.server.asked) == asked
