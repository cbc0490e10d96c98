"""What every stage script shares: its typer app, its params, its folders, its log, its progress and its exit codes.

A stage may use only the params that dvc.yaml declares for it, so that DVC reruns it when one changes. The device and
the number of threads are not part of the study; they come from the environment: R2A_DEVICE (auto, cpu, cuda, cuda:1,
...; default auto) and R2A_THREADS (default: torch's own choice).
"""

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import disk_error_number, disk_trouble
from r2a_core.infra.memory import is_out_of_memory
from stages._pipeline import declared_params

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
WORK = ROOT / ".work"
LOG_EVERY = 4  # shards between two lines of a log that is not a terminal


def device() -> str:
    """Device the models run on, from R2A_DEVICE."""
    return os.environ.get("R2A_DEVICE", "auto")


def set_threads() -> None:
    """Sets torch's CPU threads from R2A_THREADS. Raises R2AError for anything but a positive whole number."""
    threads = os.environ.get("R2A_THREADS")
    if threads is None:
        return
    if not threads.isdecimal() or int(threads) < 1:
        raise R2AError(f"R2A_THREADS must be a positive whole number, found {threads!r}", "for example R2A_THREADS=2")
    import torch

    torch.set_num_threads(int(threads))


def run_stage(command: Callable[..., None]) -> None:
    """Runs a stage's command line. A user's mistake ends in one sentence and its way out, a bug keeps its traceback."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a log is no place for bars
    for chatty in ("httpx", "transformers", "matplotlib", "fontTools"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

    @functools.wraps(command)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except KeyboardInterrupt:
            print("interrupted: finished shards are kept; dvc repro goes on from there", file=sys.stderr)
            raise typer.Exit(130) from None
        except Exception as error:
            trouble = known_trouble(error)
            if trouble is None:
                raise
            print(f"error: {trouble}", file=sys.stderr)
            raise typer.Exit(trouble.exit_code) from None

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(guarded)
    app()


def known_trouble(error: Exception) -> R2AError | None:
    """What a user can act on: a mistake in the input, a full disk, too little memory. None for a bug."""
    if isinstance(error, R2AError):
        return error
    number = disk_error_number(error)
    if number is not None:
        return disk_trouble(Path(getattr(error, "filename", None) or DATA / "."), number)
    if is_out_of_memory(error):
        return MissingPrerequisite(
            f"out of memory: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "use a device with more memory (R2A_DEVICE), or lower batch sizes, lengths or limits in params.yaml",
        )
    return None


class Params(dict[str, Any]):
    """Params in one another; a key that is not there is named as params.yaml has it."""

    def __init__(self, values: Mapping[str, Any], place: str = "") -> None:
        super().__init__(
            {key: Params(each, f"{place}{key}.") if isinstance(each, dict) else each for key, each in values.items()}
        )
        self.place = place

    def __missing__(self, key: str) -> Any:
        raise R2AError(f"params.yaml has no {self.place}{key}", "add it, or take what names it out of run")


def read_params(stage: str) -> dict[str, Any]:
    """The params that dvc.yaml declares for `stage` (for example "generate@tiny_qwen2-arithmetic-with_reasoning").

    Raises R2AError when dvc.yaml has no such stage or params.yaml lacks one of its keys.
    """
    return Params(declared_params(ROOT, os.environ.get("DVC_STAGE") or stage))


def progress(done: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """Passes `done` on, with a bar on a terminal and a line every few shards elsewhere (stderr)."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(done, total=total, desc=what, unit="shard")
        return
    for number, value in enumerate(done, start=1):
        if number % LOG_EVERY == 0 or number == total:
            logging.info("%s: %d of %d shards", what, number, total)
        yield value
