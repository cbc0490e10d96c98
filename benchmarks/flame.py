"""Where the CPU time of a run goes: stacks that py-spy sampled -> a flame graph by stage, and DVC's share.

usage (pip install py-spy; nothing of the run may be stored, see `dvc status`):
    py-spy record --subprocesses --full-filenames --rate 20 -f raw -o STACKS -- python -m tools.repro
    python -m benchmarks.flame STACKS     -> docs/images/repro_time.png, and a table on stdout

Waiting threads are not sampled. Below a stage come the project's own functions, which answer for what libraries do.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.peers import ROOT

IMAGE = ROOT / "docs" / "images" / "repro_time.png"
STAGE, OWN = re.compile(r"-m stages\.(\w+)"), re.compile(r"(\w+) \([^)]*/r2a_core/(?!infra)[\w/]*?(\w+)\.py:\d+\)")
IMPORTS, DVC = "imports", "DVC"
DEPTH = 9  # levels: the stage, and functions of the core below it, those of `infra` left out
LEAST = 0.002  # of the run: narrower boxes are left out
LETTERS, LEGIBLE = 230, 3  # of a label as wide as the picture; fewer tell nothing

Stack = tuple[str, ...]


def short(line: str) -> tuple[Stack, int]:
    """One line of py-spy's raw format as stage, then functions of the project; and how often it was seen."""
    frames, _, count = line.rpartition(" ")
    stage = STAGE.search(frames)  # one that started this process, or is it
    if stage is None:
        return (DVC,), int(count)
    if "importlib._bootstrap" in frames:
        return (stage[1], IMPORTS), int(count)
    own = [f"{module}.{name}" for name, module in OWN.findall(frames)]
    return (stage[1], *own[: DEPTH - 1]), int(count)


def boxes(stacks: Counter[Stack], start: float = 0.0, level: int = 0) -> Iterator[tuple[int, str, float, float]]:
    """Level, label, start and width of every box in samples, the widest first."""
    heads: dict[str, Counter[Stack]] = {}
    for stack, count in stacks.items():
        if stack:
            heads.setdefault(stack[0], Counter())[stack[1:]] += count
    for head, rest in sorted(heads.items(), key=lambda item: -sum(item[1].values())):
        width = sum(rest.values())
        yield level, head, start, width
        yield from boxes(rest, start, level + 1)
        start += width


def draw(stacks: Counter[Stack], axes: Axes) -> None:
    """Draws the boxes from the top down."""
    total = sum(stacks.values())
    colours = plt.get_cmap("tab20").colors  # pyright: ignore[reportAttributeAccessIssue]
    for level, label, start, width in boxes(stacks):
        share = width / total
        if share < LEAST:
            continue
        colour = colours[sum(map(ord, label)) % len(colours)]
        axes.barh(-level, share, left=start / total, height=0.96, color=colour, edgecolor="white", linewidth=0.5)
        text = f"{label} {share:.0%}" if level == 0 else label.split(".")[-1]
        if (room := int(LETTERS * share)) >= LEGIBLE:
            axes.text((start + width / 2) / total, -level, text[:room], ha="center", va="center", fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_axis_off()


def main() -> None:
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    stacks: Counter[Stack] = Counter()
    for stack, count in map(short, lines):
        stacks[stack] += count
    figure, axes = plt.subplots(figsize=(14, 3.6), layout="constrained")
    draw(stacks, axes)
    figure.savefig(IMAGE, dpi=130)
    total, imports = sum(stacks.values()), sum(n for stack, n in stacks.items() if IMPORTS in stack)
    print(f"{total} samples; DVC {stacks[DVC,] / total:.1%}, imports of the stages {imports / total:.1%}")
    for _, label, _, width in (box for box in boxes(stacks) if box[0] == 0):
        print(f"{label}: {width / total:.1%}")


if __name__ == "__main__":
    main()
