"""What workers run in test_ray: a job that notes when its model loads, and shards that go wrong once, or always."""

import os
import signal
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from r2a_core.infra.shards import WorkStore

WAIT = 300  # s


def wait_for(path: Path) -> None:
    end = time.monotonic() + WAIT
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} never came"
        time.sleep(0.05)


def node_id() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


@dataclass(frozen=True)
class NotingJob:
    """A job whose "model" leaves a note when it loads."""

    notes: Path
    device: str = "cpu"

    @cached_property
    def loaded(self) -> str:
        (self.notes / f"loaded-{os.getpid()}").touch(exist_ok=False)
        return node_id()


def write_number(job: Any, store: WorkStore, shard: int) -> Path:
    def write(path: Path) -> None:
        path.write_text(f"shard {shard}")

    return store.shard(f"{shard:032x}", ".txt", write)


def slow_first(job: NotingJob, store: WorkStore, shard: int) -> tuple[int, str]:
    """The first shard ends after all others."""
    node = job.loaded
    if shard == 0:
        wait_for(job.notes / "finished-5")
    (job.notes / f"finished-{shard}").touch()
    return shard, node


def killed_once(notes: Path, victim: str, job: Any, store: WorkStore, shard: Any) -> Path:
    """finish_capture, but the first worker at the shard `victim` is killed when its file is written, not yet named."""
    from r2a_core.activations import capture

    def write_and_die(path: Path) -> None:
        capture.capture_shard(job, shard, path)
        (notes / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    if shard.fingerprint == victim and not (notes / "killed").exists():
        return store.shard(shard.fingerprint, ".safetensors", write_and_die)
    return capture.finish_capture(job, store, shard)


def always_killed(notes: Path, job: Any, store: WorkStore, shard: int) -> Path:
    """The shard 1 kills its worker each time."""
    if shard == 1:
        with (notes / "deaths").open("a") as stream:
            stream.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return write_number(job, store, shard)


def stuck_on(notes: Path, node: str, job: Any, store: WorkStore, shard: int) -> Path:
    """A worker on `node` hangs until its node is lost, and the others begin once it does."""
    if node_id() == node:
        (notes / "stuck").touch()
        time.sleep(2 * WAIT)
    wait_for(notes / "stuck")
    return write_number(job, store, shard)


def failing(error: Exception, job: Any, store: WorkStore, shard: int) -> int:
    if shard == 1:
        raise error
    return shard
