"""Errors a user can act on. A stage prints them without a traceback: the sentence, then a hint on its own line.

Exit codes of every stage: 0 done, 1 bug (keeps its traceback), 2 usage, 3 missing prerequisite, 130 interrupted.
"""

import re

# Control characters but tab and newline, and marks that turn the direction of writing: a terminal obeys them.
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class R2AError(Exception):
    """A mistake in the input: what is wrong and where (`message`), and how to fix it (`hint`)."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = printable(message)  # it may quote a file or a server
        self.hint = printable(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class MissingPrerequisite(R2AError):  # noqa: N818  the name says it
    """Something outside the project is missing: a model, a token, a GPU, disk space."""

    exit_code = 3


def printable(text: str) -> str:
    """Replaces what a terminal would obey instead of showing it."""
    return UNPRINTABLE.sub("\ufffd", text)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
