"""Writes docs/data.md from the schemas, or checks a run's tables against it.

usage: python tools/data_docs.py          writes docs/data.md
       python tools/data_docs.py --check  names every table below data/ that has other columns, types or values
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import polars as pl

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from r2a_core.activations.store import TRACES  # noqa: E402
from r2a_core.attention.heads import HEAD_SCHEMA  # noqa: E402
from r2a_core.attention.map_lines import LINE_SCHEMA  # noqa: E402
from r2a_core.attention.map_links import LINK_SCHEMA  # noqa: E402
from r2a_core.attention.maps import MAP_SCHEMA, SPAN_SCHEMA, TOKEN_SCHEMA  # noqa: E402
from r2a_core.attention.readers import READ_SCHEMA  # noqa: E402
from r2a_core.attention.tables import ATTENTION_SCHEMA, SENTENCE_SCHEMA  # noqa: E402
from r2a_core.data.items import ITEM_SCHEMA, SELECTION_SCHEMA  # noqa: E402
from r2a_core.evaluation.funnel import EVALUATION_SCHEMA  # noqa: E402
from r2a_core.evaluation.judge_reply import JUDGEMENT_SCHEMA  # noqa: E402
from r2a_core.instruments.catalogue import (  # noqa: E402
    AGREEMENT_SCHEMA,
    AUC_SCHEMA,
    INSTRUMENTS,
    TRUTH_SCHEMA,
    VALUE_SCHEMA,
)
from r2a_core.knockout.summary import KNOCKOUT_SCHEMA  # noqa: E402
from r2a_core.pairs.tables import PAIR_SCHEMA  # noqa: E402
from r2a_core.patching.metrics import FRAME_SCHEMA  # noqa: E402
from r2a_core.patching.stage import CLEAN_RUNS  # noqa: E402
from r2a_core.perturb.summary import PERTURB_SCHEMA  # noqa: E402
from r2a_core.results import VIEWS  # noqa: E402
from r2a_core.sentences.summary import RECEIVER_SCHEMA, SUPPRESSION_SCHEMA  # noqa: E402
from r2a_core.trace import GENERATION_SCHEMA, TEXT_PARTS  # noqa: E402
from r2a_core.walks.summary import WALK_SCHEMA  # noqa: E402


@dataclass(frozen=True)
class Column:
    """What one column holds. low and high bound its numbers; choices lists its texts."""

    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        """The range in words."""
        if self.choices:
            return " \\| ".join(self.choices)
        if self.low is None:
            return ""
        if self.low == -inf:
            return f"to {self.high:g}"
        return f"from {self.low:g}" if self.high is None else f"{self.low:g} .. {self.high:g}"


@dataclass(frozen=True)
class Table:
    """A parquet file below data/: `pattern` is its path, with names in angle brackets."""

    pattern: str
    stage: str
    section: str
    row: str
    schema: Mapping[str, Any]
    columns: Mapping[str, Column]


def share(meaning: str) -> Column:
    return Column(meaning, 0, 1)


def count(meaning: str) -> Column:
    return Column(meaning, 0)


SETTINGS = ("with_reasoning", "without_reasoning")
STATUSES = ("ok", "unfinished", "bad_think", "no_answer")
ITEM = Column("the question's id")
BOUNDS = {
    "think_open": count("token index of `<think>`, 0 = BOS; null unless the trace is well-formed"),
    "think_close": count("token index of `</think>`"),
    "answer_start": count("first token of the answer"),
    "answer_end": count("token after the answer's last, which is the EOS"),
}
LAYER = {"layer": count("decoder layer, from 0"), "head": count("query head within the layer, from 0")}
KIND = {
    "item_id": ITEM,
    "kind": Column(
        "one head, the mean of the Reasoning-Focus Heads, or the mean of all", choices=("head", "rfh_mean", "head_mean")
    ),
    **{name: Column(f"{column.meaning}; null for means", 0) for name, column in LAYER.items()},
}
SEGMENTS = {
    name: share(f"attention mass on {where}, mean over the source's query positions")
    for name, where in {
        "bos": "BOS",
        "query": "question and instruction",
        "think_open": "`<think>`",
        "reasoning": "the reasoning",
        "think_close": "`</think>`",
        "answer": "the answer",
    }.items()
}
SHARD = {
    "shard": Column("safetensors file beside the index; null, as all about tensors, with capture.store: false"),
    "sha256": Column("hex digest of that file"),
    "fingerprint": Column("digest of what the shard was computed from: params, code, model, tokens"),
}
PAIR_AND_PROBE = {
    "pair_id": Column("the pair's id"),
    "probe": Column("probing phrase", choices=("plain", "boxed")),
}

TABLES = (
    Table(
        "datasets/<dataset>.parquet",
        "prepare_dataset, prepare_pairs",
        "3, 5",
        "question",
        ITEM_SCHEMA,
        {
            "item_id": ITEM,
            "question": Column("text of the question, without instruction"),
            "gold": Column("right answer; null where there is none"),
            "kind": Column("how an answer is judged", choices=("math", "open", "comparison", "gym")),
            "subject": Column("subject or primary tag"),
            "level": Column("difficulty, as the source gives it"),
            "extra": Column(
                "JSON: whatever else the source says (options, two of them in the question's order, and the chance of "
                "guessing right; a pair's fields, imported texts, a judge's checklist)"
            ),
        },
    ),
    Table(
        "generations/<model>/<dataset>/<setting>.parquet",
        "generate, generate_pairs",
        "3",
        "response",
        GENERATION_SCHEMA,
        {
            "item_id": ITEM,
            "run": count("number of the response to the question; retries follow the first runs"),
            "prompt": Column("prompt as text"),
            "response": Column("response as text"),
            "prompt_ids": Column("token ids of the prompt, BOS first"),
            "response_ids": Column("token ids of the response, EOS last where it was reached"),
            "finish": Column("ended by itself, or cut at max_new_tokens", choices=("stop", "length")),
            "seed": Column("of the sampling; null for imported texts"),
            "status": Column("first step of the funnel that the response failed, or ok", choices=STATUSES),
            **BOUNDS,
        },
    ),
    Table(
        "judgements/<model>/<dataset>.parquet",
        "judge",
        "3",
        "response and repeat",
        JUDGEMENT_SCHEMA,
        {
            "item_id": ITEM,
            "setting": Column("setting of the response", choices=SETTINGS),
            "run": count("number of the response"),
            "repeat": count("number of the judgement"),
            "status": Column("what came of it", choices=("ok", "bad_reply", "refused")),
            "score": Column("judge's score; null unless ok", 1, 10),
            "judge_model": Column("as the server named it"),
            "strengths": Column("judge's text"),
            "weaknesses": Column("judge's text"),
            "attempts": Column("times the judge was asked", 0),
            "prompt_tokens": count("tokens of all attempts; null where the server did not count"),
            "completion_tokens": count("tokens of all attempts; null where the server did not count"),
            "reply": Column("last reply, as it came"),
        },
    ),
    Table(
        "evaluation/<model>/<dataset>.parquet",
        "evaluate",
        "3",
        "response",
        EVALUATION_SCHEMA,
        {
            "item_id": ITEM,
            "setting": Column("setting of the response", choices=SETTINGS),
            "run": count("number of the response"),
            "status": Column(
                "funnel status; undecided: the answer is right in one reading of its notation, wrong in another",
                choices=(*STATUSES, "undecided"),
            ),
            "extracted": Column("last boxed answer"),
            "gold": Column("right answer"),
            "score": Column("0 or 1; a judge's score 1 to 10 for open questions; null where not graded", 0, 10),
            "option": count(
                "place, from 0, among the question's options of the one that the answer names; null where it names none"
            ),
            "common": Column("counts in the paired test: the item is valid in all settings that ran"),
        },
    ),
    Table(
        "activations/<model>/<dataset>/<setting>/index.parquet",
        "capture",
        "4",
        "trace",
        TRACES.schema,
        {
            "item_id": ITEM,
            **SHARD,
            "tensors": Column("names of the trace's tensors in the shard"),
            "shapes": Column("their shapes"),
            "dtype": Column("of the stored tensors", choices=("bfloat16", "float16", "float32")),
            "n_tokens": count("tokens of the trace, EOS included"),
            **BOUNDS,
            "first_row": count("token of query row 0"),
            "first_stream_row": count("token of row 0 of residual streams and head outputs"),
            "token_ids": count("token ids of the whole trace, EOS included"),
        },
    ),
    Table(
        "activations/<model>/<pairs>/clean/index.parquet",
        "capture_pairs",
        "5",
        "aligned pair and probe",
        CLEAN_RUNS.schema,
        {
            **PAIR_AND_PROBE,
            "status": Column(
                "weak: a logit difference below patch.capture.logit_diff_threshold", choices=("captured", "weak")
            ),
            "reason": Column("why it is weak; null where captured"),
            "ld_clean": Column("logit difference of the clean run, logits"),
            "ld_corrupted": Column("logit difference of the corrupted run, logits"),
            "number": count("number of the pair's tensors in the shard; null where weak"),
            "digest": Column("digest of the aligned pair"),
            **SHARD,
        },
    ),
    Table(
        "attention/<model>/<dataset>/<setting>.parquet",
        "attention, and read as attention/<reader>/<texts>/<dataset>.parquet",
        "4, Figures 2 and 3",
        "trace, layer, head and source",
        ATTENTION_SCHEMA,
        {
            "item_id": ITEM,
            **LAYER,
            "source": Column("the query positions averaged over", choices=("answer", "reasoning")),
            **SEGMENTS,
            "n_source_tokens": count("query positions"),
            "n_reasoning_tokens": count("tokens of the reasoning"),
            "reflection": share("attention mass on reflection phrases of the reasoning"),
            "copied": share(
                "share of the answer's tokens in runs of 8 and more that the reasoning holds too, without sentences "
                "that box a result; null where the answer has no other"
            ),
            "walk_correlation": Column(
                "Pearson r of answer position and attention centroid; null where it does not move", -1, 1
            ),
            "walk_correlation_weighted": Column(
                "the same, each position counted by its row_mass; null with fewer than 3 effective_rows", -1, 1
            ),
            "effective_rows": Column("(sum of row_mass)^2 / sum of its squares: positions that look there", 0),
            "walk_null_mean": Column(
                "mean of walk_correlation_weighted over all circular shifts of the answer's rows", -1, 1
            ),
            "walk_null_sd": share("standard deviation over these shifts"),
            "walk_p": share("share of these shifts that reach walk_correlation_weighted"),
            "uniformity": share("exp(entropy) over the reasoning / its tokens, mean over answer positions; 1 = even"),
            "uniform_share": share("mass on the reasoning of even reading: all that a position sees, sinks too"),
            "focus": Column(
                "log-odds of the mass on the reasoning less those of even reading, BOS and sinks left out of both; "
                "above 0: more than even"
            ),
            "row_mass": share("by answer position: attention mass on the reasoning"),
            "centroid": share(
                "by answer position: attention centroid, fraction of the reasoning; NaN where none is seen"
            ),
            "spread": share("by answer position: standard deviation around the centroid, fraction of the reasoning"),
        },
    ),
    Table(
        "attention/<model>/<dataset>/<setting>-sentences.parquet",
        "attention",
        "4",
        "trace, sentence of the reasoning, layer and head",
        SENTENCE_SCHEMA,
        {
            "item_id": ITEM,
            "sentence": count("number of the sentence"),
            "start": count("its first token"),
            "end": count("token after its last"),
            "text": Column("the sentence"),
            **LAYER,
            "mass": share("attention mass from answer positions, mean over them"),
            "reflection": Column("whether it holds a reflection phrase"),
        },
    ),
    Table(
        "heads/<model>.parquet",
        "heads",
        "4",
        "dataset, layer and head",
        HEAD_SCHEMA,
        {
            **LAYER,
            "dataset": Column("dataset of the traces"),
            "n_traces": count("traces averaged over"),
            "answer_to_reasoning": share("attention mass on the reasoning, mean over answer positions, then traces"),
            "rank": Column("by answer_to_reasoning, 1 = highest", 1),
            "top10_count": count("traces in which the head is among the heads.top highest, whatever heads.top is"),
            "count_rank": Column("by top10_count, ties by rank", 1),
            "uniform_share": share("answer_to_reasoning of even reading, sinks too"),
            "above_uniform": Column("answer_to_reasoning - uniform_share", -1, 1),
            "focus": Column("mean over traces, see attention"),
            "uniformity": share("mean over traces, see attention"),
            "walk_correlation": Column("mean over the traces that have one", -1, 1),
            "walk_correlation_weighted": Column("mean over the traces that have one, see attention", -1, 1),
            "effective_rows": Column("mean over traces, see attention", 0),
            "walk_null_95": Column(
                "95% of what walk_correlation_weighted is by chance, the rows of each trace shifted, stays below", -1
            ),
            "walk_p": share("probability of a walk_correlation_weighted as high by chance, 1e-6 at least"),
            "n_reworded": count("traces whose answer is in other words: copied is below 0.5"),
            "answer_to_reasoning_reworded": share("answer_to_reasoning, mean over these traces"),
            "walk_correlation_weighted_reworded": Column("walk_correlation_weighted, mean over these traces", -1, 1),
            "reflection": share("mean over traces, see attention"),
            "induction": share("attention on the token after the earlier occurrence, repeated random tokens"),
            "induction_match": Column("TransformerLens' head-detection score on the same sequences", -1, 1),
            "retrieval": share("share of needle tokens copied while the head's largest weight is on that token"),
            "reasoning_focus": Column("whether it is a Reasoning-Focus Head: of the first by rank, by heads.rule"),
            "induction_head": Column("among the heads.top highest, and induction reaches heads.least.induction"),
            "retrieval_head": Column("among the heads.top highest, and retrieval reaches heads.least.retrieval"),
        },
    ),
    Table(
        "maps/<model>/<dataset>.parquet",
        "maps",
        "4, Figures 4 and 11",
        "trace and head or mean",
        MAP_SCHEMA,
        {
            **KIND,
            "n_tokens": count("tokens of the trace"),
            "row_token": count("first token of each pooled row"),
            "col_token": count("first token of each pooled column"),
            "pattern": share("attention weight, maximum over the cell; rows x columns, row by row"),
        },
    ),
    Table(
        "maps/<model>/<dataset>-tokens.parquet",
        "maps",
        "4, Figures 4, 5 and 12",
        "trace",
        TOKEN_SCHEMA,
        {
            "item_id": ITEM,
            "tokens": Column("text of each token"),
            "think_open": BOUNDS["think_open"],
            "think_close": BOUNDS["think_close"],
            "n_tokens": count("tokens of the trace"),
            "reflection": count("tokens at which a reflection phrase starts"),
        },
    ),
    Table(
        "maps/<model>/<dataset>-spans.parquet",
        "maps",
        "4, Figures 5 and 12",
        "trace and head or mean",
        SPAN_SCHEMA,
        {
            **KIND,
            "span_start": count("first token of the span"),
            "span_end": count("token after its last"),
            "weights": share("attention weight on each token, mean over the positions that write the span"),
        },
    ),
    Table(
        "maps/<model>/<dataset>-links.parquet",
        "maps",
        "4",
        "head or mean, token that attends (from `<think>` on) and part of the text",
        LINK_SCHEMA,
        {
            **KIND,
            "row": count("the token that attends; it writes the next"),
            "part": Column("question, reasoning or answer: where `tokens` lie", choices=TEXT_PARTS),
            "tokens": count(
                "tokens of the part by falling weight, ties by place, at most maps.links; weight 0 where a sliding "
                "window hides it"
            ),
            "weights": share("attention weight on each"),
            "mass": share("attention mass on the whole part"),
        },
    ),
    Table(
        "maps/<model>/<dataset>-lines.parquet",
        "maps",
        "4",
        "trace and head or mean",
        LINE_SCHEMA,
        {
            **KIND,
            "start": count(
                "first token of each line of question, reasoning and answer; of each sentence where the part is one "
                "line"
            ),
            "end": count("token after its last"),
            "joined": Column("lines of the text that one stands for, at most; more than 1 in long texts", 1),
            "weights": share(
                "lines x lines, row by row: mean attention weight of a token of the row's line on one of the column's; "
                "null where the row's line was not captured as a whole"
            ),
            "even": share("the same of even reading: tokens that attend evenly to all that they see"),
        },
    ),
    Table(
        "pairs/selected.parquet",
        "select_pairs",
        "5",
        "pair",
        SELECTION_SCHEMA,
        {
            "pair_id": Column("the pair's id"),
            "kept": Column("both answers are one token in every model"),
            "reason": Column("why it was dropped; null where kept"),
        },
    ),
    Table(
        "pairs/<model>.parquet",
        "pairs",
        "5",
        "pair and probe",
        PAIR_SCHEMA,
        {
            **PAIR_AND_PROBE,
            "domain": Column("what the pair compares"),
            "status": Column(
                "what became of it",
                choices=(
                    "aligned",
                    "not_selected",
                    "no_response",
                    "unfinished",
                    "bad_think",
                    "no_answer",
                    "wrong",
                    "not_alignable",
                ),
            ),
            "reason": Column("why it was dropped; null where aligned. All that follows is null where it was"),
            "clean_answer": Column("right answer of the clean question"),
            "corrupted_answer": Column("right answer of the corrupted question"),
            "clean_ids": count("token ids of the clean sequence, padded"),
            "corrupted_ids": count("token ids of the corrupted sequence, padded to the same length"),
            "clean_pad": Column("where the clean sequence is padding"),
            "corrupted_pad": Column("where the corrupted sequence is padding"),
            "masked": Column("padding is not attended to"),
            "positions": count("token indices to patch"),
            "roles": Column("what stands at each", choices=("probe", "flip", "think_close", "answer_end")),
            "clean_tokens": Column("text of each in the clean sequence"),
            "corrupted_tokens": Column("text of each in the corrupted sequence"),
            "answer_a": count("token id of the clean answer"),
            "answer_b": count("token id of the corrupted answer"),
            "think_open": count("token index of `<think>`"),
            "think_close": count("token index of `</think>`"),
        },
    ),
    Table(
        "patching/<model>.parquet",
        "patch",
        "5, Figures 7 and 8",
        "pair, probe, component, layer, head and position",
        FRAME_SCHEMA,
        {
            **PAIR_AND_PROBE,
            "component": Column(
                "what is patched: residual stream entering the layer, or one head's output", choices=("resid_pre", "z")
            ),
            "layer": count("decoder layer whose input, or head, is patched"),
            "head": count("head; null for resid_pre"),
            "position": count("token index that is patched"),
            "role": Column("what stands there", choices=("probe", "flip", "think_close", "answer_end")),
            "clean_token": Column("its text in the clean sequence"),
            "corrupted_token": Column("its text in the corrupted sequence"),
            "logit_diff": Column("logit(clean answer) - logit(corrupted answer) at the last position, logits"),
            "nld": Column("(logit_diff - ld_corrupted) / (ld_clean - ld_corrupted); 0 = corrupted run, 1 = clean run"),
            "log_prob_diff": Column("change of the clean answer's log-probability by the patch, nats"),
            "prob_diff": Column("change of the clean answer's probability by the patch", -1, 1),
            "rank_diff": Column("change of the clean answer's rank by the patch; below 0 = it rises"),
            "ld_clean": Column("logit difference of the clean run, logits"),
            "ld_corrupted": Column("logit difference of the corrupted run, logits"),
        },
    ),
)

HEADS = next(table for table in TABLES if table.schema is HEAD_SCHEMA)
TABLES += (
    Table(
        "heads/<reader>/<texts>/<dataset>.parquet",
        "read",
        "4",
        "model, layer and head",
        READ_SCHEMA,
        {
            "model": Column("the reader (before), or the model whose traces it read (after)"),
            **{name: column for name, column in HEADS.columns.items() if name in READ_SCHEMA},
        },
    ),
)

NATS = {
    "log_prob": "log-probability of the answer with the cut, nats, sum over its tokens",
    "log_prob_base": "the same without a cut",
    "result_log_prob": "that of the result alone with the cut: what the last box holds, else the last sentence",
    "result_log_prob_base": "the same without a cut",
    "reasoning_log_prob": "that of the reasoning; null for the view answer, which leaves it as it is",
    "reasoning_log_prob_base": "the same without a cut",
}
TABLES += (
    Table(
        "knockout/<model>/<dataset>.parquet",
        "knockout",
        "4, extended",
        "trace, view, kind, set and draw",
        KNOCKOUT_SCHEMA,
        {
            "item_id": ITEM,
            "view": Column("rows that are cut and what they lose (methods.md)", choices=tuple(VIEWS)),
            "kind": Column("what is cut (methods.md)", choices=("mask", "zero", "zero_head", "mean_head")),
            "set": Column(
                "heads by which score; none = run again without a cut",
                choices=("none", "mass", "focus", "walking", "induction", "retrieval", "all"),
            ),
            "k": count("heads that are cut"),
            "draw": count("number of a random set of the same layers; null for the set itself"),
            "first_layer": count("lowest layer with a cut head; 0 without any"),
            "n_layers": count("decoder layers of the model"),
            "n_tokens": count("tokens of the trace"),
            "n_answer_tokens": count("tokens of the answer"),
            "n_result_tokens": count("tokens of the result"),
            "n_reasoning_tokens": count("tokens of the reasoning"),
            **{name: Column(meaning, -inf, 0) for name, meaning in NATS.items()},
            "anew": Column("the answer written anew with the cut, greedily; null where it was not"),
            "anew_base": Column("the same without a cut"),
            "changed": Column("whether the results differ; set none: whether rounding alone decided a token"),
            "score": share("1 = what was written anew with the cut is right; null without a right answer"),
            "score_base": share("the same without a cut"),
        },
    ),
    Table(
        "walks/<model>/<dataset>.parquet",
        "walks",
        "4, extended",
        "trace, layer, view and head",
        WALK_SCHEMA,
        {
            "item_id": ITEM,
            "view": Column(
                "rows and what they look back at (methods.md); others than answer have mass, excess, entropy and "
                "effective tokens alone, other measures are null",
                choices=tuple(VIEWS),
            ),
            **LAYER,
            "n_reasoning_tokens": count("tokens of the reasoning"),
            "n_answer_tokens": count("tokens of the answer"),
            "mass": share(
                "attention mass on what the rows of the view look back at, sinks counted, a row's own token left out; "
                "mean over all these rows"
            ),
            "even_excess": Column("mass beyond even reading, sinks left out of both (methods.md)", -1, 1),
            "excess": Column("mass beyond what the head's reading by distance gives; null if not captured", -1, 1),
            "entropy": share("entropy on the reasoning over that of even reading, mean over positions that read it"),
            "effective_tokens": count("exp(entropy), mean over the same positions"),
            "walk": Column("correlation of position and centroid, weighted by mass", -1, 1),
            "walk_null": Column("its mean over circular shifts", -1, 1),
            "diagonal": share("1 = the centroid is where the position is in the answer; 0 = a third away, or more"),
            "diagonal_null": share("its mean over circular shifts"),
            "local_cover": share("share of windows of positions in which the centroid moves forward, by mass"),
            "covered": share("fraction of the reasoning from the least to the greatest centroid"),
            "question_walk": Column("as walk, on the question", -1, 1),
            "parallel": count("walking paths side by side, at most"),
            "ends": Column("tokens of the reasoning, from 0, at which walking paths end", 0),
            "reflection": Column("tokens of the reasoning, from 0, at which reflection phrases start", 0),
            "walk_rank": Column("among heads that walk over the other half of the traces, 1 = best; else null", 1),
            "score": share("1 = the trace's answer is right; null without a right answer"),
        },
    ),
)

TABLES += (
    Table(
        "perturb/<model>/<dataset>.parquet",
        "perturb",
        "beyond",
        "trace, family, part and level",
        PERTURB_SCHEMA,
        {
            "item_id": ITEM,
            "family": Column(
                "what is done to the reasoning (methods.md); cut at level 1 = nothing",
                choices=("cut", "number", "option", "other", "filler", "paraphrase", "preempt", "mistake"),
            ),
            "part": Column(
                "where; empty where there is one place",
                choices=("", "across", "after", "before", "question", "first", "last", "made", "none"),
            ),
            "level": share("cut, mistake: sentences that stay; number, option: values that are wrong; else 1"),
            "n_sentences": count("sentences of the reasoning"),
            "kept": count("sentences of the trace's own, changed or not"),
            "boundary": count("sentences up to the commitment boundary"),
            "edits": Column(
                "values or phrases that were replaced: token of the trace where each begins, the old and the new text"
            ),
            "added": Column(
                "text that was put in besides: family preempt, what names the answer; mistake, the rest written anew"
            ),
            "planted": Column("the answer that the arm names; null for none"),
            "donor": Column("family other: the item whose reasoning it is; else null"),
            "n_tokens": count("tokens of the arm with its forced answer"),
            "n_run": count("of these, computed; the others are those of the unchanged trace, or of an equal arm above"),
            "n_written": count(
                "tokens computed to write the rest of the reasoning, or the free answer; null: nothing was written"
            ),
            "n_reasoning_tokens": count("tokens of the trace's reasoning, white space on either side left out"),
            "n_result_tokens": count("tokens of the box's content, up to the one that closes it"),
            "log_prob": Column("log-probability of the original result, forced, nats, sum over its tokens", -inf, 0),
            "log_prob_base": Column("the same after the unchanged trace; part before: after the cut there", -inf, 0),
            "original": Column("the result of the trace"),
            "answer": Column("the forced answer, written greedily"),
            "whole": Column("false = it was cut off before its box closed, so without a verdict"),
            "free": Column("the answer written freely; empty where the reasoning never ends; null where none was"),
            "free_whole": Column("false = cut off before its box, so without a verdict; null where none was written"),
            "same": share("1 = the forced answer's box holds the original result, as the grader compares"),
            "score": share("1 = it holds the right answer; null without one"),
            "took": share("1 = it holds the planted answer; null where none is"),
            "free_same": share("same of the free answer"),
            "free_score": share("score of the free answer"),
            "free_took": share("took of the free answer"),
        },
    ),
)

TABLES += (
    Table(
        "sentences/<model>/<dataset>.parquet",
        "sentences",
        "beyond",
        "trace and hidden sentence",
        SUPPRESSION_SCHEMA,
        {
            "item_id": ITEM,
            "sentence": count("sentence of the reasoning that later rows do not see; null = none is hidden"),
            "start": count("its first token; null for none"),
            "end": count("behind its last token; null for none"),
            "text": Column("its text; null for none"),
            "n_sentences": count("sentences of the reasoning"),
            "n_tokens": count("tokens of the trace"),
            "n_answer_tokens": count("tokens of the answer"),
            "n_result_tokens": count("tokens of the result"),
            "later_kl": Column("of each later sentence, in order: KL divergence, nats, mean over its rows"),
            "answer_kl": Column("the same of the rows that write the answer"),
            "result_log_prob": Column("log-probability of the result, nats, sum over its tokens", -inf, 0),
            "result_log_prob_base": Column("the same in the unchanged run", -inf, 0),
            "even": share(
                "mass that even reading, sinks too, puts on the sentence, mean over answer rows; null for none"
            ),
            "mass": share("the same of the model, mean over all heads; null for none, and where it was not measured"),
        },
    ),
    Table(
        "sentences/<model>/<dataset>-heads.parquet",
        "sentences",
        "beyond",
        "trace, proximity, layer and head",
        RECEIVER_SCHEMA,
        {
            "item_id": ITEM,
            "proximity": count("sentences from one that is scored to those that score it, at least"),
            "layer": count("layer"),
            "head": count("head"),
            "n_sentences": count("sentences of the reasoning"),
            "kurtosis": Column("of the vertical scores, Fisher's; null with too few, or where all are equal"),
            "ranked": Column("the same with each row's weights replaced by ranks"),
            "matched": Column("of as many scores in every trace; null with too few"),
            "chance": Column("ranked, mean over shuffles of the rows"),
        },
    ),
)

UNIT = {"model": Column("a model of the run"), "dataset": Column("a dataset of the run, or its set of pairs")}
ENDS = {"low": Column("lower end of the 95% interval"), "high": Column("upper end")}
INSTRUMENT_NAMES = tuple(INSTRUMENTS)

TABLES += (
    Table(
        "instruments/values.parquet",
        "instruments",
        "beyond",
        "item and instrument",
        VALUE_SCHEMA,
        {
            **UNIT,
            "item_id": Column("the question's id; of a set of pairs the pair's"),
            "instrument": Column("what measures (methods.md)", choices=INSTRUMENT_NAMES),
            "value": Column("higher: the answer depends more on the trace; null where it was not measured"),
            "passes": count("forward passes over the trace that the value took"),
        },
    ),
    Table(
        "instruments/truth.parquet",
        "instruments",
        "beyond",
        "model and dataset",
        TRUTH_SCHEMA,
        {
            **UNIT,
            "depends": Column("label of instruments.depends; null: unknown"),
            "n": count("items that were given another item's reasoning, noise left out"),
            "followed": share("share of their forced answers that are then the other item's"),
            **ENDS,
        },
    ),
    Table(
        "instruments/auc.parquet",
        "instruments",
        "beyond",
        "instrument and pair of models, and of the means of all models",
        AUC_SCHEMA,
        {
            "instrument": Column("as in values", choices=INSTRUMENT_NAMES),
            "level": Column("items of two models, or means over the items of each model", choices=("pair", "model")),
            "depends": Column("of a pair, the model whose answers depend on the trace; null without a pair"),
            "other": Column("the model whose answers do not"),
            "n_depends": count("items, or models, labelled as depending on the trace"),
            "n_others": count("those labelled as not"),
            "auc": share("share of the pairs of both in which the former is higher; null without a pair"),
            **ENDS,
            "passes": count("mean of passes of values"),
            "why": Column("why there is no AUC"),
        },
    ),
    Table(
        "instruments/agreement.parquet",
        "instruments",
        "beyond",
        "model, dataset and two instruments",
        AGREEMENT_SCHEMA,
        {
            "model": Column("a model of the run"),
            "dataset": Column("null: all together, items ranked within theirs"),
            "first": Column("as in values", choices=INSTRUMENT_NAMES),
            "second": Column("as in values", choices=INSTRUMENT_NAMES),
            "n": count("items that both have measured"),
            "rho": Column("Spearman's rank correlation; null of fewer than 8 items, or where one is constant", -1, 1),
            **ENDS,
            "p": Column("share of permutations of the items, the real order included, with a rho as far from 0", 0, 1),
            "holm": Column("p adjusted for all pairs of the model and dataset (Holm)", 0, 1),
        },
    ),
)

OTHER_FILES = (
    (
        "models/<model>/model.json",
        "prepare_model, prepare_reader",
        "pointer: kind, dtype, tags, Hub id and pinned commit or path, digests",
    ),
    (
        "models/<model>/",
        "prepare_model, prepare_reader",
        "weights and tokenizer of a trained model; nothing but the pointer for hub and local",
    ),
    (
        "evaluation/<model>/<dataset>.json",
        "evaluate",
        "summary: funnel, chance, kinds of answers, accuracy with intervals, paired tests",
    ),
    (
        "activations/.../shard-00000.safetensors",
        "capture, capture_pairs",
        "tensors; one JSON text under one metadata key",
    ),
    (
        "metrics/<stage>-<...>.json",
        "generate, evaluate, attention, read, heads, patch, knockout, walks, perturb, sentences, instruments",
        "metrics of `dvc metrics`; in git",
    ),
    ("figures/<part>/", "figures_*", "PNG and PDF of each figure; CSV and parquet of each table"),
    ("report/index.html", "report", "the page"),
    (
        "report/pages/<model>-<dataset>.html",
        "report",
        "of one model and dataset, where one page does not hold all",
    ),
    ("report/plots/*.csv", "report", "panel, series, x, y: the curves of `dvc plots`"),
)

HEAD = """# The files of a study

Every table below `data/`, column by column. Token indices count from 0 at BOS and ranges are half-open. Numbers are
never NaN or infinite unless the column says so. `tools/data_docs.py` makes this page from the schemas;
`python tools/data_docs.py --check` holds a finished run against it.
"""


def render() -> str:
    """Returns docs/data.md. Raises KeyError when a schema and its descriptions have different columns."""
    lines = [HEAD]
    for table in TABLES:
        if sorted(table.columns) != sorted(table.schema):
            raise KeyError(f"{table.pattern}: {set(table.columns) ^ set(table.schema)}")
        lines += [
            f"## {table.pattern}",
            "",
            f"Stage {table.stage}; paper section {table.section}. One row per {table.row}.",
            "",
        ]
        lines += ["| column | type | range | meaning |", "| --- | --- | --- | --- |"]
        for name, dtype in table.schema.items():
            column = table.columns[name]
            lines.append(f"| {name} | {type_name(dtype)} | {column.range} | {column.meaning} |")
        lines.append("")
    lines += ["## Other files", "", "| file | stage | content |", "| --- | --- | --- |"]
    lines += [f"| {path} | {stage} | {content} |" for path, stage, content in OTHER_FILES]
    return "\n".join(lines) + "\n"


def type_name(dtype: Any) -> str:
    """A polars type as one word: Float32 -> float32, List(Int32) -> list of int32."""
    inner = getattr(dtype, "inner", None)
    return f"list of {type_name(inner)}" if inner is not None else str(dtype).lower()


def faults(data: Path) -> Iterator[str]:
    """Yields a sentence for each table below `data` that does not hold what the page says."""
    seen: set[Path] = set()
    for table in sorted(TABLES, key=lambda table: -len(as_glob(table.pattern))):  # the closest pattern first
        for path in sorted(set(data.glob(as_glob(table.pattern))) - seen):
            seen.add(path)
            yield from table_faults(table, pl.read_parquet(path), path.relative_to(data))


def as_glob(pattern: str) -> str:
    """The pattern with * for each name in angle brackets."""
    return "".join("*" + part.partition(">")[2] if number else part for number, part in enumerate(pattern.split("<")))


def table_faults(table: Table, frame: pl.DataFrame, place: Path) -> Iterator[str]:
    """Yields what is wrong with one table."""
    found, wanted = dict(frame.schema), pl.DataFrame(schema=dict(table.schema)).schema
    if found != dict(wanted):
        yield f"{place}: columns {sorted(map(str, set(found.items()) ^ set(wanted.items())))}"
        return
    for name, column in table.columns.items():
        values = frame[name]
        if values.dtype.base_type() == pl.List:
            values = values.explode()
        values = values.drop_nulls()
        if values.dtype.is_float():
            values = values.drop_nans()
        if values.is_empty():
            continue
        if column.choices and not set(values) <= set(column.choices):
            yield f"{place}: {name} holds {sorted(set(values) - set(column.choices))[:3]}"
        low, high = (-inf if column.low is None else column.low), (inf if column.high is None else column.high)
        slack = 1e-5 if values.dtype.is_float() else 0
        if column.low is not None and not values.is_between(low - slack, high + slack).all():
            yield f"{place}: {name} lies in {values.min()} .. {values.max()}, beyond {column.range}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        wrong = list(faults(ROOT / "data"))
        print("\n".join(wrong) or "every table holds what docs/data.md says")
        sys.exit(bool(wrong))
    (ROOT / "docs" / "data.md").write_text(render(), encoding="utf-8")
