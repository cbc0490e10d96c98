"""Who writes the responses, behind one interface: `respond`.

transformers    the model in this process, r2a_core.generation.decode: each response depends on its item alone
vllm            the model in vLLM's engine, r2a_core.generation.vllm: faster on a GPU
endpoint        a model of kind `endpoint`, asked over the network, r2a_core.generation.endpoint

All of them are given the same prompts and give token ids, which become the same rows.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from r2a_core.config import GenerateParams
from r2a_core.data.items import Item
from r2a_core.generation.decode import GenerationRequest, generate
from r2a_core.generation.usage import Usage
from r2a_core.infra.shards import WorkStore
from r2a_core.models.load import LoadedModel


@dataclass(frozen=True)
class Responses:
    """Token ids of responses in the order of their requests, a final EOS included where it was reached."""

    token_ids: list[tuple[int, ...]]
    usage: Usage | None = None  # a server's counts; None = the tokens here are all there were


class Backend(Protocol):
    """Writes responses."""

    def respond(self, items: Sequence[Item], requests: Sequence[GenerationRequest], store: WorkStore) -> Responses:
        """One response for each request; `items` are their questions. What is dear may be kept in `store`."""
        ...


@dataclass(frozen=True)
class TransformersBackend:
    """The model in this process."""

    loaded: LoadedModel
    sampling: GenerateParams
    memory_mib: int | None = None

    def respond(self, items: Sequence[Item], requests: Sequence[GenerationRequest], store: WorkStore) -> Responses:
        results = generate(self.loaded, requests, self.sampling, self.memory_mib)
        return Responses([result.response_ids for result in results])


def request_seed(seed: int, item_id: str, run: int) -> int:
    """A seed for one response, 0 .. 2^31 - 1, for engines that draw their own random numbers."""
    digest = hashlib.blake2b(f"{seed}\0{item_id}\0{run}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1
