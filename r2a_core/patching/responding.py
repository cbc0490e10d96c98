"""How a model answers the questions of the pairs: greedy, with reasoning, in shards of the generate stage's form.

Shards are cut over all questions, then thinned to the selected ones: a pair that is dropped changes its own shard only.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from r2a_core.data.items import Item
from r2a_core.traces.backends import TRANSFORMERS, BackendParams
from r2a_core.traces.shards import GenerateParams, GenerationJob, GenerationShard, chunks, plan_shards

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairGenerationParams:
    """`pairs.generate`."""

    max_new_tokens: Annotated[int, Field(gt=0)]  # tokens
    batch_size: Annotated[int, Field(gt=0)]  # prompts a forward pass; changes no text
    tie_margin: Annotated[float, Field(ge=0, lt=1)]  # logits: nearer decisions are made on the question alone
    shard_items: Annotated[int, Field(gt=0)]  # questions a shard: what a killed run may lose
    backend: BackendParams = TRANSFORMERS  # what runs the model

    @property
    def generate_params(self) -> GenerateParams:
        """The same as params of the generate stage."""
        return GenerateParams(
            temperature=0.0,
            max_new_tokens=self.max_new_tokens,
            seed=0,
            runs=1,
            retry=False,
            without_mode="finished",
            limit=None,
            batch_size=self.batch_size,
            tie_margin=self.tie_margin,
            shard_items=self.shard_items,
            backend=self.backend,
        )


def plan_pair_shards(
    job: GenerationJob, items: Sequence[Item], kept: set[str], base: Mapping[str, Any]
) -> Iterator[GenerationShard]:
    """Shards of the questions whose pair is in `kept`; none, with a warning, for a model without weights."""
    if not job.pointer.has_weights:
        log.warning("%s has no weights to patch: no responses to the pairs", job.model_name)
        return
    for part in chunks(items, job.config.shard_items):
        yield from plan_shards(job, [item for item in part if item.item_id.rpartition("-")[0] in kept], base)
