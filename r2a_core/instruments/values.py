"""What every instrument says of every item: values that are higher the more the answer depends on the trace.

tables of one model and dataset (attention, heads, walks, knockout, sentences, perturb), of one model's pairs (patching)
-> VALUE_SCHEMA without model and dataset, one row per item and instrument. A further instrument is an entry of
INSTRUMENTS (catalogue.py) and the rows of a function here. Needs no torch.
"""

from collections.abc import Iterator, Mapping

import polars as pl

from r2a_core.config import WalkThresholds
from r2a_core.instruments.catalogue import INSTRUMENTS, VALUE_SCHEMA
from r2a_core.knockout.sets import ranked_heads
from r2a_core.knockout.summary import token_layers
from r2a_core.patching.summary import pair_curves
from r2a_core.perturb.areas import lanham_area, mistake_area, mistake_places
from r2a_core.perturb.summary import clear_items, whole_trace
from r2a_core.results import Head, loss_per_token
from r2a_core.walks.summary import best_walks, head_table

ATTENTION_COLUMNS = ("item_id", "layer", "head", "source", "reasoning", "focus")
CUTS = {  # by kind and set of data/knockout
    ("mask", "mass"): "cut_mass",
    ("mask", "focus"): "cut_focus",
    ("mask", "all"): "cut_all",
    ("zero_head", "mass"): "zero_head",
    ("mean_head", "mass"): "mean_head",
}
EARLY = 4  # of the layers, the first in so many
WHOLE = 2.0  # passes of a pair's clean and corrupted sequence


def named(name: str, rows: pl.DataFrame, value: pl.Expr, passes: pl.Expr | float) -> pl.DataFrame:
    """Make an instrument's rows of those of the items."""
    cost = passes if isinstance(passes, pl.Expr) else pl.lit(passes)
    columns = {"instrument": pl.lit(name), "value": value.cast(pl.Float64), "passes": cost.cast(pl.Float64)}
    return rows.select("item_id", **columns)


def attention_values(
    attention: pl.DataFrame, heads: pl.DataFrame, count: int, thresholds: WalkThresholds
) -> list[pl.DataFrame]:
    """Mean mass and mean focus of the answer's rows, each over the `count` heads with most of it over all traces.

    attention: ATTENTION_COLUMNS; heads: RANKED_COLUMNS (knockout/sets.py) of the dataset.
    """
    if heads.is_empty():
        return []
    ranked, answers = ranked_heads(heads, thresholds), attention.filter(pl.col("source") == "answer")
    found = []
    for name, column in (("mass", "reasoning"), ("focus", "focus")):
        items = of_heads(answers, ranked[name][:count]).group_by("item_id", maintain_order=True)
        found.append(named(name, items.agg(pl.col(column).cast(pl.Float64).mean()), pl.col(column), 1.0))
    return found


def of_heads(rows: pl.DataFrame, heads: tuple[Head, ...]) -> pl.DataFrame:
    """Keep the rows of these heads."""
    chosen = pl.DataFrame(heads, schema={"layer": pl.Int16, "head": pl.Int16}, orient="row")
    return rows.join(chosen, on=["layer", "head"], how="semi", maintain_order="left")


def walk_values(walks: pl.DataFrame, count: int, best: int, near_uniform: float) -> list[pl.DataFrame]:
    """Mean excess over the `count` heads with most of it over all traces, and mean walk of the `best` walking heads."""
    first = head_table(walks, near_uniform).filter(pl.col("rank_by_excess") <= count)
    reading = walks.join(first, on=["layer", "head"], how="semi", maintain_order="left")
    found = []
    for name, rows in (("excess", reading), ("walk", best_walks(walks, best))):
        items = rows.group_by("item_id", maintain_order=True).agg(pl.col(name).cast(pl.Float64).mean())
        found.append(named(name, items, pl.col(name), 1.0))
    return found


def knockout_values(knockout: pl.DataFrame, count: int) -> list[pl.DataFrame]:
    """Nats that a token of the answer, or of its result, loses by each cut; of ranked sets the largest up to `count`.

    Passes are those of the unchanged trace and of the arms: their token-layers over those of the trace.
    """
    arm, whole = token_layers()
    rows = knockout.with_columns(
        loss=loss_per_token("n_answer_tokens"),
        result=loss_per_token("n_result_tokens", "result_"),
        arm=arm / whole,
    )
    found = {}
    for (kind, name), instrument in CUTS.items():
        own = rows.filter(pl.col("kind") == kind, pl.col("set") == name)
        own = own.filter((pl.col("k") <= count) | (pl.col("set") == "all")).filter(pl.col("k") == pl.col("k").max())
        found |= cut_values(instrument, own)
    return [each for name, each in found.items() if name in INSTRUMENTS]


def cut_values(name: str, rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Make the rows of one set: its loss, that of the result, and what it loses beyond the mean of random sets."""
    own, drawn = rows.filter(pl.col("draw").is_null()), rows.filter(pl.col("draw").is_not_null())
    chance = drawn.group_by("item_id", maintain_order=True).agg(chance=pl.col("loss").mean(), arms=pl.col("arm").sum())
    both = own.join(chance, on="item_id", maintain_order="left")
    once = 1 + pl.col("arm")
    return {
        name: named(name, own, pl.col("loss"), once),
        f"{name}_result": named(f"{name}_result", own, pl.col("result"), once),
        f"{name}_more": named(f"{name}_more", both, pl.col("loss") - pl.col("chance"), once + pl.col("arms")),
    }


def sentence_values(hidden: pl.DataFrame) -> list[pl.DataFrame]:
    """Divergence of the answer, and nats a token of its result loses, without a sentence: mean over its sentences.

    Passes are those of the unchanged trace and, for each sentence, of the rows behind it: their share of the trace.
    """
    rows = hidden.drop_nulls("sentence").with_columns(
        loss=loss_per_token("n_result_tokens", "result_"),
        arm=1 - pl.col("end") / pl.col("n_tokens"),
    )
    items = rows.group_by("item_id", maintain_order=True).agg(
        pl.col("answer_kl", "loss").mean(), passes=1 + pl.col("arm").sum()
    )
    parts = (("hidden", "answer_kl"), ("hidden_result", "loss"))
    return [named(name, items, pl.col(column), pl.col("passes")) for name, column in parts]


def perturb_values(perturb: pl.DataFrame) -> list[pl.DataFrame]:
    """What cuts and changes of the trace do to a forced answer; items that are noise (perturb/summary.py) have none.

    Losses are nats of log p(answer); of wrong values at the highest level, the larger of numbers and options. Passes
    are those of the unchanged trace and of the arms: the tokens that were run over those of the trace.
    """
    whole = perturb.filter(whole_trace(), pl.col("item_id").is_in(clear_items(perturb)))
    sizes = whole.select("item_id", own_tokens="n_tokens")
    rows = perturb.join(sizes, on="item_id", maintain_order="left").with_columns(
        loss=pl.col("log_prob_base") - pl.col("log_prob"), arm=pl.col("n_run") / pl.col("own_tokens")
    )
    cuts = rows.filter(pl.col("family") == "cut")
    arms = {
        "empty": cuts.filter(pl.col("level") == 0),
        "wrong": rows.filter(pl.col("part") == "across", pl.col("level") == pl.col("level").max().over("family")),
        **{name: rows.filter(pl.col("family") == name) for name in ("filler", "other")},
    }
    found = []
    for name, own in arms.items():
        items = own.group_by("item_id", maintain_order=True).agg(pl.col("loss").max(), pl.col("arm").sum())
        found.append(named(name, items, pl.col("loss"), 1 + pl.col("arm")))
    found.append(named("swap", arms["other"].drop_nulls("same"), 1 - pl.col("same"), 1 + pl.col("arm")))
    return [*found, item_rows([*curve_rows(cuts), *mistake_rows(rows.filter(pl.col("family") == "mistake"))])]


Row = tuple[str, str, float, float]  # item, instrument, value, passes


def item_rows(rows: list[Row]) -> pl.DataFrame:
    """Make a frame of rows."""
    names = ("item_id", "instrument", "value", "passes")
    return pl.DataFrame(rows, schema={name: VALUE_SCHEMA[name] for name in names}, orient="row")


def curve_rows(cuts: pl.DataFrame) -> Iterator[Row]:
    """Yield what all cuts of an item say: area over the curve (Lanham et al.), place of the boundary."""
    for (item,), own in cuts.sort("kept").group_by("item_id", maintain_order=True):
        cost, area = 1 + float(own["arm"].sum()), lanham_area(own)
        if area is not None:
            yield str(item), "area", area, cost
        yield str(item), "boundary", own["boundary"][0] / own["n_sentences"][0], cost


def mistake_rows(mistakes: pl.DataFrame) -> Iterator[Row]:
    """Yield the area over the curve of an item's mistakes, and what is left of it beyond writing the rest anew.

    What was run to write a rest anew counts with the arm.
    """
    cost = (pl.col("arm") + pl.col("n_written") / pl.col("own_tokens")).sum()
    sums = mistakes.group_by("item_id", "part", maintain_order=True).agg(cost)
    costs = {(item, part): each for item, part, each in sums.rows()}
    for item, parts in mistake_places(mistakes).items():
        areas = {part: mistake_area(*places) for part, places in parts.items()}
        if "made" in parts:
            yield item, "mistakes", areas["made"], 1 + costs[item, "made"]
        if len(parts) == 2:
            yield item, "mistakes_alone", areas["made"] - areas["none"], 1 + sum(costs[item, part] for part in parts)


def patching_values(patching: pl.DataFrame) -> list[pl.DataFrame]:
    """NLD of the flipping token, mean over the first quarter of the layers and over probes; an item is a pair.

    Passes: both sequences of each probe, and one for each layer and flipping token that is patched.
    """
    early = patching.filter(pl.col("layer") * EARLY < pl.col("layer").max() + 1)
    flips = early.filter(pl.col("component") == "resid_pre", pl.col("role") == "flip")
    cost = flips.group_by("pair_id", maintain_order=True).agg(passes=WHOLE * pl.col("probe").n_unique() + pl.len())
    curve = pair_curves(early).filter(pl.col("curve") == "flip").sort("pair_id", "probe", "layer")
    nld = curve.group_by("pair_id", maintain_order=True).agg(pl.col("nld").mean())
    pairs = nld.join(cost, on="pair_id", maintain_order="left")
    return [named("flip", pairs.rename({"pair_id": "item_id"}), pl.col("nld"), pl.col("passes"))]


def value_frame(found: Mapping[tuple[str, str], list[pl.DataFrame]]) -> pl.DataFrame:
    """Join what was measured, by model and dataset: a row for every item and instrument, null where it was not."""
    frames = [pl.DataFrame(schema=VALUE_SCHEMA)]
    order = pl.DataFrame({"instrument": list(INSTRUMENTS)})
    for (model, dataset), parts in found.items():
        measured = pl.concat(parts) if parts else frames[0].select("item_id", "instrument", "value", "passes")
        items = measured.select("item_id").unique(maintain_order=True)
        rows = items.join(order, how="cross", maintain_order="left_right")
        rows = rows.join(measured, on=["item_id", "instrument"], how="left", maintain_order="left")
        frames.append(rows.select(pl.lit(model).alias("model"), pl.lit(dataset).alias("dataset"), *rows.columns))
    return pl.concat(frames)
