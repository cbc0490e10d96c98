"""The benchmark's own arithmetic, its page, and that its paths run at toy sizes."""

import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import disk, generation, knockout, ours, parity
from benchmarks.cases import TINY, build_pair, chosen_cells, random_sets, segment_bounds
from benchmarks.fits import exponent
from benchmarks.report import MARKER, Section, Table, Target, save, write_page
from benchmarks.turns import Bench, Contender, Ratio, Timing, take_turns

CONDITIONS = {
    name: {"torch": "2"} if name in ("ours", "peers") else name
    for name in ("date", "machine", "clock", "threads", "rounds", "ours", "peers")
}


class Counter:
    """A worker whose runs take 1, 2, 3, ... seconds, and that keeps who ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.times: list[int] = []

    def ask(self, **message):
        self.ran.append(message["way"])
        self.times.append(message["times"])
        taken = [float(len(self.ran))] * message["times"]
        return {"cpu": taken, "wall": [0.0] * message["times"], "result": len(self.ran)}


def timed(worker: Counter, names: str, rounds: int, clock: str) -> dict[str, Timing]:
    return take_turns([Contender(name, worker, name, {}) for name in names], rounds, clock)  # type: ignore[arg-type]


def test_ways_take_turns_and_change_the_order_every_round_and_a_short_way_is_repeated():
    worker = Counter()
    timings = timed(worker, "ab", 3, "cpu")
    assert worker.ran == ["a", "b", *("a", "b"), *("b", "a"), *("a", "b")]
    assert (timings["a"].seconds, timings["b"].seconds) == ([3, 6, 7], [4, 5, 8])
    assert timings["b"].result == 8
    ratio = Ratio.of(Timing([10, 40, 90]), Timing([10, 20, 30]))  # of the same round
    assert (ratio.median, ratio.low, ratio.high) == (2, 1, 3)
    worker.ran = ["long"] * 10  # the first round counts where it is long
    assert timed(worker, "ab", 2, "cpu")["a"].seconds == [11, 14]
    worker.ran = ["short"] * 4  # 5 seconds do not count as the first of a long round: it runs again, warm
    assert timed(worker, "abcd", 1, "cpu")["a"].seconds == [9]
    assert worker.ran[4:] == [*"abcd", *"abcd"]
    worker.ran = ["long"] * 12
    assert timed(worker, "c", 1, "wall")["c"].seconds == [0]
    assert worker.times[-2:] == [1, 2000]


class Told:
    """A worker that answers what it is told to, by way and dtype."""

    def __init__(self, answers: dict[tuple[str, str], Any]) -> None:
        self.answers = answers

    def ask(self, **message):
        if message["do"] == "forget":
            return {}
        return {"result": self.answers[message["way"], message["case"]["shape"]["dtype"]]}


def test_ways_are_held_against_float64_by_cell_and_ours_in_float32_must_be_near():
    positions = build_pair(48).positions
    exact = [[[0, positions[1]], 3.0], [[1, positions[0]], -1.0]]
    work = parity.Work("share", "grid", ("peer", {}), {"theirs": ("peer", {})})
    grid = [[0.0, 3.0, *[9.0] * 10], [-1.0, *[9.0] * 11]]
    near = [[row[0], row[1] + 1e-4, *row[2:]] for row in grid]
    theirs = Told(
        {("peer", "float64"): exact, ("full_runs", "float64"): [5.0, 1.0]}
        | {("peer", dtype): [[exact[0][0], 3.4], exact[1]] for dtype in ("float32", "bfloat16")}
    )
    ours = Told({("grid", "float32"): [[5.0, 1.0], near], ("grid", "bfloat16"): [[5.0, 1.0], grid]})
    rows = list(parity.compare([ours, theirs], "cells", work, TINY, 48))  # type: ignore[list-item]
    assert rows[0] == [
        "cells (share)",
        "ours",
        "2.5e-05",
        "1.8e-05",
        "0.0e+00",
        "0.0e+00",
    ]  # of clean less corrupted, 4
    assert rows[1] == ["cells (share)", "theirs", "1.0e-01", "7.1e-02", "1.0e-01", "7.1e-02"]
    ours.answers["grid", "float32"] = [[5.0, 1.0], [[0.0, 3.1, *[9.0] * 10], grid[1]]]
    with pytest.raises(RuntimeError, match=r"cells differ from float64 by 0\.02"):
        list(parity.compare([ours, theirs], "cells", work, TINY, 48))  # type: ignore[list-item]


def test_exponents_are_exact_and_a_case_covers_the_trace_without_its_last_token_and_each_cell_once():
    for power in (0.0, 1.0, 1.7):
        assert exponent([1, 3, 10, 70], [5 * size**power for size in (1, 3, 10, 70)]) == pytest.approx(power)
    assert math.isnan(exponent([1, 2], [0, 1]))
    bounds, pair = segment_bounds(1000), build_pair(1000)
    assert [token for tokens in bounds.values() for token in tokens] == list(range(999))
    assert pair.positions == [*range(861, 870), 997, 998, 999]
    assert sorted(chosen_cells(pair, 4)) == [(layer, token) for layer in range(4) for token in pair.positions]


def test_hooks_count_the_token_layers_that_a_knock_out_takes():
    found = ours.token_layers(asdict(knockout.QUICK), 80)()
    lowest = [heads[0][0] for heads in random_sets(knockout.QUICK.n_layers, knockout.QUICK.n_heads)]
    answer = segment_bounds(80)["answer"]
    assert found == pytest.approx([80 * 4, 78 * 4, len(answer) * sum(4 - layer for layer in lowest)])


def test_the_page_holds_every_part_and_keeps_what_is_written_by_hand(tmp_path):
    page, folder = tmp_path / "page.md", tmp_path / "results"
    page.write_text(f"old numbers\n{MARKER}\n## By hand\n", encoding="utf-8")
    targets = [Target.at_least("fast", 10, 12.345), Target.at_most("close", 1.4, 1.5)]
    save("disk", Section("Disk", "Text.", [Table(["x"], [["1"]], "Caption.")], targets), CONDITIONS, folder)
    save("curves", Section("Curves", "Text.", [], [], [("a.png", "a over b")]), CONDITIONS, folder)
    for _ in range(2):
        write_page(["curves", "absent", "disk"], folder, page)
    text = page.read_text(encoding="utf-8")
    assert "| fast | at least 10 times | 12.3 times | yes |" in text
    assert "| close | at most 1.4 times | 1.5 times | no |" in text
    assert text.index("## Curves") < text.index("![a over b](images/a.png)") < text.index("## Disk")
    assert text.endswith(f"{MARKER}\n## By hand\n")
    assert "old numbers" not in text


def test_shards_and_generation_are_measured_against_others(tmp_path):
    bench = Bench(Path(sys.executable), 1, 2, True, tmp_path, tmp_path)
    found = disk.measure(bench)
    assert [row[0].split(",")[0] for row in found.tables[0].rows] == ["writing", *("tensors", "verified") * 2]
    assert all(float(cell) > 0 for row in found.tables[0].rows for cell in row[1:3])
    rows = generation.measure(bench).tables[0].rows
    assert [row[1] for row in rows[::2]] == [
        "like lengths",
        "like lengths, decided alone",
        "mixed lengths",
        "long prompts",
    ]
    assert all(float(row[3]) > 0 for row in rows)
    assert rows[0][5] == "4 of 4"  # in float32 texts are those of transformers' generate
