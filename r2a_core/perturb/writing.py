"""Lets the model write on behind a changed trace: the rest of its reasoning, or an answer.

model, Starts, params `perturb.free` -> Written, all in one batch. What a start shares with the beginning of its
unchanged trace is not run again: its keys and values are there. Exact; only rounding differs from whole passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from r2a_core.config import FreeParams, ResponseParams
from r2a_core.generation.batch import Known
from r2a_core.generation.decode import GenerationRequest, generate
from r2a_core.models.load import LoadedModel
from r2a_core.perturb.packed import Cache
from r2a_core.perturb.reading import Reading
from r2a_core.perturb.run import shared_tokens


@dataclass(frozen=True)
class Start:
    """Where writing begins: token ids, and the trace that may begin alike."""

    reading: Reading
    cache: Cache  # of the unchanged trace up to `</think>`
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Written:
    """What was written, with the token that ended it, where one did."""

    ids: tuple[int, ...]
    n_run: int  # tokens that were run: those behind the shared ones, and those written but the last


def continue_texts(
    loaded: LoadedModel, starts: Sequence[Start], free: FreeParams, tie_margin: float, ends: tuple[int, ...] = ()
) -> list[Written]:
    """Write on greedily from each start, up to an end of the text or one of `ends`.

    tie_margin: logits, of params generate. A choice that is made anew, being a near tie, runs more tokens than n_run.
    """
    ids = replace(loaded.ids, other_ends=(*loaded.ids.other_ends, *ends))
    config = ResponseParams(
        max_new_tokens=free.max_new_tokens, batch_size=free.batch_size, tie_margin=tie_margin, shard_items=1
    )
    requests = [request(str(row), start) for row, start in enumerate(starts)]
    found = generate(replace(loaded, tokenizer=replace(loaded.tokenizer, ids=ids)), requests, config.sampled())
    return [
        Written(each.response_ids, asked.n_new + len(each.response_ids) - 1)
        for asked, each in zip(requests, found, strict=True)
    ]


def request(name: str, start: Start) -> GenerationRequest:
    """Ask for what follows; at least the last token of a start is run, since its logits are needed."""
    shared = min(shared_tokens(start.reading, start.ids), len(start.ids) - 1)
    layers = tuple(start.cache[layer] for layer in sorted(start.cache))
    return GenerationRequest(name, 0, start.ids, Known(shared, layers))
