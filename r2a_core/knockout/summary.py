"""What cutting heads costs: the table of knock-outs, its reduction to numbers, and the sentence about them.

rows of KNOCKOUT_SCHEMA of one model and dataset -> one record per view, kind and set: loss of log-probability with a
interval over traces, rank among random sets of the same layers, and answers written anew. Metrics, figure
and page share these. Needs no torch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from r2a_core.config import KnockoutParams
from r2a_core.evaluation.paired import difference_with_interval, mean_with_interval
from r2a_core.infra.checks import HINT, check_columns
from r2a_core.knockout.sets import NONE
from r2a_core.results import VIEWS, by_view, loss_per_token
from r2a_core.wording import side

KNOCKOUT_SCHEMA = {
    "item_id": pl.String,
    "view": pl.String,
    "kind": pl.String,
    "set": pl.String,
    "k": pl.Int32,  # heads of the set
    "draw": pl.Int32,  # null for the set itself
    "first_layer": pl.Int16,
    "n_layers": pl.Int16,
    "n_tokens": pl.Int32,  # of the trace
    "n_reasoning_tokens": pl.Int32,
    "n_answer_tokens": pl.Int32,
    "n_result_tokens": pl.Int32,
    "log_prob": pl.Float64,  # nats, sum over the answer's tokens
    "log_prob_base": pl.Float64,
    "result_log_prob": pl.Float64,  # of the result's tokens
    "result_log_prob_base": pl.Float64,
    "reasoning_log_prob": pl.Float64,  # of the reasoning's tokens; null for the view answer: no change
    "reasoning_log_prob_base": pl.Float64,
    "anew": pl.String,
    "anew_base": pl.String,
    "changed": pl.Boolean,
    "score": pl.Float64,
    "score_base": pl.Float64,
}

CASE = ["view", "kind", "set", "k", "draw"]

PARTS = {"": "n_answer_tokens", "result_": "n_result_tokens", "reasoning_": "n_reasoning_tokens"}

VERBS: dict[str, str] = {
    "mask": "Cutting the {rows}'s view of {hidden} in {heads}",
    "zero": "Setting the {rows}'s attention to {hidden} to zero in {heads}",
    "zero_head": "Zeroing {heads} in the {rows}",
    "mean_head": "Replacing {heads} in the {rows} by their mean over other traces",
}

SET_NAMES: dict[str, str] = {
    "mass": "most attention on the reasoning",
    "focus": "most attention on it over even reading, sinks left out",
    "walking": "the best walk",
    "induction": "the highest induction score",
    "retrieval": "the highest retrieval score",
}


def knockout_frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Put rows into a frame. Raises R2AError at a number that is not finite."""
    frame = pl.DataFrame(rows, schema=KNOCKOUT_SCHEMA)
    check_columns(frame, [name for name in frame.columns if "log_prob" in name], ("item_id", *CASE), "knock-out", HINT)
    return frame


def knockout_records(frame: pl.DataFrame, params: KnockoutParams) -> list[dict[str, Any]]:
    """Reduce the rows of one view to one record per kind and set, in their order; random sets join the set they rank.

    The loss of the reasoning is None for the view answer, and where no trace has any.
    """
    records = []
    for (view, kind, name, k), rows in frame.group_by("view", "kind", "set", "k", maintain_order=True):
        own, drawn = rows.filter(pl.col("draw").is_null()), rows.filter(pl.col("draw").is_not_null())
        draws = [each.sort("item_id") for _, each in drawn.sort("draw").group_by("draw", maintain_order=True)]
        record = {"view": view, "kind": kind, "set": name, "k": k, "n_traces": own.height}
        record["first_layer"] = own["first_layer"][0]
        for part in PARTS:
            losses = [lost(each, part) for each in (own.sort("item_id"), *draws)]
            record[f"{part}loss"] = loss_record(losses[0], losses[1:], params) if len(losses[0]) else None
        records.append(record | {"anew": anew_record(own, draws, params)})
    return records


def lost(rows: pl.DataFrame, part: str) -> NDArray[np.float64]:
    """Return how many nats a token loses, by trace, of those that have such tokens."""
    tokens = PARTS[part]
    return rows.filter(pl.col(tokens) > 0).select(loss_per_token(tokens, part).drop_nulls()).to_series().to_numpy()


def loss_record(
    own: NDArray[np.float64], draws: Sequence[NDArray[np.float64]], params: KnockoutParams
) -> dict[str, Any]:
    """Describe a loss: mean and 95% interval over traces, and where the mean lies among those of random sets.

    p is the share of sets, this one included, that cost as much; `more` the loss beyond the random sets' mean, with its
    interval over the same traces.
    """
    mean = mean_with_interval(own, params.bootstrap_draws, params.seed, "losses")
    record: dict[str, Any] = {"mean": mean.mean, "low": mean.low, "high": mean.high, "random": None}
    if draws:
        chance = np.stack(draws)  # (draw, trace)
        as_much = 1 + int((chance.mean(1) >= own.mean()).sum())
        more = mean_with_interval(own - chance.mean(0), params.bootstrap_draws, params.seed)
        record["random"] = {
            "means": chance.mean(1).tolist(),
            "rank": as_much,
            "p": as_much / (len(draws) + 1),
            "more": {"mean": more.mean, "low": more.low, "high": more.high},
        }
    return record


def anew_record(own: pl.DataFrame, draws: Sequence[pl.DataFrame], params: KnockoutParams) -> dict[str, Any] | None:
    """Describe answers written anew: how many changed, and their accuracy; None where none was."""
    written = own.filter(pl.col("anew_base").is_not_null())
    if written.is_empty():
        return None
    graded = written.drop_nulls(["score", "score_base"])
    gap = difference_with_interval(graded["score"], graded["score_base"], params.bootstrap_draws, params.seed)
    return {
        "n_traces": written.height,
        "changed": written["changed"].mean(),
        "changed_random": [each["changed"].mean() for each in draws if each["changed"].null_count() == 0],
        "n_graded": graded.height,
        "accuracy": graded["score"].mean(),
        "accuracy_base": graded["score_base"].mean(),
        "difference": {"mean": gap.mean, "low": gap.low, "high": gap.high},
    }


def knockout_summary(frame: pl.DataFrame, params: KnockoutParams) -> dict[str, Any]:
    """Make the metrics: those of the view answer, and of any other under `views`; no numbers where nothing was cut."""
    views = by_view(frame)
    summary = view_summary(views.pop("answer", frame), params)
    return summary | {"views": {view: view_summary(rows, params) for view, rows in views.items()}}


def view_summary(frame: pl.DataFrame, params: KnockoutParams) -> dict[str, Any]:
    """Make the metrics of one view."""
    sets: dict[str, dict[str, Any]] = {}
    for record in knockout_records(frame, params):
        sets.setdefault(record["kind"], {})[f"{record['set']}_{record['k']}"] = record
    return {"n_traces": frame["item_id"].n_unique(), "cost": cost_record(frame), "sets": sets}


def item_losses(frame: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """List what each set costs one item, by item, in the order of the rows: loss and result_loss in nats per token."""
    own = frame.filter(pl.col("draw").is_null())
    losses = own.select(
        *("item_id", "kind", "set", "k", "anew", "changed"),
        loss=loss_per_token("n_answer_tokens"),
        result_loss=loss_per_token("n_result_tokens", "result_"),
    )
    return {
        item_id: rows.drop("item_id").to_dicts() for (item_id,), rows in losses.group_by("item_id", maintain_order=True)
    }


def cost_record(frame: pl.DataFrame) -> dict[str, Any]:
    """Count what the arms of one view cost, in token-layers, beside one whole pass for each of them.

    The unchanged run of each trace is counted on the arms' side, and answers written anew on neither.
    """
    arm, whole = token_layers()
    once = frame.unique("item_id", keep="first", maintain_order=True).select(whole.sum()).item()
    return {
        "token_layers": once + frame.select(arm.sum()).item(),
        "whole_passes": frame.select(whole.sum()).item(),
    }


def token_layers() -> tuple[pl.Expr, pl.Expr]:
    """What an arm takes, and what a whole pass over its trace takes, in tokens times layers."""
    written = pl.when(pl.col("view") == "answer").then(0).otherwise(pl.col("n_reasoning_tokens") + 1)
    tokens, layers = (pl.col("n_answer_tokens") + written).cast(pl.Int64), pl.col("n_layers").cast(pl.Int64)
    return tokens * (layers - pl.col("first_layer")), (pl.col("n_tokens") - 2) * layers


def sentences(records: Sequence[dict[str, Any]]) -> list[str]:
    """Say what each ranked set of one view costs, and beside what."""
    return [sentence(each, records) for each in records if main_loss(each) and main_loss(each)["random"] is not None]


def main_loss(record: dict[str, Any]) -> Any:
    """Return the loss of the text whose rows are cut."""
    return record["loss" if record["view"] == "answer" else "reasoning_loss"]


def sentence(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> str:
    """Say what cutting a set of heads costs the text: with its interval, beside random sets and beside all heads."""
    loss, (rows, hidden) = main_loss(record), VIEWS[record["view"]]
    chance = loss["random"]
    count = f"the {record['k']} heads" if record["k"] > 1 else "the head"
    heads = f"{count} with {SET_NAMES.get(record['set'], record['set'])}"
    text = VERBS[record["kind"]].format(rows=rows, hidden=hidden, heads=heads)
    if not side(loss["low"], loss["high"]):
        text += f" cannot be told from no change: it costs {loss['mean']:.3f} nats per token of the {rows}"
    else:
        verb = "costs" if loss["mean"] > 0 else "gains"
        text += f" {verb} {abs(loss['mean']):.3f} nats per token of the {rows}"
    ends = "" if loss["low"] is None else f"95% {loss['low']:.3f} to {loss['high']:.3f}, "
    text += f" ({ends}n = {record['n_traces']})"
    everything = next((each for each in records if each["set"] == "all" and each["kind"] == record["kind"]), None)
    if everything is not None:
        text += f"; all heads together: {main_loss(everything)['mean']:.3f}"
    draws = len(chance["means"])
    beaten = f"{chance['rank'] - 1} of {draws}" if chance["rank"] > 1 else f"none of {draws}"
    text += f". Of random sets of the same layers, {beaten} cost as much (p = {chance['p']:.2g})."
    written = record["anew"]
    if written is not None:
        text += f" Written anew, {written['changed']:.0%} of {written['n_traces']} answers change"
        again = next((each for each in records if each["set"] == NONE and each["anew"]), None)
        text += "" if again is None else f" ({again['anew']['changed']:.0%} by rounding alone)"
        if written["n_graded"]:
            text += f"; accuracy {written['accuracy_base']:.0%} becomes {written['accuracy']:.0%}"
        text += "."
    return text
