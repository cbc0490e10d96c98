"""Checks that the findings of tools/findings.toml, which README states, hold in a run, on whatever machine it ran.

tools/findings.toml; params.yaml and data/ of each FOLDER -> a table, or with --state and --markdown what they write
usage: python -m tools.verify [FOLDER ...]    (or: make verify) two columns for each run; no name: this folder's
       python -m tools.verify --state         states the values of the first run, in findings.toml and in README
       python -m tools.verify --markdown      writes README's table from findings.toml
Exit code 0: all hold, 1: one does not, 3: the run was not made. No model is loaded.

A finding holds where its bounds do and the value lies within the stated interval: 95% over items, traces or pairs
(Wilson's for shares, else percentile bootstrap), rounded outwards to the digits that are shown. In a run of fewer items
that run's own interval need only reach the bounds and the stated one: both are estimates.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tomlkit
from scipy.stats import binomtest

from r2a_core.config import read_yaml
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import read_frame, write_text_whole
from r2a_core.patching.summary import curve_matrix, pair_curves
from r2a_core.paths import StudyPaths
from r2a_core.results import SET_COLUMNS, head_sets, read_summary
from r2a_core.trace import SETTINGS

FINDINGS, README = Path("tools/findings.toml"), Path("README.md")
BEGIN, END = "<!-- findings, written by python -m tools.verify --markdown -->\n", "<!-- end of findings -->\n"
DRAWS, SEED = 2000, 0  # of the bootstrap
UNITS = {"percent": (100, 1, "%"), "points": (100, 1, ""), "number": (1, 2, ""), "count": (1, 0, "")}  # times, decimals
BOUNDS = ("at_least", "at_most", "tolerance", "least_n")
NO_ARGUMENTS = ("sentence", "unit", "over", "model", "measure", *BOUNDS)  # keys of a finding no measure gets


@dataclass(frozen=True)
class Value:
    """A number with its 95% interval, where it has one, over n items."""

    value: float
    interval: Sequence[float] | None = None  # low, high
    n: int = 0


@dataclass(frozen=True)
class Run:
    """A run: its project's files and params.yaml."""

    paths: StudyPaths
    params: Mapping[str, Any]

    def has(self, finding: "Finding") -> bool:
        """Checks that params.yaml names model, dataset with both settings or probe, and reader of a finding."""
        run, probes = self.params["run"], self.params["pairs"]["align"]["probes"]
        asked = run["datasets"] if set(run["settings"]) == set(SETTINGS) else []
        readers = [None, *(each["model"] for each in run["readers"] if each["texts"] == finding.model)]
        known = finding.model in run["models"] and finding.of in [*asked, *probes]
        return known and finding.line.get("reader") in readers


def share(part: int, n: int) -> Value:
    """Returns part / n with Wilson's interval."""
    interval = binomtest(part, n).proportion_ci(method="wilson")
    return Value(part / n, [float(interval.low), float(interval.high)], n)


def resampled(matrix: np.ndarray) -> np.ndarray:
    """Returns the means of the columns of (n, k), NaN left out: of its rows, then of DRAWS resamples of its rows."""
    n = len(matrix)
    weights = np.vstack([np.ones(n), np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), DRAWS)])
    known = ~np.isnan(matrix)
    with np.errstate(invalid="ignore"):  # 0 / 0: a column without a number
        return (weights @ np.where(known, matrix, 0)) / (weights @ known)


def bootstrapped(statistics: np.ndarray, n: int) -> Value:
    """Returns the first of 1 + DRAWS statistics, with the interval of the others."""
    return Value(float(statistics[0]), np.quantile(statistics[1:], [0.025, 0.975]).tolist(), n)


def heads_of(run: Run, model: str, dataset: str, more: Sequence[str], reader: str | None = None) -> pl.DataFrame:
    """Returns the heads of a model on a dataset, or of a reader of its traces: layer, head (sorted) and `more`."""
    if reader is None:
        rows = read_frame(run.paths.heads(model), ["layer", "head", "dataset", *more], "heads")
        return rows.filter(pl.col("dataset") == dataset).sort("layer", "head")
    rows = read_frame(run.paths.read_heads(reader, model, dataset), ["layer", "head", "model", *more], "read")
    return rows.filter(pl.col("model") == reader).sort("layer", "head")


def by_trace(
    run: Run,
    model: str,
    dataset: str,
    columns: Sequence[str],
    copied_below: float | None = None,
    reader: str | None = None,
) -> list[np.ndarray]:
    """Returns columns of the answer rows as (trace, head), heads as in `heads_of`.

    copied_below: only traces of whose answer a smaller share is copied from the reasoning.
    """
    path = run.paths.reading(reader, model, dataset) if reader else run.paths.attention(model, dataset)
    rows = read_frame(path, ["item_id", "layer", "head", "source", "copied", *columns], "attention")
    rows = rows.filter(pl.col("source") == "answer").sort("item_id", "layer", "head")
    if copied_below is not None:
        rows = rows.filter(pl.col("copied") < copied_below)
    shape = (rows["item_id"].n_unique(), rows.select("layer", "head").n_unique())
    return [rows[name].cast(pl.Float64).fill_null(math.nan).to_numpy().reshape(shape) for name in columns]


# Measures: of a run, a model and a dataset or probe, with the arguments of a finding. None where there is no number.


def accuracy(run: Run, model: str, dataset: str, setting: str) -> Value | None:
    """The mean score of the items that both settings answer."""
    paired, end = read_summary(run.paths.summary(model, dataset))["paired"], setting.removesuffix("_reasoning")
    mean, n = paired[f"accuracy_{end}"], paired["n"]
    if mean is None or paired["mcnemar_p"] is not None:  # right or wrong
        return None if mean is None else share(round(mean * n), n)
    return Value(mean, [paired[f"low_{end}"], paired[f"high_{end}"]], n)


def guessing(run: Run, model: str, dataset: str) -> Value | None:
    """One-sided p of so few right answers without reasoning, were each drawn from the options; open questions: None."""
    chance = read_summary(run.paths.summary(model, dataset))["chance"]
    found = accuracy(run, model, dataset, SETTINGS[1])
    if found is None or chance is None:
        return None
    return Value(float(binomtest(round(found.value * found.n), found.n, chance, alternative="less").pvalue), n=found.n)


def well_formed(run: Run, model: str, dataset: str, setting: str) -> Value:
    """The share of first attempts that pass the whole funnel."""
    steps = read_summary(run.paths.summary(model, dataset))["funnel"][setting]["once"]
    return share(steps["answer_format"], steps["all"])


def reflecting(run: Run, model: str, dataset: str) -> Value:
    """The share of traces with a phrase of `attention.reflection_phrases` in the reasoning."""
    sentences = read_frame(run.paths.sentences(model, dataset), ["item_id", "reflection"], "attention")
    marked = sentences.group_by("item_id").agg(pl.col("reflection").any())["reflection"]
    return share(int(marked.sum()), len(marked))


def walking(
    run: Run,
    model: str,
    dataset: str,
    layers: list[int],
    mass: float,
    walk: float,
    copied_below: float | None = None,
    reader: str | None = None,
    above_even: bool = False,
) -> Value | None:
    """Heads of `layers`, both included, whose mean mass and weighted walk reach these, and the walk exceeds chance.

    above_even: that look at the reasoning more than even reading does, too.
    """
    heads = heads_of(run, model, dataset, ["walk_null_95", "focus"], reader)
    matrices = by_trace(run, model, dataset, ["reasoning", "walk_correlation_weighted"], copied_below, reader)
    if not len(matrices[0]):
        return None
    masses, walks = map(resampled, matrices)
    found = (masses >= mass) & (walks >= walk) & (walks > heads["walk_null_95"].to_numpy())
    if above_even:
        found &= heads["focus"].to_numpy() > 0
    return bootstrapped(found[:, heads["layer"].is_between(layers[0], layers[1])].sum(axis=1), len(matrices[0]))


def shared(run: Run, model: str, dataset: str, other: str, by_chance: bool = False) -> Value:
    """Heads of a kind among the first by mass, as many as are Reasoning-Focus Heads; or what chance would share."""
    heads = heads_of(run, model, dataset, SET_COLUMNS[2:])
    sets = head_sets(heads)
    focus, others = len(sets.rfh), getattr(sets, other)
    if by_chance:
        return Value(focus * len(others) / len(heads))
    (masses,) = by_trace(run, model, dataset, ["reasoning"])
    first = np.argsort(-resampled(masses), axis=1, kind="stable")[:, :focus]
    among = np.array([head in others for head in heads.select("layer", "head").iter_rows()])
    return bootstrapped(among[first].sum(axis=1), len(masses))


def nld(run: Run, model: str, probe: str, curve: str, layers: list[int]) -> Value | None:
    """The mean of a curve of Figure 8 over `layers`, both included, -1 the last."""
    columns = ["pair_id", "probe", "component", "layer", "position", "role", "nld"]
    rows = read_frame(run.paths.patching(model), columns, "patch").filter(pl.col("probe") == probe)
    if rows.is_empty():
        return None
    matrix = curve_matrix(pair_curves(rows), curve)
    first, last = (range(matrix.shape[1])[layer] for layer in layers)
    return bootstrapped(resampled(matrix[:, first : last + 1]).mean(axis=1), len(matrix))


def metric(
    run: Run, model: str, of: str, file: str, key: str, interval: Sequence[str] = (), n: str = ""
) -> Value | None:
    """A number of data/metrics/FILE.json and its interval, at keys with dots."""
    path = run.paths.metrics(file.format(model=model, of=of))
    if not path.is_file():
        raise MissingPrerequisite(f"{path} does not exist", "make the run: make repro")
    record = json.loads(path.read_text(encoding="utf-8"))

    def at(place: str) -> Any:
        found = record
        for name in place.format(model=model, of=of).split("."):
            found = None if found is None else found[name]
        return found

    bounds = [at(each) for each in interval]
    known = bounds if bounds and None not in bounds else None
    return None if at(key) is None else Value(at(key), known, at(n) if n else 0)


MEASURES: dict[str, Callable[..., Value | None]] = {
    each.__name__: each for each in (accuracy, guessing, well_formed, reflecting, walking, shared, nld, metric)
}


@dataclass(frozen=True)
class Finding:
    """A line of findings.toml, for one of its columns."""

    name: str
    line: Mapping[str, Any]
    model: str
    of: str  # dataset or probe
    stated: Value | None

    def measured(self, run: Run) -> Value | None:
        """Measures it in a run; None also where the run has not its model or dataset."""
        if not run.has(self):
            return None
        given = {key: value for key, value in self.line.items() if key not in NO_ARGUMENTS}
        return MEASURES[self.line["measure"]](run, self.model, self.of, **given)

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
            if not run.has(finding):
                rows[-1] += [text, "not in this run"]
            elif finding.stated is None and (
                here is None or not finding.bounded
            ):  # open questions have no chance level
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
