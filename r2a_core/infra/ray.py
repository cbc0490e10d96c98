"""Shards as tasks of a Ray cluster: one worker a GPU, each holding the job, so that its model loads once.

The driver hands a worker one shard at a time. A shard whose worker or node died goes to another worker, up to ATTEMPTS
times; a worker that was only cut off may still be writing it, which is harmless: temporary names are unique, and both
write the same bytes. The driver keeps the lock on the store. Only paths and small records travel over the network.
"""

import hashlib
import logging
import os
import platform
import socket
import subprocess
import sys
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from r2a_core.config import ResourceParams
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import TEMPORARY
from r2a_core.infra.shards import WorkStore

log = logging.getLogger(__name__)

ATTEMPTS = 3  # of one shard, or of starting a worker, before the run is given up

REACH_SECONDS = 10  # s for a host to answer at all

HEALTH_SECONDS = 60  # s for a cluster to say that it is well

STORE_BYTES = 128 * 2**20  # of Ray's own object store on this machine; shards do not pass through it

ONLY_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0 = Ray listens on 127.0.0.1 only: it asks for no password

GUIDE = "docs/scaling.md says how to start one; resources.ray_address: null starts Ray on this machine"


@dataclass(frozen=True)
class Environment:
    """What a worker must share with the driver, so that it writes the same bytes."""

    code: str  # digest of r2a_core
    torch: str  # version
    transformers: str  # version

    @staticmethod
    def here() -> "Environment":
        return Environment(code_state(), version("torch"), version("transformers"))


def code_state() -> str:
    """SHA-256 over the sources of r2a_core in this process."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


class Worker:
    """The process that finishes shards, one at a time. Ray gives it one GPU, or none."""

    def __init__(self, finish: Callable[..., Any], job: Any, store: WorkStore, threads: int) -> None:
        """threads: CPU threads of torch."""
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
        for chatty in ("httpx", "transformers"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a log is no place for bars
        self.finish_shard, self.job, self.store = finish, job, store
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)  # if torch is imported later
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)

    def check(self, mark: str, driver: Environment) -> None:
        """Raises R2AError when this worker cannot write the driver's bytes into its store. mark: a file there."""
        node = platform.node()
        if not (self.store.folder / mark).is_file():
            raise R2AError(
                f"the node {node} does not see the work store {self.store.folder}",
                "put the project on a file system that all nodes share, at the same path",
            )
        own = vars(Environment.here())
        unlike = [name for name, value in vars(driver).items() if own[name] != value]
        if unlike:
            raise R2AError(
                f"the worker on {node} differs from the driver in {', '.join(unlike)}",
                "run driver and workers from one environment and one checkout",
            )

    def finish(self, shard: Any) -> Any:
        return self.finish_shard(self.job, self.store, shard)


def finish_on_ray(
    finish: Callable[..., Any], job: Any, store: WorkStore, shards: Sequence[Any], resources: ResourceParams
) -> Iterator[Any]:
    """The results of `finish(job, store, shard)`, in shard order. See `finish_shards`.

    Raises what `finish` raises; R2AError when workers keep dying at one shard; MissingPrerequisite when there is no
    Ray, no cluster, no GPU where R2A_DEVICE=cuda wants one, or no worker within resources.start_seconds.
    """
    import torch

    check_device(job.device)
    threads = torch.get_num_threads()
    with ray_cluster(resources) as ray, shared_marker(store) as mark:
        gpus, count = gpus_and_workers(ray, job.device, resources.workers)
        actor = ray.remote(Worker).options(num_cpus=1, num_gpus=gpus, scheduling_strategy="SPREAD")
        here = Environment.here()

        def start() -> tuple[Any, Any]:
            worker = actor.remote(finish, replace(job), store, threads)  # replace: without a model that is loaded here
            return worker, worker.check.remote(mark, here)

        count = min(count, len(shards))
        log.info("Ray: up to %d %s", count, "GPUs, a worker each" if gpus else "workers without a GPU")
        yield from RayPool(ray, start, shards, resources.start_seconds).results(count)


def check_device(device: str) -> None:
    """Raises R2AError for one GPU by number: Ray shows each worker only its own."""
    if device not in ("auto", "cpu", "cuda"):
        raise R2AError(
            f"R2A_DEVICE={device} names a device, but Ray chooses one for each worker", "set it to auto, cuda or cpu"
        )


@contextmanager
def shared_marker(store: WorkStore) -> Iterator[str]:
    """Name of a file in the store, there for as long as the workers are."""
    path = store.folder / f"{TEMPORARY}{uuid.uuid4().hex[:8]}-shared"
    path.touch()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def ray_cluster(resources: ResourceParams) -> Iterator[Any]:
    """The module ray, connected to the cluster; on leaving, disconnected, which ends the workers."""
    address = resources.ray_address
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        os.environ.setdefault(ONLY_LOOPBACK, "0")
    if not sys.stderr.isatty():
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    try:
        import ray
    except ImportError:
        raise MissingPrerequisite(
            "resources.executor is ray, but Ray is not installed",
            "pip install '.[ray]', or set resources.executor to local",
        ) from None
    if address is None:
        cpus = max(os.cpu_count() or 1, resources.workers or 1)
        own: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    else:
        check_reachable(address)
        own = {}
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, **own)
    except (ConnectionError, ImportError, RuntimeError, ValueError) as error:
        raise no_cluster(address or "this machine", error) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def check_reachable(address: str) -> None:
    """Raises MissingPrerequisite when no cluster answers at `address`; Ray itself would try for many minutes."""
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
        except (OSError, ValueError) as error:
            raise no_cluster(address, error) from None
    if not address.startswith("ray://"):
        command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
        try:
            done = subprocess.run(command, timeout=HEALTH_SECONDS, check=False, capture_output=True)
        except subprocess.TimeoutExpired as error:
            raise no_cluster(address, error) from None
        if done.returncode != 0:
            raise no_cluster(address, done.stderr.decode(errors="replace").strip().rpartition("\n")[2])


def no_cluster(address: str, reason: object) -> MissingPrerequisite:
    return MissingPrerequisite(f"no Ray cluster at {address}: {reason}", GUIDE)


def gpus_and_workers(ray: Any, device: str, workers: int | None) -> tuple[int, int]:
    """GPUs a worker takes (0 or 1), and how many workers there are."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if device == "cpu" or (device == "auto" and gpus == 0):
        nodes = sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1)
        return 0, workers or max(nodes, 1)
    if gpus == 0 and workers is None:
        raise MissingPrerequisite(
            "R2A_DEVICE=cuda, but the Ray cluster has no GPU",
            "start Ray on nodes with GPUs, or set resources.workers where nodes come on demand",
        )
    return 1, workers or gpus


class RayPool:
    """The driver's side: which worker has which shard."""

    def __init__(self, ray: Any, start: Callable[[], tuple[Any, Any]], shards: Sequence[Any], patience: float) -> None:
        """start: a new worker and the reference that is ready once it is checked. patience: s to wait for a first."""
        self.ray, self.start, self.shards, self.patience = ray, start, shards, patience
        self.waiting = deque(range(len(shards)))  # numbers of shards that no worker has
        self.idle: list[Any] = []  # workers
        self.starting: dict[Any, Any] = {}  # reference -> worker
        self.running: dict[Any, tuple[Any, int]] = {}  # reference -> worker, number of its shard
        self.deaths: Counter[int] = Counter()  # by number of the shard; -1: while starting
        self.done: dict[int, Any] = {}

    def results(self, workers: int) -> Iterator[Any]:
        """The results of all shards, in order."""
        for _ in range(workers):
            self.hire()
        for number in range(len(self.shards)):
            while number not in self.done:
                self.step()
            yield self.done.pop(number)

    def hire(self) -> None:
        worker, ready = self.start()
        self.starting[ready] = worker

    def step(self) -> None:
        """Hands out shards and waits until a worker has something to say."""
        while self.idle and self.waiting:
            worker, number = self.idle.pop(), self.waiting.popleft()
            self.running[worker.finish.remote(self.shards[number])] = (worker, number)
        ready, _ = self.ray.wait([*self.running, *self.starting], num_returns=1, timeout=self.patience)
        if ready:
            self.hear(ready[0])
        elif not self.running:
            raise MissingPrerequisite(
                f"no worker started within {self.patience:g} s; free in the Ray cluster: {self.free()}",
                "wait for its other jobs to end, lower what they hold, or raise resources.start_seconds",
            )

    def free(self) -> str:
        left = self.ray.available_resources()
        return ", ".join(f"{left.get(name, 0):g} {name}" for name in ("GPU", "CPU"))

    def hear(self, ready: Any) -> None:
        """Takes a worker's answer: checked, finished, failed or dead."""
        starts = ready in self.starting
        worker, number = (self.starting.pop(ready), -1) if starts else self.running.pop(ready)
        lost = self.ray.exceptions
        try:
            result = self.ray.get(ready)
        except (lost.RayActorError, lost.WorkerCrashedError, lost.NodeDiedError, lost.OutOfMemoryError) as error:
            self.replace(worker, number, error)
        except lost.RayTaskError as error:
            if isinstance(error.cause, R2AError | OSError):
                raise error.cause from None
            raise
        else:
            self.idle.append(worker)
            if not starts:
                self.done[number] = result

    def replace(self, worker: Any, number: int, error: Exception) -> None:
        """A new worker for a dead one, whose shard goes back to the front. Raises R2AError at the last attempt."""
        self.ray.kill(worker)  # it may only be cut off
        self.deaths[number] += 1
        what = "while starting" if number < 0 else f"at shard {number + 1} of {len(self.shards)}"
        cause = cause_of_death(error)
        if self.deaths[number] >= ATTEMPTS:
            raise R2AError(
                f"{ATTEMPTS} workers died {what}; the last: {cause}",
                "a worker killed for memory needs smaller batches or fewer workers a node; finished shards are kept",
            )
        log.warning("a worker died %s (%d of %d attempts): %s", what, self.deaths[number], ATTEMPTS, cause)
        if number >= 0:
            self.waiting.appendleft(number)
        self.hire()


def cause_of_death(error: Exception) -> str:
    """Ray's account in one short line."""
    text = " ".join(str(error).split())
    told = text[max(text.find("The actor is dead because"), 0) :]
    return told if len(told) <= 300 else f"{told[:300]}..."
