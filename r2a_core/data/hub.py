"""Loads MATH-500 and WildBench, from the Hugging Face Hub at a pinned revision or from a local copy of the file.

HuggingFaceH4/MATH-500 (split test, id unique_id) and allenai/WildBench (config v2, split test, id session_id, the
first user turn as the question), paper sections 0 and 3. Local copies may be JSONL, parquet or CSV (lists as JSON text)
with the Hub's columns.
"""

import json
import logging
import re
from pathlib import Path
from typing import Any

from r2a_core.data.items import Item
from r2a_core.data.user_tables import Loaded, collect, optional_label, read_rows, required_text
from r2a_core.infra.errors import R2AError
from r2a_core.infra.hub import hub_access

log = logging.getLogger(__name__)

TIMEOUT = 20.0  # s to wait for the Hub's first answer

MATH500_COLUMNS = ("problem", "answer", "subject", "level", "unique_id")

WILDBENCH_COLUMNS = ("session_id", "conversation_input", "checklist", "primary_tag")

SOURCES = {
    "math500": ("HuggingFaceH4/MATH-500", "test.jsonl"),
    "wildbench": ("allenai/WildBench", "v2/test-00000-of-00001.parquet"),
}

AREAS = {
    "Coding & Debugging": "coding & analysis",
    "Data Analysis": "coding & analysis",
    "Advice seeking": "information seeking",
    "Information seeking": "information seeking",
    "Reasoning": "reasoning & planning",
    "Planning": "reasoning & planning",
    "Brainstorming": "creative tasks",
    "Creative Writing": "creative tasks",
    "Editing": "creative tasks",
    "Role playing": "creative tasks",
}


def load_math500(path: Path) -> Loaded[Item]:
    """Loads the MATH-500 questions of a file with the Hub's columns."""
    return collect(read_rows(path, MATH500_COLUMNS), math500_item, lambda item: item.item_id)


def math500_item(row: dict[str, Any]) -> Item:
    """Makes an item of one problem."""
    return Item(
        item_id=required_text(row, "unique_id"),
        question=required_text(row, "problem"),
        gold=required_text(row, "answer"),
        kind="math",
        subject=optional_label(row, "subject"),
        level=optional_label(row, "level"),
    )


def load_wildbench(path: Path) -> Loaded[Item]:
    """Loads the WildBench questions of a file with the Hub's columns; those tagged Math are left out and reported."""
    return collect(read_rows(path, WILDBENCH_COLUMNS), wildbench_item, lambda item: item.item_id)


def wildbench_item(row: dict[str, Any]) -> Item:
    """Makes an item of one conversation.

    `extra` holds the primary tag, the checklist, and the turns before the question (history, which a judge needs) and
    after it (later, which the question leaves out), each {"role", "content"}.
    """
    tag = required_text(row, "primary_tag")
    if tag == "Math":
        raise R2AError("its primary tag is Math, which has no exact answer here")
    if tag not in AREAS:
        raise R2AError(f"its primary tag {tag!r} belongs to no area")
    turns = list_of(row, "conversation_input", dict)
    first = next((number for number, turn in enumerate(turns) if turn.get("role") == "user"), None)
    if first is None:
        raise R2AError("conversation_input has no user turn")
    extra = {
        "primary_tag": tag,
        "checklist": list_of(row, "checklist", str),
        "history": [
            {"role": required_text(turn, "role"), "content": required_text(turn, "content")} for turn in turns[:first]
        ],
        "later": [{name: optional_label(turn, name) for name in ("role", "content")} for turn in turns[first + 1 :]],
    }
    return Item(
        item_id=required_text(row, "session_id"),
        question=required_text(turns[first], "content"),
        gold=None,
        kind="open",
        subject=AREAS[tag],
        extra=json.dumps(extra, sort_keys=True, ensure_ascii=False),
    )


def list_of(row: dict[str, Any], column: str, kind: type) -> list[Any]:
    """Returns a list of a row, itself or as JSON text; empty for null. Raises R2AError for anything else."""
    value = row.get(column)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise R2AError(f"{column} is neither a list nor JSON text") from None
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, kind) for entry in value):
        raise R2AError(f"{column} is not a list of {kind.__name__}")
    return value


def fetch(kind: str, revision: str) -> Path:
    """Fetches the benchmark's file from the Hub, or from its cache, where a full commit needs no network.

    A branch or tag is followed to the commit it names now, which is logged. Raises MissingPrerequisite when the file
    cannot be had.
    """
    from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache

    repository, name = SOURCES[kind]
    hint = f"connect this machine, or copy {name} into imports/ and name it under datasets.{kind}.file"
    pinned = re.fullmatch(r"[0-9a-f]{40}", revision) is not None
    cached = isinstance(try_to_load_from_cache(repository, name, revision=revision, repo_type="dataset"), str)
    with hub_access(repository, hint):
        if not constants.HF_HUB_OFFLINE and not (pinned and cached):  # one request: a download would try for minutes
            revision = HfApi().dataset_info(repository, revision=revision, timeout=TIMEOUT).sha or revision
        path = Path(hf_hub_download(repository, name, repo_type="dataset", revision=revision, etag_timeout=TIMEOUT))
    commit = path.parts[-1 - len(Path(name).parts)]
    if not pinned:
        log.warning("%s is at %s; put that into params.yaml to pin it", repository, commit)
    return path
