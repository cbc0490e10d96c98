"""Decoding with continuous batching, in which an item's text depends, up to rounding, on nothing but the item.

prompts (token ids) -> responses (token ids), for a model in this process.

1. Prefill: prompts enter as a batch over one KV cache (generation.batch). Of prompts whose first tokens have known keys
   and values only the rest is run.
2. A token per row and step: the arg-max of the logits, or a draw from their softmax (generation.sampling).
3. Turnover: rows that ended leave, waiting prompts join, and slots that are padding for all are cut off.

Rounding differs between batch shapes, so a choice with a lead below `tie_margin` is made anew on the logits of the item
alone, in a forward pass of its own without padding or cache. Under Gumbel noise those are few. Float32 models round by
far less than the default. In half precision a batch may change a text; a margin finer than the model's numbers, which
would find ties alone and mend none of that, is not asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch

from r2a_core.config import GenerateParams
from r2a_core.generation.batch import NOTHING, ROOM, DecodingBatch, Known
from r2a_core.generation.sampling import choose, step_key
from r2a_core.infra.errors import R2AError
from r2a_core.infra.memory import retry_with_half, rows_that_fit
from r2a_core.models.architecture import beyond_limit, kv_bytes, rotary_limit
from r2a_core.models.load import LoadedModel

TURNOVER = 8  # responses leave and join when an eighth of the batch has ended


@dataclass(frozen=True)
class GenerationRequest:
    """One response wanted."""

    item_id: str
    run: int
    prompt_ids: tuple[int, ...]
    known: Known = NOTHING

    @property
    def n_new(self) -> int:
        """Tokens of the prompt that are run."""
        return len(self.prompt_ids) - self.known.n_tokens

    @property
    def size_class(self) -> int:
        """Prompts of one class enter in one batch, so that few known tokens are run again."""
        return self.n_new.bit_length() if self.known.n_tokens else 0


@dataclass(frozen=True)
class Generated:
    """One response: token ids including the token that ended it, where one did."""

    item_id: str
    run: int
    response_ids: tuple[int, ...]
    finish: str  # stop | length


@dataclass
class GrowingSequence:
    """One response while it grows."""

    index: int  # of its request
    request: GenerationRequest
    tokens: list[int] = field(default_factory=list)
    ended: bool = False

    def key(self, config: GenerateParams) -> int:
        """Returns the key of the next step."""
        return step_key(config.seed, self.request.item_id, self.request.run, len(self.tokens))

    def generated(self, ends: Sequence[int]) -> Generated:
        """Returns the finished response."""
        finish = "stop" if self.tokens[-1] in ends else "length"
        return Generated(self.request.item_id, self.request.run, tuple(self.tokens), finish)


def generate(
    loaded: LoadedModel,
    requests: Sequence[GenerationRequest],
    config: GenerateParams,
    memory_mib: int | None = None,
) -> list[Generated]:
    """Generates responses, in the order of `requests`. Each depends on its own item, run and prompt only, but for
    rounding that exceeds `config.tie_margin`.

    As many grow at a time as `config.batch_size` and the memory bound (MiB, None = what the device has free) allow;
    half as many, with a warning, when the device runs out of memory. Raises R2AError when the model's logits are not
    numbers or a response may pass its `rotary_limit`, MissingPrerequisite when one does not fit into memory.
    """
    done: dict[int, Generated] = {}

    def compute(size: int) -> None:
        longest_first = sorted(range(len(requests)), key=lambda index: (-requests[index].n_new, index))
        waiting = [GrowingSequence(index, requests[index]) for index in longest_first if index not in done]
        for response in grow(loaded, waiting, config, size):
            done[response.index] = response.generated(loaded.ids.ends)

    if requests:
        longest = max(len(request.prompt_ids) for request in requests) + config.max_new_tokens
        limit = rotary_limit(loaded.model.config)
        if limit is not None and longest > limit:
            raise beyond_limit(type(loaded.model).__name__, longest, limit)
        row = sequence_bytes(loaded.model, longest, config.temperature)
        size = rows_that_fit(
            min(config.batch_size, len(requests)), row, loaded.model.device, memory_mib, "responses at a time"
        )
        retry_with_half(
            compute, size, 1, "responses at a time", "lower generate.max_new_tokens, or use a device with more memory"
        )
    return [done[index] for index in range(len(requests))]


def sequence_bytes(model: Any, n_tokens: int, temperature: float) -> int:
    """Returns the bytes that a response of `n_tokens`, its prompt included, takes.

    Counted are keys and values, with the slots that a buffer has ahead, and its logits: twice as 4 bytes, at a
    temperature also four times as 8 (see `choose`).
    """
    text = model.config.get_text_config()
    cache = text.num_hidden_layers * kv_bytes(model) * (n_tokens + ROOM)
    return cache + text.vocab_size * (2 * 4 + (4 * 8 if temperature else 0))


@torch.no_grad()
def grow(
    loaded: LoadedModel, waiting: list[GrowingSequence], config: GenerateParams, size: int
) -> Iterator[GrowingSequence]:
    """Yields finished responses as they end, at most `size` of them growing at a time."""
    few = max(1, size // TURNOVER)
    batch: DecodingBatch | None = None
    rows: list[GrowingSequence] = []  # as they lie in the batch, ended ones until the next turnover
    while waiting or not all(row.ended for row in rows):
        alive = [place for place, row in enumerate(rows) if not row.ended]
        if batch is None or len(rows) - len(alive) >= few or (waiting and size - len(alive) >= few):
            new, waiting = waiting[: size - len(alive)], waiting[size - len(alive) :]
            batch = turnover(loaded, batch if alive else None, alive, len(rows), new)
            rows = [rows[place] for place in alive] + new
        tokens = next_tokens(loaded, batch, rows, config)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if not row.ended:
                row.tokens.append(token)
                row.ended = token in loaded.ids.ends or len(row.tokens) == config.max_new_tokens
                if row.ended:
                    yield row
        if not all(row.ended for row in rows):
            batch.step(tokens)


def turnover(
    loaded: LoadedModel, batch: DecodingBatch | None, alive: list[int], n_rows: int, new: list[GrowingSequence]
) -> DecodingBatch:
    """Keeps the rows of `batch` that are alive, of n_rows, and adds rows that start with the prompts of `new`."""
    if batch is not None and len(alive) < n_rows:
        batch.keep(alive)
    for _, group in groupby((row.request for row in new), key=lambda request: request.size_class):
        prompts, known = zip(*((request.prompt_ids, request.known) for request in group), strict=True)
        started = DecodingBatch.start(loaded.model, prompts, loaded.ids.pad, known)
        if batch is None:
            batch = started
        else:
            batch.join(started)
    assert batch is not None
    return batch


def next_tokens(
    loaded: LoadedModel, batch: DecodingBatch, rows: Sequence[GrowingSequence], config: GenerateParams
) -> torch.Tensor:
    """Returns the next token of each row; any token for rows that have ended."""
    choice = choose(batch.logits, config.temperature, [row.key(config) for row in rows])
    for place, (row, margin) in enumerate(zip(rows, choice.margins.tolist(), strict=True)):
        if row.ended:
            continue
        if not math.isfinite(margin):
            raise R2AError(
                f"{row.request.item_id}: the logits of response token {len(row.tokens)} are not numbers",
                "check the model's weights, or set its dtype to float32 in params.yaml",
            )
        if margin < config.tie_margin >= torch.finfo(loaded.model.dtype).eps:
            choice.tokens[place] = choose_alone(loaded.model, row, config)
    return choice.tokens


def choose_alone(model: Any, row: GrowingSequence, config: GenerateParams) -> torch.Tensor:
    """Returns the choice on the logits of this response in a forward pass of its own, without padding or cache."""
    ids = torch.tensor([[*row.request.prompt_ids, *row.tokens]], device=model.device)
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1].float()
    return choose(logits, config.temperature, [row.key(config)]).tokens[0]
