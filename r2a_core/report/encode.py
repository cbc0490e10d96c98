"""Encodes numbers and texts for the page: compressed, in base64, plain ASCII JSON that no HTML parser can leave.

numpy array -> {"dtype": "f4", "shape": [...], "zlib": base64}; JSON value -> {"zlib": base64} or script-safe text.
The page unpacks both with the browser's own DecompressionStream. CODES says what packed whole numbers stand for.
"""

import base64
import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

DTYPES = ("f4", "f8", "u1", "u2", "i4")  # little-endian; the page has a typed array for each

LEVEL = 9  # of zlib

CODES: dict[str, float] = {
    "levels": 255,  # of a map cell above its floor: 1 there to 255 at a weight of 1, on a logarithmic scale; 0 below it
    "octaves": 8,  # a ratio is one of `levels` from 2^-8, and below, to 2^8, and above, by its logarithm; 0: none
    "no_token": 65535,  # fills the rows of links that hold fewer tokens
    "whole": 65535,  # a weight or mass of 1 in links
    "walk_steps": 254,  # the whole reasoning, in steps of a centroid or spread
    "walk_unknown": 255,  # a group of answer tokens that does not look at the reasoning
}


def pack(values: Any, dtype: str) -> dict[str, Any]:
    """Packs an array as one of DTYPES, row by row."""
    if dtype not in DTYPES:
        raise ValueError(f"the page cannot read the dtype {dtype}")
    array = np.ascontiguousarray(values, dtype=f"<{dtype}")
    return {"dtype": dtype, "shape": list(array.shape), "zlib": zlib_base64(array.tobytes())}


def pack_json(value: Any) -> dict[str, str]:
    """Packs any JSON value: long texts."""
    return {"zlib": zlib_base64(ascii_json(value).encode("ascii"))}


def zlib_base64(data: bytes) -> str:
    """Compresses bytes to a zlib stream in base64."""
    return base64.b64encode(zlib.compress(data, LEVEL)).decode("ascii")


def weight_levels(weights: np.ndarray, floor: float) -> np.ndarray:
    """Turns attention weights into levels (see CODES), uint8."""
    highest = CODES["levels"]
    safe = np.maximum(np.asarray(weights, dtype=np.float64), floor)
    levels = 1 + np.rint((highest - 1) * (1 - np.log(safe) / np.log(floor)))
    return np.where(np.asarray(weights) < floor, 0, np.clip(levels, 1, highest)).astype(np.uint8)


def ratio_levels(values: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Turns `values` over `base`, from 0 on, into levels (see CODES), uint8; 0 where a value is NaN or its base 0."""
    octaves, highest = CODES["octaves"], CODES["levels"]
    known = ~np.isnan(values) & (base > 0)
    ratios = np.divide(values, base, out=np.ones_like(values), where=known)
    away = np.log2(np.clip(ratios, 2.0**-octaves, 2.0**octaves)) / octaves
    return np.where(known, 1 + np.rint((highest - 1) * (away + 1) / 2), 0).astype(np.uint8)


def pack_shares(values: np.ndarray) -> dict[str, Any]:
    """Packs weights and masses 0..1 in 16 bits each."""
    return pack(np.rint(np.clip(values, 0, 1) * CODES["whole"]), "u2")


def plain(value: Any) -> Any:
    """Makes a value fit for JSON: NaN and infinities become null, in lists and records too."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def ascii_json(value: Any) -> str:
    """Writes compact ASCII JSON. Keys keep their order; NaN raises ValueError, since no browser reads it."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def script_safe(value: Any) -> str:
    """Writes JSON for a <script type="application/json">: no character in it means anything to an HTML parser."""
    text = ascii_json(value)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
