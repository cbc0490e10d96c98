"""How each figure of the page is measured, and where that is done (its fold "How measured"); and the glossary.

-> by id of the figure, a formula in words, the stage, its code, the params it takes and the files behind the figure.
"""

from dataclasses import dataclass
from pathlib import Path

from r2a_core.paths import StudyPaths

FILES = StudyPaths(Path())  # relative to the project
RUN = ("{model}", "{dataset}")  # as the page fills in what is chosen


@dataclass(frozen=True)
class Measured:
    """What a figure shows, as a formula in words; and the stage, code, params and files behind it."""

    how: str
    stage: str
    code: tuple[str, ...]
    params: tuple[str, ...]  # keys of params.yaml, or their beginnings
    data: tuple[Path, ...]  # with {model} and {dataset}; of other settings, readers and so on there are such files too


EVALUATION = (FILES.evaluation(*RUN), FILES.summary(*RUN))
HEADS = FILES.heads(RUN[0])
PATCHING = (FILES.patching(RUN[0]), FILES.pairs(RUN[0]))

MEASURED = {
    "published": Measured(
        "Published values of arXiv 2509.23676 and the same quantity measured here.",
        "report",
        ("r2a_core/paper.py", "r2a_core/report/values.py"),
        ("run",),
        (*EVALUATION, HEADS, *PATCHING),
    ),
    "beside": Measured(
        "Headline numbers of the models of this run, each with its 95% interval where it has one. AUCs are of "
        "pairs of models, so none is here.",
        "report",
        ("r2a_core/report/values.py", "r2a_core/report/comparison.py", "r2a_core/report/differences.py"),
        ("run",),
        (*EVALUATION, HEADS, *PATCHING),
    ),
    "against": Measured(
        "Headline numbers of two runs, each with its 95% interval where it has one, and this run's less the other's. "
        "Models stand beside each other by name, or in the order of run.models where no name is in both.",
        "report",
        ("r2a_core/report/values.py", "r2a_core/report/comparison.py", "r2a_core/report/differences.py"),
        ("run",),
        (*EVALUATION, HEADS, *PATCHING),
    ),
    "accuracy": Measured(
        "Share of right answers among the questions that are valid in all settings. Intervals: 95%, Wilson's, of a "
        "difference of right and wrong Bonett and Price's. Tests: exact McNemar for right and wrong. Where scores are "
        "means over several runs: bootstrap over questions, paired t.",
        "evaluate",
        ("r2a_core/evaluation/grade.py", "r2a_core/evaluation/paired.py"),
        ("evaluate", "generate"),
        (*EVALUATION,),
    ),
    "answers": Measured(
        "Each first attempt counts once: right, an option of the question, a third thing, or nothing valid. An answer "
        "names an option where the grader finds them equal.",
        "evaluate",
        ("r2a_core/evaluation/answers.py",),
        ("evaluate", "generate"),
        (*EVALUATION,),
    ),
    "judged": Measured(
        "Mean score from 1 to 10 that a judge model gives, over questions judged in all settings; paired t-test.",
        "evaluate",
        (
            *("r2a_core/evaluation/judge.py", "r2a_core/evaluation/judge_message.py"),
            "r2a_core/evaluation/judged_scores.py",
        ),
        ("evaluate",),
        (FILES.judgements(*RUN), *EVALUATION),
    ),
    "funnel": Measured(
        "Responses that pass each step, in order: finished, one reasoning part, an answer, valid in all settings.",
        "evaluate",
        ("r2a_core/evaluation/funnel.py",),
        ("evaluate", "generate"),
        (*EVALUATION,),
    ),
    "items": Measured(
        "The reasoning names last, as far as a rule can tell: its last boxed answer; else the option in its last "
        "sentence that names any, if that names one alone; else, where the reference is a number, its last number. A "
        "check at the end can name another than the reasoning concludes.",
        "report",
        ("r2a_core/report/conclusions.py", "r2a_core/report/items.py"),
        ("report",),
        (*EVALUATION, FILES.generations(*RUN), FILES.items(RUN[1])),
    ),
    "boxes": Measured(
        "Sum of attention weights from a token to a part of the text, mean over the answer's (or reasoning's) tokens, "
        "layers and heads: one value a text. Box: quartiles; whiskers: 1.5 interquartile ranges. Even reading: spread "
        "over all tokens so far, sinks too.",
        "attention",
        ("r2a_core/attention/masses.py", "r2a_core/results.py"),
        ("capture", "attention"),
        (FILES.attention(*RUN),),
    ),
    "heads": Measured(
        "Mean over answer tokens and texts of one head's attention to a part of the text. More than even reading: "
        "focus above 0, the log-odds of its attention on the reasoning less those of even reading, sinks left out of "
        "both. Reasoning-Focus Heads: such heads among the first by attention on the reasoning (heads.top, "
        "heads.share).",
        "heads",
        ("r2a_core/attention/heads.py", "r2a_core/attention/masses.py"),
        ("heads",),
        (HEADS, FILES.attention(*RUN)),
    ),
    "readers": Measured(
        "The base model reads the very texts that the tuned model wrote; each head is measured in both. "
        "\u03c1: Spearman's rank correlation over heads.",
        "read",
        ("r2a_core/attention/readers.py",),
        ("run.readers", "heads"),
        (FILES.read_heads("{reader}", *RUN),),
    ),
    "walks": Measured(
        "Excess: a head's attention on the reasoning minus what a fit of its attention by distance alone predicts. "
        "More than even reading, sinks left out: here by the mean difference over traces, on the maps of heads by mean "
        "log-odds; near 0 the two can part. Not evenly: entropy on the reasoning below walks.near_uniform of even "
        "reading's. Odds: logistic regression of a wrong answer on the walk, with the length of the reasoning held.",
        "walks",
        ("r2a_core/walks/measures.py", "r2a_core/walks/part_reading.py", "r2a_core/walks/summary.py"),
        ("walks",),
        (FILES.walks(*RUN),),
    ),
    "walk": Measured(
        "Centroid: mean place in the reasoning, weighted by attention. r: correlation of the centroid with the place "
        "in the answer, rows weighted by their attention on the reasoning.",
        "maps",
        ("r2a_core/attention/walk.py", "r2a_core/attention/maps.py"),
        ("maps", "heads.walk"),
        (FILES.maps(*RUN), FILES.attention(*RUN)),
    ),
    "reader": Measured(
        "Attention from the token before the one that is written, whose output writes it. Sentences: from all answer "
        "tokens, divided by the tokens of the sentence and by even reading of all that each answer token sees. "
        "Lines: attention of the tokens of one on those of another, mean over both, divided by the same of even "
        "reading. p(answer): of the trace's own result, forced behind the first sentences. Centroid: mean place on "
        "the reasoning of all attention that the answer's tokens give it.",
        "maps, attention, perturb",
        ("r2a_core/attention/map_links.py", "r2a_core/attention/map_lines.py", "r2a_core/perturb/grid.py"),
        ("maps", "perturb"),
        (
            FILES.map_links(*RUN),
            FILES.map_lines(*RUN),
            FILES.map_tokens(*RUN),
            FILES.sentences(*RUN),
            FILES.perturb(*RUN),
        ),
    ),
    "curves": Measured(
        "(difference after the exchange \u2212 difference in the receiving run) / (difference in the giving run \u2212 "
        "difference in the receiving run), of the logits of the two answers: 0 nothing, 1 the whole way. Mean over "
        "pairs; bands: one standard deviation.",
        "patch",
        ("r2a_core/pairs/align.py", "r2a_core/patching/summary.py"),
        ("pairs", "patch"),
        (*PATCHING,),
    ),
    "cells": Measured(
        "As above, for one pair: one position at the input of one layer is exchanged at a time.",
        "patch",
        ("r2a_core/patching/sweep.py", "r2a_core/patching/metrics.py"),
        ("pairs", "patch"),
        (*PATCHING,),
    ),
    "head-patches": Measured(
        "As above, but the output of one head at one position is exchanged. Set z in patch.sweep.components and "
        "with_z in capture.",
        "patch",
        ("r2a_core/patching/sweep.py", "r2a_core/patching/metrics.py"),
        ("pairs", "patch"),
        (*PATCHING,),
    ),
    "cuts": Measured(
        "(log-probability of the answer \u2212 that with the cut) / tokens of the answer, in nats; from </think> on "
        "the chosen heads do not see the reasoning. p: share of the random sets of the same layers, and of the set "
        "itself, that cost as much: 1 of 21 where none of 20 does.",
        "knockout",
        (
            *("r2a_core/knockout/prefix.py", "r2a_core/knockout/cut.py", "r2a_core/knockout/run.py"),
            *("r2a_core/knockout/sets.py", "r2a_core/knockout/summary.py"),
        ),
        ("knockout",),
        (FILES.knockout(*RUN),),
    ),
    "changes": Measured(
        "The answer is forced after a changed reasoning: cut after a sentence, with wrong values, of another question, "
        "of filler, reworded. Boundary: the cut at which the answer's probability rises most.",
        "perturb",
        (
            *("r2a_core/perturb/arms.py", "r2a_core/perturb/edits.py", "r2a_core/perturb/mistakes.py"),
            *("r2a_core/perturb/paraphrase.py", "r2a_core/perturb/summary.py"),
        ),
        ("perturb",),
        (FILES.perturb(*RUN),),
    ),
    "agreements": Measured(
        "AUC of two models: share of the pairs, one answer that depends on the trace by how its model was trained and "
        "one that does not, in which the measure is higher for the first; 0.5 is chance. Told apart: the interval of "
        "every pair of models lies above 0.5, clearly if above 0.7; reversed: that of one lies below 0.5. Agreement: "
        "Spearman's \u03c1 over items, ranked within their dataset; dots where more clearly than items dealt at random "
        "(5%, Holm over all pairs). Intervals: 95%; of AUCs Newcombe's, wider where items vary more; of agreement "
        "bootstrap over items. Mass over even reading: sinks left out.",
        "instruments",
        ("r2a_core/instruments/values.py", "r2a_core/instruments/statistics.py", "r2a_core/instruments/belief.py"),
        ("instruments",),
        (FILES.instruments("auc"), FILES.instruments("agreement"), FILES.instruments("truth")),
    ),
    "hidden": Measured(
        "All rows behind a sentence lose its keys, in every head and layer. KL: divergence of the changed next-token "
        "distributions from the unchanged ones, mean over the rows that write the answer. Kurtosis: of the attention "
        "that each sentence gets from later ones, over sentences; high where few draw much.",
        "sentences",
        ("r2a_core/sentences/suppress.py", "r2a_core/sentences/receivers.py", "r2a_core/sentences/summary.py"),
        ("sentences",),
        (FILES.hidden_sentences(*RUN), FILES.receivers(*RUN)),
    ),
}

GLOSSARY = {
    "share of attention (mass)": "Of all attention that a token gives to the text before it (together 1), the part "
    "that falls on a piece of text.",
    "even reading": "Attention spread evenly over all tokens seen so far: what a piece of text gets that nothing "
    "chooses. Boxes, sentences and lines stand beside it as it is, sinks too. Where a head is compared with it, sinks "
    "are left out of both sides, and the page says so.",
    "sink": "The first token, and any other that draws attention whatever the text says: more than 0.3 of a layer's.",
    "focus": "How much more than even reading a head reads the reasoning, sinks left out: log-odds; 0 is even.",
    "layer": "One of the steps in which a model computes, in order; its input is what the steps before made.",
    "head": "One of the parts of a layer that each look at the text in their own way; L3.H1 is head 1 of layer 3.",
    "Reasoning-Focus Head": "One of the heads with the largest share on the reasoning while the answer is written that "
    "also read it more than even reading does.",
    "induction head, retrieval head": "A head that finds what followed the same token before; a head that copies a "
    "wanted piece of a long text.",
    "walk": "A head walks when it moves through the reasoning in order while the answer is written. r near 1: in step; "
    "near 0: not.",
    "reflection phrase": "Words such as \u201cwait\u201d at which the reasoning turns back on itself.",
    "closing sentence (probe)": "A sentence that this study adds to the end of the reasoning of both questions of a "
    "pair, such as \u201cFinal answer is A.\u201d",
    "named answer (flipping token)": "The answer in the closing sentence, one token, in which the closing sentences of "
    "the two questions differ. Most other words of the two reasonings differ too, and are not exchanged.",
    "exchange (patching)": "At one position and layer, the model's inner state is replaced by that from a question "
    "with the opposite answer.",
    "restored difference (NLD)": "How far an exchange moves the answer: 0 not at all, 1 all the way to "
    "the other answer.",
    "knock-out": "Chosen heads no longer see the reasoning while the answer is written.",
    "nats per token": "Unit of lost log-probability: 0.69 nats halve the probability of each token.",
    "boundary": "The sentence of the reasoning that settles the answer: after it, the answer becomes likely all at "
    "once.",
    "placeholder": "What a model reads between the tags in the setting without reasoning, in the place of reasoning.",
    "valid": "Finished, with one reasoning part and an answer that can be read.",
    "guessing": "The share that is right by chance among the options that a question names.",
}
