"""Arrays and texts survive the way into the page, and nothing in them can leave it."""

import base64
import json
import zlib

import numpy as np
import pytest

from r2a_core.report.encode import pack, pack_json, script_safe, weight_levels

HOSTILE = "</script><script>alert(1)</script><!-- & ' \" \u2028 \x00 \u202e \u05d0 \ud800 x \udc00 \U0001f600"


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "u2", "i4"])
def test_packed_arrays_hold_their_values_row_by_row(dtype):
    values = np.array([[0, 1, 2], [3, 200, 5]])
    packed = pack(values, dtype)
    raw = zlib.decompress(base64.b64decode(packed["zlib"]))
    assert np.frombuffer(raw, f"<{dtype}").reshape(packed["shape"]).tolist() == values.tolist()
    assert packed["dtype"] == dtype


def test_hostile_text_cannot_end_its_element_and_comes_back_as_it_was():
    text = script_safe({HOSTILE: [HOSTILE]})
    assert text.isascii()
    assert not set("<>&\x00") & set(text)
    assert json.loads(text) == {HOSTILE: [HOSTILE]}
    packed = zlib.decompress(base64.b64decode(pack_json(HOSTILE)["zlib"])).decode("ascii")
    assert json.loads(packed) == HOSTILE
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_safe({"p": float("nan")})


@pytest.mark.parametrize(("floor", "error"), [(0.001, 0.0138), (0.5 / 13_000, 0.0203)])
def test_levels_are_logarithmic_between_the_floor_and_one(floor, error):
    weights = np.array([0.0, 0.999 * floor, floor, floor**0.5, 1.0])
    assert weight_levels(weights, floor).tolist() == [0, 0, 1, 128, 255]
    exact = np.geomspace(floor, 1, 997)
    back = floor ** (1 - (weight_levels(exact, floor).astype(float) - 1) / 254)
    assert np.abs(back / exact - 1).max() < error
