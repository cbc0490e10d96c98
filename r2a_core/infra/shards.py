"""Expensive work in shards: finished ones are kept outside the DVC outputs, so that a killed run resumes.

A shard is one file named by the environment it was made in (see r2a_core.infra.environment) and its fingerprint, with a
`.sha256` file beside it that is written last:

    <root>/<stage>/<item>/<environment>/<fingerprint><suffix>          the shard
    <root>/<stage>/<item>/<environment>/<fingerprint><suffix>.sha256   hex digest of it; without it, it is not finished
    <root>/<stage>/<item>/<fingerprint><suffix>                        what no environment changes: replies of a server
    <root>/<stage>/<item>.lock                           held (flock) by the one run that may write this item

A run killed at any moment loses at most the shard it was working on. A stage plans its shards, `Work.finish` computes
those that the store lacks, here or on a Ray cluster, and the stage joins them: its outputs equal those of an
undisturbed run. How shards are run changes no byte of them. After an upgrade, or on another device, a stage says so and
computes its shards anew; the others are kept.
"""

import functools
import hashlib
import json
import logging
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from r2a_core.config import ResourceParams
from r2a_core.infra.environment import environment, parts_of
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import TEMPORARY, disk_errors, sha256, write_text_whole, write_whole
from r2a_core.infra.processes import held

log = logging.getLogger(__name__)

FORMAT = 1  # raise it when an edit of infra or config, which no stage depends on, changes what shards hold

LOG_EVERY = 4  # shards between two lines of a log that is not a terminal

Result = TypeVar("Result")


@dataclass(frozen=True)
class WorkStore:
    """Keeps the shards of one item of a stage. Obtain it from `open_store`, which holds the lock."""

    folder: Path
    environment: str = ""  # that shards are made in; none for what depends on none

    def on(self, device: str) -> "WorkStore":
        """Returns the store of what this process computes on `device`, a value of R2A_DEVICE."""
        return replace(self, environment=environment(device))

    def has(self, fingerprint: str, suffix: str) -> bool:
        """Checks whether the shard is finished. Its content is verified when it is used."""
        return is_finished(self.place(fingerprint, suffix))

    def place(self, fingerprint: str, suffix: str) -> Path:
        """Returns where the shard lies, once it is finished."""
        return self.folder / self.environment / f"{fingerprint}{suffix}"

    def elsewhere(self, fingerprint: str, suffix: str) -> list[str]:
        """Names the other environments in which the shard is finished."""
        found = [path for path in self.folder.glob(f"*/{fingerprint}{suffix}") if is_finished(path)]
        return sorted({path.parent.name for path in found} - {self.environment})

    def shard(self, fingerprint: str, suffix: str, write: Callable[[Path], object]) -> Path:
        """Returns the path of a finished shard; `write(temporary_path)` makes it when the store lacks it.

        Raises R2AError when the stored shard no longer has the digest it was written with, MissingPrerequisite when
        the disk is full or read-only.
        """
        path = self.place(fingerprint, suffix)
        if not self.has(fingerprint, suffix):
            for other in self.elsewhere(fingerprint, suffix) if self.environment else ():
                say_unused(self.folder, other, self.environment)
            writer = f"{uuid.uuid4().hex[:8]}-"  # a worker that was only cut off may still be writing this shard
            write_whole(path, write, writer)
            write_text_whole(digest_file(path), sha256(path) + "\n", writer)
        elif sha256(path) != digest_file(path).read_text().strip():
            raise R2AError(
                f"{path} is damaged: its content does not match the digest it was written with",
                f"delete it, then run dvc repro again; only this shard is computed anew: rm {path} {digest_file(path)}",
            )
        return path

    def drop(self, fingerprint: str, suffix: str) -> None:
        """Removes a shard that nothing needs any more, its digest first."""
        path = self.place(fingerprint, suffix)
        digest_file(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)


@functools.cache
def say_unused(folder: Path, theirs: str, ours: str) -> None:
    """Logs once that shards of another environment are kept and not used, and how it differs."""
    count = len({path.name.partition(".")[0] for path in (folder / theirs).glob("[!.]*.sha256")})
    their_parts, our_parts = parts_of(theirs), parts_of(ours)
    log.warning(
        "%s: %d shards made under %s are kept but not used: this is %s",
        folder.name,
        count,
        ", ".join(part for part in their_parts if part not in our_parts),
        ", ".join(part for part in our_parts if part not in their_parts),
    )


def is_finished(shard: Path) -> bool:
    """Checks whether a shard and its digest are there."""
    return digest_file(shard).is_file() and shard.is_file()


def digest_file(shard: Path) -> Path:
    """Names the file that holds a shard's digest."""
    return shard.with_name(f"{shard.name}.sha256")


@contextmanager
def open_store(root: Path, stage: str, item: str) -> Iterator[WorkStore]:
    """Locks the work store of `stage` for `item` (model, dataset and setting of this run).

    Raises R2AError when another run goes on holding the item, MissingPrerequisite when the disk cannot be written.
    Removes what a killed run of this item left half-written.
    """
    own = root / stage / item
    with held(root / stage / f"{item}.lock", f"another run is already writing {stage} {item}"):
        with disk_errors(None, own):
            own.mkdir(exist_ok=True)
        for leftover in own.rglob(f"{TEMPORARY}*"):
            log.info("removing %s, left by a run that was stopped", leftover)
            leftover.unlink()
        yield WorkStore(own)


class Job(Protocol):
    """Holds what all shards of a stage share, as a picklable frozen record. Its model loads when first needed."""

    @property
    def device(self) -> str: ...


@dataclass(frozen=True)
class Work:
    """Bundles a stage's work store with the way its shards are run."""

    name: str  # of the item, for the log
    store: WorkStore
    base: Mapping[str, str]  # what every shard depends on: digests of the stage's code and of the model
    resources: ResourceParams | None  # None: in this process

    def finish(self, finish: Callable[..., Result], job: Job, shards: Sequence[object]) -> Iterator[Result]:
        """Yields `finish(job, store, shard)` of every shard, in order, and shows the progress."""
        return progress(finish_shards(finish, job, self.store, shards, self.resources), len(shards), self.name)

    def has(self, job: Job, fingerprint: str, suffix: str) -> bool:
        """Checks whether a shard is finished; on a cluster, whose workers know their environment, in any."""
        if self.resources is None:
            return self.store.on(job.device).has(fingerprint, suffix)
        return bool(self.store.elsewhere(fingerprint, suffix))

    def here(self) -> "Work":
        """Does the same in this process, whatever `resources` says: requests to a server need this shell's key."""
        return replace(self, resources=None)


def finish_shards(
    finish: Callable[..., Result],
    job: Job,
    store: WorkStore,
    shards: Sequence[object],
    resources: ResourceParams | None,
) -> Iterator[Result]:
    """Yields `finish(job, store, shard)` of every shard, in order; each is computed here when it is requested.

    resources: of a Ray cluster that computes them instead (see r2a_core.infra.ray); `finish` must then be a function of
    a module, and the store must lie on a file system that all nodes share.
    """
    if resources is None or resources.executor == "local" or not shards:
        own = store.on(job.device)
        return (finish(job, own, shard) for shard in shards)
    from r2a_core.infra.ray import finish_on_ray

    return finish_on_ray(finish, job, store, shards, resources)


def progress(done: Iterable[Result], total: int, name: str) -> Iterator[Result]:
    """Passes `done` on, with a bar on a terminal and a line every few shards elsewhere (stderr)."""
    if sys.stderr.isatty():
        yield from tqdm(done, total=total, desc=name, unit="shard")
        return
    for number, value in enumerate(done, start=1):
        if number % LOG_EVERY == 0 or number == total:
            log.info("%s: %d of %d shards", name, number, total)
        yield value


def fingerprint(**parts: Any) -> str:
    """Digests whatever a shard depends on, given as JSON-able values: 32 hex digits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
