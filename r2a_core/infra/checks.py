"""Raises an error that locates the first NaN or inf among computed numbers, before it reaches a table or a figure.

tensor, array or frame -> nothing, or R2AError that names the quantity and the place of the first bad number. Where a
number does not exist (the correlation of a constant, say) the tables hold null, which passes.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl

from r2a_core.infra.errors import R2AError

HINT = "look at the model: wrong weights, or a dtype it overflows in (float16, where bfloat16 and float32 do not)"


def check_finite(values: Any, what: str, axes: Sequence[str]) -> None:
    """Raises R2AError at the first NaN or inf of a tensor or array; `axes` name its dimensions ("layer", ...)."""
    if hasattr(values, "isfinite") and math.isfinite(float(values.sum())):
        return  # a NaN or inf survives any sum, and summing is ten times faster than checking each number
    finite = values.isfinite() if hasattr(values, "isfinite") else np.isfinite(values)
    if finite.all():
        return
    bad = np.argwhere(~np.asarray(finite.cpu() if hasattr(finite, "cpu") else finite))[0].tolist()
    place = ", ".join(f"{axis} {index}" for axis, index in zip(axes, bad, strict=True))
    raise R2AError(f"{what}: the value at {place} is {float(values[tuple(bad)])}", HINT)


def check_columns(frame: pl.DataFrame, columns: Sequence[str], keys: Sequence[str], what: str, hint: str) -> None:
    """Raises R2AError at the first NaN or inf in `columns`, naming its row by `keys`. Null passes."""
    for column in columns:
        bad = frame.filter(~pl.col(column).is_finite())
        if bad.height:
            row = bad.row(0, named=True)
            place = ", ".join(f"{key} {row[key]!r}" for key in keys)
            raise R2AError(f"{what}: {column} is {row[column]} at {place}", hint)


@contextmanager
def error_context(place: str) -> Iterator[None]:
    """Puts `place` before the sentence of an R2AError that is raised inside the block."""
    try:
        yield
    except R2AError as error:
        raise type(error)(f"{place}: {error.message}", error.hint) from None
