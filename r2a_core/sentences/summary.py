"""What hiding sentences costs and whether heads gather on few of them: two tables, their numbers, the words about them.

rows of SUPPRESSION_SCHEMA and RECEIVER_SCHEMA of one model and dataset -> one record each: divergence and loss with
intervals over traces beside rounding, whether the most attended sentence is the most needed one, and what length and
chance leave of receiver heads. Metrics, figure and page share them. Needs no torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from r2a_core.config import SentencesParams
from r2a_core.evaluation.paired import UNBOUNDED, Bounds, mean_with_interval
from r2a_core.infra.checks import HINT, check_columns
from r2a_core.results import loss_per_token
from r2a_core.wording import SIGNIFICANT, compared, estimate, percent, side, signed

SUPPRESSION_SCHEMA = {
    "item_id": pl.String,
    "sentence": pl.Int32,  # that is hidden; null: none, the run again
    "start": pl.Int32,
    "end": pl.Int32,
    "text": pl.String,
    "n_sentences": pl.Int32,
    "n_tokens": pl.Int32,  # of the trace
    "n_answer_tokens": pl.Int32,
    "n_result_tokens": pl.Int32,
    "later_kl": pl.List(pl.Float64),  # nats, mean over a sentence's rows, of each later sentence
    "answer_kl": pl.Float64,  # the same of the rows that write the answer
    "result_log_prob": pl.Float64,  # nats, sum over the result's tokens
    "result_log_prob_base": pl.Float64,
    "even": pl.Float64,  # mass that even reading, sinks too, puts on the sentence, mean over answer rows
    "mass": pl.Float64,  # of all heads
}

MEASURES = {
    "kurtosis": "kurtosis",
    "ranked": "of ranks",
    "matched": "of equally many sentences",
    "chance": "of shuffled ranks",
}

RECEIVER_SCHEMA = {
    "item_id": pl.String,
    "proximity": pl.Int32,
    "layer": pl.Int16,
    "head": pl.Int16,
    "n_sentences": pl.Int32,
    **dict.fromkeys(MEASURES, pl.Float64),
}

CONTROLLED = ("kurtosis", "ranked", "matched")

ATTENDED = pl.col("mass") / pl.col("even")  # the answer's mass on a sentence over that of even reading; null: unknown

LEAST_TRACES = 8  # for a correlation over traces

LEAST_SENTENCES = 3  # for a rank correlation within a trace

Numbers = NDArray[np.float64]


def suppression_frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Put rows into a frame. Raises R2AError at a number that is not finite."""
    frame = pl.DataFrame(rows, schema=SUPPRESSION_SCHEMA)
    numbers = ["answer_kl", "result_log_prob", "result_log_prob_base"]
    check_columns(frame, numbers, ("item_id", "sentence"), "hidden sentences", HINT)
    return frame


def suppression_record(frame: pl.DataFrame, params: SentencesParams) -> dict[str, Any] | None:
    """Reduce the table of hidden sentences, each trace counted once; None without any."""
    frame = frame.with_columns(
        later_kl=pl.col("later_kl").list.mean(),
        result_loss=loss_per_token("n_result_tokens", "result_"),
    )
    hidden, again = (frame.filter(pl.col("sentence").is_null() == each) for each in (False, True))
    if hidden.is_empty():
        return None
    kl = pl.col("answer_kl").clip(lower_bound=0)
    whole = pl.when(kl.sum() > 0).then(kl.sum())  # null where no sentence costs anything
    costs = ("answer_kl", "later_kl", "result_loss")
    traces = hidden.group_by("item_id", maintain_order=True).agg(
        *(pl.col(name).mean() for name in costs),
        top=kl.max() / whole,
        even=whole / whole / pl.len(),
    )
    cases = [rows for _, rows in hidden.with_columns(attended=ATTENDED).group_by("item_id", maintain_order=True)]
    return {
        "n_traces": traces.height,
        "n_sentences": hidden.height,
        **{name: interval(traces[name], params) for name in costs},
        "rounding": {name: again[name].mean() for name in costs},
        "top_share": traces["top"].mean(),
        "even_share": traces["even"].mean(),
        "attended": rank_record([(rows["attended"], rows["answer_kl"]) for rows in cases], params),
        "place": rank_record([(rows["sentence"], rows["answer_kl"]) for rows in cases], params),
    }


def interval(values: pl.Series, params: SentencesParams, bounds: Bounds = UNBOUNDED) -> dict[str, Any]:
    """Average over traces, with a 95% interval; those without a value are left out. bounds: of a value."""
    found = mean_with_interval(values.drop_nulls(), params.bootstrap_draws, params.seed, "traces", bounds)
    return {"mean": found.mean, "low": found.low, "high": found.high}


def rank_record(pairs: Sequence[tuple[pl.Series, pl.Series]], params: SentencesParams) -> dict[str, Any]:
    """Correlate two numbers of sentences by rank within each trace, and average over traces.

    p: share of shuffles of the sentences of every trace, the real order included, whose mean is as far from 0. Traces
    with fewer than LEAST_SENTENCES, or without one of the numbers, are left out.
    """
    generator = np.random.default_rng(params.seed)
    own, chance = [], []
    for first, second in pairs:
        if len(first) < LEAST_SENTENCES or first.null_count() or first.n_unique() == 1 or second.n_unique() == 1:
            continue
        x, y = (standardised(each.rank().to_numpy()) for each in (first, second))
        own.append(float(x @ y))
        chance.append(generator.permuted(np.tile(x, (params.permutations, 1)), axis=1) @ y)
    if not own:
        return {"n_traces": 0, **dict.fromkeys(("mean", "low", "high", "p"))}
    as_far = np.abs(np.mean(chance, 0)) >= abs(np.mean(own)) - 1e-12
    p = (1 + int(as_far.sum())) / (1 + params.permutations)
    return {"n_traces": len(own), **interval(pl.Series(own), params, (-1, 1)), "p": p}


def standardised(values: Numbers) -> Numbers:
    """Scale to mean 0 and length 1."""
    away = values - values.mean()
    return away / np.linalg.norm(away)


def receiver_records(frame: pl.DataFrame, params: SentencesParams) -> list[dict[str, Any]]:
    """Reduce the table of heads to one record per proximity."""
    return [
        receiver_record(rows, params) | {"proximity": proximity}
        for (proximity,), rows in frame.group_by("proximity", maintain_order=True)
    ]


def receiver_record(rows: pl.DataFrame, params: SentencesParams) -> dict[str, Any]:
    """Describe kurtosis with and without control: mean, its r with length over traces, and r between their halves."""
    means = rows.group_by("item_id", maintain_order=True).agg(pl.col(list(MEASURES)).mean())
    scored = means.drop_nulls("kurtosis")
    kept = rows.filter(pl.col("item_id").is_in(scored["item_id"].implode()))
    return {
        "n_traces": scored.height,
        "n_left_out": means.height - scored.height,
        "n_heads": rows.select(pl.struct("layer", "head").n_unique()).item(),
        **{
            name: interval(scored[name], params)
            | {
                "n_traces": scored[name].drop_nulls().len(),
                "length": length_r(kept, name),
                "reliability": reliability(kept.drop_nulls(name), name),
            }
            for name in CONTROLLED
        },
        "over_chance": interval(scored["ranked"] - scored["chance"], params),
    }


def length_r(rows: pl.DataFrame, name: str) -> float | None:
    """Correlate each head's kurtosis with the number of sentences over traces: Pearson's r, median over heads."""
    known = rows.drop_nulls(name)
    if known["item_id"].n_unique() < LEAST_TRACES:
        return None
    heads = known.group_by("layer", "head", maintain_order=True).agg(
        r=pl.corr(name, pl.col("n_sentences").cast(pl.Float64))
    )
    return heads["r"].fill_nan(None).median()  # type: ignore[return-value]


def reliability(rows: pl.DataFrame, name: str) -> float | None:
    """Correlate heads' means over odd traces with those over even ones: Pearson's r, None below two of each."""
    if rows["item_id"].n_unique() < 4:
        return None
    rows = rows.with_columns(odd=pl.col("item_id").rank("dense") % 2 == 1)
    odd, mean = pl.col("odd"), pl.col(name)
    halves = (mean.filter(odd).mean().alias("a"), mean.filter(~odd).mean().alias("b"))
    r = rows.group_by("layer", "head", maintain_order=True).agg(halves).select(pl.corr("a", "b")).item()
    return None if r is None or np.isnan(r) else r


def sentences_summary(suppressed: pl.DataFrame, heads: pl.DataFrame, params: SentencesParams) -> dict[str, Any]:
    """Make the metrics of one model and dataset."""
    return {"hidden": suppression_record(suppressed, params), "receivers": receiver_records(heads, params)}


def points(frame: pl.DataFrame) -> pl.DataFrame:
    """List hidden sentences, with `attended`: the answer's mass over that of even reading, null where unknown."""
    return frame.drop_nulls("sentence").select("item_id", "sentence", "text", ATTENDED.alias("attended"), "answer_kl")


def pooled(frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Put the tables of several datasets into one, items named by dataset."""
    return pl.concat(
        frame.with_columns(item_id=pl.concat_str(pl.lit(f"{name}/"), "item_id")) for name, frame in frames.items()
    )


def words(record: Mapping[str, Any]) -> list[str]:
    """Say what the record of `sentences_summary` holds."""
    said = [] if record["hidden"] is None else [cost_words(record["hidden"]), attended_words(record["hidden"])]
    return said + [receiver_words(each) for each in record["receivers"]]


def cost_words(hidden: Mapping[str, Any]) -> str:
    """Say what hiding a sentence costs."""
    loss = hidden["result_loss"]
    change = {1: "is a loss", -1: "is a gain", 0: "cannot be told from no change"}[side(loss["low"], loss["high"])]
    text = (
        f"A sentence hidden from all that follows moves the answer's distributions by "
        f"{estimate(hidden['answer_kl'], 3)} nats a token (n = {hidden['n_traces']} traces, {hidden['n_sentences']} "
        f"sentences; by rounding: {signed(hidden['rounding']['answer_kl'], 3)}) and those of later sentences by "
        f"{signed(hidden['later_kl']['mean'], 3)}. A token of the result loses {estimate(loss, 3)} nats, "
        f"which {change}."
    )
    if hidden["top_share"] is None:
        return text
    return (
        f"{text} The sentence that matters most to the answer has {percent(hidden['top_share'])} of a trace's sum, "
        f"where equal shares would have {percent(hidden['even_share'])}."
    )


def attention_tells(hidden: Mapping[str, Any]) -> bool:
    """Tell whether sentences with more of the answer's attention measurably cost it more."""
    attended = hidden["attended"]
    return side(attended["low"], attended["high"]) == 1 and attended["p"] < SIGNIFICANT


def attended_words(hidden: Mapping[str, Any]) -> str:
    """Say whether the sentences that the answer attends to are those that it needs."""
    attended = hidden["attended"]
    if not attended["n_traces"]:
        return "Sentences that the answer attends to: whether it needs them is not asked: no mass on them was measured."
    verb = "cost" if attention_tells(hidden) else "do not measurably cost"
    return (
        f"Sentences with more of the answer's attention per token {verb} it more when hidden: rank correlation within "
        f"traces {estimate(attended)}, p = {attended['p']:.2g}, n = {attended['n_traces']}; a sentence's place alone "
        f"gives {estimate(hidden['place'])}."
    )


def receiver_words(record: Mapping[str, Any]) -> str:
    """Say what length and chance leave of receiver heads."""
    counts = f"{record['n_traces']} traces, {record['n_left_out']} without enough sentences or their stored rows"
    start = f"Receiver heads, sentences {record['proximity']} or more apart"
    if not record["n_traces"]:
        return f"{start}: no trace can be measured ({counts})."
    parts = [
        f"{MEASURES[name]} r = {signed(record[name]['length'])} with length, "
        f"{signed(record[name]['reliability'])} between halves of the traces"
        for name in CONTROLLED
    ]
    gap = record["over_chance"]
    more = compared(gap["low"], gap["high"], "that of shuffled ones")
    return f"{start} ({counts}): {'; '.join(parts)}. Kurtosis of ranks: {more} (difference {estimate(gap)})."
