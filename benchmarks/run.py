"""Every benchmark: sets up the peers, runs ours and theirs in turns, writes docs/benchmarks.md.

usage: python -m benchmarks.run [--parts capture,stored] [--rounds 3] [--threads 1]     all parts, or some
       python -m benchmarks.run --quick --folder SOMEWHERE     every path once at toy sizes, seconds

Results of a part go to benchmarks/results/<part>.json; parts not named keep those they have. (or: make bench)
"""

import argparse
import importlib
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.report import PAGE, RESULTS, save, write_page
from benchmarks.turns import Bench

PARTS = ("parity", "capture", "stored", "patching", "knockout", "generation", "disk", "curves")


def processor() -> str:
    """Kind and number of the processors."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 2**20
    return f"{os.cpu_count()} cores of {name}, {memory:.0f} GB of memory, {platform.system()}"


def conditions(bench: Bench) -> dict[str, Any]:
    """Where and when, without names of hosts."""
    with bench.workers("ours", "theirs") as (ours, theirs):
        versions = {"ours": ours.ask(do="versions"), "peers": theirs.ask(do="versions")}
    own = {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "machine": processor(), "clock": bench.clock}
    return {**own, "threads": bench.threads, "rounds": bench.rounds, **versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that every path runs")
    parser.add_argument("--folder", type=Path, help="for results, page and images in place of the project's own")
    parser.add_argument("--without-peers", action="store_true", help="with --quick: peers from this environment")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        sys.exit(f"error: there is no part {unknown[0]}\nhint: choose from {', '.join(PARTS)}")
    if options.quick and options.folder is None:
        sys.exit("error: --quick measures nothing worth keeping\nhint: name a --folder for what it writes")
    python = Path(sys.executable) if options.without_peers else peers.python()
    results, page = (RESULTS, PAGE) if options.folder is None else (options.folder, options.folder / "benchmarks.md")
    images = page.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=peers.ROOT / ".work" if (peers.ROOT / ".work").is_dir() else None) as scratch:
        bench = Bench(python, options.threads, options.rounds, options.quick, Path(scratch), images)
        known = conditions(bench)
        for part in parts:
            started = time.monotonic()
            section = importlib.import_module(f"benchmarks.{part}").measure(bench)
            save(part, section, known, results)
            write_page(PARTS, results, page)
            print(f"{part}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
