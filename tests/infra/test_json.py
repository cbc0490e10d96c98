"""The one writer of metrics: what it writes, number by number, and what it refuses."""

import json
import math

import pytest

from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import json_text, write_json

NUMBERS = [
    (0.123456789, "0.123457"),
    (-2.5, "-2.5"),
    (1234.56789012, "1234.56789"),
    (0.00099999949, "0.000999999"),
    (1.234567891e-10, "1.23457e-10"),
    (0.0, "0.0"),
    (3, "3"),
    (True, "true"),
    (None, "null"),
    ("Δ", '"Δ"'),
]


@pytest.mark.parametrize(("value", "written"), NUMBERS)
def test_every_value_is_written_in_one_way(value, written):
    assert json_text({"x": value}) == f'{{\n  "x": {written}\n}}\n'


def test_keys_stay_in_their_order_and_tuples_become_lists(tmp_path):
    path = tmp_path / "new" / "metrics.json"
    write_json(path, {"b": (0.1234567, {"z": 1, "a": 2}), "a": []})
    assert (
        path.read_text()
        == '{\n  "b": [\n    0.123457,\n    {\n      "z": 1,\n      "a": 2\n    }\n  ],\n  "a": []\n}\n'
    )
    assert json.loads(path.read_text()) == {"b": [0.123457, {"z": 1, "a": 2}], "a": []}
    assert [each.name for each in path.parent.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_by_its_key(tmp_path, value):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(R2AError, match=r"a\.b\[1\]\.c of a summary is -?(nan|inf)"):
        write_json(path, {"a": {"b": [0.5, {"c": value}]}})
    assert path.read_text() == "old"
