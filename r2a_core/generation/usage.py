"""What responses took: tokens, and money where they were bought.

rows of GENERATION_SCHEMA, or a server's own counts -> data/metrics/generate-<model>-<dataset>-<setting>.json
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from r2a_core.config import ServedModel
from r2a_core.openai_api.reply import Reply, total

USAGE_SUFFIX = ".usage.json"  # beside the shard of rows, where a server counted

DIGITS = 6  # of money


@dataclass(frozen=True)
class Usage:
    """Sums over responses; None where one of them is unknown."""

    responses: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None  # money, of the endpoint's prices
    models: tuple[str, ...] = ()  # names that servers gave themselves, sorted

    @property
    def text(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @property
    def sentence(self) -> str:
        """In words, for a log."""
        tokens = f"{self.prompt_tokens} prompt and {self.completion_tokens} completion tokens"
        cost = "" if self.cost is None else f", cost {self.cost:.{DIGITS}g}"
        return f"{self.responses} responses of {', '.join(self.models) or 'an unnamed model'}, {tokens}{cost}"

    def write(self, path: Path) -> None:
        path.write_text(self.text, encoding="utf-8")


def served_usage(replies: Sequence[Reply], served: ServedModel) -> Usage:
    """Returns what the replies of a server took, by its own counts."""
    costs = [served.endpoint.cost(reply.prompt_tokens, reply.completion_tokens) for reply in replies]
    return Usage(
        len(replies),
        total(reply.prompt_tokens for reply in replies),
        total(reply.completion_tokens for reply in replies),
        None if any(cost is None for cost in costs) else sum(cost for cost in costs if cost is not None),
        tuple(sorted({reply.model for reply in replies if reply.model is not None})),
    )


def shards_usage(paths: Iterable[Path], imported: bool) -> Usage:
    """Returns sum over finished shards. Tokens of imported texts are unknown: the tokenizer is not their model's."""
    found = [shard_usage(path, imported) for path in paths]
    cost = None if not found or any(each.cost is None for each in found) else sum(each.cost or 0 for each in found)
    return Usage(
        sum(each.responses for each in found),
        total(each.prompt_tokens for each in found),
        total(each.completion_tokens for each in found),
        None if cost is None else round(cost, DIGITS),
        tuple(sorted({name for each in found for name in each.models})),
    )


def shard_usage(path: Path, imported: bool) -> Usage:
    """Returns what one shard took: the server's counts where there are some, else the tokens of its rows."""
    counted = path.with_suffix(USAGE_SUFFIX)
    if counted.is_file():
        values = json.loads(counted.read_text(encoding="utf-8"))
        return Usage(**{**values, "models": tuple(values["models"])})
    rows = pl.read_parquet(path, columns=["prompt_ids", "response_ids"])
    if imported:
        return Usage(rows.height, None, None, None)
    prompt, response = (int(rows[name].list.len().sum()) for name in ("prompt_ids", "response_ids"))
    return Usage(rows.height, prompt, response, None)
