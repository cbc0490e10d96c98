"""Where traces are cut, and the random numbers of their changes: what arms and their summary share."""

import random

GRID = 20  # steps of the fractions at which a trace of more sentences is cut


def cut_counts(n_sentences: int) -> list[int]:
    """Numbers of sentences to keep: each from 0 on; of a long trace those at 21 even fractions."""
    return [*range(n_sentences + 1)] if n_sentences <= GRID else [at_fraction(n_sentences, n) for n in range(GRID + 1)]


def at_fraction(n_sentences: int, step: int) -> int:
    """The number of sentences at `step` of GRID, rounded half up."""
    return (2 * step * n_sentences + GRID) // (2 * GRID)


def random_of(seed: int, item_id: str, what: str) -> random.Random:
    """A generator that depends on seed, item and purpose alone."""
    return random.Random(f"{seed}\0{item_id}\0{what}")
