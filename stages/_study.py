"""The study that a stage works on: its params, its paths, its work store; and how a stage's command line ends.

A stage runs in the study's folder, which has params.yaml and dvc.yaml. It reads those sections of params.yaml that
dvc.yaml declares for it, once: when one of them, its code or an input is edited meanwhile, it ends with an error.
Device and CPU threads are no part of the study; they come from the environment: R2A_DEVICE (auto, cpu, cuda, cuda:1,
mps; default auto) and R2A_THREADS (default: torch's own choice).
"""

import functools
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import typer

from r2a_core.config import Params, ResourceParams, RunParams, load_sections, parse, read_yaml, refuse_unknown
from r2a_core.infra.environment import cores_from
from r2a_core.infra.errors import MissingPrerequisite, R2AError, first_line
from r2a_core.infra.files import disk_error_number, disk_trouble, folder_digest
from r2a_core.infra.memory import is_out_of_memory
from r2a_core.infra.processes import end_with_parent
from r2a_core.infra.shards import FORMAT, Work, fingerprint, open_store
from r2a_core.paths import StudyPaths
from r2a_core.trace import SETTINGS
from stages import INTERRUPTED, leave
from stages._guard import State, files, put_aside, refuse_changes, refuse_mixed, refuse_new_code, seen
from stages._plan import Declared, declared, outputs

CODE = Path(__file__).resolve().parent.parent  # the checkout whose code runs
WRITING_SECONDS = 60.0  # DVC holds its lock while it hashes what a stage made, and writes dvc.lock
KINDS = {"model": "models", "texts": "models", "dataset": "datasets", "setting": "settings"}


@dataclass(frozen=True)
class Study:
    """One stage's view of the study in the current folder, as it was when the stage started."""

    stage: str  # in dvc.yaml, and the module stages.<stage>
    names: tuple[str, ...]  # of the model, the model whose texts it reads, dataset and setting it is run for
    root: Path
    declared: Declared  # what it depends on, by dvc.yaml
    all_values: dict[str, Any]  # of params.yaml
    code: str  # digest of the stage's code
    state: State  # of what it depends on

    @property
    def paths(self) -> StudyPaths:
        """Returns the paths of the study's files."""
        return StudyPaths(self.root)

    @property
    def item(self) -> str:
        """Joins the names; it names shards and metrics."""
        return "-".join(self.names)

    @property
    def sections(self) -> tuple[str, ...]:
        """Lists the sections of params.yaml that dvc.yaml declares for the stage."""
        return tuple(dict.fromkeys(key.split(".")[0] for key in self.declared.params))

    @cached_property
    def params(self) -> Params:
        """Makes the records of these sections; the stage has no others."""
        params = load_sections(self.all_values, self.sections)
        refuse_unknown(params, self.all_values)
        return params

    @property
    def values(self) -> dict[str, Any]:
        """Returns their values as written in params.yaml, to be listed."""
        return {section: self.all_values[section] for section in self.sections}

    @cached_property
    def resources(self) -> ResourceParams:
        """Makes the record of how shards are run: it changes no result, so no stage declares it."""
        return load_sections(self.all_values, ("resources",)).resources

    @property
    def device(self) -> str:
        """Returns the device the models run on, from R2A_DEVICE."""
        return os.environ.get("R2A_DEVICE", "auto")

    @contextmanager
    def work(self, model: str | None = None) -> Iterator[Work]:
        """Locks the work store of this stage and item. Shards depend on the stage's code in dvc.yaml and the model."""
        base = {"code": self.code}
        if model is not None:
            base["model"] = folder_digest(self.paths.model(model))
        resources = None if self.resources.executor == "local" else self.resources
        with open_store(self.paths.work, self.stage, self.item) as store:
            yield Work(self.item, store, base, resources)

    def refuse_changes(self) -> None:
        """Raises R2AError for params, code or inputs that changed since the stage started."""
        after = seen(self.root, CODE, self.declared, read_yaml(self.root / "params.yaml"))
        refuse_changes(self.state, after)


opened: list[Study] = []  # by the stage's command


def open_study(stage: str, **names: str) -> Study:
    """Opens the study in the current folder. names: model, texts, dataset, setting, as far as the stage has them.

    Moves what is not part of the run out of the stage's inputs. Raises R2AError for a name that params.yaml has no
    entry for, for an invalid section `run` or R2A_THREADS, and for code that is no longer the code that runs; under DVC
    also for any other mistake in params.yaml, and for inputs that were made with other params.
    """
    root = Path.cwd()
    values = read_yaml(root / "params.yaml")
    for kind, name in names.items():
        known = list(SETTINGS if kind == "setting" else values.get(KINDS[kind]) or ())
        if name not in known:
            raise R2AError(f"params.yaml has no {kind} {name!r}", f"the {KINDS[kind]} are {', '.join(known)}")
    set_threads()
    run = parse(RunParams, values.get("run"), "run")
    stages = read_yaml(root / "dvc.yaml")["stages"]
    needs = declared(stages[stage], names, values)
    refuse_unmade(root, needs.inputs, names, run)
    made = outputs(stages, values)
    put_aside(root, StudyPaths(root).unused, (*needs.inputs, "data/metrics"), made)
    if "DVC_STAGE" in os.environ:  # what is run by hand is in no lock
        parse(Params, values, "")  # all of it: a mistake in a later stage's params costs nothing yet
        if (root / "dvc.lock").exists():
            with no_dvc_writing(root):
                lock = read_yaml(root / "dvc.lock")
            refuse_mixed(lock.get("stages", {}), needs.inputs, made, values)
    state = seen(root, CODE, needs, values)
    code = fingerprint(format=FORMAT, code={name: state.get(name) for name, _ in files(CODE, needs.code)})
    refuse_new_code(CODE, needs)  # last: what is noted is then the code that runs
    study = Study(stage, tuple(names.values()), root, needs, values, code, state)
    opened.append(study)
    return study


def refuse_unmade(root: Path, inputs: Iterable[str], names: Mapping[str, str], run: RunParams) -> None:
    """Raises MissingPrerequisite for an input that dvc repro would not make: the run lacks the model or dataset."""
    models = (*run.models, *(reader.model for reader in run.readers))
    known = {"model": models, "texts": models, "dataset": (*run.datasets, run.pairs)}
    outside = [(KINDS[kind], name) for kind, name in names.items() if name not in known.get(kind, (name,))]
    missing = [place for place in inputs if place.startswith("data/") and not (root / place).exists()]
    for kind, name in outside if missing else ():
        raise MissingPrerequisite(
            f"{missing[0]} does not exist, and no run makes it while run.{kind} lacks {name!r}",
            f"add {name} to run.{kind} in params.yaml, then run dvc repro",
        )


@contextmanager
def no_dvc_writing(root: Path) -> Iterator[None]:
    """Holds DVC's lock where stages run side by side: the DVC of another one empties dvc.lock before it writes it."""
    if os.environ.get("R2A_LANES", "1") == "1":
        yield
        return
    from zc.lockfile import LockError, LockFile

    until = time.monotonic() + WRITING_SECONDS
    while True:
        try:
            writing = LockFile(str(root / ".dvc" / "tmp" / "lock"))  # which DVC lets go while its stage runs
            break
        except LockError:
            if time.monotonic() > until:
                raise R2AError("another dvc is at work in this folder", "wait for it to end: ps shows it") from None
            time.sleep(0.05)
    try:
        yield
    finally:
        writing.close()


def set_threads() -> None:
    """Sets torch's CPU threads from R2A_THREADS, where the stage uses torch. Raises R2AError for anything else."""
    threads = cores_from("R2A_THREADS", os.cpu_count() or 1)
    if threads is not None and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def run_stage(command: Callable[..., None]) -> None:
    """Runs a stage's command line. A user's mistake ends in one sentence and a hint; a bug keeps its traceback."""
    gc.freeze()  # what was imported stays
    gc.enable()
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    end_with_parent(only_under="DVC_STAGE")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    for chatty in ("httpx", "transformers", "matplotlib", "fontTools"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

    @functools.wraps(command)
    def guarded(*args: Any, **options: Any) -> None:
        opened.clear()
        try:
            command(*args, **options)
            for study in opened:
                study.refuse_changes()
        except KeyboardInterrupt:
            print(INTERRUPTED, file=sys.stderr)
            raise typer.Exit(130) from None
        except Exception as error:
            trouble = known_trouble(error)
            if trouble is None:
                raise
            print(f"error: {trouble}", file=sys.stderr)
            raise typer.Exit(trouble.exit_code) from None

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(guarded)
    try:
        app()
    finally:
        gc.freeze()  # Python's end would go through all objects once more, which takes most of a second


def known_trouble(error: Exception) -> R2AError | None:
    """Turns what a user can act on (wrong input, full disk, too little memory) into an R2AError; None for a bug."""
    if isinstance(error, R2AError):
        return error
    number = disk_error_number(error)
    if number is not None:
        return disk_trouble(Path(getattr(error, "filename", None) or Path.cwd() / "."), number)
    if is_out_of_memory(error):
        return MissingPrerequisite(
            f"out of memory: {first_line(error)}",
            "use a device with more memory (R2A_DEVICE), or lower batch sizes, lengths or limits in params.yaml",
        )
    return None
