"""Cost curves: time and peak memory against tokens, traces, layers and pairs, with the power that fits each.

Bench -> Section and docs/images/costs_*.png.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cases import SMALL, TINY, Shape
from benchmarks.fits import Costs, exponent, plot_curves
from benchmarks.pretrained import NAME, pretrained
from benchmarks.report import Section, Table
from benchmarks.turns import Bench, Worker

TEXT = """
*{name}* in bfloat16, on tokens of real traces but for pairs; over layers, random Qwen2 models (float32). A time is the
smallest of {runs} runs; memory is the peak above the loaded model. The power is the slope of log cost over log size by
least squares, over the whole range and over its last step: where the two differ, the curve bends.
"""

UNITS = ("seconds", "MB")


@dataclass(frozen=True)
class Curve:
    """One axis: a case for each size."""

    axis: str
    ways: tuple[str, ...]
    cases: dict[int, dict[str, Any]]


def measure(bench: Bench) -> Section:
    shape = TINY if bench.quick else pretrained(bench)["bfloat16"]
    found: dict[str, dict[str, Costs]] = {}
    with bench.workers("ours") as (timer,), bench.workers("ours", memory=True) as (scale,):
        for curve in curves(bench, shape):
            found[curve.axis] = {way: costs_of(bench, timer, scale, way, curve.cases) for way in curve.ways}
    images = []
    for axis, ways in found.items():
        name = f"costs_{axis.replace(' ', '_')}.png"
        plot_curves(bench.images / name, axis, UNITS, {way.replace("_", " "): costs for way, costs in ways.items()})
        images.append((name, f"Time and memory over {axis}"))
    head = ["over", "way", "sizes", "time at the ends, s", "power", "last step", "memory, MB", "power", "last step"]
    rows = [row(axis, way, costs) for axis, ways in found.items() for way, costs in ways.items()]
    return Section("Cost curves", TEXT.format(name=NAME, runs=runs_of(bench)), [Table(head, rows)], [], images)


def runs_of(bench: Bench) -> int:
    """Runs of each case: as many as rounds, less the one that warms up."""
    return max(1, bench.rounds - 1)


def curves(bench: Bench, shape: Shape) -> list[Curve]:
    """The axes: tokens, layers, traces, pairs."""
    lengths = (64, 128) if bench.quick else (256, 512, 1024, 2048, 4096, 8192)
    counts = (1, 2) if bench.quick else (1, 2, 4, 8)
    few = 64 if bench.quick else 256
    same = {"shape": asdict(shape), "n_tokens": few}
    deep = {n: {**same, "shape": asdict(replace(TINY if bench.quick else SMALL, n_layers=n))} for n in counts}
    folders = {n: Path(bench.scratch, f"traces-{n}") for n in counts}
    for folder in folders.values():
        folder.mkdir()
    stored = {n: {**same, "rows": "answer", "folder": str(folder), "traces": n} for n, folder in folders.items()}
    return [
        Curve("tokens", ("live_masses", "capture"), {n: {**same, "n_tokens": n} for n in lengths}),
        Curve("tokens of a pair", ("patch_pair",), {n: {**same, "n_tokens": n} for n in lengths if n <= 4096}),
        Curve("layers", ("live_masses", "capture", "patch_pair"), deep),
        Curve("traces", ("stored_statistics",), stored),
        Curve("pairs", ("patch_pair",), {n: {**same, "pairs": n} for n in counts}),
    ]


def costs_of(bench: Bench, timer: Worker, scale: Worker, way: str, cases: dict[int, dict[str, Any]]) -> Costs:
    """Seconds and MB of each case, after a run of the smallest that is not counted."""
    found: Costs = {}
    for size, case in cases.items():
        for worker in (timer, scale) if not found else (timer,):
            worker.ask(do="run", way=way, case=case, times=1)
        seconds = min(timer.ask(do="run", way=way, case=case, times=runs_of(bench))[bench.clock])
        found[size] = seconds, scale.ask(do="peak", way=way, case=case)["mb"]
        for worker in (timer, scale):
            worker.ask(do="forget")
    return found


def row(axis: str, way: str, costs: Costs) -> list[str]:
    sizes = list(costs)
    cells = [axis, way.replace("_", " "), f"{sizes[0]}-{sizes[-1]}"]
    for index, digits in ((0, 2), (1, 0)):
        values = [cost[index] for cost in costs.values()]
        cells.append(f"{values[0]:.{digits}f}, {values[-1]:.{digits}f}")
        cells += [power(sizes, values), power(sizes[-2:], values[-2:])]
    return cells


def power(sizes: Sequence[float], costs: Sequence[float]) -> str:
    return f"{exponent(sizes, costs):.2f}"
