"""How the stages that work in shards run them: here, or on a Ray cluster, as `resources` in params.yaml says.

The section says how, not what, so no stage declares it in dvc.yaml: it is read from the file itself.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from r2a_core.config import ResourceParams, load_sections
from r2a_core.infra.shards import Job, WorkStore, finish_shards
from stages._stage import ROOT, progress


def read_resources() -> ResourceParams:
    """The section `resources` of params.yaml. Raises R2AError when it is missing or wrong."""
    return load_sections(ROOT / "params.yaml", ["resources"]).resources


def finished(
    finish: Callable[..., Any], job: Job, store: WorkStore, shards: Sequence[object], name: str, here: bool = False
) -> Iterator[Any]:
    """`finish(job, store, shard)` of every shard, in order, with progress under `name`.

    here: in this process, whatever `resources` says (work that waits for a server and needs the key of this shell).
    """
    resources = read_resources()
    resources = resources.model_copy(update={"executor": "local"}) if here else resources
    return progress(finish_shards(finish, job, store, shards, resources), len(shards), name)
