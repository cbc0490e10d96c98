"""docs/architecture.md against the code: who imports whom, and no circles."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.pipeline.imports import imported

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LAYERS = [
    re.findall(r"`(\w+)`", line.split("|")[2]) for line in PAGE.splitlines() if re.match(r"\| [a-z ]+ \| `", line)
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in (ROOT / "r2a_core").rglob("*.py")}


def imports_of(name: str) -> set[str]:
    """Modules of r2a_core and stages that a module imports, inside its functions too."""
    return {module_name(ROOT / path) for path in imported(MODULES[name].relative_to(ROOT))} - {"r2a_core"}


def test_the_table_names_every_package_and_module_once():
    units = {path.stem for path in (ROOT / "r2a_core").glob("[a-z]*") if path.suffix == ".py" or any(path.glob("*.py"))}
    assert sorted(name for names in LAYERS for name in names) == sorted(units)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_module_imports_from_a_layer_below_its_own(name):
    if name.count(".") == 0:
        return
    below = [
        other
        for other in imports_of(name)
        if other.startswith("stages") or LEVEL[other.split(".")[1]] > LEVEL[name.split(".")[1]]
    ]
    assert below == []


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: imports_of(name) - {name} for name in MODULES}
    assert len([*TopologicalSorter(graph).static_order()]) >= len(graph)  # raises CycleError for a circle
