"""Which problems are kept for testing, and draws of which none comes twice.

the key of a problem -> its side of the split, by a hash; a draw and a seeded random generator -> distinct draws
"""

import hashlib
from collections.abc import Callable, Iterator
from random import Random
from typing import TypeVar

from r2a_core.infra.errors import R2AError

Drawn = TypeVar("Drawn")


def is_held_out(key: str, share: int) -> bool:
    """Checks whether the problems with this key are kept for testing, as one in `share` of the keys is."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % share == 0


def distinct(draw: Callable[[Random], Drawn], name: Callable[[Drawn], str], rng: Random, tries: int) -> Iterator[Drawn]:
    """Yields draws endlessly, none twice by name. Raises R2AError when `tries` draws in a row bring no new one."""
    seen: set[str] = set()
    while True:
        for _ in range(tries):
            drawn = draw(rng)
            if name(drawn) not in seen:
                break
        else:
            raise R2AError(f"there are only {len(seen)} built-in questions of this kind", "ask for fewer")
        seen.add(name(drawn))
        yield drawn
