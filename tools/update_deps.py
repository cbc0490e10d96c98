"""Rewrites the code dependencies of every stage in dvc.yaml to what its script imports.

usage: python tools/update_deps.py          (or: make deps)

The script of a stage is the module stages.NAME of its command. Dependencies that are not project code stay as they are.
"""

import re
from pathlib import Path

from ruamel.yaml import YAML

from r2a_core.infra.shards import PACKAGES, code_files

ROOT = Path(__file__).resolve().parent.parent


def script_of(command: str) -> Path:
    """The stage script that a command line runs."""
    match = re.search(r"python -m stages\.(\w+)", command)
    if match is None:
        raise SystemExit(f"error: no stage script in the command {command!r}\nhint: stages run python -m stages.NAME")
    return ROOT / "stages" / f"{match[1]}.py"


def is_code(dependency: str) -> bool:
    return dependency.endswith(".py") and dependency.split("/")[0] in PACKAGES


def main() -> None:
    yaml = YAML()
    yaml.width = 140
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = ROOT / "dvc.yaml"
    pipeline = yaml.load(path)
    for stage in pipeline["stages"].values():
        code = [file.as_posix() for file in code_files(script_of(stage["cmd"]), ROOT)]
        stage["deps"] = code + [dep for dep in stage.get("deps", []) if not is_code(dep)]
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump(pipeline, stream)


if __name__ == "__main__":
    main()
