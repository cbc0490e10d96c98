"""What spares DVC the reading and writing of all of dvc.lock in YAML after each stage.

While stages run, the file is without the records that spare no work. A record says what a stage was run on and what it
made. Where a result is neither in the folder nor in DVC's cache, as in a fresh clone, the stage has to run whatever the
record says; its command alone then keeps its place. And the entry of a stage that has run takes the place of its old
one as text (`entries_alone`).
"""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.dvcfile import Lockfile
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dumps_yaml

from r2a_core.infra.files import write_text_whole

ENTRY = re.compile(r"^  (\S+):\n.*?(?=^  \S|^\S|\Z)", re.M | re.S)  # a stage in dvc.lock, by name
RECORD = re.compile(r"^    (?:deps|params|outs):\n.*", re.M | re.S)  # what follows its command
RESULT = re.compile(r"^    - path: (.*)$", re.M)
HEAD = "schema: '2.0'\nstages:\n"
# Entries without quoted names, comments and anchors.
PLAIN = re.compile(r"(?:  (?![\"'#])\S+:\n(?:    (?! *#)(?!.*[&*]id\d).*\n)+)+")
DATA_STATUS = (sys.executable, "-m", "dvc", "data", "status", "--json")


def lost() -> set[str]:
    """Asks DVC which results in dvc.lock are not in its cache -> those that are not in the folder either.

    Where DVC cannot say, none: the lock then stays as long as it is.
    """
    done = subprocess.run(DATA_STATUS, capture_output=True, text=True)
    if done.returncode:
        print(f"dvc.lock stays whole while stages run: {done.stderr.strip()}", file=sys.stderr)
        return set()
    places = json.loads(done.stdout).get("not_in_cache", [])
    return {place.rstrip("/") for place in places if not Path(place).exists()}


def shortened(lock: str, absent: Collection[str]) -> str:
    """Leaves of every stage with a result among `absent` the command alone."""

    def short(entry: re.Match[str]) -> str:
        results = RESULT.findall(entry[0].partition("    outs:\n")[2])
        return entry[0] if set(results).isdisjoint(absent) else RECORD.sub("", entry[0])

    return ENTRY.sub(short, lock)


def completed(lock: str, before: str) -> str:
    """Gives stages that have a command alone the record that they had before."""
    records = {entry[1]: entry[0] for entry in ENTRY.finditer(before)}
    return ENTRY.sub(lambda entry: entry[0] if RECORD.search(entry[0]) else records.get(entry[1], entry[0]), lock)


@contextmanager
def entries_alone() -> Iterator[None]:
    """Lets DVC write the entries of the stages that ran, in the bytes and order that it gives them, and keep the rest.

    DVC writes the whole of a lock that is not plain: new, with records beside those of stages, with comments, or with
    anchors and quoted names, which YAML compares between entries.
    """
    dump_whole = Lockfile.dump_stages

    def dump_stages(self: Lockfile, stages: Iterable[Any], **options: Any) -> None:
        path, stages = Path(self.path), list(stages)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        entries = [dumps_yaml({"stages": to_lockfile(stage, **options)}).partition("\n")[2] for stage in stages]
        after = functools.reduce(with_entry, entries, before)
        if not before.startswith(HEAD) or not all(map(PLAIN.fullmatch, [before.removeprefix(HEAD), *entries])):
            dump_whole(self, stages, **options)
        elif after != before:
            write_text_whole(path, after)
            self.repo.scm_context.track_file(self.relpath)

    Lockfile.dump_stages = dump_stages
    try:
        yield
    finally:
        Lockfile.dump_stages = dump_whole


def with_entry(lock: str, entry: str) -> str:
    """Puts a stage's entry in the place of the one that it had, or at the end."""
    name = entry.partition("\n")[0]
    for old in ENTRY.finditer(lock):
        if old[0].startswith(f"{name}\n"):
            return lock[: old.start()] + entry + lock[old.end() :]
    return lock + entry
