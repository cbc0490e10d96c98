"""The read stage: what the heads of one model make of the traces that another one wrote, beside the writer's own heads.

Typically the reader is the model that the writer was tuned from, so that the difference is what the tuning added.

reader and writer (folders of prepared models), the writer's traces and attention -> the reader's attention, as
attention/tables.py describes it, and READ_SCHEMA: every head of both models, ranked as in attention/heads.py.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from r2a_core.attention.head_scores import SCORES
from r2a_core.attention.heads import HEAD_SCHEMA, is_reasoning_focus, rank_on_dataset
from r2a_core.attention.job import AttentionJob
from r2a_core.attention.tables import attention_tables
from r2a_core.config import HeadsParams
from r2a_core.infra.errors import R2AError
from r2a_core.infra.shards import Work
from r2a_core.models.tokenizers import load_tokenizer
from r2a_core.results import COMPARED, HeadChanges, head_changes, head_name
from r2a_core.tokenizer import LoadedTokenizer
from r2a_core.trace import TokenTrace

log = logging.getLogger(__name__)

READ_SCHEMA = {
    "model": pl.String,  # the reader, then the writer
    **{name: kind for name, kind in HEAD_SCHEMA.items() if name not in (*SCORES, "induction_head", "retrieval_head")},
}


@dataclass(frozen=True)
class Reading:
    """Who reads what: the two models, and the dataset that the writer answered."""

    reader: Path  # folder
    writer: Path  # folder
    dataset: str
    phrases: tuple[str, ...]  # that mark reflection
    device: str


def read_traces(reading: Reading, traces: Sequence[TokenTrace], work: Work) -> pl.DataFrame:
    """Measures the reader's attention on the writer's traces, ATTENTION_SCHEMA, one forward pass a trace.

    Raises R2AError when a token is not the same to both models.
    """
    check_tokens(load_tokenizer(reading.reader), load_tokenizer(reading.writer), traces, reading)
    job = AttentionJob(reading.reader, reading.device, None, reading.phrases)
    return attention_tables(job, work, traces).attention


def check_tokens(
    reader: LoadedTokenizer, writer: LoadedTokenizer, traces: Sequence[TokenTrace], reading: Reading
) -> None:
    """Raises R2AError when a token of the traces is another one to the reader; the writer's tags may differ."""
    ours, theirs = ({number: text for text, number in each.hf.get_vocab().items()} for each in (reader, writer))
    tags = set(vars(writer.ids).values())
    for token in sorted({token for trace in traces for token in trace.token_ids}):
        if token not in ours or (token not in tags and ours[token] != theirs[token]):
            raise R2AError(
                f"{reading.reader.name} has another vocabulary than {reading.writer.name}, whose texts it should read: "
                f"token {token} is {ours.get(token)!r}, not {theirs[token]!r}",
                "let run.readers name a model with the same tokenizer",
            )


def both_heads(reading: Reading, read: pl.DataFrame, written: pl.DataFrame, params: HeadsParams) -> pl.DataFrame:
    """Ranks the heads of the reader and of the writer on the same traces: READ_SCHEMA, no rows without traces.

    read, written: frames of ATTENTION_SCHEMA. Raises R2AError when they are of other traces or have other heads.
    """
    layers = written["layer"].unique()  # capture.layers may have left some out
    frames = [frame.filter(pl.col("source") == "answer", pl.col("layer").is_in(layers)) for frame in (read, written)]
    what = f"{reading.reader.name} and {reading.writer.name} on {reading.dataset}"
    items, heads = ([set(frame.select(names).rows()) for frame in frames] for names in (["item_id"], ["layer", "head"]))
    if items[0] != items[1]:
        raise R2AError(f"{what} were not measured on the same traces", "rebuild both with: dvc repro attention read")
    if heads[0] != heads[1]:
        raise R2AError(
            f"{what} cannot be compared head by head: {len(heads[0])} heads of the same layers, and {len(heads[1])}",
            "let run.readers name a model of the same architecture",
        )
    if not items[0]:
        log.warning("%s: no trace was captured, so no head is compared", what)
        return pl.DataFrame(schema=READ_SCHEMA)
    names = (reading.reader.name, reading.writer.name)
    ranked = [
        rank_on_dataset(reading.dataset, frame, params.top).with_columns(model=pl.lit(name))
        for name, frame in zip(names, frames, strict=True)
    ]
    heads = pl.concat([frame.with_columns(reasoning_focus=is_reasoning_focus(params)) for frame in ranked])
    return heads.select(list(READ_SCHEMA)).cast(READ_SCHEMA)  # type: ignore[arg-type]


def summary(heads: pl.DataFrame, reading: Reading, params: HeadsParams) -> dict[str, Any]:
    """Makes the metrics: heads that walk before (the reader) and after (the writer); by score, how heads changed."""
    changes = head_changes(heads, reading.reader.name, reading.writer.name, params.walk)
    return {
        "n_traces": changes.n_traces,
        "walking_heads": {"before": len(changes.walking_before), "after": len(changes.walking_after)},
        **{name: score_summary(changes, name, params.top) for name in COMPARED},
    }


def score_summary(changes: HeadChanges, score: str, top: int) -> Mapping[str, Any]:
    """Describes one score: heads that have it in both models, their rank correlation, those that changed most."""
    both = changes.both(score)
    most = changes.changed_most(score, top)
    return {
        "n_heads": both.height,
        "spearman": changes.spearman(score),
        "changed_most": {head_name(*head): {"before": before, "after": after} for head, before, after in most},
    }
