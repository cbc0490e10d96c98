"""Stages side by side: none needs what another task of its phase, or a later phase, makes."""

from typing import Any

import pytest

from r2a_core.config import read_yaml
from r2a_core.infra.errors import R2AError
from stages._plan import declared, items, outputs
from tests.study import ROOT
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
    ("environment", "kind", "cores", "expected"),
    [
        ({}, "gguf", 2, 2),
        ({}, "train", 64, 4),
        ({}, "hub", 64, 1),  # each lane holds the model
        ({}, "gguf", 1, 1),
        ({"R2A_LANES": "3"}, "hub", 8, 3),
        ({"R2A_DEVICE": "cuda"}, "gguf", 8, 1),
        *[({"R2A_LANES": wrong}, "gguf", 2, None) for wrong in ("0", "3", "two", "", "²", "1" * 30)],
    ],
)
def test_how_many_lanes(
    environment: dict[str, str], kind: str, cores: int, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("R2A_LANES", raising=False)
    monkeypatch.setenv("R2A_DEVICE", "cpu")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    params: dict[str, Any] = {"run": {"models": ["m"]}, "models": {"m": {"kind": kind}}}
    if expected is None:
        with pytest.raises(R2AError, match="R2A_LANES must be a whole number from 1 to 2"):
            lanes(params, cores)
    else:
        assert lanes(params, cores) == expected
