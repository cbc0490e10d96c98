"""Batched generation in which an item's text depends on nothing but the item.

prompts -> token ids. transformers' own `generate` runs the model; a logits processor chooses each token: the arg-max,
or, at a temperature, by inverse CDF with one uniform number for each (seed, item, run, step). Rounding differs between
batch shapes, so a decision that lies within `tie_margin` of another one is made on the logits of the item alone, in a
forward pass of its own.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from transformers import LogitsProcessor, LogitsProcessorList

from r2a_core.models.loading import LoadedModel

UNIFORMS_AT_ONCE = 1024  # steps


@dataclass(frozen=True)
class SamplingConfig:
    """How tokens are chosen."""

    temperature: Annotated[float, Field(ge=0, le=10)]  # 0 = greedy
    max_new_tokens: Annotated[int, Field(gt=0)]  # tokens
    seed: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(gt=0)]  # prompts a forward pass; does not change any text
    tie_margin: Annotated[float, Field(ge=0, lt=1)]  # logits (greedy) or probability (sampling); 0 = never ask alone


@dataclass(frozen=True)
class GenerationRequest:
    """One response wanted."""

    item_id: str
    run: int
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True)
class Generated:
    """One response: token ids including the final EOS when it was reached."""

    item_id: str
    run: int
    response_ids: tuple[int, ...]
    finish: str  # stop | length


def uniforms(seed: int, item_id: str, run: int, start: int, count: int) -> np.ndarray:
    """Uniform numbers in [0, 1) for steps start .. start + count of one response. Shape (count,), float64."""
    key = hashlib.blake2b(f"{seed}\0{item_id}\0{run}".encode(), digest_size=16).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    return generator.random(start + count)[start:]


@dataclass(frozen=True)
class Choice:
    """Chosen token of each row and its distance from the nearest other decision."""

    tokens: torch.Tensor  # (row,)
    margins: torch.Tensor  # (row,), logits or probability


def choose(logits: torch.Tensor, temperature: float, uniform: torch.Tensor) -> Choice:
    """Greedy choice (temperature 0) or inverse-CDF sampling. logits (row, vocabulary); uniform (row,) float64."""
    if temperature == 0:
        best = logits.double().topk(2, dim=-1)
        return Choice(best.indices[:, 0], best.values[:, 0] - best.values[:, 1])
    cumulative = torch.softmax(logits.double() / temperature, dim=-1).cumsum(-1)
    cumulative = cumulative / cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, uniform[:, None], right=True).clamp(max=logits.shape[-1] - 1)
    upper = cumulative.gather(1, tokens)
    lower = torch.where(tokens > 0, cumulative.gather(1, (tokens - 1).clamp(min=0)), torch.zeros_like(upper) - 1)
    upper = torch.where(tokens < logits.shape[-1] - 1, upper, torch.full_like(upper, 2.0))
    margins = torch.minimum(uniform[:, None] - lower, upper - uniform[:, None])
    return Choice(tokens[:, 0], margins[:, 0])


class SeededChoice(LogitsProcessor):
    """Chooses each row's next token by `choose` and masks all others, so that greedy generation takes it."""

    def __init__(self, model: Any, requests: Sequence[GenerationRequest], config: SamplingConfig, eos: int) -> None:
        self.model, self.requests, self.config, self.eos = model, requests, config, eos
        self.width = max(len(request.prompt_ids) for request in requests)
        self.numbers = np.zeros((len(requests), 0))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self.width
        choice = choose(scores, self.config.temperature, self.uniform(step, scores.device))
        tokens = choice.tokens
        running = torch.ones_like(tokens, dtype=torch.bool)
        if step:
            running = ~(input_ids[:, self.width :] == self.eos).any(dim=1)
        for row in torch.nonzero(running & (choice.margins < self.config.tie_margin)).flatten().tolist():
            tokens[row] = self.alone(row, input_ids[row], step)
        masked = torch.full_like(scores, -torch.inf)
        return masked.scatter(1, tokens[:, None], 0.0)

    def uniform(self, step: int, device: torch.device) -> torch.Tensor:
        """The numbers of this step, one a row; drawn in blocks."""
        if step >= self.numbers.shape[1]:
            count = min(UNIFORMS_AT_ONCE, self.config.max_new_tokens - step)
            block = [uniforms(self.config.seed, each.item_id, each.run, step, count) for each in self.requests]
            self.numbers = np.concatenate([self.numbers, np.stack(block)], axis=1)
        return torch.from_numpy(self.numbers[:, step].copy()).to(device)

    @torch.no_grad()
    def alone(self, row: int, padded: torch.Tensor, step: int) -> torch.Tensor:
        """The choice on the logits of this row in a forward pass of its own, without padding or cache."""
        own = padded[self.width - len(self.requests[row].prompt_ids) :]
        logits = self.model(input_ids=own[None], use_cache=False, logits_to_keep=1).logits[:, -1].float()
        number = torch.from_numpy(self.numbers[row, step : step + 1].copy()).to(logits.device)
        return choose(logits, self.config.temperature, number).tokens[0]


def generate(
    loaded: LoadedModel,
    requests: Sequence[GenerationRequest],
    config: SamplingConfig,
    progress: Callable[[int, int], None] | None = None,
) -> list[Generated]:
    """Responses in the order of `requests`. Each depends on its own item, run and prompt only."""
    order = sorted(range(len(requests)), key=lambda index: (-len(requests[index].prompt_ids), index))
    done: dict[int, Generated] = {}
    for start in range(0, len(order), config.batch_size):
        batch = order[start : start + config.batch_size]
        for index, result in zip(batch, generate_batch(loaded, [requests[i] for i in batch], config), strict=True):
            done[index] = result
        if progress is not None:
            progress(len(done), len(requests))
    return [done[index] for index in range(len(requests))]


@torch.no_grad()
def generate_batch(
    loaded: LoadedModel, requests: Sequence[GenerationRequest], config: SamplingConfig
) -> Iterator[Generated]:
    """One batch, left-padded."""
    width = max(len(request.prompt_ids) for request in requests)
    ids = torch.full((len(requests), width), loaded.ids.pad)
    mask = torch.zeros_like(ids)
    for row, request in enumerate(requests):
        ids[row, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
        mask[row, width - len(request.prompt_ids) :] = 1
    device = loaded.model.device
    output = loaded.model.generate(
        ids.to(device),
        attention_mask=mask.to(device),
        max_new_tokens=config.max_new_tokens,
        do_sample=False,
        eos_token_id=loaded.ids.eos,
        pad_token_id=loaded.ids.eos,
        logits_processor=LogitsProcessorList([SeededChoice(loaded.model, requests, config, loaded.ids.eos)]),
    )
    for request, row in zip(requests, output[:, width:].tolist(), strict=True):
        stopped = loaded.ids.eos in row
        response = row[: row.index(loaded.ids.eos) + 1] if stopped else row
        yield Generated(request.item_id, request.run, tuple(response), "stop" if stopped else "length")
