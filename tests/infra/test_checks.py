"""Numbers that are not finite are named by their place."""

import numpy as np
import polars as pl
import pytest
import torch

from r2a_core.infra.checks import check_columns, check_finite, error_context
from r2a_core.infra.errors import MissingPrerequisite

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_the_first_bad_number_is_named_by_its_axes(refused, kind: str, value: float) -> None:
    array = np.zeros((2, 3, 4))
    array[1, 2, 3] = array[1, 0, 2] = value
    values = torch.from_numpy(array) if kind == "tensor" else array
    found = f"masses: the value at layer 1, head 0, token 2 is {value}"
    refused(lambda: check_finite(values, "masses", ("layer", "head", "token")), found, "look at the model")
    check_finite(values[0], "masses", ("head", "token"))


def test_numbers_of_half_precision_are_checked_as_they_are(refused) -> None:
    values = torch.tensor([1.0, 1e30], dtype=torch.bfloat16)
    check_finite(values, "x", ("row",))
    refused(lambda: check_finite(values.half(), "x", ("row",)), "x: the value at row 1 is inf", "float16")


def test_null_passes_where_nan_does_not(refused) -> None:
    frame = pl.DataFrame({"head": [0, 1], "r": [None, 0.5]}, schema={"head": pl.Int16, "r": pl.Float64})
    check_columns(frame, ["r"], ["head"], "walks", "again")
    bad = frame.with_columns(r=pl.Series([0.5, NAN]))
    refused(lambda: check_columns(bad, ["r"], ["head"], "walks", "again"), "walks: r is nan at head 1", "again")


def test_a_place_keeps_the_kind_of_error() -> None:
    with pytest.raises(MissingPrerequisite, match="pair 'a': gone") as caught, error_context("pair 'a'"):
        raise MissingPrerequisite("gone", "fetch it")
    assert (caught.value.hint, caught.value.exit_code) == ("fetch it", 3)
