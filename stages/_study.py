"""The study that a stage works on: its params, its paths, its work store; and how a stage's command line ends.

A stage runs in the study's folder, which has params.yaml and dvc.yaml. It reads those sections of params.yaml that
dvc.yaml declares for it, so that DVC reruns it when one changes. Device and CPU threads are no part of the study; they
come from the environment: R2A_DEVICE (auto, cpu, cuda, cuda:1, ...; default auto) and R2A_THREADS (default: torch's own
choice).
"""

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import typer

from r2a_core.config import Params, ResourceParams, load_sections, read_yaml
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import disk_error_number, disk_trouble, folder_digest
from r2a_core.infra.memory import is_out_of_memory
from r2a_core.infra.shards import Work, code_digest, open_store
from r2a_core.paths import StudyPaths
from r2a_core.trace import SETTINGS

CODE = Path(__file__).resolve().parent.parent  # the checkout whose code runs
KINDS = {"model": "models", "dataset": "datasets", "setting": "settings"}


@dataclass(frozen=True)
class Study:
    """One stage's view of the study in the current folder. `names`: of the model, dataset and setting it is run for."""

    stage: str  # in dvc.yaml, and the module stages.<stage>
    names: tuple[str, ...]
    root: Path

    @property
    def paths(self) -> StudyPaths:
        """Returns the paths of the study's files."""
        return StudyPaths(self.root)

    @property
    def item(self) -> str:
        """Joins model, dataset and setting as DVC does."""
        return "-".join(self.names)

    @cached_property
    def declared(self) -> dict[str, Any]:
        """Reads the stage's entry in dvc.yaml."""
        return read_yaml(self.root / "dvc.yaml")["stages"][self.stage]

    @property
    def sections(self) -> tuple[str, ...]:
        """Lists the sections of params.yaml that dvc.yaml declares for the stage."""
        return tuple(dict.fromkeys(entry.split(".")[0] for entry in self.declared["params"]))

    @cached_property
    def params(self) -> Params:
        """Loads the records of these sections; the stage has no others."""
        return load_sections(self.root / "params.yaml", self.sections)

    @property
    def values(self) -> dict[str, Any]:
        """Returns their values as written in params.yaml, to be listed."""
        values = read_yaml(self.root / "params.yaml")
        return {section: values[section] for section in self.sections}

    @cached_property
    def resources(self) -> ResourceParams:
        """Loads how shards are run: it changes no result, so no stage declares it."""
        return load_sections(self.root / "params.yaml", ("resources",)).resources

    @property
    def device(self) -> str:
        """Returns the device the models run on, from R2A_DEVICE."""
        return os.environ.get("R2A_DEVICE", "auto")

    @contextmanager
    def work(self, model: str | None = None) -> Iterator[Work]:
        """Locks the work store of this stage and item. Shards depend on the stage's code in dvc.yaml and the model."""
        code = [place for place in self.declared["deps"] if place.startswith(("r2a_core", "stages"))]
        base = {"code": code_digest(CODE, code)}
        if model is not None:
            base["model"] = folder_digest(self.paths.model(model))
        resources = None if self.resources.executor == "local" else self.resources
        with open_store(self.paths.work, self.stage, self.item) as store:
            yield Work(self.item, store, base, resources)


def open_study(stage: str, **names: str) -> Study:
    """Opens the study in the current folder. names: model, dataset, setting, in the order of the stage's matrix.

    Raises R2AError for a name that params.yaml has no entry for, and for an invalid R2A_THREADS.
    """
    root = Path.cwd()
    entries = read_yaml(root / "params.yaml")
    for kind, name in names.items():
        known = list(SETTINGS if kind == "setting" else entries.get(KINDS[kind]) or ())
        if name not in known:
            raise R2AError(f"params.yaml has no {kind} {name!r}", f"the {KINDS[kind]} are {', '.join(known)}")
    set_threads()
    return Study(stage, tuple(names.values()), root)


def set_threads() -> None:
    """Sets torch's CPU threads from R2A_THREADS, where the stage uses torch. Raises R2AError for anything else."""
    threads = os.environ.get("R2A_THREADS")
    if threads is None:
        return
    if not threads.isdecimal() or int(threads) < 1:
        raise R2AError(f"R2A_THREADS must be a positive whole number, found {threads!r}", "for example R2A_THREADS=2")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(threads))


def run_stage(command: Callable[..., None]) -> None:
    """Runs a stage's command line. A user's mistake ends in one sentence and a hint; a bug keeps its traceback."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
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
    """Turns what a user can act on (wrong input, full disk, too little memory) into an R2AError; None for a bug."""
    if isinstance(error, R2AError):
        return error
    number = disk_error_number(error)
    if number is not None:
        return disk_trouble(Path(getattr(error, "filename", None) or Path.cwd() / "."), number)
    if is_out_of_memory(error):
        return MissingPrerequisite(
            f"out of memory: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "use a device with more memory (R2A_DEVICE), or lower batch sizes, lengths or limits in params.yaml",
        )
    return None
