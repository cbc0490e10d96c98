"""One entry of `datasets` in params.yaml -> the questions of that dataset.

Kinds: arithmetic and comparison (built in, generated), math500 and wildbench (Hub or local file), pairs (a CSV of
question pairs), traces (existing texts of models). Local files lie in one folder, which the caller names.
"""

from pathlib import Path

from r2a_core.builtin.questions import arithmetic, comparison, comparison_pairs
from r2a_core.config import BuiltinDataset, DatasetParams, FileDataset, TableDataset
from r2a_core.data.hub import fetch, load_math500, load_wildbench
from r2a_core.data.imported_texts import load_traces
from r2a_core.data.items import Item
from r2a_core.data.pairs import PAIRS_TABLE, load_pair_items, pair_items
from r2a_core.data.user_tables import LoadedItems
from r2a_core.infra.errors import R2AError


def local_file(imports: Path, name: str) -> Path:
    """A file of the imports folder. Raises R2AError when it is absent, or its name or a link leads out."""
    path = imports / name
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    if inside and not is_file(path):
        raise R2AError(f"{imports.name}/{name} does not exist", f"copy the file into {imports.name}/")
    if not inside or not path.resolve().is_relative_to(imports.resolve()):
        raise R2AError(
            f"the file {name!r} lies outside {imports.name}/", f"copy it into {imports.name}/ and give its name"
        )
    return path


def is_file(path: Path) -> bool:
    """Whether a file of that name exists; no name that the file system refuses does."""
    try:
        return path.is_file()
    except OSError:
        return False


def load_dataset(params: DatasetParams, imports: Path) -> LoadedItems:
    """The questions of one entry. `imports`: the folder of local files.

    Raises MissingPrerequisite when the Hub cannot be reached, R2AError for files that cannot be used.
    """
    if isinstance(params, BuiltinDataset):
        return LoadedItems(built_in_items(params), [])
    if isinstance(params, TableDataset):
        return first_pairs(load_pair_items(PAIRS_TABLE), params.n)
    if isinstance(params, FileDataset):
        path = local_file(imports, params.file)
        return load_traces(path, params.texts_of) if params.kind == "traces" else load_pair_items(path)
    path = fetch(params.kind, params.revision) if params.file is None else local_file(imports, params.file)
    return (load_math500 if params.kind == "math500" else load_wildbench)(path)


def built_in_items(params: BuiltinDataset) -> list[Item]:
    """Generated questions of one kind."""
    if params.kind == "generated_pairs":
        return pair_items(comparison_pairs(params.n, params.seed))
    make = arithmetic if params.kind == "arithmetic" else comparison
    return make(params.n, params.seed)


def first_pairs(loaded: LoadedItems, n: int | None) -> LoadedItems:
    """The two questions of each of the first n pairs."""
    return LoadedItems(loaded.items[: None if n is None else 2 * n], loaded.rejected)
