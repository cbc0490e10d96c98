"""Rows of text that grow together through one model, and can leave and join between two steps.

The rows are a left-padded batch: the last slot holds the newest token of each, so that all take a step together. A row
that has ended leaves, and what is then padding for all is cut off; new rows join right-aligned. Position ids count a
row's own tokens, so that neither slot nor company enters its numbers.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 256  # slots added when a buffer is full


class SlotLayer(DynamicLayer):
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
        """The first slots of the buffers are the content."""
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
class GrowingRows:
    """Rows at one moment. mask (row, slot): 1 for a row's own tokens, 0 for padding; logits (row, vocabulary), of each
    row's next token."""

    model: Any
    cache: Cache
    mask: Tensor
    logits: Tensor

    @classmethod
    def start(cls, model: Any, prompts: Sequence[Sequence[int]], filler: int) -> "GrowingRows":
        """Rows that hold their prompts. filler: any token id, for padding."""
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), filler)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        device = model.device
        rows = cls(model, Cache(layer_class_to_replicate=SlotLayer), mask.to(device), torch.empty(0))
        rows.forward(ids.to(device), (rows.mask.cumsum(1) - 1).clamp(min=0))
        return rows

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

    def join(self, others: "GrowingRows") -> None:
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
    """Under which name a model's forward takes its cache; transformers has had two."""
    names = inspect.signature(model_class.forward).parameters  # type: ignore[attr-defined]
    return "cache" if "cache" in names else "past_key_values"
