"""What the findings of tools/findings.toml measure: each a number of a run, with its 95% interval.

a Run (params.yaml and data/ of a project), a model, a dataset or probe, the arguments of a finding -> Value; None where
there is no number. Intervals are over items, traces or pairs: Wilson's for shares, else percentile bootstrap.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import binomtest

from r2a_core.infra.errors import MissingPrerequisite
from r2a_core.infra.files import read_frame
from r2a_core.patching.summary import curve_matrix, pair_curves
from r2a_core.paths import StudyPaths
from r2a_core.results import SET_COLUMNS, head_sets, read_summary
from r2a_core.trace import SETTINGS

DRAWS, SEED = 2000, 0  # of the bootstrap


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
