"""The project's own files agree: pins with pyproject, params with dvc.yaml, the README with the Makefile."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
EXTRAS = PROJECT["optional-dependencies"]
GROUPS = [PROJECT["dependencies"], *(EXTRAS[name] for name in ("test", "check", "api", "ray", "ssh", "s3"))]
INSTALLED = [text for group in GROUPS for text in group if not text.startswith("r2a[")]


@pytest.mark.parametrize("text", INSTALLED)
def test_every_declared_package_is_pinned_within_its_range(text):
    requirement = Requirement(text)
    pinned = PINS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned), f"{text} against {pinned}: run make pin"


def test_pins_bring_no_cuda_packages():
    assert not [name for name in PINS if name.startswith(("nvidia-", "triton"))]
    assert re.fullmatch(r"[\d.]+", PINS["torch"])  # a local label such as +cpu is on no index


def test_the_readme_names_only_targets_the_makefile_has():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = re.findall(r"`make ([\w-]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert named
    assert set(named) <= targets


def test_no_table_is_grouped_or_joined_without_an_order():
    """Rows would come in another order from run to run, and sums would round in another."""
    loose = []
    for path in sorted([*ROOT.glob("r2a_core/**/*.py"), *ROOT.glob("stages/*.py")]):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                given, name = {word.arg for word in call.keywords}, call.func.attr
                of_frame = name in ("group_by", "partition_by") or {"on", "how", "subset", "keep"} & given
                of_frame = of_frame and name in ("group_by", "partition_by", "join", "unique")
                if of_frame and "maintain_order" not in given:
                    loose.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert loose == []
