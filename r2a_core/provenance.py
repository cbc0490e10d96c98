"""Which code a script runs: its import closure inside the project, found by reading the sources (nothing is imported).

script path -> project files it can reach. The stages' code dependencies in dvc.yaml equal this list, and a shard's
fingerprint holds its digest, so an edit reruns exactly what it can change.
"""

import ast
import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

PACKAGES = ("r2a_core", "stages")


def code_files(script: Path, root: Path) -> list[Path]:
    """Files below `root` that `script` imports, itself included, transitively, sorted; empty __init__ files left out.

    Imports inside functions count. Paths are relative to `root`.
    """
    found: set[Path] = set()
    waiting = [script.resolve()]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        waiting += [target for target in imported_files(file, root) if target not in found]
    return sorted(file.relative_to(root.resolve()) for file in found if file.name != "__init__.py")


def imported_files(file: Path, root: Path) -> list[Path]:
    """Project files that `file` itself imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    candidates = [
        root.joinpath(*name.split(".")).with_suffix(".py") for name in names if name.split(".")[0] in PACKAGES
    ]
    return [path.resolve() for path in candidates if path.is_file()]


def code_digest(script: Path, root: Path) -> str:
    """SHA-256 over the names and contents of a script's code files."""
    digest = hashlib.sha256()
    for path in code_files(script, root):
        digest.update(f"{path.as_posix()}\0".encode())
        digest.update(hashlib.sha256((root / path).read_bytes()).digest())
    return digest.hexdigest()


def fingerprint(**parts: Any) -> str:
    """Digest of whatever a shard depends on, given as JSON-able values. 32 hex digits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def folder_digest(folder: Path, without: Collection[str] = ()) -> str:
    """SHA-256 over the names and contents of a folder's files (of a prepared model, say), but those named `without`."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in without):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
