"""Sequences that are decoded together over one KV cache, each as if it were alone.

prompts (token ids), keys and values that are known -> DecodingBatch, with the logits of each row's next token

Rows are left-padded to one width; position ids count a row's own tokens. Rows may leave and join between two steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicLayer


@dataclass(frozen=True)
class Known:
    """Keys and values of the first tokens of a prompt, which are not run again."""

    n_tokens: int  # fewer than the prompt has; 0: none is known
    layers: tuple[tuple[Tensor, Tensor], ...]  # keys after RoPE and values of each, (1, kv_head, token, head_dim)


NOTHING = Known(0, ())

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
