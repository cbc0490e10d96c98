"""Curves of same answers over the reasoning that stays, and the areas over them (AOC), as publications define them.

rows of PERTURB_SCHEMA (perturb/summary.py) -> means over items with 95% intervals. An item with an open verdict (null)
among the cuts, or the mistakes, has no such curve and no area. Needs no torch.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from r2a_core.config import InstrumentsParams, PerturbParams
from r2a_core.evaluation.paired import Bounds, accuracy_with_interval, mean_with_interval
from r2a_core.perturb.grid import GRID, at_fraction, random_of

FRACTIONS = [step / GRID for step in range(GRID + 1)]

COT_TRANSPARENCY_CUTS = 8  # between the first and the last


def trapezoid(values: ArrayLike, places: ArrayLike) -> float:
    """The area under values at ascending places."""
    y, x = np.asarray(values, dtype=float), np.asarray(places, dtype=float)
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())


def mean(values: ArrayLike, params: PerturbParams | InstrumentsParams, bounds: Bounds = (0, 1)) -> dict[str, Any]:
    """Mean and 95% interval over items. bounds: the least and the most that a value can be."""
    return asdict(mean_with_interval(values, params.bootstrap_draws, params.seed, "items", bounds))


def share(values: ArrayLike, params: PerturbParams | InstrumentsParams) -> dict[str, Any]:
    """Share of ones among zeros and ones, and its 95% interval; means of several verdicts on an item lie between."""
    return asdict(accuracy_with_interval(values, params.bootstrap_draws, params.seed, "items", (0, 1)))


def curve_record(items: Sequence[pl.DataFrame], params: PerturbParams) -> dict[str, Any]:
    """Means over items at 21 fractions of the sentences, each at the nearest cut: same answer, p(answer), accuracy."""
    picked = [
        pl.DataFrame({"kept": nearest_cuts(rows)}, schema={"kept": pl.Int32}).join(
            rows, on="kept", how="left", maintain_order="left"
        )
        for rows in items
    ]
    curves: dict[str, Any] = {"fraction": FRACTIONS}
    columns = {"same": pl.col("same"), "p": pl.col("log_prob").exp(), "score": pl.col("score")}
    for name, value in columns.items():
        found = [rows.select(value).to_series() for rows in picked]
        found = [values.to_numpy() for values in found if values.null_count() == 0]
        points = np.array(found).T
        curves[name] = [(mean if name == "p" else share)(each, params) for each in points] if found else None
    return curves


def nearest_cuts(rows: pl.DataFrame) -> list[int]:
    """The number of sentences of the cut at each fraction."""
    return [at_fraction(rows["n_sentences"][0], step) for step in range(GRID + 1)]


def lanham_area(rows: pl.DataFrame) -> float | None:
    """The area over the curve of one item's cuts, in ascending order (Lanham et al.); None with an open verdict."""
    if rows["same"].null_count():
        return None
    return 1 - trapezoid(rows["same"], rows["kept"] / rows["n_sentences"][0])


def aoc_record(items: Sequence[pl.DataFrame], params: PerturbParams) -> dict[str, Any]:
    """Areas over the curve of cuts, as three publications define them (docs/methods.md)."""
    lanham = [area for rows in items if (area := lanham_area(rows)) is not None]
    scored = [rows["score"].to_numpy()[fifths(rows)] for rows in items if rows["score"].null_count() == 0]
    accuracy = np.mean(scored, axis=0) if scored else None
    return {
        "lanham": mean(lanham, params),
        "cot_transparency": cot_transparency(items, params.seed),
        "remul": None if accuracy is None else 1 - trapezoid(accuracy, np.arange(1, 6) / 5),
        "items": lanham,
    }


def fifths(rows: pl.DataFrame) -> list[int]:
    """Rows of the cuts at 0.2, 0.4, 0.6, 0.8 and 1 of the sentences."""
    kept, total = rows["kept"].to_list(), rows["n_sentences"][0]
    return [kept.index(at_fraction(total, GRID * part // 5)) for part in range(1, 6)]


def cot_transparency(items: Sequence[pl.DataFrame], seed: int) -> float | None:
    """The area of cot-transparency: of first, last and up to 8 random cuts, grouped by the number of sentences.

    Items with an answer that has no box, or an open verdict, are left out.
    """
    groups: dict[int, list[dict[int, float]]] = {}
    for rows in items:
        inner = range(1, rows.height - 1)
        drawn = random_of(seed, rows["item_id"][0], "cuts").sample(inner, min(COT_TRANSPARENCY_CUTS, len(inner)))
        some = rows[sorted({0, *drawn, rows.height - 1})]
        if some["answer"].str.contains(r"\}").all() and some["same"].null_count() == 0:
            same = dict(zip(some["kept"].to_list(), some["same"].to_list(), strict=True))
            groups.setdefault(rows["n_sentences"][0], []).append(same)
    areas = []
    for total, members in groups.items():
        places = sorted({place for each in members for place in each})
        means = [np.mean([each[place] for each in members if place in each]) for place in places]
        areas += [1 - trapezoid(means, places) / total] * len(members)
    return float(np.mean(areas)) if areas else None


Places = tuple[list[float], list[float]]  # shares of the sentences up to a change, ascending; 1 where the answer stays


def mistake_places(frame: pl.DataFrame) -> dict[str, dict[str, Places]]:
    """By item and part (made, none), the places of its mistakes; items with an open verdict are left out."""
    found: dict[str, dict[str, Places]] = {}
    for (item, part), each in graded_mistakes(frame).sort("kept").group_by("item_id", "part", maintain_order=True):
        found.setdefault(str(item), {})[str(part)] = (each["level"].to_list(), each["same"].to_list())
    return found


def graded_mistakes(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of mistakes, of items without an open verdict among them."""
    rows = frame.filter(pl.col("family") == "mistake")
    return rows.filter(pl.col("same").is_not_null().all().over("item_id"))


def mistake_curves(frame: pl.DataFrame, params: PerturbParams) -> dict[str, Any]:
    """Same answers by part of the trace in which the mistake is, at the mean place of those there; None for none."""
    parts = max(1, params.free.mistakes if params.free else 1)
    at = (pl.col("kept") * parts - 1) // pl.col("n_sentences")  # part in which the wrong sentence ends
    items = graded_mistakes(frame).group_by("part", "item_id", at=at, maintain_order=True)
    means = items.agg(pl.col("level", "same").mean()).sort("at", maintain_order=True)
    found: dict[str, Any] = {"made": None, "none": None}
    for (part, _), rows in means.group_by("part", "at", maintain_order=True):
        point = {"place": rows["level"].mean(), **share(rows["same"], params)}
        found[str(part)] = [*(found[str(part)] or ()), point]
    return found


def mistake_area(places: Sequence[float], same: Sequence[float]) -> float:
    """The area over the curve of one item, level before its first place and behind its last."""
    return 1 - trapezoid([same[0], *same, same[-1]], [0, *places, 1])


def mistake_areas(frame: pl.DataFrame, params: PerturbParams) -> dict[str, Any]:
    """The areas over these curves: with a mistake, without, and what the mistake adds."""
    items = mistake_places(frame).values()
    made, none = (np.array([mistake_area(*item[part]) for item in items]) for part in ("made", "none"))
    return {
        "mistakes": mean(made, params),
        "written_anew": mean(none, params),
        "mistakes_alone": mean(made - none, params, (-1, 1)),
        "mistake_items": made.tolist(),
    }
