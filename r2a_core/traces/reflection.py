"""Reflection phrases ("wait", "alternatively", ...) as token ranges of a trace (paper section 4, Figure 4)."""

import re
from collections.abc import Sequence

DEFAULT_PHRASES = ("wait", "alternatively", "double check", "double-check")


def reflection_ranges(pieces: Sequence[str], phrases: Sequence[str] = DEFAULT_PHRASES) -> list[range]:
    """Token ranges that spell a phrase, as whole words in any case, in order.

    `pieces`: the decoded text of each token; phrases may span several tokens.
    """
    if not phrases:
        return []
    starts, position = [], 0
    for piece in pieces:
        starts.append(position)
        position += len(piece)
    pattern = "|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True))
    found = []
    for match in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", "".join(pieces), flags=re.IGNORECASE):
        covered = [
            index
            for index, piece in enumerate(pieces)
            if starts[index] < match.end() and starts[index] + len(piece) > match.start()
        ]
        found.append(range(covered[0], covered[-1] + 1))
    return found
