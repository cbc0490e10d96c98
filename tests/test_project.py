"""The project's own files agree: pins with pyproject, params with dvc.yaml, the README with the Makefile."""

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
