"""Other words for the same, where they cannot change what a sentence says: the paraphrase of a trace.

A phrase is replaced only in the position in which it is an adverb or a conjunction of its whole sentence: "First, we"
and never "the first", "at first" or "first of all" as a part. Rather too few phrases than a wrong one. Needs no torch.
"""

import re

from r2a_core.perturb.edits import capital

SENTENCE = r"(?:\A|(?<=\n)|(?<=[.!?]\s))"  # where one starts
CLAUSE = rf"(?:{SENTENCE}|(?<=,\s)|(?<=\b[Ss]o\s)|(?<=\b[Nn]ow\s))"
PEOPLE = r"(?:I|we|he|she|it|they)\b"
SUBJECT = rf"(?:{PEOPLE}|(?:this|there|the|\d+|[A-Z][a-z]+)\b)"
ACTS = "think|check|double|see|try|verify|compute|calculate|recall|write|start|begin|break|build|keep|read|count"

WORDINGS = {  # before, after -> phrase -> what says the same in this position
    (SENTENCE, ","): {
        "okay": "all right",
        "alright": "very well",
        "hmm": "well",
        "wait": "hold on",
        "first": "to begin with",
        "first of all": "to begin with",
        "at first": "in the beginning",
        "also": "in addition",
        "similarly": "likewise",
        "for example": "for instance",
        "in other words": "put differently",
        "on the other hand": "by contrast",
    },
    (SENTENCE, rf",?\s{SUBJECT}"): {
        "so": "thus",
        "thus": "hence",
        "hence": "thus",
        "therefore": "as a result",
        "finally": "in the end",
    },
    (SENTENCE, r"\s(?:(?:he|she|they)|[A-Z][a-z]+)\b"): {"then": "after that"},
    (rf"(?:{SENTENCE}|(?<=,\s))", rf"\s{PEOPLE}"): {"but": "yet"},
    (r"(?<=,\s)", rf"\s{PEOPLE}"): {"because": "since"},
    (r"(?<=,\s)", rf"\s(?:that|there|{PEOPLE})"): {"which means": "which implies"},
    (CLAUSE, rf"\s(?:{ACTS})\b"): {"let me": "I will"},
    (CLAUSE, r"\s[a-z]+\b"): {"i have to": "I must", "i need to": "I must"},
}

OTHER = {phrase: other for rules in WORDINGS.values() for phrase, other in rules.items()}

PHRASES = re.compile(
    "|".join(
        rf"{before}(?i:{'|'.join(sorted(rules, key=len, reverse=True))})(?={after})"
        for (before, after), rules in WORDINGS.items()
    )
)


def reworded(text: str, *_: object) -> str:
    """The other wording, with a capital where the text has one."""
    new = OTHER[text.lower()]
    return capital(new) if text[0].isupper() else new
