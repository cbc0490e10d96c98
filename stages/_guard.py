"""Holds a stage to what it started from: DVC records params, code and inputs as they are after it, not before.

`Declared` of a stage -> the state of each param and file (`seen`); two such states -> R2AError (`refuse_changes`).
What no stage makes any more is moved out of a stage's inputs before (`put_aside`): DVC would record it with them. And
no stage starts on what was made with other params than those of now (`refuse_mixed`).
"""

import logging
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import TEMPORARY, sha256
from stages import STARTED
from stages._plan import Declared, Values, at_key

log = logging.getLogger(__name__)

NAMED = 3  # changed things in an error
ABSENT = object()

State = Mapping[str, object]  # of a param: its value; of code: its digest; of an input: size and time


def put_aside(root: Path, unused: Path, places: Iterable[str], made: Collection[str]) -> None:
    """Moves what lies below `places` and no stage makes from the study `root` to the same path below `unused`."""
    for name in [name for place in places for name in leftovers(root, place, made)]:
        target = unused / name
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists():  # from an earlier run, or a user's own
            target = target.with_name(f"{target.name}~")
        with suppress(FileNotFoundError):  # another stage moved it
            shutil.move(root / name, target)
            log.info("%s is not part of the run: moved to %s", name, target.relative_to(root))


def leftovers(root: Path, place: str, made: Collection[str]) -> Iterator[str]:
    """Yields what lies below `place`, a folder with outputs of several stages, and is none of the outputs `made`.

    A folder is one entry where nothing in it is made.
    """
    if place in made or not any(each.startswith(f"{place}/") for each in made) or not (root / place).is_dir():
        return
    for path in sorted((root / place).iterdir()):
        name = f"{place}/{path.name}"
        if any(each.startswith(f"{name}/") for each in made):
            yield from leftovers(root, name, made)
        elif name not in made and not path.name.startswith(TEMPORARY):
            yield name


def refuse_mixed(stages: Mapping[str, Any], inputs: Iterable[str], made: Mapping[str, str], params: Values) -> None:
    """Raises R2AError when what a stage reads, or anything that was made from, has other params in dvc.lock than now.

    stages: of dvc.lock; made: every output of now, and its stage. Params edited between two stages of one run would
    else lead to results that do not belong together: DVC looks at each stage once, when its turn comes.
    """
    for entry in upstream(stages, inputs, made):
        for key, then in entry.get("params", {}).get("params.yaml", {}).items():
            now = ABSENT
            with suppress(KeyError, TypeError):
                now = at_key(key, params)
            if now == then:
                continue
            before, after = dict(leaves(key, then)), dict(leaves(key, now))
            name = next(name for name in {**before, **after} if before.get(name, ABSENT) != after.get(name, ABSENT))
            raise R2AError(
                f"{name} in params.yaml changed after {entry['outs'][0]['path']} was made, which this stage builds on",
                "run dvc repro again: it begins with what the change concerns",
            )


def upstream(stages: Mapping[str, Any], inputs: Iterable[str], made: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Lists the entries of dvc.lock whose outputs are among `inputs`, below them, or went into them. made: as now.

    What another stage made under the same path, before, does not count.
    """
    outs = [(out["path"], name) for name, entry in stages.items() for out in entry.get("outs", ())]
    found: dict[str, Mapping[str, Any]] = {}
    left = list(inputs)
    while left:
        place = left.pop()
        for path, name in outs:
            if name not in found and made.get(path) == name and f"{path}/".startswith(f"{place}/"):
                found[name] = stages[name]
                left += [dep["path"] for dep in stages[name].get("deps", ())]
    return list(found.values())


def seen(root: Path, checkout: Path, declared: Declared, params: Values) -> State:
    """Notes the state of what a stage depends on. An input's content is not read: it may be gigabytes."""
    state: dict[str, object] = {}
    for key in declared.params:
        with suppress(KeyError, TypeError):
            state |= {f"{name} in params.yaml": value for name, value in leaves(key, at_key(key, params))}
    state |= {name: sha256(path) for name, path in files(checkout, declared.code)}
    for name, path in files(root, declared.inputs):
        stat = path.stat()
        state[name] = (stat.st_size, stat.st_mtime_ns)
    return state


def leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yields the keys below `key` that hold no other keys, and their values."""
    if not isinstance(value, Mapping) or not value:
        yield key, value
        return
    for name, inner in value.items():
        yield from leaves(f"{key}.{name}", inner)


def files(root: Path, places: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Yields the files at and below `places` with their names relative to `root`, but what Python compiles."""
    for place in places:
        if (root / place).is_file():
            yield place, root / place
        for folder, folders, names in os.walk(root / place):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for path in (Path(folder, name) for name in names):
                if path.is_file():  # a broken link holds nothing
                    yield path.relative_to(root).as_posix(), path


def refuse_new_code(checkout: Path, declared: Declared) -> None:
    """Raises R2AError for code that was edited after this process began to import it."""
    edited = [name for name, path in files(checkout, declared.code) if STARTED < path.stat().st_mtime <= time.time()]
    if edited:
        raise R2AError(f"{listed(edited)} changed while the stage started", "run it again")


def refuse_changes(before: State, after: State) -> None:
    """Raises R2AError that names what differs between both states."""
    changed = [name for name in {**before, **after} if before.get(name, ABSENT) != after.get(name, ABSENT)]
    if changed:
        raise R2AError(
            f"{listed(changed)} changed while the stage ran: what it wrote is not recorded",
            "leave params, code and inputs alone while it runs, then run dvc repro again: finished shards are kept",
        )


def listed(names: list[str]) -> str:
    """Returns the first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
