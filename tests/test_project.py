"""The project's own files agree: pins with pyproject, params with dvc.yaml, the README with the Makefile."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from r2a_core.config import load_params

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
EXTRAS = PROJECT["optional-dependencies"]


INSTALLED = [
    text
    for text in (
        *PROJECT["dependencies"],
        *(each for name in ("test", "check", "api", "ray", "ssh", "s3") for each in EXTRAS[name]),
    )
    if not text.startswith("r2a[")
]


@pytest.mark.parametrize("text", INSTALLED)
def test_every_declared_package_is_pinned_within_its_range(text):
    requirement = Requirement(text)
    pinned = PINS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned), f"{text} against {pinned}: run make pin"


def test_pins_bring_no_cuda_packages():
    assert not [name for name in PINS if name.startswith(("nvidia-", "triton"))]
    assert re.fullmatch(r"[\d.]+", PINS["torch"])  # a local label such as +cpu is on no index


def test_the_pipeline_is_valid_and_names_what_runs():
    run = load_params(ROOT / "params.yaml").run
    assert run.models
    assert run.settings == ("with_reasoning", "without_reasoning")


def test_every_stage_uses_declared_params_only():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for name, stage in stages.items():
        for key in stage["params"]:
            value = params
            for part in re.sub(r"\.?\$\{.*?\}", "", key).split("."):
                assert part in value, f"{name} names the params {key}"
                value = value[part]


def test_the_readme_names_only_targets_the_makefile_has():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = re.findall(r"`make ([\w-]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert named
    assert set(named) <= targets
