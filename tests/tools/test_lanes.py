"""Stages side by side: none needs what another task of its phase, or a later phase, makes."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from r2a_core.config import read_yaml
from r2a_core.infra.errors import R2AError
from stages._plan import declared, items, outputs
from tests.study import ROOT
from tools import repro
from tools.lanes import lanes, phases

STAGES, PARAMS = read_yaml(ROOT / "dvc.yaml")["stages"], read_yaml(ROOT / "params.yaml")


def needed(stage: str) -> set[str]:
    """Names the stages that one of DVC reads from, by dvc.yaml."""
    name, _, suffix = stage.partition("@")
    names = items(STAGES[name].get("matrix", {}), PARAMS)[suffix]
    reader = names.pop("reader", {})
    if isinstance(reader, dict):
        names |= reader
    inputs = declared(STAGES[name], names, PARAMS).inputs
    made = outputs(STAGES, PARAMS)
    return {maker for path, maker in made.items() for place in inputs if f"{path}/".startswith(f"{place}/")} - {stage}


def test_what_a_stage_needs_is_made_earlier_in_its_task_or_in_an_earlier_phase() -> None:
    done: set[str] = set()
    for tasks in phases(STAGES, PARAMS):
        for task in tasks:
            for number, stage in enumerate(task):
                assert needed(stage) <= done | set(task[:number]), stage
        done |= {stage for task in tasks for stage in task}
    assert set(outputs(STAGES, PARAMS).values()) - done == {"report"}


@pytest.mark.parametrize(
    ("environment", "reader", "cores", "expected"),
    [
        ({}, "packaged", 2, 2),
        ({}, "trained", 64, 4),
        ({}, "large", 64, 1),  # each lane holds the model
        ({}, "file", 64, 1),  # a GGUF file may be large, too
        ({}, "packaged", 1, 1),
        ({"R2A_LANES": "3"}, "large", 8, 3),
        ({"R2A_DEVICE": "cuda"}, "packaged", 8, 1),
        *[({"R2A_LANES": wrong}, "packaged", 2, None) for wrong in ("0", "3", "two", "", "²", "1" * 30)],
    ],
)
def test_how_many_lanes(
    environment: dict[str, str], reader: str, cores: int, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("R2A_LANES", raising=False)
    monkeypatch.setenv("R2A_DEVICE", "cpu")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run = {"models": ["trained"], "readers": [{"model": reader, "texts": "trained"}]}
    models = {"trained": "train", "packaged": "gguf", "file": "gguf", "large": "hub"}
    params: dict[str, Any] = {"run": run, "models": {name: {"kind": kind} for name, kind in models.items()}}
    params["models"]["packaged"]["package"] = "a_package"
    if expected is None:
        with pytest.raises(R2AError, match="R2A_LANES must be a whole number from 1 to 2"):
            lanes(params, cores)
    else:
        assert lanes(params, cores) == expected


def test_after_a_failure_none_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tasks at a time: the second ends with 3 while the first is at work, so that the third never starts."""
    script = "import sys, time; open(sys.argv[1], 'w'); time.sleep(float(sys.argv[2])); sys.exit(int(sys.argv[3]))"
    monkeypatch.setattr(repro, "LANE", (sys.executable, "-c", script))
    tasks = [[str(tmp_path / name), seconds, code] for name, seconds, code in ("a10", "b03", "c00")]
    assert repro.run_tasks(tasks, 2, dict(os.environ)) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
