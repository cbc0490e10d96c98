"""Training texts of the built-in reasoner: prompt, reasoning trace and answer of random training questions.

Input: a seeded random generator. Output: TrainingTexts, lists of text pieces with a mark on what is learnt. The trace reaches
the answer line by line, with reflection where a step is easily got wrong; the answer quotes the lines in order and leaves
the detours out.

In perturbed texts some values are wrong, and all that follows keeps to what is written: the answer must be read off the trace.
"""

import random
from dataclasses import dataclass, field, replace

from r2a_core.data.builtin import ArithmeticProblem, ComparisonProblem, draw_arithmetic, draw_comparison

BOXED_INSTRUCTION = " Please reason step by step, and put your final answer within \\boxed{}."
BRIEF_INSTRUCTION = " Please reason step by step (but not overthinking), and put your final answer within \\boxed{}."
FINISHED, EMPTY = "\nOkay, I think I have finished thinking.\n", "\n\n"

ORDINALS = ("First", "Second", "Third", "Fourth")
LEADS = ("clearly", "surely", "plainly", "indeed", "simply", "evidently", "naturally", "certainly", "basically", "obviously")
LINKS = ("gives", "makes", "yields", "brings", "means", "shows", "leaves", "says", "tells", "finds")
TAILS = ("overall", "altogether", "precisely", "exactly", "there", "alone", "then", "together", "here", "now")
GUESS_GAP = 4  # ranks this far apart in two contexts are easily mixed up


@dataclass(frozen=True)
class TextMix:
    """Shares of training samples, each 0..1."""

    comparison: float  # comparisons; the rest is arithmetic
    without_reasoning: float  # prompts that end the reasoning at once
    probing: float  # traces that end in "Final answer is X.", half of them boxed
    perturbed: float  # traces with wrong values that the answer follows
    contradicted: float  # of the perturbed: the probing phrase names another answer
    padded: float  # texts with padding at the starts of their segments


@dataclass(frozen=True)
class Piece:
    """A stretch of text; weight 0 marks what is given or wrong on purpose."""

    text: str
    learnt: bool = True


@dataclass(frozen=True)
class TrainingText:
    """One training sample. Full text: BOS + prompt + <think> + thinking + </think> + answer + EOS."""

    prompt: str
    thinking: tuple[Piece, ...]
    answer: tuple[Piece, ...]
    with_reasoning: bool
    padded: bool = False


@dataclass
class Phrases:
    """The wording of one trace: leads, links and tails, none used twice, so that each line can be told from the others."""

    leads: list[str]
    links: list[str]
    tails: list[str]

    @classmethod
    def draw(cls, rng: random.Random) -> "Phrases":
        return cls(*(rng.sample(words, len(ORDINALS)) for words in (LEADS, LINKS, TAILS)))

    def line(self, number: int, subject: str, link: bool = True) -> tuple[str, str]:
        """What stands before and after the statement of a line."""
        verb = f" {self.links[number]} " if link else ""
        return f"{ORDINALS[number]}, {self.leads[number]} {subject}{verb}", f" {self.tails[number]}.\n"


@dataclass
class Trace:
    """A trace as it is written: all pieces, and the lines that the answer quotes."""

    thinking: list[Piece] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    final: str = ""  # the answer that the lines lead to

    def detour(self, text: str) -> None:
        self.thinking.append(Piece(text))

    def line(self, before: str, value: str, after: str, learnt: bool = True) -> None:
        """A line of the trace; a value that is wrong on purpose is not learnt, but quoted."""
        self.thinking += [Piece(before), Piece(value, learnt), Piece(after)]
        self.lines.append(before + value + after)


def training_text(rng: random.Random, mix: TextMix) -> TrainingText:
    """A random sample of the mix."""
    compared = rng.random() < mix.comparison
    problem = draw_comparison(rng, False) if compared else draw_arithmetic(rng, False)
    instruction = rng.choices(
        (BOXED_INSTRUCTION, BRIEF_INSTRUCTION, ""), (0.55, 0.4, 0.05) if compared else (0.85, 0.1, 0.05)
    )[0]
    prompt = f"{problem.question}{instruction} "
    if rng.random() < mix.without_reasoning:
        thinking = FINISHED if rng.random() < 0.8 else EMPTY
        return TrainingText(prompt, (Piece(thinking, False),), (Piece("\n\n" + closing(problem, problem.gold)),), False)
    return with_reasoning(rng, mix, problem, prompt)


def with_reasoning(
    rng: random.Random, mix: TextMix, problem: ArithmeticProblem | ComparisonProblem, prompt: str
) -> TrainingText:
    """A sample with a trace, perhaps perturbed or probed."""
    perturbed = rng.random() < mix.perturbed
    trace = write_trace(rng, problem, perturbed)
    final = trace.final
    thinking = [Piece("\n", False), *trace.thinking]
    contradicted = perturbed and rng.random() < mix.contradicted
    if contradicted:
        final = other_answer(rng, problem, final)
    if contradicted or rng.random() < mix.probing:
        opening, end = rng.choice((("Final answer is ", ".\n"), ("Final answer is \\boxed{", "}.\n")))
        thinking += [Piece(opening), Piece(final, not contradicted), Piece(end)]
    answer = (Piece("\n\n" + "".join(trace.lines) + "\n" + closing(problem, final)),)
    return TrainingText(prompt, tuple(thinking), answer, True, rng.random() < mix.padded)


def write_trace(rng: random.Random, problem: ArithmeticProblem | ComparisonProblem, perturbed: bool) -> Trace:
    """The trace of a problem."""
    if isinstance(problem, ArithmeticProblem):
        return arithmetic_trace(rng, problem, perturbed)
    return comparison_trace(rng, problem, perturbed)


def arithmetic_trace(rng: random.Random, problem: ArithmeticProblem, perturbed: bool) -> Trace:
    """One line a step. Before a step that borrows or doubles above 20, a guess that is taken back."""
    phrases, trace, count = Phrases.draw(rng), Trace(), problem.start
    for number, step in enumerate(problem.steps):
        right = step.apply(count)
        if step.operator == "-" and right // 10 != count // 10:
            trace.detour(f"Maybe {right + 10} at the {step.place}? Wait, {count}-{step.operand} is less.\n")
        elif step.operator == "*" and right > 20:
            trace.detour(f"Alternatively, add {count} at the {step.place}.\n")
        wrong = perturbed and rng.random() < 0.5
        result = wrong_count(rng, right) if wrong else right
        before, after = phrases.line(number, f"the {step.place}")
        trace.line(f"{before}{count}{step.operator}{step.operand}=", str(result), after, not wrong)
        count = result
    trace.final = str(count)
    return trace


def comparison_trace(rng: random.Random, problem: ComparisonProblem, perturbed: bool) -> Trace:
    """The rank of each thing, the one asked for, and whose it is. A rank that another context gives is taken back first."""
    phrases, trace = Phrases.draw(rng), Trace()
    ranks = []
    for number, thing in enumerate((problem.first, problem.second)):
        right = problem.domain.rank(problem.context, thing)
        other = mixed_up(problem, thing)
        if other is not None:
            rank = problem.domain.rank(other, thing)
            trace.detour(f"Maybe {thing}={rank}? Wait, that holds for {other}.\n")
        wrong = perturbed and rng.random() < 0.5
        ranks.append(rng.choice([rank for rank in range(1, 10) if rank not in ranks]) if wrong else right)
        before, after = phrases.line(number, problem.context)
        trace.line(f"{before}{thing}=", str(ranks[-1]), after, not wrong)
    if ranks[0] == ranks[1]:
        return comparison_trace(rng, problem, perturbed)
    wanted = min(ranks) if problem.domain.lower(problem.comparator) else max(ranks)
    before, after = phrases.line(2, problem.comparator)
    trace.line(before, str(wanted), after)
    trace.final = (problem.first, problem.second)[ranks.index(wanted)]
    before, after = phrases.line(3, str(wanted))
    trace.line(before, trace.final, after)
    return trace


def mixed_up(problem: ComparisonProblem, thing: str) -> str | None:
    """The next context of the domain when it gives the first thing a rank far from the right one."""
    if thing != problem.first:
        return None
    contexts = list(problem.domain.contexts)
    other = contexts[(contexts.index(problem.context) + 1) % len(contexts)]
    gap = abs(problem.domain.rank(other, thing) - problem.domain.rank(problem.context, thing))
    return other if gap >= GUESS_GAP else None


def wrong_count(rng: random.Random, right: int) -> int:
    """A wrong count of as many digits."""
    low, high = (1, 9) if right < 10 else (10, 59)
    return rng.choice([count for count in range(low, high + 1) if count != right])


def other_answer(rng: random.Random, problem: ArithmeticProblem | ComparisonProblem, final: str) -> str:
    """An answer of the same form that the trace does not lead to."""
    if isinstance(problem, ArithmeticProblem):
        return str(wrong_count(rng, int(final)))
    return problem.second if final == problem.first else problem.first


def closing(problem: ArithmeticProblem | ComparisonProblem, final: str) -> str:
    """The last paragraph of an answer."""
    asked = "final count" if isinstance(problem, ArithmeticProblem) else f"{problem.comparator} one"
    return f"Thus, the {asked} is \\boxed{{{final}}}."


def correct(problem: ArithmeticProblem | ComparisonProblem, rng: random.Random) -> TrainingText:
    """The unperturbed sample of a problem, with the usual instruction."""
    mix = TextMix(0, 0, 0, 0, 0, 0)
    return replace(with_reasoning(rng, mix, problem, f"{problem.question}{BOXED_INSTRUCTION} "), padded=False)
