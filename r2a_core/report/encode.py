"""Numbers and texts as they travel in the page: compressed, in base64, plain ASCII JSON that no HTML parser can leave.

numpy array -> {"dtype": "f4", "shape": [...], "zlib": base64}; JSON value -> {"zlib": base64} or script-safe text.
The page unpacks both with the browser's own DecompressionStream.
"""

import base64
import json
import zlib
from typing import Any

import numpy as np

DTYPES = ("f4", "f8", "u1", "u2", "i4")  # little-endian; the page has a typed array for each

LEVEL = 9

FLOOR = 1e-3  # attention weight below which a map cell is empty

LEVELS = 255  # of the logarithmic scale above it


def pack(values: Any, dtype: str) -> dict[str, Any]:
    """An array of one of DTYPES, row by row."""
    if dtype not in DTYPES:
        raise ValueError(f"the page cannot read the dtype {dtype}")
    array = np.ascontiguousarray(values, dtype=f"<{dtype}")
    return {"dtype": dtype, "shape": list(array.shape), "zlib": squeezed(array.tobytes())}


def pack_json(value: Any) -> dict[str, str]:
    """Any JSON value, for long texts."""
    return {"zlib": squeezed(ascii_json(value).encode("ascii"))}


def squeezed(data: bytes) -> str:
    """zlib stream in base64."""
    return base64.b64encode(zlib.compress(data, LEVEL)).decode("ascii")


def weight_levels(weights: np.ndarray) -> np.ndarray:
    """Attention weights as bytes: 0 below FLOOR, else 1..255 on a logarithmic scale up to 1 (steps of 2.8%)."""
    safe = np.maximum(np.asarray(weights, dtype=np.float64), FLOOR)
    levels = 1 + np.rint((LEVELS - 1) * (1 - np.log(safe) / np.log(FLOOR)))
    return np.where(np.asarray(weights) < FLOOR, 0, np.clip(levels, 1, LEVELS)).astype(np.uint8)


def ascii_json(value: Any) -> str:
    """Compact ASCII JSON. Keys keep their order; NaN raises ValueError, since no browser reads it."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def script_safe(value: Any) -> str:
    """JSON for a <script type="application/json">: no character in it means anything to an HTML parser."""
    text = ascii_json(value)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
