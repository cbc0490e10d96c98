"""One entry of `datasets` in params.yaml -> the questions of that dataset.

Kinds: arithmetic, comparison and generated_pairs (built in, of an invented world), task and context_pairs (built in, in
natural English), reasoning_gym (a task of that package), pairs_table (the project's own pairs), pairs (a CSV of
question pairs), math500 and wildbench (Hub or local file), traces (existing texts of models). Local files are in one
folder, which the caller names, and each is pinned by its SHA-256 in params.yaml.
"""

from pathlib import Path

from r2a_core.builtin.questions import arithmetic, comparison, comparison_pairs
from r2a_core.builtin.tasks.datasets import context_pairs, task_items
from r2a_core.config import DatasetParams, FileDataset, HubDataset
from r2a_core.data.gym import load_gym
from r2a_core.data.hub import fetch, load_math500, load_wildbench
from r2a_core.data.imported_texts import load_traces
from r2a_core.data.items import Item
from r2a_core.data.pairs import PAIRS_TABLE, load_pairs, pair_items
from r2a_core.data.user_tables import Loaded
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.pins import check_pin


def local_file(imports: Path, name: str) -> Path:
    """Finds a file of the imports folder.

    Raises MissingPrerequisite when it is absent, R2AError when its name or a link leads out.
    """
    path = imports / name
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    if inside and not is_file(path):
        raise MissingPrerequisite(f"{imports.name}/{name} does not exist", f"copy the file into {imports.name}/")
    if not inside or not path.resolve().is_relative_to(imports.resolve()):
        raise R2AError(
            f"the file {name!r} lies outside {imports.name}/", f"copy it into {imports.name}/ and give its name"
        )
    return path


def is_file(path: Path) -> bool:
    """Checks whether a file of that name exists; false for a name that the file system refuses."""
    try:
        return path.is_file()
    except OSError:
        return False


def load_dataset(params: DatasetParams, imports: Path, name: str) -> Loaded[Item]:
    """Loads or generates the questions of the entry `name`. imports: the folder of local files.

    Raises MissingPrerequisite when the Hub cannot be reached or a file is absent, R2AError for files that cannot be
    used, or are not what params.yaml pins.
    """
    loaded = load_entry(params, imports)
    check_file(params, imports, name)  # afterwards: what was read is what is pinned
    return loaded


def check_file(params: DatasetParams, imports: Path, name: str) -> None:
    """Checks the local file of an entry against datasets.<name>.sha256 (see `check_pin`); most entries have none."""
    if isinstance(params, (HubDataset, FileDataset)) and params.file is not None:
        check_pin(local_file(imports, params.file), params.sha256, f"datasets.{name}.sha256")


def load_entry(params: DatasetParams, imports: Path) -> Loaded[Item]:
    """Loads or generates the questions of one entry. Raises as `load_dataset`, but for pins."""
    match params.kind:
        case "arithmetic":
            return Loaded(arithmetic(params.n, params.seed), [])
        case "comparison":
            return Loaded(comparison(params.n, params.seed), [])
        case "generated_pairs":
            return Loaded(pair_items(comparison_pairs(params.n, params.seed)), [])
        case "context_pairs":
            return Loaded(pair_items(context_pairs(params.n, params.seed)), [])
        case "task":
            return Loaded(task_items(params.task, params.n, params.seed), [])
        case "reasoning_gym":
            return Loaded(load_gym(params), [])
        case "pairs_table":
            return load_pair_items(PAIRS_TABLE, params.n)
        case "pairs":
            return load_pair_items(local_file(imports, params.file))
        case "traces":
            return load_traces(local_file(imports, params.file), params.texts_of)
        case "math500":
            return load_math500(benchmark_file(params, imports))
        case "wildbench":
            return load_wildbench(benchmark_file(params, imports))


def load_pair_items(path: Path, n: int | None = None) -> Loaded[Item]:
    """Loads a table of pairs as questions, two for each of the first n pairs."""
    loaded = load_pairs(path)
    return Loaded(pair_items(loaded.items[:n]), loaded.rejected)


def benchmark_file(params: HubDataset, imports: Path) -> Path:
    """Returns the local copy that an entry names, or fetches the file from the Hub."""
    return fetch(params.kind, params.revision) if params.file is None else local_file(imports, params.file)
