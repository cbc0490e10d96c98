"""How far every way is from the same numbers in float64: masses, patched cells and cut heads, in float32 and bfloat16.

Bench -> Section. Nothing is timed.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.cases import TINY, Shape, build_pair
from benchmarks.pretrained import DTYPES, NAME, pretrained
from benchmarks.report import Section, Table
from benchmarks.turns import Bench, Way, Worker

TEXT = """
Masses of all heads, {cells} patched cells of a pair, and the answer's log-probabilities under {sets} of the random sets
of the section on knock-outs; *{name}*, T = {n_tokens}. The reference is transformers in float64 (eager attention, SDPA
for cells), by one forward pass a cell or a set. In bfloat16 every way rounds at every step: what would tell an error is
a way that is farther from the reference than the others. *Bridge* is TransformerLens's wrapper of the transformers
model.
"""
CELLS, SETS, N_TOKENS = 24, 4, 300
LARGEST = {"masses": 1e-5, "cells": 1e-3, "sets": 1e-4}  # difference of float32, in the units of WORKS
Numbers = dict[str, list[float]]  # by cell or set


@dataclass(frozen=True)
class Work:
    """One kind of number, our way to it and the others'."""

    unit: str
    ours: str
    reference: Way
    peers: dict[str, Way]


def lens(way: str, **given: Any) -> dict[str, Way]:
    """TransformerLens's two forms."""
    return {"HookedTransformer": (way, given), "bridge": (way, {**given, "bridge": True})}


MASKED = ("masked_forwards", {"count": SETS})
WORKS = {
    "masses": Work(
        "share of attention",
        "live_masses",
        ("eager_masses", {}),
        {"eager": ("eager_masses", {}), **lens("lens_masses"), "nnsight": ("nnsight_masses", {})},
    ),
    "cells": Work(
        "share of clean less corrupted",
        "patch_pair",
        ("full_forward_cells", {"count": CELLS}),
        {
            "one forward per cell": ("full_forward_cells", {"count": CELLS}),
            **lens("lens_cells", count=CELLS),
            "nnsight": ("nnsight_cells", {"count": CELLS}),
        },
    ),
    "sets": Work(
        "nats of a token",
        "knock_out",
        (MASKED[0], {**MASKED[1], "attention": "eager"}),
        {
            "mask, SDPA": (MASKED[0], {**MASKED[1], "attention": "sdpa"}),
            "mask, eager": (MASKED[0], {**MASKED[1], "attention": "eager"}),
            "mask, cached": ("cached_sets", {"count": SETS}),
            **lens("lens_sets", count=SETS),
            "nnsight": ("nnsight_sets", {"count": SETS}),
        },
    ),
}


def measure(bench: Bench) -> Section:
    shape, n_tokens = (TINY, 80) if bench.quick else (pretrained(bench)["float32"], N_TOKENS)
    rows = []
    with bench.workers("ours", "theirs") as workers:
        for name, work in WORKS.items():
            rows += list(compare(workers, name, work, shape, n_tokens))
    text = TEXT.format(cells=CELLS, sets=SETS, name=NAME, n_tokens=n_tokens)
    head = ["numbers", "way", *(f"{dtype}, {which}" for dtype in DTYPES for which in ("largest", "root mean square"))]
    return Section("Parity", text, [Table(head, rows, "Differences from float64.")])


def compare(workers: list[Worker], name: str, work: Work, shape: Shape, n_tokens: int) -> Iterator[list[str]]:
    """A row for each way. Raises RuntimeError when ours in float32 is farther from the reference than rounding."""
    ours, theirs = workers

    def ask(worker: Worker, way: Way, dtype: str) -> Any:
        case = {"shape": asdict(replace(shape, dtype=dtype)), "n_tokens": n_tokens, **way[1]}
        found = worker.ask(do="run", way=way[0], case=case, times=1)["result"]
        worker.ask(do="forget")
        return found

    scale = 1.0
    if name == "cells":
        clean, corrupted = ask(theirs, ("full_runs", {}), "float64")
        scale = abs(clean - corrupted)
    exact = by_key(ask(theirs, work.reference, "float64"))
    own: dict[str, Callable[[str], Numbers]] = {
        "ours": lambda dtype: OURS[name](ask(ours, (work.ours, {}), dtype), n_tokens),
        **{peer: lambda dtype, way=way: by_key(ask(theirs, way, dtype)) for peer, way in work.peers.items()},
    }
    for way, numbers in own.items():
        cells = []
        for dtype in DTYPES:
            found = numbers(dtype)
            gaps = [
                abs(a - b) / scale for key, values in exact.items() for a, b in zip(found[key], values, strict=True)
            ]
            if (way, dtype) == ("ours", "float32") and max(gaps) > LARGEST[name]:
                raise RuntimeError(f"{name} differ from float64 by {max(gaps)} ({work.unit})")
            cells += [f"{each:.1e}" for each in (max(gaps), math.hypot(*gaps) / math.sqrt(len(gaps)))]
        yield [f"{name} ({work.unit})", way, *cells]


def by_key(found: list[Any]) -> Numbers:
    """What a peer found, by cell or set; masses are one list."""
    if not isinstance(found[0], list):
        return {"": found}
    return {str(key): numbers if isinstance(numbers, list) else [numbers] for key, numbers in found}


def cells_of(found: Any, n_tokens: int) -> Numbers:
    """Our grid (layer, position) by cell."""
    columns = build_pair(n_tokens).positions
    return {
        str([layer, token]): [value]
        for layer, row in enumerate(found[1])
        for token, value in zip(columns, row, strict=True)
    }


OURS: dict[str, Callable[[Any, int], Numbers]] = {
    "masses": lambda found, n_tokens: {"": found},
    "cells": cells_of,
    "sets": lambda found, n_tokens: {str(number): numbers for number, numbers in enumerate(found)},
}
