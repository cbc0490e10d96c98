"""One model's part of a study, counted before anything runs: sizes without weights, lengths of traces, forward passes.

Params, a model on torch's meta device, Lengths -> StudyOf, which says how many questions and traces there are and what
passes of a kind are made of; benchmarks.stage_work makes the StageWork of every stage of these.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from r2a_core.activations.hooks import ModelShape, model_shape
from r2a_core.config import FreeParams, GenerateParams, Params, ResponseParams
from r2a_core.generation.decode import sequence_bytes
from r2a_core.infra.errors import R2AError
from r2a_core.infra.memory import MIB, SHARE_OF_FREE, rows_that_fit
from r2a_core.sentences.suppress import LOGIT_BYTES
from r2a_core.trace import TraceSegments

SIZES = {"math500": 500, "wildbench": 1024, "pairs_table": 404}  # of datasets whose params do not say it
PACKED = 1.3  # times the time of their token-layers that packed rows take (docs/benchmarks.md: 1.1 to 1.6)
THINKING = 11  # tokens between the tags of a prompt without reasoning, about


@dataclass(frozen=True)
class Lengths:
    """Tokens of a trace, means."""

    question: int
    reasoning: int
    answer: int
    without: int  # of an answer without reasoning
    longest: int  # response of those that grow together
    sentence: int = 16  # of the reasoning

    @property
    def response(self) -> int:
        """Tokens of a response with reasoning."""
        return self.reasoning + 1 + self.answer + 1

    @property
    def trace(self) -> TraceSegments:
        """A trace with reasoning."""
        close = self.question + 1 + self.reasoning
        return TraceSegments(self.question, close, close + self.answer + 2)

    @property
    def short_trace(self) -> TraceSegments:
        """A trace without reasoning."""
        close = self.question + 1 + THINKING
        return TraceSegments(self.question, close, close + self.without + 2)


@dataclass(frozen=True)
class Passes:
    """Forward passes of one kind. Numbers but `count` are of one pass."""

    count: float
    rows: float  # tokens that go through the layers
    seen: float  # keys that a row sees
    layers: float
    logits: float = 1  # rows that have logits
    caches: float = 1  # sequences whose keys and values are read, `seen` tokens each
    slower: float = 1  # times as long as its token-layers in an ordinary pass
    logit_bytes: float = LOGIT_BYTES  # moved for a row with logits and an entry of the vocabulary
    unembeddings: float = 1  # times that the unembedding's weights are read, where there are logits


@dataclass(frozen=True)
class StageWork:
    """What one stage takes over all its runs for one model."""

    stage: str
    runs: int  # processes
    passes: tuple[Passes, ...] = ()  # where there are any, each process loads the model
    weights: float = 0  # attention weights that are made and reduced outside the passes
    device: float = 0  # bytes on the device beside the model, at the peak
    kept: float = 0  # bytes on disk
    head_rows: float = 0  # answer rows of heads whose walks are measured, on the CPU
    entries: float = 0  # of the sentence matrices of heads, each time that one is scored, on the CPU


@dataclass(frozen=True)
class StudyOf:
    """One model's part of a study."""

    name: str
    params: Params
    model: Any  # transformers PreTrainedModel without weights
    lengths: Lengths
    memory: float  # bytes of the device
    device: str = "cuda"  # cpu: where passes are smaller

    @cached_property
    def shape(self) -> ModelShape:
        return replace(model_shape(self.model), device=torch.device(self.device))

    @property
    def dtype(self) -> str:
        return str(self.shape.dtype).removeprefix("torch.")

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of the model."""
        return sum(weight.numel() for weight in self.model.parameters()) * self.shape.dtype.itemsize

    @cached_property
    def layer_weights(self) -> int:
        """Numbers in one layer."""
        return sum(weight.numel() for weight in self.shape.layers[0].parameters())

    @property
    def n_datasets(self) -> int:
        return len(self.params.run.datasets)

    @property
    def n_pairs(self) -> int:
        """Pairs that are answered; not all of them can be aligned and kept."""
        return self.first(self.params.run.pairs, self.params.pairs.generate.limit)

    def items(self, limit: int | None) -> int:
        """Traces of all datasets, at most `limit` of each and never more than there are questions."""
        return sum(self.first(name, limit, self.params.generate.limit) for name in self.params.run.datasets)

    def first(self, dataset: str, *limits: int | None) -> int:
        """Questions, or pairs, of a dataset within limits. Raises R2AError where nothing says how many there are."""
        entry = self.params.datasets[dataset]
        known = [each for each in (getattr(entry, "n", None), SIZES.get(entry.kind), *limits) if each is not None]
        if not known:
            raise R2AError(
                f"how many items {dataset!r} has is not known before it is read", "set a limit in params.yaml"
            )
        return min(known)

    def whole(self, count: float, n_tokens: float, logits: float = 1) -> Passes:
        """Passes over whole sequences."""
        return Passes(count, n_tokens, n_tokens / 2, self.shape.n_layers, logits)

    def behind(self, count: float, rows: float, logits: float, layers: float | None = None) -> Passes:
        """Passes over rows at the end of a trace."""
        return Passes(count, rows, self.lengths.trace.n_tokens, layers or self.shape.n_layers, logits)

    def packed(self, count: float, arms: float, arm_bytes: int, mib: int, each: Passes) -> Passes:
        """The passes of `count` times `arms` arms, as many of them at a time as fit into the bound; `each`: of one."""
        packs = math.ceil(arms / max(1, mib * MIB // arm_bytes))
        size = arms / packs
        found = self.behind(count * packs, size * each.rows, size * each.logits, each.layers)
        return replace(found, slower=PACKED)

    def decoding(
        self,
        batches: float,
        items: float,
        prompt: float,
        response: float,
        longest: float,
        config: ResponseParams | FreeParams,
    ) -> tuple[list[Passes], float]:
        """Passes of `batches` shards of `items` responses with continuous turnover, and the bytes of one batch.

        response: mean tokens; longest: those of the last response that ends.
        """
        response, longest = min(response, config.max_new_tokens), min(longest, config.max_new_tokens)
        temperature = config.temperature if isinstance(config, GenerateParams) else 0
        one = sequence_bytes(self.model, round(prompt) + config.max_new_tokens, temperature)
        room = int(SHARE_OF_FREE * max(0, self.memory - self.weight_bytes)) // MIB
        size = rows_that_fit(min(config.batch_size, round(items)), one, None, room, "responses at a time")
        steps = items * response / size + longest - response
        rows = items * response / steps
        start = Passes(batches * items / size, size * prompt, prompt / 2, self.shape.n_layers, size)
        step = Passes(batches * steps, rows, prompt + response / 2, self.shape.n_layers, rows, rows)
        return [start, step], size * one
