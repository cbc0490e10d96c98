"""Any value at any place of params.yaml: a record, or an R2AError that names a key; nothing else is ever raised."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2a_core.config import dataset_params, model_params, parse
from r2a_core.infra.errors import R2AError
from stages._params import SECTIONS, check_sections
from stages._pipeline import read_yaml

ROOT = Path(__file__).resolve().parents[2]
REPEATABLE = settings(
    derandomize=True, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, -(2**63) - 1, 10**400]),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.dates(),
)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return read_yaml(ROOT / "params.yaml")


def refusal_of(call: Callable[[], Any]) -> R2AError | None:
    """The error that a call ends in, if it does; any other kind goes through."""
    try:
        call()
    except R2AError as error:
        return error
    return None


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside a value."""
    found = [way] if way else []
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        found += places(each, (*way, key))
    return found


def changed(params: dict[str, Any], way: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copied = copy.deepcopy(params)
    inside = copied
    for key in way[:-1]:
        inside = inside[key]
    inside[way[-1]] = value
    return copied


@REPEATABLE
@given(data=st.data(), value=values)
def test_any_value_anywhere_is_taken_or_refused_by_name(params: dict[str, Any], data: Any, value: Any) -> None:
    way = data.draw(st.sampled_from(places(params)))
    error = refusal_of(lambda: check_sections(changed(params, way, value)))
    if error is not None:
        assert error.hint
        assert "params.yaml" in error.message
        assert len(error.message) < 1000


@REPEATABLE
@given(section=st.sampled_from([*SECTIONS, "models.x", "datasets.x"]), value=values)
def test_any_section_is_taken_or_refused(section: str, value: Any) -> None:
    read = {"models.x": model_params, "datasets.x": dataset_params}.get(section)
    error = refusal_of(lambda: read(value, section) if read else parse(SECTIONS[section], value, section))
    assert error is None or section.split(".")[0] in error.message


@REPEATABLE
@given(text=st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@`\n\t ,?01.~"), max_size=40))
def test_any_text_is_a_mapping_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    error = refusal_of(lambda: read_yaml(path))
    assert error is None or error.hint
