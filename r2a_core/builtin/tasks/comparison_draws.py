"""Drawing comparisons: in many wordings, and pairs of questions that differ in their context alone.

Pairs are in the paper's form, on the test side of the split, and have opposite answers.
"""

from random import Random

from r2a_core.builtin.held_out import is_held_out
from r2a_core.builtin.tasks.comparisons import BY_PURPOSE, BY_QUALITY, PAPER_FORM, ComparisonProblem
from r2a_core.builtin.tasks.things import DOMAINS, Context, Domain, Frame
from r2a_core.builtin.tasks.writing import HELD_OUT_SHARE


def draw(rng: Random) -> ComparisonProblem:
    """Draws a comparison of two things that clearly differ in what is asked."""
    while True:
        domain = rng.choice(DOMAINS)
        first, second = rng.sample(domain.things, 2)
        if rng.random() < 0.5:
            frame = rng.choice(domain.frames)
            problem = in_context(domain, first, second, frame, rng.choice(frame.contexts), rng.randrange(2))
        else:
            quality = rng.choice(list(domain.qualities.values()))
            if quality.purposes and rng.random() < 0.5:
                context, much = rng.choice(quality.purposes)
                problem = ComparisonProblem(
                    domain, first, second, quality, much, "better", context, rng.choice(BY_PURPOSE)
                )
            else:
                much = rng.random() < 0.5
                word = quality.more if much else quality.less
                problem = ComparisonProblem(domain, first, second, quality, much, word, "", rng.choice(BY_QUALITY))
        if domain.differ(problem.quality.name, first, second):
            return problem


def in_context(domain: Domain, first: str, second: str, frame: Frame, context: Context, side: int) -> ComparisonProblem:
    """Makes a question of the paper's form. side: 0 for the first comparator of the frame, 1 for its opposite."""
    quality, much = domain.qualities[context.quality], context.much == (side == 0)
    return ComparisonProblem(domain, first, second, quality, much, frame.comparators[side], context.phrase, PAPER_FORM)


def draw_pair(rng: Random) -> tuple[ComparisonProblem, ComparisonProblem]:
    """Draws two held-out questions that differ in their context alone and have opposite answers."""
    while True:
        clean = draw(rng)
        if clean.form != PAPER_FORM or not is_held_out(clean.key, HELD_OUT_SHARE):
            continue
        frame = next(each for each in clean.domain.frames if clean.asked_word in each.comparators and has(each, clean))
        side = frame.comparators.index(clean.asked_word)
        other = in_context(clean.domain, clean.first, clean.second, frame, rng.choice(frame.contexts), side)
        differs = other.domain.differ(other.quality.name, other.first, other.second)
        if differs and other.gold != clean.gold:
            return clean, other


def has(frame: Frame, problem: ComparisonProblem) -> bool:
    """Checks whether a frame has the context of a problem."""
    return any(context.phrase == problem.context for context in frame.contexts)
