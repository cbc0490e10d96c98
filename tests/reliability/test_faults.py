"""A few of the faults of `make faults`, the same each time."""

import pytest

from tests.reliability.faults import disturb

FAULTS = (("params", "1"), ("kill", "1"), ("lock-write", "1"), ("lock-cut", "1"), ("reused-pid", "1"))


@pytest.mark.slow
def test_after_a_fault_everything_is_as_in_an_undisturbed_run() -> None:
    outcomes = disturb(FAULTS, jobs=2)
    assert len(outcomes) == len(FAULTS)
    assert [outcome for outcome in outcomes if outcome.failed] == []
