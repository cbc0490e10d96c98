"""The tokenizer of the built-in reasoners: every byte is a token, so any text survives; the words of the built-in questions and
traces, and common English and LaTeX pieces, are single tokens. Of all ways to cut a text, the one with the fewest tokens holds.

Things and comparators carry no space, so that a thing is the same token wherever it stands; the spaces belong to the words
around them. Digits are single tokens. Nothing is learned: the vocabulary below is the tokenizer.
"""

from typing import TYPE_CHECKING

from r2a_core.data.builtin import CITIES, DOMAINS, GOODS, NAMES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
SPECIAL = (BOS, EOS, PAD, THINK_OPEN, THINK_CLOSE)

QUESTION_PIECES = (
    *("In ", "Considering ", " where ", ", ", " and ", ". What does ", ", which is ", ": ", " or ", "?"),
    *(" more than ", " less than ", " times as much as "),
    *(
        " Please reason step by step",
        " (but not overthinking)",
        ", and put your final answer within ",
        "\\boxed{",
        "}.",
    ),
    *("Okay, I think I have ", "finished thinking", ".\n", "\n\n"),
)
TRACE_PIECES = (
    *("Then ", "Now ", "Next ", "So ", "Here ", " = ", " makes ", " gives ", " is ", ";\n", " + ", " - ", " * "),
    *("Maybe ", ". ", "Wait, ", "that is not right", "Alternatively, ", "Let me ", "double check", "Compare ", " at "),
    *(" with ", "So the ", "answer", " one is ", "Thus, the ", "Final ", "}.\n"),
)
COMMON_PIECES = (
    *(
        " the",
        " of",
        " a",
        " to",
        " in",
        " is",
        " and",
        " that",
        " for",
        " it",
        " we",
        " so",
        " be",
        " as",
        " this",
        " are",
    ),
    *(
        " if",
        " by",
        " with",
        " can",
        " have",
        " on",
        " from",
        " which",
        " but",
        " at",
        " not",
        " then",
        " since",
        " need",
    ),
    *(" number", " value", " equal", " first", " second", " point", " because", " would", " will", " should", " there"),
    *(
        " they",
        " what",
        " when",
        " how",
        " all",
        " each",
        " other",
        " into",
        " find",
        " let",
        " me",
        " my",
        " I",
        " same",
    ),
    *(" also", " just", " right", " side", " angle", " line", " equation", " problem", " answer", " step", " check"),
    *("The", "But", "Let", "Since", "Therefore", "First", "Hmm", "Okay", "Wait", "Alternatively", "So", "If", "That"),
    *(
        "ing",
        "tion",
        "er",
        "ed",
        "es",
        "en",
        "on",
        "an",
        "re",
        "in",
        "th",
        "he",
        "at",
        "or",
        "ar",
        "al",
        "st",
        "nd",
        "le",
    ),
    *("ou", "it", "is", "te", "ve", "ent", "ation", "ally", "ment", "ight", "ould", "ome", "ere", "ess", "able", "ly"),
    *(
        "\\frac{",
        "\\sqrt{",
        "\\text{",
        "\\left",
        "\\right",
        "\\cdot",
        "\\times",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "}{",
        "**",
    ),
    *("  ", "    ", "        ", " \\", "^2", "_{", "^{", "x^", " x", " y", " n", " = \\", "}$", " $", "($", "$.", "$,"),
)
PIECE_SCORE, BYTE_SCORE, BREAK_SCORE = -1.0, -1.5, -1.2  # the cut with the largest sum holds
COMMON_SCORE = -1.01  # of two cuts with as many tokens, the one with our own pieces


def own_pieces() -> list[str]:
    """Tokens of the built-in questions and traces beyond single bytes, in order of id."""
    words = [*NAMES, *GOODS, *CITIES]
    for domain in DOMAINS:
        words += [domain.place, f" {domain.verb} ", f" {domain.infinitive}?", domain.greater, domain.smaller]
    return list(dict.fromkeys([*words, *QUESTION_PIECES, *TRACE_PIECES]))


def byte_letters(text: str) -> str:
    """`text` as the letters that stand for its UTF-8 bytes in a byte-level vocabulary."""
    from tokenizers.pre_tokenizers import ByteLevel

    return "".join(piece for piece, _ in ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text))


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """The tokenizer, the same on every call: bytes, own pieces, common pieces, then the special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    scores = dict.fromkeys(letters, BYTE_SCORE) | {byte_letters("\n"): BREAK_SCORE}
    for pieces, score in ((own_pieces(), PIECE_SCORE), (COMMON_PIECES, COMMON_SCORE)):
        for piece in pieces:
            scores.setdefault(byte_letters(piece), score) if len(piece) > 1 else None
    core = Tokenizer(models.Unigram(list(scores.items())))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # type: ignore[assignment]
    core.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    core.add_special_tokens([AddedToken(tag, normalized=False, special=True) for tag in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=32768,
    )
