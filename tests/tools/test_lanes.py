"""Stages side by side: none of a task needs what another task of its phase, or of a later one, makes."""

import itertools
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


def with_all_they_need(task: list[str]) -> set[str]:
    found, left = set(task), list(task)
    while left:
        new = needed(left.pop()) - found
        found |= new
        left += new
    return found


def test_tasks_of_a_phase_share_nothing_that_is_still_to_be_made() -> None:
    done: set[str] = set()
    for tasks in phases(STAGES, PARAMS):
        at_work = [with_all_they_need(task) - done for task in tasks]
        for one, other in itertools.combinations(at_work, 2):
            assert not one & other
        done = done.union(*at_work)
    everything = set(outputs(STAGES, PARAMS).values())
    assert everything - done == {"report"}


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
