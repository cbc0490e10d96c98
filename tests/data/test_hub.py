"""MATH-500 and WildBench from local files, from the Hub's cache, and without either. Nothing here uses the network."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from huggingface_hub import HfApi, constants, errors

from r2a_core.data.hub import AREAS, fetch, hub_access, load_math500, load_wildbench
from r2a_core.data.items import Item
from r2a_core.data.user_tables import RejectedRow
from r2a_core.infra.errors import MissingPrerequisite

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MATH: list[dict[str, Any]] = [
    {"problem": "What is $1+1$?", "answer": "2", "subject": "Algebra", "level": 1, "unique_id": "test/algebra/1.json"},
    {"problem": "Réel?\n", "answer": "\\frac{1}{2}", "subject": "Geometry", "level": 5, "unique_id": "test/g/2.json"},
]
USER, REPLY = {"role": "user", "content": "Plan a trip."}, {"role": "assistant", "content": "Where to?"}


def conversation(session: str, tag: str, turns: list[dict[str, Any]]) -> dict[str, Any]:
    row = {"session_id": session, "conversation_input": turns, "primary_tag": tag}
    return row | {"checklist": ["Is it short?"]}


def write_rows(folder: Path, rows: list[dict[str, Any]], form: str) -> Path:
    """A file of these rows; in CSV, lists are JSON."""
    path, table = folder / f"rows.{form}", pl.DataFrame(rows)
    if form == "parquet":
        table.write_parquet(path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        flat = [{key: json.dumps(one) if isinstance(one, list) else one for key, one in row.items()} for row in rows]
        pl.DataFrame(flat).write_csv(path)
    return path


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv"])
def test_datasets_from_a_local_file(tmp_path: Path, form: str) -> None:
    loaded = load_math500(write_rows(tmp_path, [*MATH, MATH[0]], form))
    assert loaded.items == [
        Item("test/algebra/1.json", "What is $1+1$?", "2", "math", "Algebra", "1"),
        Item("test/g/2.json", "Réel?\n", "\\frac{1}{2}", "math", "Geometry", "5"),
    ]
    assert loaded.rejected == [RejectedRow(3, "the id 'test/algebra/1.json' came before")]
    # WildBench: the first user turn is the question, the rest is kept
    later = [REPLY, {"role": "user", "content": "Rome"}]
    opening = {"role": "system", "content": "Be brief."}
    rows = [conversation("s1", "Planning", [opening, USER, *later]), conversation("s2", "Math", [USER])]
    loaded = load_wildbench(write_rows(tmp_path, rows, form))
    (item,) = loaded.items
    assert (item.item_id, item.question, item.gold, item.kind) == ("s1", "Plan a trip.", None, "open")
    assert item.subject == "reasoning & planning"
    expected = {"primary_tag": "Planning", "checklist": ["Is it short?"], "history": [opening], "later": later}
    assert json.loads(item.extra) == expected
    assert loaded.rejected == [RejectedRow(2, "its primary tag is Math, which has no exact answer here")]


def test_wildbench_in_the_published_schema(tmp_path: Path) -> None:
    """All columns of config v2, with the types of its parquet file; what is not needed does no harm."""
    about = {"language": "English", "redacted": False, "timestamp": None, "toxic": False}
    more = {"id": "0", "references": {"gpt-4": "A model's own words."}, "length": 20, "intent": "To plan."}
    turns = [("user", "Plan a trip."), ("assistant", ""), ("user", None)]
    spoken = [{"content": content, "role": role, **about} for role, content in turns]
    kinds = [("s1", "Planning", spoken), ("s2", "Math", spoken[:1]), ("s1", "Editing", spoken[:1])]
    rows = [more | conversation(*each) | {"secondary_tags": ["Math", "Others"]} for each in kinds]
    loaded = load_wildbench(write_rows(tmp_path, rows, "parquet"))
    (item,) = loaded.items
    assert (item.item_id, item.subject, item.question) == ("s1", "reasoning & planning", "Plan a trip.")
    extra = json.loads(item.extra)
    assert (extra["checklist"], extra["history"]) == (["Is it short?"], [])
    assert extra["later"] == [{"role": "assistant", "content": ""}, {"role": "user", "content": ""}]
    assert [rejected.row for rejected in loaded.rejected] == [2, 3]


PAPER = json.loads((Path(__file__).parent / "areas.json").read_text(encoding="utf-8"))


def test_tags_fall_into_the_areas_of_the_paper(tmp_path: Path) -> None:
    areas = {tag: area for area, tags in PAPER.items() for tag in tags}
    assert areas == AREAS
    rows = [conversation(tag, tag, [USER]) for tag in areas]
    assert {item.item_id: item.subject for item in load_wildbench(write_rows(tmp_path, rows, "jsonl")).items} == areas


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache, and a Hub that no request reaches."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def unreached(*args: Any, **options: Any) -> None:
        raise errors.HTTPError("no route")  # type: ignore[attr-defined]

    monkeypatch.setattr(HfApi, "dataset_info", unreached)
    return tmp_path / "hub"


@pytest.mark.parametrize(("kind", "revision"), [("math500", "main"), ("wildbench", COMMIT)])
def test_without_network_and_cache_there_are_two_ways_out(cache: Path, kind: str, revision: str) -> None:
    with pytest.raises(MissingPrerequisite, match="was not reached") as caught:
        fetch(kind, revision)
    assert "connect this machine" in caught.value.hint
    assert f"datasets.{kind}.file" in caught.value.hint


def test_a_pinned_file_in_the_cache_needs_no_network(cache: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingPrerequisite, match="HF_HUB_OFFLINE is set"):
        fetch("math500", COMMIT)
    snapshot = cache / "datasets--HuggingFaceH4--MATH-500" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    file = write_rows(snapshot, MATH, "jsonl").rename(snapshot / "test.jsonl")
    assert fetch("math500", COMMIT) == file
    # a branch is followed to its commit, which is told
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "dataset_info", lambda *args, **options: SimpleNamespace(sha=COMMIT))
    assert fetch("math500", "main") == file
    assert COMMIT in caplog.text


def test_a_full_disk_is_a_missing_prerequisite_and_a_bug_stays_one() -> None:
    with pytest.raises(MissingPrerequisite, match="no space left"), hub_access("x/y", "hint"):
        raise OSError(28, "No space left on device")
    for bug in (ZeroDivisionError(), PermissionError(13, "denied")):
        with pytest.raises(type(bug)), hub_access("x/y", "hint"):
            raise bug
