"""The numbers that the paper publishes (arXiv 2509.23676), once: figures, page and tests take them from here.

Keys are entries of `models` and `datasets` in params.yaml; a model or dataset of another name has no published number.
Medians and heads are recomputed from the per-trace data published with the paper (see tests/published), the curves
of Figure 8 read from its vector figure.
"""

from dataclasses import dataclass

from r2a_core.trace import SEGMENTS, Setting

MATHS, CHAT = "math500", "wildbench"  # the paper's datasets


@dataclass(frozen=True)
class PublishedAccuracy:
    """Accuracy over the items valid in both settings, percent."""

    with_reasoning: float
    without_reasoning: float


@dataclass(frozen=True)
class PublishedScore:
    """Mean judge scores, 1 to 10, and the number of items behind them."""

    with_reasoning: float
    without_reasoning: float
    n: int


@dataclass(frozen=True)
class PublishedPatching:
    """Figure 8, by probe: highest mean NLD of the flipping token and of the last position, and where they cross."""

    n_pairs: int
    flip: dict[str, float]
    final: dict[str, float]
    crossing: dict[str, float]  # layer, interpolated


# Figure 1a (temperature 0.6) and Table 3 (greedy), MATH-500.
ACCURACY_SAMPLED = {
    "r1_llama_8b": PublishedAccuracy(93.5, 79.7),
    "r1_qwen_7b": PublishedAccuracy(94.3, 84.0),
    "r1_qwen_1b5": PublishedAccuracy(89.5, 81.0),
    "r1_full": PublishedAccuracy(96.1, 90.6),
}
ACCURACY_GREEDY = {
    "r1_llama_8b": PublishedAccuracy(94.1, 77.5),
    "r1_qwen_7b": PublishedAccuracy(95.4, 84.8),
    "r1_qwen_1b5": PublishedAccuracy(95.6, 86.8),
}
COMMON_ITEMS = {"r1_llama_8b": 355, "r1_qwen_7b": 457, "r1_qwen_1b5": 400, "r1_full": 490}  # Table 2, sampled

# Figure 1b, WildBench.
_AREAS = ("coding & analysis", "creative tasks", "information seeking", "reasoning & planning", "overall")
_SCORES = {
    "r1_llama_8b": ((6.6, 6.5, 150), (7.5, 6.6, 213), (6.8, 6.5, 106), (7.3, 7.0, 164), (7.1, 6.6, 633)),
    "r1_qwen_7b": ((6.1, 6.1, 146), (6.7, 6.1, 203), (6.2, 5.9, 105), (6.7, 6.6, 159), (6.5, 6.2, 613)),
    "r1_qwen_1b5": ((5.0, 5.0, 117), (5.4, 4.7, 146), (4.9, 4.5, 90), (5.5, 4.9, 133), (5.2, 4.8, 486)),
    "r1_full": ((8.1, 8.1, 167), (8.3, 8.4, 213), (8.1, 8.2, 106), (8.4, 8.3, 171), (8.3, 8.2, 657)),
}
JUDGE_SCORES = {
    model: {area: PublishedScore(*row) for area, row in zip(_AREAS, rows, strict=True)}
    for model, rows in _SCORES.items()
}

# Figure 2: medians over 100 traces of MATH-500 with reasoning, attention mass from answer rows, in order of SEGMENTS.
SEGMENT_MEDIANS = {
    "r1_llama_8b": (0.6177, 0.0130, 0.0001, 0.1359, 0.0004, 0.2313),
    "r1_qwen_7b": (0.1033, 0.1380, 0.0002, 0.2901, 0.0087, 0.4653),
    "r1_qwen_1b5": (0.1642, 0.0293, 0.0011, 0.2526, 0.0116, 0.5430),
}

# Figure 3: the ten (layer, head) with the highest trace mean of answer -> reasoning, MATH-500, highest first.
REASONING_FOCUS_HEADS = {
    "r1_llama_8b": ((8, 11), (0, 22), (13, 18), (13, 6), (16, 1), (10, 31), (8, 9), (13, 5), (13, 4), (14, 29)),
    "r1_qwen_7b": ((16, 0), (19, 15), (14, 7), (1, 1), (17, 18), (17, 14), (16, 14), (14, 19), (22, 7), (17, 19)),
    "r1_qwen_1b5": ((16, 2), (1, 5), (19, 1), (12, 1), (16, 11), (16, 0), (14, 3), (0, 0), (20, 9), (16, 3)),
}
FIRST_HEAD_MASS = {"r1_llama_8b": 0.828, "r1_qwen_7b": 0.911, "r1_qwen_1b5": 0.887}  # mass of the first of them

# Figure 7, pentagon and hexagon: highest NLD and its layer at the flipping token and at the last position.
EXAMPLE_PAIR = {
    "r1_llama_8b": {"flip": (0.287, 11), "final": (0.773, 31)},
    "r1_qwen_7b": {"flip": (0.434, 2), "final": (0.969, 27)},
    "r1_qwen_1b5": {"flip": (0.516, 10), "final": (0.965, 25)},
}
EXAMPLE_PAIR_OTHER = 0.025  # no other probe position reaches this NLD

PATCHING = {
    "r1_llama_8b": PublishedPatching(
        59, {"plain": 0.287, "boxed": 0.376}, {"plain": 0.800, "boxed": 0.821}, {"plain": 14.65, "boxed": 16.47}
    ),
    "r1_qwen_7b": PublishedPatching(
        67, {"plain": 0.422, "boxed": 0.467}, {"plain": 0.967, "boxed": 0.933}, {"plain": 19.72, "boxed": 22.17}
    ),
    "r1_qwen_1b5": PublishedPatching(
        22, {"plain": 0.361, "boxed": 0.515}, {"plain": 0.883, "boxed": 0.919}, {"plain": 20.15, "boxed": 20.89}
    ),
}


def accuracy(model: str, dataset: str, decoding: str) -> PublishedAccuracy | None:
    """Look up the accuracies of a run; None where the paper has none."""
    if dataset != MATHS:
        return None
    return (ACCURACY_GREEDY if decoding == "greedy" else ACCURACY_SAMPLED).get(model)


def judge_score(model: str, dataset: str, area: str) -> PublishedScore | None:
    """Look up the judge scores of an area, or `overall`; None where the paper has none."""
    return JUDGE_SCORES.get(model, {}).get(area) if dataset == CHAT else None


def segment_medians(model: str, dataset: str, setting: Setting | str) -> dict[str, float] | None:
    """Look up the median attention mass of each segment; None where the paper has none."""
    if (dataset, setting) != (MATHS, "with_reasoning") or model not in SEGMENT_MEDIANS:
        return None
    return dict(zip(SEGMENTS, SEGMENT_MEDIANS[model], strict=True))
