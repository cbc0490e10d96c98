"""Params become typed records; what is unknown or impossible is refused with a sentence that names the key."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from pydantic import Field

from r2a_core.config import parse
from r2a_core.infra.errors import R2AError


@dataclass(frozen=True)
class Inner:
    width: Annotated[int, Field(gt=0)]


@dataclass(frozen=True)
class Outer:
    mode: Literal["a", "b"]
    rate: Annotated[float, Field(ge=0, le=1)]
    inner: Inner
    limit: int | None = None


GOOD = {"mode": "a", "rate": 0.5, "inner": {"width": 3}}


def test_a_good_section_becomes_a_record():
    assert parse(Outer, GOOD, "part") == Outer("a", 0.5, Inner(3), None)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mode": "c"}, "part.mode"),
        ({"rate": 1.5}, "part.rate"),
        ({"rate": float("nan")}, "part.rate"),
        ({"rate": True}, "part.rate"),
        ({"limit": "many"}, "part.limit"),
        ({"inner": {"width": 0}}, "part.inner.width"),
        ({"inner": {"width": 2.5}}, "part.inner.width"),
        ({"inner": {"width": 3, "widht": 4}}, "widht"),
        ({"inner": 7}, "part.inner"),
        ({"moed": "a"}, "moed"),
    ],
)
def test_a_bad_value_is_refused_by_name(change, named):
    with pytest.raises(R2AError) as caught:
        parse(Outer, GOOD | change, "part")
    assert named in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_a_missing_key_is_named():
    with pytest.raises(R2AError, match=r"part\.mode"):
        parse(Outer, {"rate": 0.5, "inner": {"width": 3}}, "part")


def test_a_section_must_be_a_mapping():
    with pytest.raises(R2AError, match="mapping"):
        parse(Outer, None, "part")
