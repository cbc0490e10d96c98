"""Where shards are finished: one after the other in this process, or as tasks of a Ray cluster.

A stage's `finish(job, store, shard)` writes a shard into the work store, or finds it there, and returns what the stage
needs of it; `finish_shards` calls it for every shard and yields the results in shard order. How shards are run changes
no byte of them, so the section `resources` of params.yaml is a dependency of no stage.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import Field

from r2a_core.store import WorkStore

Result = TypeVar("Result")


@dataclass(frozen=True)
class ResourceParams:
    """The section `resources` of params.yaml."""

    executor: Literal["local", "ray"]
    ray_address: str | None  # null = start Ray on this machine; auto = the cluster it belongs to; HOST:PORT = another
    workers: Annotated[int, Field(gt=0)] | None  # null = one a GPU, or one a node where there are none
    start_seconds: Annotated[float, Field(gt=0)]  # s to wait for a first worker
    memory_mib: Annotated[int, Field(gt=0)] | None = None  # MiB for responses growing at a time; null = what is free


class Job(Protocol):
    """What all shards of a stage share: a picklable frozen record. Its model loads when a shard first needs it."""

    @property
    def device(self) -> str: ...


def finish_shards(
    finish: Callable[..., Result], job: Job, store: WorkStore, shards: Sequence[object], resources: ResourceParams
) -> Iterator[Result]:
    """`finish(job, store, shard)` of every shard, in shard order.

    executor local: in this process, each shard when it is asked for. executor ray: see r2a_core.workers; `finish` must
    be a function of a module, and the store's folder must lie on a file system that all nodes share.
    """
    if resources.executor == "local" or not shards:
        return (finish(job, store, shard) for shard in shards)
    from r2a_core.workers import finish_on_ray

    return finish_on_ray(finish, job, store, shards, resources)
