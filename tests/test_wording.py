"""Numbers in words by hand: a minus only where it is left after rounding, and no verdict without an interval."""

import pytest

from r2a_core.wording import compared, estimate, percent, side, signed


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (-0.001, 2, "0.00"),
        (-0.0, 1, "0.0"),
        (-0.005001, 2, "\u22120.01"),
        (1.25, 1, "1.3"),
        (-12.5, 0, "\u221213"),
        (100 * 0.575, 0, "58"),  # 57.49999 in floats
        (-1e-9, 0, "0"),
        (None, 2, "\u2013"),
    ],
)
def test_a_minus_is_what_rounding_leaves(value: float | None, decimals: int, text: str) -> None:
    assert signed(value, decimals) == text


def test_a_plus_is_written_where_it_is_asked_for() -> None:
    assert [signed(value, 0, plus=True) for value in (2.4, -2.4, -0.1)] == ["+2", "\u22122", "+0"]


def test_shares_are_percent() -> None:
    assert [percent(share) for share in (0.666, -0.001, None)] == ["67%", "0%", "\u2013"]
    assert percent(-0.125, 1) == "\u221212.5%"


def test_an_interval_is_written_where_there_is_one() -> None:
    assert estimate({"mean": -0.5, "low": -1, "high": -0.001}) == "\u22120.50 (95% \u22121.00 to 0.00)"
    assert estimate({"mean": 0.5, "low": None, "high": None}, 1) == "0.5"


@pytest.mark.parametrize(
    ("low", "high", "where"), [(0.1, 0.2, 1), (-0.2, -0.1, -1), (0.0, 0.2, 0), (-0.1, 0.1, 0), (None, None, 0)]
)
def test_an_interval_is_on_a_side_only_if_it_leaves_zero_out(low: float | None, high: float | None, where: int) -> None:
    assert side(low, high) == where
    assert side(None if low is None else low + 5, None if high is None else high + 5, at=5) == where
    assert (
        compared(low, high, "chance") == {1: "more than", -1: "less than", 0: "not to be told from"}[where] + " chance"
    )
