"""Shards on the disk: writing against cp, reading against the file as one block, and one tensor out of many.

Bench -> Section. Times by the clock on the wall: cp is a process of its own, and disks make wait.
"""

from pathlib import Path
from typing import Any

from benchmarks.report import Section, Table, Target
from benchmarks.turns import Bench, Contender, Ratio, Timing, take_turns

TEXT = """
One activation shard of {megabytes} MB with 32 tensors. Writing ends when the file is complete, synced and renamed;
`cp` is synced too. *Cold* reads follow an eviction of the file from the page cache (in the last read of each way at
least {cold:.0%} of it came from the disk), *warm* reads find it there; *raw*
reads the same file as one block into memory that is there already. *Verified* reads first compare the file's SHA-256
with the index, as every stage does when it opens a shard; from then on the file is in the page cache. One tensor of
{held:.2f} MB of the cold file of {whole:.0f} MB took {read:.2f} MB from the disk, the system's readahead included.
"""
READS = ("tensors", "verified", "raw")


def measure(bench: Bench) -> Section:
    megabytes = 4 if bench.quick else 256
    folders = iter(range(100))

    def place() -> dict[str, Any]:
        folder = Path(bench.scratch, f"disk-{next(folders)}")
        folder.mkdir()
        return {"folder": str(folder), "megabytes": megabytes}

    with bench.workers("ours") as (ours,):
        contenders = [Contender("write", ours, "disk_write", place()), Contender("cp", ours, "disk_copy", place())]
        timings = take_turns(contenders, bench.rounds, "wall")
        for cold in (True, False):
            state = "cold" if cold else "warm"
            cases = {what: {**place(), "cold": cold, "what": what} for what in READS}
            contenders = [Contender(f"{what}, {state}", ours, "disk_read", case) for what, case in cases.items()]
            timings |= take_turns(contenders, bench.rounds, "wall")
        read, held, whole = ours.ask(do="run", way="bytes_read", case=place(), times=1)["result"]
    size = timings["write"].result
    rows = [
        line("writing, against cp", timings["write"], timings["cp"], size),
        *(
            line(f"{what}, {state}, against raw", timings[f"{what}, {state}"], timings[f"raw, {state}"], size)
            for state in ("cold", "warm")
            for what in ("tensors", "verified")
        ),
    ]
    table = Table(["", "MB/s", "theirs, MB/s", "speed over theirs"], rows)
    from_disk = min(timings[f"{what}, cold"].result for what in READS) / size
    sizes = {"read": read / 1e6, "held": held / 1e6, "whole": whole / 1e6}
    text = TEXT.format(megabytes=megabytes, cold=min(1.0, from_disk), **sizes)
    targets = [
        Target.at_least("writing a shard, over cp", 0.8, Ratio.of(timings["cp"], timings["write"]).median),
        *(
            Target.at_least(f"reading tensors, {state}, over raw", 0.8, speed(timings, "tensors", state).median)
            for state in ("cold", "warm")
        ),
    ]
    return Section("Shards", text, [table], targets, clock="wall")


def speed(timings: dict[str, Timing], what: str, state: str) -> Ratio:
    return Ratio.of(timings[f"raw, {state}"], timings[f"{what}, {state}"])


def line(name: str, ours: Timing, theirs: Timing, size: int) -> list[str]:
    rates = [f"{size / 1e6 / timing.median:.0f}" for timing in (ours, theirs)]
    return [name, *rates, str(Ratio.of(theirs, ours))]
