"""The results as records, kept one JSON file a part, and docs/benchmarks.md made from all of them.

Section records -> benchmarks/results/<part>.json -> docs/benchmarks.md. What is written by hand below the marker line
of docs/benchmarks.md stays.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "benchmarks.md"
MARKER = "<!-- Below this line the page is written by hand; make bench keeps it. -->"
HEAD = """# Benchmarks

Our code and its peers on the same weights, the same tokens and the same number of threads. Each side has its own
process, which keeps its model loaded. Each round runs every contender, one at a time (what is short several times, of
which the median counts); the order is reversed on alternate rounds. A ratio is the median over rounds of the two times
of one round, with the smallest and the largest in parentheses. `make bench` writes this page and sets up the peers in
an environment of their own (.venv-peers).

"""


@dataclass(frozen=True)
class Table:
    """A table of the page; cells are text."""

    head: list[str]
    rows: list[list[str]]
    caption: str = ""


@dataclass(frozen=True)
class Target:
    """A number that was asked for, and what was found."""

    what: str
    goal: str
    found: str
    met: bool

    @classmethod
    def at_least(cls, what: str, goal: float, found: float, unit: str = " times") -> "Target":
        return cls(what, f"at least {goal:g}{unit}", f"{found:.3g}{unit}", found >= goal)

    @classmethod
    def at_most(cls, what: str, goal: float, found: float, unit: str = " times") -> "Target":
        return cls(what, f"at most {goal:g}{unit}", f"{found:.3g}{unit}", found <= goal)


@dataclass(frozen=True)
class Section:
    """What one part found."""

    title: str
    text: str
    tables: list[Table]
    targets: list[Target] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)  # file in docs/images, what it shows
    clock: str | None = None  # cpu or wall, where it is not the run's


def save(part: str, section: Section, conditions: dict[str, Any], folder: Path = RESULTS) -> None:
    """Writes a part's results. conditions: machine, versions, date, threads and rounds of the run."""
    folder.mkdir(exist_ok=True)
    conditions = conditions | ({} if section.clock is None else {"clock": section.clock})
    text = json.dumps({"conditions": conditions, "section": asdict(section)}, indent=1, ensure_ascii=False)
    (folder / f"{part}.json").write_text(text + "\n", encoding="utf-8")


def write_page(parts: Sequence[str], folder: Path = RESULTS, page: Path = PAGE) -> None:
    """The page, from the results of all parts that have any."""
    found = [json.loads((folder / f"{part}.json").read_text()) for part in parts if (folder / f"{part}.json").is_file()]
    old = page.read_text(encoding="utf-8") if page.is_file() else ""
    by_hand = old.split(MARKER, 1)[1] if MARKER in old else "\n"
    targets = [
        [t["what"], t["goal"], t["found"], "yes" if t["met"] else "no"] for r in found for t in r["section"]["targets"]
    ]
    text = HEAD + markdown(["target", "asked for", "found", "met"], targets)
    text += "".join(section_text(result["section"], result["conditions"]) for result in found)
    page.write_text(f"{text}\n{MARKER}{by_hand}", encoding="utf-8")


def section_text(section: dict[str, Any], conditions: dict[str, Any]) -> str:
    """One part of the page."""
    parts = [f"\n## {section['title']}\n\n{section['text'].strip()}\n"]
    for table in section["tables"]:
        parts.append((f"{table['caption']}\n\n" if table["caption"] else "") + markdown(table["head"], table["rows"]))
    parts += [f"![{shows}](images/{file})\n" for file, shows in section["images"]]
    return "\n".join([*parts, conditions_text(conditions) + "\n"])


def conditions_text(conditions: dict[str, Any]) -> str:
    """One line on where and when a part was measured."""
    ours, theirs = (
        ", ".join(f"{name} {version}" for name, version in conditions[side].items()) for side in ("ours", "peers")
    )
    times = "CPU time" if conditions["clock"] == "cpu" else "wall time"
    return (
        f"<sub>{conditions['date']}; {conditions['machine']}; {conditions['threads']} thread(s), {times}, "
        f"{conditions['rounds']} rounds. Ours: {ours}. Peers: {theirs}.</sub>"
    )


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
