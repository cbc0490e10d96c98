"""A dvc.lock without the records that spare no work, while stages run: DVC reads and writes all of it after each stage.

A record says what a stage was run on and what it made. Where a result is neither in the folder nor in DVC's cache, as
in a fresh clone, the stage has to run whatever the record says; its command alone then keeps its place.
"""

import json
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

ENTRY = re.compile(r"^  (\S+):\n.*?(?=^  \S|^\S|\Z)", re.M | re.S)  # a stage in dvc.lock, by name
RECORD = re.compile(r"^    (?:deps|params|outs):\n.*", re.M | re.S)  # what follows its command
RESULT = re.compile(r"^    - path: (.*)$", re.M)
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
