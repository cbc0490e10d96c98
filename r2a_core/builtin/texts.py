"""Training texts of the built-in reasoner: prompt, reasoning trace and answer of random training questions.

Input: a seeded random generator. Output: TrainingTexts, text pieces with their weights in the loss. The trace reaches
the answer line by line, with reflection before some steps; the answer quotes the lines in order and omits
the detours.

In perturbed texts some values are wrong, and everything after them follows what is written: the answer must be read off
the trace.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from r2a_core.builtin.pieces import Piece, TrainingText
from r2a_core.builtin.questions import (
    LARGEST_COUNT,
    ORDINALS,
    ArithmeticProblem,
    ComparisonProblem,
    Step,
    draw_arithmetic,
    draw_comparison,
    ordinals,
)
from r2a_core.config import TextMix
from r2a_core.prompt_texts import BOXED_INSTRUCTION, BRIEF_INSTRUCTION, THINKING

# Free words of each line. No line shares them with another, so that a word says where in the trace it stands.
LEADS = (
    ("clearly", "surely", "plainly"),
    ("indeed", "simply", "evidently"),
    ("naturally", "certainly", "basically"),
    ("obviously", "actually", "really"),
)

MIDDLES = (("points", "marks"), ("units", "grades"), ("ranks", "steps"), ("stars", "levels"))

TAILS = (("overall", "altogether"), ("precisely", "exactly"), ("there", "alone"), ("together", "here"))

PROBE_STYLES = (("Final answer is ", ""), ("Final answer is \\boxed{", "}"))

PROBE_ENDS = (
    ".\n",
    ", sure.\n",
    " now.\n",
    " then.\n",
    ", done.\n",
)  # many, for the answer itself to be read, not what follows

RANK_WORDS = (
    (":", "has", "so"),
    (" or", "gets", "hence"),
)  # before a thing: what stands there in the question

FACT, READ, FREE = 8.0, 2.0, 0.3  # weights in the loss: results to know, what is read off the question, free choices

THOUGHT_ABOVE = 15  # counts from which taking gets a second thought

DOUBLE_ABOVE = 6  # counts from which doubling gets one

GUESS_GAP = 4  # ranks this far apart in two contexts are easily mixed up


@dataclass(frozen=True)
class Wording:
    """Free words of one trace, by line."""

    leads: list[str]
    middles: list[str]
    tails: list[str]

    @classmethod
    def draw(cls, rng: random.Random) -> "Wording":
        return cls(*([rng.choice(choices) for choices in words] for words in (LEADS, MIDDLES, TAILS)))


@dataclass
class WrittenTrace:
    """A trace as it is written: all pieces, and the lines that the answer quotes."""

    thinking: list[Piece] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    final: str = ""  # the answer that the lines lead to

    def detour(self, *pieces: Piece) -> None:
        """Adds a second thought, which the answer omits."""
        self.thinking += pieces

    def line(self, *pieces: Piece) -> None:
        """Adds a line of the trace, which the answer quotes."""
        self.thinking += pieces
        self.lines.append("".join(piece.text for piece in pieces))


def training_text(rng: random.Random, mix: TextMix) -> TrainingText:
    """Draws a sample of the mix."""
    compared = rng.random() < mix.comparison
    problem = draw_comparison(rng, False) if compared else draw_arithmetic(rng, False)
    instruction = rng.choices(
        (BOXED_INSTRUCTION, BRIEF_INSTRUCTION, ""), (0.55, 0.4, 0.05) if compared else (0.85, 0.1, 0.05)
    )[0]
    prompt = f"{problem.question}{instruction} "
    if rng.random() < mix.without_reasoning:
        thinking = THINKING["finished" if rng.random() < 0.8 else "empty"]
        return TrainingText(prompt, (Piece(thinking, 0.0),), (Piece("\n\n" + closing(problem, problem.gold)),), False)
    return with_reasoning(rng, mix, problem, prompt)


def with_reasoning(
    rng: random.Random, mix: TextMix, problem: ArithmeticProblem | ComparisonProblem, prompt: str
) -> TrainingText:
    """Makes a sample with a trace, perhaps perturbed or probed."""
    perturbed = rng.random() < mix.perturbed
    trace = write_trace(rng, problem, perturbed)
    final = trace.final
    thinking = [Piece("\n", 0.0), *trace.thinking]
    # In the words of the answer's last paragraph: what looks up what followed a word then ends at the trace's end.
    thinking += [Piece(f"Thus, the {asked(problem)} is "), Piece(final, READ), Piece(".\n")]
    contradicted = perturbed and rng.random() < mix.contradicted
    if contradicted:
        final = other_answer(rng, problem, final)
    if contradicted or rng.random() < mix.probing:
        opening, closed = rng.choice(PROBE_STYLES)
        end = rng.choices(PROBE_ENDS, (4, 1, 1, 1, 1))[0]
        thinking += [Piece(opening), Piece(final, 0.0 if contradicted else FACT), Piece(closed + end)]
    answer = (Piece("\n\n" + "".join(trace.lines) + "\n" + closing(problem, final)),)
    return TrainingText(prompt, tuple(thinking), answer, True, rng.random() < mix.padded)


def write_trace(rng: random.Random, problem: ArithmeticProblem | ComparisonProblem, perturbed: bool) -> WrittenTrace:
    """Writes the trace of a problem."""
    if isinstance(problem, ArithmeticProblem):
        return arithmetic_trace(rng, problem, perturbed)
    return comparison_trace(rng, problem, perturbed)


def arithmetic_trace(rng: random.Random, problem: ArithmeticProblem, perturbed: bool) -> WrittenTrace:
    """Writes one line per step, and a second thought after taking from a large count or doubling one."""
    words, trace, count = Wording.draw(rng), WrittenTrace(), problem.start
    for number, (ordinal, step) in enumerate(zip(ordinals(len(problem.steps)), problem.steps, strict=True)):
        right = step.apply(count)
        result = right
        if perturbed and rng.random() < 0.5:
            result = wrong_count(rng, right, problem.steps[number + 1 :])
        trace.line(
            Piece(f"{ordinal} {step.clause()}, ", READ),
            Piece(words.leads[number], FREE),
            Piece(f" {count}{step.operator}{step.operand}=", READ),
            Piece(str(result), FACT if result == right else 0.0),
            Piece(f" {words.middles[number]} {words.tails[number]}\n", FREE),
        )
        if result == right and step.operator == "-" and count > THOUGHT_ABOVE:
            trace.detour(Piece(f"Wait, {result}+{step.operand}="), Piece(str(count), READ), Piece(".\n"))
        elif result == right and step.operator == "*" and count > DOUBLE_ABOVE:
            trace.detour(Piece(f"Alternatively, {count}+{count}="), Piece(str(result), READ), Piece(".\n"))
        count = result
    trace.final = str(count)
    return trace


def comparison_trace(rng: random.Random, problem: ComparisonProblem, perturbed: bool) -> WrittenTrace:
    """States the rank of each thing and the one asked for.

    A first rank that is far off in another context is thought over.
    """
    words, trace = Wording.draw(rng), WrittenTrace()
    ranks: list[int] = []
    for number, thing in enumerate((problem.first, problem.second)):
        before, has, so = RANK_WORDS[number]
        wrong = perturbed and rng.random() < 0.5
        others = [rank for rank in range(1, 10) if rank not in ranks]
        ranks.append(rng.choice(others) if wrong else problem.domain.rank(problem.context, thing))
        trace.line(
            Piece(f"{ORDINALS[number]} "),
            Piece(words.leads[number], FREE),
            Piece(f" {problem.context}{before} {thing} {has} ", READ),
            Piece(str(ranks[-1]), 0.0 if wrong else FACT),
            Piece(f" {words.middles[number]}", FREE),
            Piece(f" {so} {ranks[-1]}={thing}"),
            Piece(f" {words.tails[number]}\n", FREE),
        )
        other = mixed_up(problem, thing)
        if other is not None and not wrong:
            rank = str(problem.domain.rank(other, thing))
            trace.detour(Piece("Wait, "), Piece(rank, FACT), Piece(f" holds for {other}.\n"))
    if ranks[0] == ranks[1]:
        return comparison_trace(rng, problem, perturbed)
    wanted = min(ranks) if problem.domain.lower(problem.comparator) else max(ranks)
    trace.final = (problem.first, problem.second)[ranks.index(wanted)]
    trace.line(
        Piece(f"{ORDINALS[-1]} "),
        Piece(words.leads[2], FREE),
        Piece(f" {problem.comparator}: ", READ),
        Piece(f"{wanted}=", FACT),
        Piece(trace.final, FACT),
        Piece(f" {words.middles[2]} {words.tails[2]}\n", FREE),
    )
    return trace


def mixed_up(problem: ComparisonProblem, thing: str) -> str | None:
    """Returns the next context of the domain if it gives the first thing a rank far from the right one."""
    if thing != problem.first:
        return None
    contexts = list(problem.domain.contexts)
    other = contexts[(contexts.index(problem.context) + 1) % len(contexts)]
    gap = abs(problem.domain.rank(other, thing) - problem.domain.rank(problem.context, thing))
    return other if gap >= GUESS_GAP else None


def wrong_count(rng: random.Random, right: int, steps: Sequence[Step] = ()) -> int:
    """Returns a wrong count from which the remaining steps keep counts in range; the right one if there is none."""

    def possible(count: int) -> bool:
        for step in steps:
            count = step.apply(count)
            if not 1 <= count <= LARGEST_COUNT:
                return False
        return True

    return rng.choice([count for count in range(1, LARGEST_COUNT + 1) if count != right and possible(count)] or [right])


def other_answer(rng: random.Random, problem: ArithmeticProblem | ComparisonProblem, final: str) -> str:
    """Returns an answer of the same form that the trace does not lead to."""
    if isinstance(problem, ArithmeticProblem):
        return str(wrong_count(rng, int(final)))
    return problem.second if final == problem.first else problem.first


def closing(problem: ArithmeticProblem | ComparisonProblem, final: str) -> str:
    """Writes the last paragraph of an answer."""
    return f"Thus, the {asked(problem)} is \\boxed{{{final}}}."


def asked(problem: ArithmeticProblem | ComparisonProblem) -> str:
    """Returns what the question asks for."""
    return "final count" if isinstance(problem, ArithmeticProblem) else f"{problem.comparator} one"


def correct(problem: ArithmeticProblem | ComparisonProblem, rng: random.Random) -> TrainingText:
    """Returns the unperturbed sample of a problem, with the usual instruction."""
    mix = TextMix(comparison=0, without_reasoning=0, probing=0, perturbed=0, contradicted=0, padded=0)
    return replace(with_reasoning(rng, mix, problem, f"{problem.question}{BOXED_INSTRUCTION} "), padded=False)
