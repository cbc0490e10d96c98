"""Reads texts that were kept as chat messages: JSONL or parquet with a column `messages`, and logs of inspect_ai.

row with `messages`, or one sample of a log -> row of a trace file (see r2a_core.data.imported_texts), with a column
`reasoning` where the message keeps its reasoning apart. A log is JSON (.json) or a zip of JSON files (.eval): a header
that names the model, and a file for each sample and epoch.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r2a_core.data.user_tables import TableRow, shortened
from r2a_core.infra.errors import R2AError, first_line

LOGS = (".eval", ".json")

ATTACHMENT = "attachment://"

# Why a text ended, as servers and inspect_ai say it; None where they do not know.
ENDED = {"stop": "stop", "length": "length", "max_tokens": "length", "model_length": "length", "unknown": None}

DAMAGED = (OSError, ValueError, KeyError, TypeError, RecursionError, EOFError, zipfile.BadZipFile, zlib.error)


def message_row(row: TableRow, name: str) -> TableRow:
    """Makes a row of a trace file of one with `messages`. name: of the model where no column says it."""
    values = row.columns
    if values is None or values.get("response") is not None:
        return row
    try:
        found = conversation(values.get("messages"))
        reason = values.get("finish") or values.get("finish_reason") or "stop"  # messages hold whole replies
        number = values.get("unique_id", values.get("id"))
        made = {
            **found,
            "model": values.get("model") or name,
            "setting": values.get("setting") or found["setting"],
            "unique_id": digest(found["problem"]) if number is None else str(number),
            "answer": values.get("answer"),
            "finish": finish_of(reason),
        }
    except R2AError as error:
        return TableRow(row.number, None, error.message)
    return TableRow(row.number, {**{key: value for key, value in values.items() if key != "messages"}, **made})


def log_rows(path: Path) -> list[TableRow]:
    """Reads the samples of an inspect_ai log as rows, the first epoch first.

    Raises R2AError for what is no such log, and for one whose compression or layout needs inspect_ai itself.
    """
    convert = "write it as JSON: inspect log convert --to json --output-dir FOLDER FILE"
    try:
        model, samples = read_zip(path) if path.suffix == ".eval" else read_json(path)
        samples.sort(key=lambda sample: int(sample.get("epoch", 1)))
    except NotImplementedError:
        raise R2AError(f"{path.name} is compressed with zstd, which Python before 3.14 cannot read", convert) from None
    except DAMAGED as error:
        hint = "check that it is an inspect_ai log with samples, written to its end"
        raise R2AError(f"{path.name} cannot be read as a log: {first_line(error)}", hint) from None
    if not samples:
        raise R2AError(f"{path.name} has no samples of its own", convert)
    rows = []
    for number, sample in enumerate(samples, start=1):
        try:
            rows.append(TableRow(number, {"model": model, **sample_row(sample)}))
        except R2AError as error:
            rows.append(TableRow(number, None, error.message))
    return rows


def read_json(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """Returns the model of a log and its samples."""
    log = json.loads(path.read_text(encoding="utf-8"))
    return log["eval"]["model"], list(log["samples"])


def read_zip(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """Returns the same of a zip. A run that was broken off has its header in the journal only."""
    with zipfile.ZipFile(path) as log:
        names = log.namelist()
        header = json.loads(log.read("header.json" if "header.json" in names else "_journal/start.json"))
        own = [
            name for name in names if name.startswith("samples/") and name.endswith(".json") and name.count("/") == 1
        ]
        return header["eval"]["model"], [json.loads(log.read(name)) for name in own]


def sample_row(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the columns of a row, but for the model, of one sample. Raises R2AError for one without a text."""
    sample = with_attachments(sample, sample.get("attachments") or {})
    choices = (sample.get("output") or {}).get("choices") or []
    if sample.get("error") or not choices:
        raise R2AError("the sample ended in an error" if sample.get("error") else "the sample has no output")
    asked = sample.get("messages") if sample.get("choices") else sample.get("input")  # options are in the message
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    before = [message for message in asked or [] if message.get("role") != "assistant"]
    target = sample.get("target")
    targets = [target] if isinstance(target, str) else list(target or [])
    if len(targets) > 1:
        raise R2AError(f"the sample has {len(targets)} targets, not one")
    about = sample.get("metadata") or {}
    return {
        **conversation([*before, choices[0].get("message") or {}]),
        "unique_id": str(sample.get("id", "")),
        "answer": "".join(targets) or None,
        "subject": about.get("subject"),
        "level": about.get("level"),
        "finish": finish_of(choices[0].get("stop_reason", "unknown")),
    }


def with_attachments(value: Any, attachments: Mapping[str, str]) -> Any:
    """Puts the texts that a sample keeps apart where they are named; only what is read here, no events."""
    if isinstance(value, str):
        return attachments.get(value.removeprefix(ATTACHMENT), value) if value.startswith(ATTACHMENT) else value
    if isinstance(value, Mapping):
        apart = ("attachments", "events", "store")
        return {key: with_attachments(each, attachments) for key, each in value.items() if key not in apart}
    return [with_attachments(each, attachments) for each in value] if isinstance(value, list) else value


def conversation(messages: Any) -> dict[str, Any]:
    """Returns problem, reasoning, response and setting of one question and its reply.

    The setting is without_reasoning where the reply holds no reasoning. Raises R2AError for anything but messages of
    which the last alone is the assistant's.
    """
    if not isinstance(messages, list) or not all(isinstance(each, Mapping) for each in messages):
        raise R2AError(f"messages is {shortened(messages)}, not a list of messages")
    roles = [str(each.get("role")) for each in messages]
    if roles.count("assistant") != 1 or roles[-1] != "assistant" or "user" not in roles:
        raise R2AError(f"messages is not a question and one reply: {', '.join(roles[:6]) or 'none'}")
    if messages[-1].get("tool_calls") or "tool" in roles:
        raise R2AError("messages has calls of tools")
    _, problem = parts(messages[len(roles) - 1 - roles[::-1].index("user")].get("content"))
    reasoning, response = parts(messages[-1].get("content"))
    for name in ("reasoning_content", "reasoning"):
        if not reasoning and isinstance(messages[-1].get(name), str):
            reasoning = messages[-1][name]
    thinks = bool(reasoning) or "</think>" in response
    setting = "with_reasoning" if thinks else "without_reasoning"
    return {"problem": problem, "response": response, "reasoning": reasoning or None, "setting": setting}


def parts(content: Any) -> tuple[str, str]:
    """Returns the reasoning and the text of a message's content: a text, or a list of blocks. Raises R2AError."""
    if content is None or isinstance(content, str):
        return "", content or ""
    if not isinstance(content, list):
        raise R2AError(f"content is {shortened(content)}, neither a text nor blocks")
    reasoning, text = "", ""
    for block in content:
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind in ("reasoning", "thinking"):
            if block.get("redacted"):
                raise R2AError("its reasoning is redacted")
            thoughts = block.get(kind) or ""
            reasoning += thoughts if isinstance(thoughts, str) else parts(thoughts)[1]
        elif kind == "text" and isinstance(block.get("text"), str):
            text += block["text"]
        else:
            raise R2AError(f"content has a block of type {shortened(kind)}, neither text nor reasoning")
    return reasoning, text


def finish_of(reason: Any) -> str | None:
    """Returns stop or length, None where it is unknown. Raises R2AError for a text that was broken off otherwise."""
    if reason not in ENDED:
        raise R2AError(f"the text ended by {shortened(reason)}, neither by itself nor by length")
    return ENDED[reason]


def digest(problem: str) -> str:
    """Returns an id for a question that has none: the same question has the same one."""
    return hashlib.sha256(problem.encode("utf-8", "surrogatepass")).hexdigest()[:12]
