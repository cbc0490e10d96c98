"""The colours, labels and lines by which figures and page show the same thing; the page gets them with its data."""

from dataclasses import dataclass

# Okabe and Ito's colours, which stay apart for every kind of colour blindness.
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"

SKY, PURPLE, YELLOW, INK = "#56b4e9", "#cc79a7", "#f0e442", "#222222"

RED = "#d62728"  # Reasoning-Focus Heads, and the answer's view of the reasoning

PALETTE = (
    BLUE,
    ORANGE,
    GREEN,
    VERMILION,
    SKY,
    PURPLE,
)  # of series without a colour of their own; readable on white and on black


@dataclass(frozen=True)
class Look:
    """How figures and page show one thing."""

    label: str
    colour: str
    dash: tuple[int, ...] = ()  # lengths of dashes and gaps, points or pixels; () = a whole line


CURVES = {  # of patching, by curve (see patching/summary.py) in drawing order; curves but `final` are roles of tokens
    "flip": Look("named answer (flipping token)", BLUE),
    "final": Look("last token before the answer", VERMILION),
    "think_close": Look("</think>", GREEN, (6, 3)),
    "probe": Look("rest of the closing sentence", PURPLE, (2, 3)),
    "answer_end": Look("answer end, without its last token", ORANGE, (8, 3, 2, 3)),
}
EXCHANGE_AXES = {"across": "layer whose input is exchanged", "up": "moved (NLD)"}
HEAD_KINDS = {  # colours of the marks on head maps: a frame, a triangle, a circle
    "rfh": Look("Reasoning-Focus Head", RED),
    "induction": Look("induction head", "#ffffff"),
    "retrieval": Look("retrieval head", ORANGE),
}
SETTING_COLOURS = {"with_reasoning": BLUE, "without_reasoning": ORANGE}
CUT_COLOURS = {"mask": BLUE, "zero": ORANGE, "zero_head": RED, "mean_head": PURPLE}  # of knock-outs, by kind
CUT_CURVES = {  # over the share of sentences that stay
    "same": Look("same answer", BLUE),
    "p": Look("p(answer)", ORANGE),
    "score": Look("right", PURPLE, (6, 3)),
}
MISTAKES = {  # over the place of a wrong value
    "made": Look("same, with a mistake there and the rest written anew", VERMILION),
    "none": Look("same, with the rest written anew from there", GREEN),
}
