"""Which modules of r2a_core a stage's script reaches, read from the sources; nothing is imported."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
UNTRACKED = ("r2a_core/infra", "r2a_core/config/", "r2a_core/paths.py", "stages/_")


def reached(script: Path) -> set[Path]:
    """Source files, relative to the checkout, that `script` imports, directly or through others; itself included.

    What no stage depends on (UNTRACKED) is neither listed nor followed; empty files are left out.
    """
    found: set[Path] = set()
    waiting = [script.relative_to(ROOT)]
    while waiting:
        file = waiting.pop()
        if file not in found and not file.as_posix().startswith(UNTRACKED):
            found.add(file)
            waiting += imported(file)
    return {file for file in found if (ROOT / file).read_text(encoding="utf-8").strip()}


@cache
def imported(file: Path) -> list[Path]:
    """Files of the project that `file` itself imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    stems = [Path(*name.split(".")) for name in names if name.split(".")[0] in ("r2a_core", "stages")]
    candidates = [place for stem in stems for place in (stem.with_suffix(".py"), stem / "__init__.py")]
    return sorted(place for place in candidates if (ROOT / place).is_file())
