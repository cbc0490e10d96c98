"""What becomes of the answer when the reasoning changes: the table, and its reduction to numbers.

rows of PERTURB_SCHEMA of one model and dataset -> a record with the curves of cuts and mistakes, the areas over them
(AOC), the commitment boundary and one record per other arm. Metrics, figure and page share it. Items whose answer is
not surely the same after the unchanged trace are noise: they are counted, and enter nothing else. Needs no torch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from r2a_core.config import PerturbParams
from r2a_core.evaluation.paired import UNBOUNDED
from r2a_core.infra.checks import HINT, check_columns
from r2a_core.perturb.areas import aoc_record, curve_record, mean, mistake_areas, mistake_curves, share
from r2a_core.perturb.words import WORDS, change_words

PERTURB_SCHEMA: dict[str, Any] = {
    "item_id": pl.String,
    "family": pl.String,
    "part": pl.String,
    "level": pl.Float64,
    "n_sentences": pl.Int32,
    "kept": pl.Int32,
    "boundary": pl.Int32,
    "edits": pl.List(pl.Struct({"token": pl.Int32, "old": pl.String, "new": pl.String})),
    "added": pl.String,
    "planted": pl.String,
    "donor": pl.String,
    "n_tokens": pl.Int32,
    "n_run": pl.Int32,
    "n_written": pl.Int32,  # tokens that were run to write the rest of the reasoning, or a free answer
    "n_reasoning_tokens": pl.Int32,
    "n_result_tokens": pl.Int32,
    "log_prob": pl.Float64,  # nats, sum over the result's tokens
    "log_prob_base": pl.Float64,
    "original": pl.String,
    "answer": pl.String,
    "whole": pl.Boolean,  # False: cut off before its box, without a verdict
    "free": pl.String,
    "free_whole": pl.Boolean,
    **dict.fromkeys(("same", "score", "took", "free_same", "free_score", "free_took"), pl.Float64),
}

CASE = ["family", "part", "level"]


def perturb_frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Put rows into a frame, with free_ids and the trace's number. Raises R2AError at a number that is not finite."""
    frame = pl.DataFrame(rows, schema=PERTURB_SCHEMA | {"number": pl.Int32, "free_ids": pl.List(pl.Int64)})
    check_columns(frame, ["log_prob", "log_prob_base"], ("item_id", *CASE), "changed reasoning", HINT)
    return frame


def boundary_of(log_probs: Sequence[float]) -> int:
    """The cut, by number, whose p(answer) is most above that of the cut before it; the first of equal ones."""
    return 1 + int(np.argmax(np.diff(np.exp(log_probs))))


def perturb_record(frame: pl.DataFrame, params: PerturbParams) -> dict[str, Any]:
    """Reduce the table of one model and dataset; curve, boundary and areas are None where no item reproduces."""
    whole, good = frame.filter(whole_trace()), clear_items(frame)
    clear = frame.filter(pl.col("item_id").is_in(good))
    cuts = clear.filter(pl.col("family") == "cut")
    items = [rows.sort("kept") for _, rows in cuts.group_by("item_id", maintain_order=True)]
    free = whole.filter(pl.col("free_same").is_not_null())
    clear_free = clear.filter(pl.col("item_id").is_in(free.filter(pl.col("free_same") == 1)["item_id"].to_list()))
    changed = pl.concat([clear.filter(~whole_trace(), pl.col("family") != "mistake"), mean_mistakes(clear)])
    arms = [
        arm_record(dict(zip(CASE, case, strict=True)), rows, clear_free, params)
        for case, rows in changed.group_by(CASE, maintain_order=True)
        if case[0] != "cut" or case[2] == 0
    ]
    order = [*WORDS]
    arms.sort(key=lambda arm: (order.index((arm["family"], arm["part"])), arm["level"]))
    return {
        "n_items": whole.height,
        "n_noise": whole.height - len(good),
        "n_cut": frame.filter(~pl.col("whole")).height,
        "n_free": free.height,
        "n_free_noise": free.filter(pl.col("free_same") != 1).height,
        "curve": curve_record(items, params) | mistake_curves(clear, params) if items else None,
        "boundary": boundary_record(items, params) if items else None,
        "aoc": aoc_record(items, params) | mistake_areas(clear, params) if items else None,
        "arms": arms,
        "cost": cost_record(frame),
    }


def whole_trace() -> pl.Expr:
    """The rows of unchanged traces."""
    return (pl.col("family") == "cut") & (pl.col("level") == 1)


def clear_items(frame: pl.DataFrame) -> list[str]:
    """List the items whose answer after the unchanged trace is the original one; the others are noise."""
    return frame.filter(whole_trace() & (pl.col("same") == 1))["item_id"].to_list()


def boundary_record(items: Sequence[pl.DataFrame], params: PerturbParams) -> dict[str, Any]:
    """Where p(answer) jumps most: share of the sentences up to there, p before and after, and p without any.

    Only of traces whose answer is another after some cut, `n_moved`: elsewhere a jump is there too and says nothing.
    """
    places, before, after, empty = ([] for _ in range(4))
    for rows in (each for each in items if (each["same"] == 0).any()):
        p, at = np.exp(rows["log_prob"].to_numpy()), int((rows["kept"] == rows["boundary"]).arg_max() or 0)
        places.append(rows["boundary"][0] / rows["n_sentences"][0])
        for part, value in ((before, p[at - 1]), (after, p[at]), (empty, p[0])):
            part.append(value)
    parts = {"place": places, "p_before": before, "p_after": after, "p_empty": empty}
    means = {name: mean(values, params) for name, values in parts.items()}
    return {"n_moved": len(places), **means, "places": places}


def mean_mistakes(frame: pl.DataFrame) -> pl.DataFrame:
    """The means of each item over the places of its mistakes, as rows of level 1."""
    own = frame.filter(pl.col("family") == "mistake")
    names = [name for name, kind in PERTURB_SCHEMA.items() if kind == pl.Float64]
    means = own.group_by("item_id", "family", "part", maintain_order=True).agg(pl.col(names).mean())
    empty = pl.DataFrame(schema=frame.schema)
    return pl.concat([empty, means.with_columns(level=pl.lit(1.0))], how="diagonal")


def item_changes(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """List by item what its changes do: the cuts, by share of sentences that stay, its boundary, and the other arms."""
    found = {}
    for (item_id,), rows in frame.group_by("item_id", maintain_order=True):
        cuts = rows.filter(pl.col("family") == "cut").sort("kept")
        arms = rows.filter(pl.col("family") != "cut")
        found[item_id] = {
            "fraction": (cuts["kept"] / cuts["n_sentences"]).to_list(),
            "p": cuts["log_prob"].exp().to_list(),
            "same": cuts["same"].to_list(),
            "boundary": rows.select((pl.col("boundary") / pl.col("n_sentences")).first()).item(),
            "arms": [
                {**{name: arm[name] for name in (*CASE, "answer", "same", "took")}, "change": change_words(arm)}
                for arm in arms.iter_rows(named=True)
            ],
        }
    return found


def arm_record(case: dict[str, Any], rows: pl.DataFrame, free: pl.DataFrame, params: PerturbParams) -> dict[str, Any]:
    """Describe one arm: share of same, right and planted answers, and the log-probability that the answer loses."""
    written = free.filter(pl.all_horizontal(pl.col(key) == value for key, value in case.items()))
    record = {
        **case,
        "n": rows.height,
        "edits": rows["edits"].list.len().mean(),
        "n_free_cut": written.filter(~pl.col("free_whole")).height,
        "loss": mean(rows["log_prob_base"] - rows["log_prob"], params, UNBOUNDED),
    }
    for name in ("same", "score", "took"):
        record[name] = share(rows[name].drop_nulls(), params)
        record[f"free_{name}"] = share(written[f"free_{name}"].drop_nulls(), params)
    return record


def cost_record(frame: pl.DataFrame) -> dict[str, Any]:
    """Count the tokens of the passes that force answers, with the unchanged trace, and of one whole pass an arm.

    Those that were run to write on are counted apart, and with them in the passes over each trace.
    """
    traces = frame.filter(whole_trace())
    whole, run = int(frame["n_tokens"].sum()), int(frame["n_run"].sum())
    own = int(traces["n_tokens"].sum())
    run += own - int(traces["n_run"].sum())
    written = int(frame["n_written"].sum())
    return {
        "arms": frame.height,
        "tokens": run,
        "whole_tokens": whole,
        "written_tokens": written,
        "passes_per_trace": (run + written) / own if own else None,
    }
