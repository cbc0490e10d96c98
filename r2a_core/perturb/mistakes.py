"""Where a mistake is put into a trace, whose reasoning the model then goes on with (Lanham et al.'s "adding mistakes").

Reading, options of the question, params `perturb` -> Arms that end where the rest is to be written. Needs no torch.
"""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

from r2a_core.config import PerturbParams
from r2a_core.perturb.arms import Arm
from r2a_core.perturb.edits import Edit, edited, wrong_values
from r2a_core.perturb.grid import random_of
from r2a_core.perturb.reading import Reading
from r2a_core.tokenizer import LoadedTokenizer, plain_ids


def mistake_arms(
    tokenizer: LoadedTokenizer, reading: Reading, options: Sequence[str], params: PerturbParams
) -> Iterator[Arm]:
    """Yield the trace up to a sentence in which one value is wrong, and the same without a wrong value.

    Taken are sentences with a value: those whose middles are nearest to those of `perturb.free.mistakes` even parts of
    the trace.
    """
    total, most = len(reading.sentences), params.free.mistakes if params.free else 0
    wrong = mistakes(tokenizer, reading, options, params.seed)
    middles = [(2 * part + 1) * total for part in range(most if wrong else 0)]  # in sentences / (2 * most)
    nearest = {min(wrong, key=lambda each: (abs((2 * each - 1) * most - middle), each)) for middle in middles}
    for kept in sorted(nearest):
        for part, edits in (("made", (wrong[kept],)), ("none", ())):
            body = edited(reading, reading.first_sentences(kept), edits)
            yield Arm("mistake", part, kept / total, reading.with_body(body, closed=False), kept, edits)


def mistakes(tokenizer: LoadedTokenizer, reading: Reading, options: Sequence[str], seed: int) -> dict[int, Edit]:
    """Draw one wrong value for each sentence, by its number from 1 on, that has any: a number, or else an option."""
    found: dict[int, Edit] = {}
    families: tuple[Literal["option", "number"], ...] = ("option", "number")
    for family in families:  # a number takes the place of an option
        generator: random.Random = random_of(seed, reading.trace.item_id, f"mistake {family}")
        edits = wrong_values(partial(plain_ids, tokenizer), reading, family, options, generator)
        for kept, sentence in enumerate(reading.sentences, 1):
            own = [edit for edit in edits if sentence.start <= edit.tokens.start and edit.tokens.stop <= sentence.stop]
            if own:
                found[kept] = generator.choice(own)
    return found
