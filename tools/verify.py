"""Checks that the findings of tools/findings.toml, which README states, hold in a run, on whatever machine it ran.

tools/findings.toml; params.yaml and data/ of each FOLDER -> a table, or with --state and --markdown what they write
usage: python -m tools.verify [FOLDER ...]    (or: make verify) two columns for each run; no name: this folder's
       python -m tools.verify --state         states the values of the first run, in findings.toml and in README
       python -m tools.verify --markdown      writes README's table from findings.toml
Exit code 0: all hold, 1: one does not, 3: the run was not made. No model is loaded.

A finding holds where its bounds do and the value (see tools/measures.py) lies within the stated 95% interval, rounded
outwards to the digits that are shown. In a run of fewer items that run's own interval need only reach the bounds and
the stated one: both are estimates.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from r2a_core.config import read_yaml
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import write_text_whole
from r2a_core.paths import StudyPaths
from r2a_core.trace import SETTINGS
from tools.measures import MEASURES, Run, Value

FINDINGS, README = Path("tools/findings.toml"), Path("README.md")
BEGIN, END = "<!-- findings, written by python -m tools.verify --markdown -->\n", "<!-- end of findings -->\n"
UNITS = {"percent": (100, 1, "%"), "points": (100, 1, ""), "number": (1, 2, ""), "count": (1, 0, "")}  # times, decimals
BOUNDS = ("at_least", "at_most", "tolerance", "least_n")
NO_ARGUMENTS = ("sentence", "unit", "over", "model", "measure", *BOUNDS)  # keys of a finding no measure gets


@dataclass(frozen=True)
class Finding:
    """A line of findings.toml, for one of its columns."""

    name: str
    line: Mapping[str, Any]
    model: str
    of: str  # dataset or probe
    stated: Value | None

    def is_made_in(self, run: Run) -> bool:
        """Checks that the run's params.yaml names model, dataset with both settings or probe, and reader."""
        names, probes = run.params["run"], run.params["pairs"]["align"]["probes"]
        asked = names["datasets"] if set(names["settings"]) == set(SETTINGS) else []
        readers = [None, *(each["model"] for each in names["readers"] if each["texts"] == self.model)]
        known = self.model in names["models"] and self.of in [*asked, *probes]
        return known and self.line.get("reader") in readers

    def measured(self, run: Run) -> Value | None:
        """Measures it in a run; None also where the run has not its model or dataset."""
        if not self.is_made_in(run):
            return None
        given = {key: value for key, value in self.line.items() if key not in NO_ARGUMENTS}
        try:
            return MEASURES[self.line["measure"]](run, self.model, self.of, **given)
        except MissingPrerequisite as error:
            if not error.hint.startswith("build it with: dvc repro"):
                raise
            raise MissingPrerequisite(error.message, "make the run: make repro") from None  # one stage would not do

    def holds(self, here: Value | None) -> bool:
        """Checks the bounds and the stated interval; without both, the tolerance."""
        if here is None:
            return False
        stated = self.stated or Value(here.value)
        own = here.interval if here.interval and here.n < stated.n else [here.value, here.value]
        if own[1] < self.line.get("at_least", -math.inf) or own[0] > self.line.get("at_most", math.inf):
            return False
        if stated.interval is None:
            change = abs(as_stated(here, self.line["unit"])["value"] - stated.value)
            return self.bounded or change <= self.line.get("tolerance", 0) + 1e-9
        return own[0] <= stated.interval[1] and own[1] >= stated.interval[0]

    @property
    def bounded(self) -> bool:
        return "at_least" in self.line or "at_most" in self.line

    @property
    def sentence(self) -> str:
        """Adds the bounds to its words."""
        words = {"at_least": "at least", "at_most": "at most", "tolerance": "give or take"}
        bounds = [f"{words[key]} {shown(self.line[key], self.line['unit'])}" for key in words if key in self.line]
        return self.line["sentence"] + f" ({', '.join(bounds)})" * bool(bounds)

    @property
    def cell(self) -> str:
        """Writes what is stated: 94.0% [89.8%, 96.5%]."""
        if self.stated is None:
            return "-"
        bounds = [shown(bound, self.line["unit"]) for bound in self.stated.interval or ()]
        return shown(self.stated.value, self.line["unit"]) + f" [{', '.join(bounds)}]" * bool(bounds)


def findings() -> list[Finding]:
    """Reads findings.toml."""
    told = tomlkit.parse(FINDINGS.read_text(encoding="utf-8")).unwrap()
    found = []
    for name, line in told["finding"].items():
        for of in told["study"][line.get("over", "datasets")]:
            stated = told.get("stated", {}).get(name, {}).get(of)
            model = line.get("model", told["study"]["model"])
            found.append(Finding(name, line, model, of, Value(**stated) if stated else None))
    return found


def as_stated(here: Value, unit: str) -> dict[str, Any]:
    """Rounds a value to the digits shown, its interval outwards: what README states is what is checked."""
    if unit == "p":
        return {"value": float(f"{here.value:.1g}")}
    times, decimals, _ = UNITS[unit]
    scale = times * 10**decimals
    form: dict[str, Any] = {"value": round(here.value * scale) / scale}
    if here.interval is not None:
        low, high = (bound * scale for bound in here.interval)
        form["interval"] = [math.floor(low + 1e-6) / scale, math.ceil(high - 1e-6) / scale]
    return form | ({"n": here.n} if here.n else {})


def shown(value: float, unit: str) -> str:
    """Writes a number in its unit: 94.0%, 55.5, 0.12, 12, 3e-11."""
    if unit == "p":
        return f"{value:.1g}"
    times, decimals, sign = UNITS[unit]
    return f"{round(value * times, decimals) + 0.0:.{decimals}f}{sign}"


def verdicts(told: Sequence[Finding], runs: Mapping[str, Run]) -> tuple[list[list[str]], list[bool]]:
    """Returns the rows of the table, its head first, and whether each finding that a run has holds in it."""
    rows, held = [["finding", "of", "stated", *(head for name in runs for head in (name, "holds"))]], []
    for finding in told:
        rows.append([finding.sentence, finding.of, finding.cell])
        for run in runs.values():
            here = finding.measured(run)
            text = shown(here.value, finding.line["unit"]) if here else "-"
            if not finding.is_made_in(run):
                rows[-1] += [text, "not in this run"]
            elif finding.stated is None and (here is None or not finding.bounded):  # open questions: no chance level
                rows[-1] += [text, "not stated"]
            elif here is not None and here.n < finding.line.get("least_n", 0):
                rows[-1] += [text, f"needs {finding.line['least_n']}, has {here.n}"]
            else:
                held.append(finding.holds(here))
                rows[-1] += [text, "yes" if held[-1] else "NO"]
    return rows, held


def state(run: Run) -> None:
    """Writes the values of a run below [stated]; what it has not stays, and so does the rest of findings.toml."""
    document = tomlkit.parse(FINDINGS.read_text(encoding="utf-8"))
    stated: dict[str, Any] = {}
    for finding in findings():
        here = finding.measured(run) or finding.stated
        if here is not None:
            own = as_stated(here, finding.line["unit"])
            stated.setdefault(finding.name, {})[finding.of] = tomlkit.inline_table() | own
    document["stated"] = stated
    write_text_whole(FINDINGS, tomlkit.dumps(document))


def markdown(told: Sequence[Finding]) -> str:
    """Returns README's tables: a row for each finding; one has a column for each dataset, one for each probe."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for finding in told:
        tables.setdefault(finding.line.get("over", ""), {}).setdefault(finding.sentence, {})[finding.of] = finding.cell
    texts = []
    for rows in tables.values():
        columns = list(next(iter(rows.values())))
        lines = [["", *columns], ["---"] * (len(columns) + 1), *([words, *row.values()] for words, row in rows.items())]
        texts.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    return "\n".join(texts)


def with_tables(page: str, tables: str) -> str:
    """Puts the tables between their two marks in README. Raises R2AError where these are not there, once each."""
    parts = page.replace(END, BEGIN).split(BEGIN)
    if len(parts) != 3:
        raise R2AError(f"{README} has no one place for the tables", f"add two lines where they go:\n{BEGIN}{END}")
    return f"{parts[0]}{BEGIN}{tables}{END}{parts[2]}"


def main(arguments: Sequence[str]) -> int:
    """Does what the command line asks; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.verify", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="projects with a run (default: this one)"
    )
    parser.add_argument("--state", action="store_true", help="state the values of the first run")
    parser.add_argument("--markdown", action="store_true", help="write README's table")
    asked = parser.parse_args(arguments)
    folders = {folder.resolve().name: folder for folder in asked.folders} or {"here": Path()}
    runs = {name: Run(StudyPaths(folder), read_yaml(folder / "params.yaml")) for name, folder in folders.items()}
    if asked.state:
        with_tables(README.read_text(encoding="utf-8"), "")  # before anything is written
        state(next(iter(runs.values())))
    if asked.state or asked.markdown:
        write_text_whole(README, with_tables(README.read_text(encoding="utf-8"), markdown(findings())))
    rows, held = verdicts(findings(), runs)
    if not held:
        hint = "name the model and the datasets of tools/findings.toml in params.yaml under run, then make repro"
        raise MissingPrerequisite("no finding is about this run", hint)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    unheld = sum(cell.startswith("needs ") for row in rows for cell in row)
    print(f"{sum(held)} of {len(held)} hold" + f"; {unheld} need more items than the run has" * bool(unheld))
    return 0 if all(held) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except R2AError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
