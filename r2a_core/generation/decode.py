"""Decoding with continuous batching, in which an item's text depends, up to rounding, on nothing but the item.

prompts (token ids) -> responses (token ids), for a model in this process.

1. Prefill: prompts enter as a left-padded batch over a preallocated KV cache; position ids count a row's own tokens.
   Of prompts whose first tokens have known keys and values only the rest is run.
2. A token per row and step: the arg-max of the logits or, at a temperature, of logits / temperature plus Gumbel noise
   (the Gumbel-max trick: a draw from the softmax). The noise comes from a hash of (seed, item, run, step, token).
3. Turnover: rows that ended leave, waiting prompts join right-aligned, and slots that are padding for all are cut off.

Rounding differs between batch shapes, so a choice with a lead below `tie_margin` is made anew on the logits of the item
alone, in a forward pass of its own without padding or cache. Under Gumbel noise those are few. Float32 models round by
far less than the default. In half precision a batch may change a text; a margin finer than the model's numbers, which
would find ties alone and mend none of that, is not asked for.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicLayer

from r2a_core.config import GenerateParams
from r2a_core.infra.errors import R2AError
from r2a_core.infra.memory import retry_with_half, rows_that_fit
from r2a_core.models.load import LoadedModel, beyond_limit, kv_bytes, rotary_limit

TURNOVER = 8  # responses leave and join when an eighth of the batch has ended


@dataclass(frozen=True)
class Known:
    """Keys and values of the first tokens of a prompt, which are not run again."""

    n_tokens: int  # fewer than the prompt has; 0: none is known
    layers: tuple[tuple[Tensor, Tensor], ...]  # keys after RoPE and values of each, (1, kv_head, token, head_dim)


NOTHING = Known(0, ())


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

    Counted are keys and values, and its logits: twice as 4 bytes, at a temperature also four times as 8 (see `choose`).
    """
    text = model.config.get_text_config()
    cache = text.num_hidden_layers * kv_bytes(model) * n_tokens
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


GAMMA = 0x9E3779B97F4A7C15  # odd; splits a key into a stream of keys

MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))  # shifts and factors of splitmix64

WORD = 2**64


def request_seed(seed: int, item_id: str, run: int) -> int:
    """Returns a seed for one response, 0 .. 2^31 - 1, for engines that draw their own random numbers."""
    digest = hashlib.blake2b(f"{seed}\0{item_id}\0{run}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def step_key(seed: int, item_id: str, run: int, step: int) -> int:
    """Returns 64 bits that stand for one step of one response."""
    digest = hashlib.blake2b(f"{seed}\0{item_id}\0{run}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") + step * GAMMA * GAMMA) % WORD


def uniforms(keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Returns one number in (0, 1) for each key (int64) and token, broadcast, the same on every device. float64.

    The splitmix64 hash of key and token, to 53 bits.
    """
    state = keys + (tokens + 1) * signed(GAMMA)
    for shift, factor in MIXERS:
        state = (state ^ ((state >> shift) & (2 ** (64 - shift) - 1))) * signed(factor)
    return (((state >> 11) & (2**53 - 1)).double() + 0.5) * 2.0**-53


def signed(word: int) -> int:
    """Returns the 64-bit word as torch's int64 holds it."""
    word %= WORD
    return word - WORD if word >= WORD // 2 else word


@dataclass(frozen=True)
class SampledTokens:
    """Chosen token of each row and its lead over the next best."""

    tokens: torch.Tensor  # (row,)
    margins: torch.Tensor  # (row,), logits; over the temperature where one is set


FAR = 25.0  # logits over temperature behind the best: of a vocabulary, such tokens have less than 1e-5 of the softmax


def choose(logits: torch.Tensor, temperature: float, keys: Sequence[int]) -> SampledTokens:
    """Chooses the arg-max of logits (row, vocabulary) or, at a temperature, of logits / temperature plus Gumbel noise.

    The noise of a row comes from its key alone, so the choice is a draw from the softmax that the same key repeats.
    Tokens that are FAR behind get none: for a whole vocabulary it takes as long as a small model's forward pass.
    """
    if temperature == 0:
        best = logits.topk(2, dim=-1)
        return SampledTokens(best.indices[:, 0], best.values[:, 0] - best.values[:, 1])
    least = logits.amax(-1, keepdim=True) - FAR * temperature
    rows, tokens = (logits >= least).nonzero(as_tuple=True)
    row_keys = torch.tensor([signed(key) for key in keys], device=logits.device)
    noise = -torch.log(-torch.log(uniforms(row_keys[rows], tokens)))
    counts = rows.bincount(minlength=len(logits))
    places = torch.arange(len(rows), device=logits.device) - (counts.cumsum(0) - counts)[rows]
    scores = (least.double() / temperature).repeat(1, max(2, int(counts.max())))
    near = torch.zeros_like(scores, dtype=torch.int64)
    scores[rows, places] = logits[rows, tokens].double() / temperature + noise
    near[rows, places] = tokens
    best = scores.topk(2, dim=-1)
    return SampledTokens(near.gather(1, best.indices[:, :1])[:, 0], best.values[:, 0] - best.values[:, 1])


ROOM = 256  # slots added when a buffer is full


class PreallocatedKVLayer(DynamicLayer):
    """Keys and values of one layer in buffers with room to grow: a step writes one slot and copies none."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.hold(key_states[:, :, :0], value_states[:, :, :0], room=0)
        self.is_initialized = True

    def hold(self, keys: Tensor, values: Tensor, room: int) -> None:
        """Takes keys and values (row, kv_head, slot, head_dim) as the content, with room for further slots."""
        self.key_buffer, self.value_buffer = (pad(each, (0, 0, 0, room)) for each in (keys, values))
        self.show(keys.shape[2])

    def show(self, n_slots: int) -> None:
        """Makes the first slots of the buffers the content."""
        self.keys, self.values = self.key_buffer[:, :, :n_slots], self.value_buffer[:, :, :n_slots]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        start, stop = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if stop > self.key_buffer.shape[2]:
            self.hold(self.keys, self.values, room=stop - start + ROOM)
            self.show(start)
        self.key_buffer[:, :, start:stop], self.value_buffer[:, :, start:stop] = key_states, value_states
        self.show(stop)
        return self.keys, self.values


@dataclass
class DecodingBatch:
    """Sequences that are decoded together: their KV cache, and what the next step needs."""

    model: Any
    cache: Cache
    mask: Tensor  # (row, slot), 1 for a row's own tokens, 0 for padding
    logits: Tensor  # (row, vocabulary), of each row's next token

    @classmethod
    def start(
        cls, model: Any, prompts: Sequence[Sequence[int]], filler: int, known: Sequence[Known] = ()
    ) -> DecodingBatch:
        """Returns the rows that hold their prompts, of each of which as many tokens are run, those behind the `known`.

        filler: any token id, for padding.
        """
        known, width = known or [NOTHING] * len(prompts), max(map(len, prompts))
        new = max(len(prompt) - each.n_tokens for prompt, each in zip(prompts, known, strict=True))
        ids = torch.full((len(prompts), width), filler)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        device = model.device
        rows = cls(model, Cache(layer_class_to_replicate=PreallocatedKVLayer), mask.to(device), torch.empty(0))
        rows.fill(known, [max(0, len(prompt) - new) for prompt in prompts], width - new)
        rows.forward(ids[:, -new:].to(device), (rows.mask.cumsum(1) - 1).clamp(min=0)[:, -new:])
        return rows

    def fill(self, known: Sequence[Known], counts: Sequence[int], slots: int) -> None:
        """Puts keys and values of each row's first `counts` tokens, right-aligned, into so many slots."""
        for layer in range(len(known[0].layers)) if slots else ():
            pairs = ((each.layers[layer], n) for each, n in zip(known, counts, strict=True))
            parts = ([pad(part[:, :, :n], (0, 0, slots - n, 0)) for part in pair] for pair, n in pairs)
            keys, values = map(torch.cat, zip(*parts, strict=True))
            self.cache.update(keys, values, layer)

    def step(self, tokens: Tensor) -> None:
        """Appends one token (row,) to each row."""
        self.mask = pad(self.mask, (0, 1), value=1)
        self.forward(tokens[:, None], self.mask.sum(1, keepdim=True) - 1)

    def forward(self, ids: Tensor, positions: Tensor) -> None:
        """Runs the model over new tokens (row, token)."""
        cache: Any = {cache_argument(type(self.model)): self.cache}
        output = self.model(
            input_ids=ids, attention_mask=self.mask, position_ids=positions, use_cache=True, logits_to_keep=1, **cache
        )
        self.logits = output.logits[:, -1].float()

    def keep(self, rows: Sequence[int]) -> None:
        """Leaves only these rows, and cuts off the slots that are padding for all of them."""
        index = torch.tensor(rows, device=self.mask.device)
        mask = self.mask[index]
        left = int(mask.argmax(1).min())
        self.mask, self.logits = mask[:, left:], self.logits[index]
        for layer in self.layers:
            layer.hold(layer.keys[index, :, left:], layer.values[index, :, left:], room=ROOM)

    def join(self, others: DecodingBatch) -> None:
        """Takes the rows of `others` behind its own; the shorter side gets padding on its left."""
        width = max(self.mask.shape[1], others.mask.shape[1])
        self.mask = torch.cat([pad(each.mask, (width - each.mask.shape[1], 0)) for each in (self, others)])
        self.logits = torch.cat([self.logits, others.logits])
        for mine, theirs in zip(self.layers, others.layers, strict=True):
            keys, values = (
                torch.cat([pad(each, (0, 0, width - each.shape[2], 0)) for each in pair])
                for pair in ((mine.keys, theirs.keys), (mine.values, theirs.values))
            )
            mine.hold(keys, values, room=ROOM)

    @property
    def layers(self) -> list[Any]:
        """The layers of the cache."""
        return self.cache.layers


def cache_argument(model_class: type) -> str:
    """Names the argument by which a model's forward takes its cache; transformers has had two."""
    names = inspect.signature(model_class.forward).parameters  # type: ignore[attr-defined]
    return "cache" if "cache" in names else "past_key_values"
