"""Generation: the study's own batches against transformers' `generate`, batched with left padding, on the same model.

Bench -> Section. Needs the built-in study's prompts, which `make repro` makes.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.cases import TINY, Shape, random_ids
from benchmarks.pretrained import DTYPES, NAME, pretrained
from benchmarks.report import Section, Table, Target
from benchmarks.turns import ROOT, Bench, Contender, Ratio, Worker, take_turns

TEXT = """
{n_prompts} prompts of the built-in study on its pretrained model, {name}; {batch} responses at a time on both sides.
Ours are joined by prompts as others end; transformers' `generate` takes {batch} prompts, padded on the left, and runs
until the last of them has ended. Both stop at the end of a text or at the cap, and each is counted by its own tokens.
*Like lengths*: prompts with reasoning, and a cap below all lengths. *Mixed lengths*: every second prompt asks for the
answer alone, so that each batch of `generate` waits for the longest; *kinds apart*: those come behind the others, as
one would order them who knows which are short; one round each. *Long prompts*: {n_long} prompts of up to {long} tokens
and one new token, so the time to a first token. *Decided alone*: ours makes bfloat16's exact ties anew on the item
alone, in a forward pass of its own; by default it does so in float32 only, where it makes texts independent of their
batch.
"""
PROMPTS = ROOT / "data" / "generations" / NAME
DATASETS = ("comparisons", "swaps", "orders", "days")
N_PROMPTS, BATCH, N_LONG, LONG = 64, 32, 8, 1000


@dataclass(frozen=True)
class Setting:
    """What is asked for, how many tokens at most, how they are chosen, and the tokens per second over generate's."""

    name: str
    prompts: str  # like | mixed | apart | long
    most: int
    target: float | None = None
    temperature: float = 0.0
    tie_margin: float = 0.001
    dtypes: tuple[str, ...] = DTYPES


SETTINGS = (
    Setting("like lengths", "like", 48, 1.0),
    Setting("like lengths, decided alone", "like", 48, tie_margin=0.008, dtypes=("bfloat16",)),
    Setting("like lengths, temperature 0.6", "like", 48, 1.0, temperature=0.6, dtypes=("bfloat16",)),
    Setting("mixed lengths", "mixed", 400, 1.4, dtypes=("bfloat16",)),
    Setting("mixed lengths, kinds apart", "apart", 400, dtypes=("bfloat16",)),
    Setting("long prompts", "long", 1, dtypes=("bfloat16",)),
)


def measure(bench: Bench) -> Section:
    shapes = {dtype: replace(TINY, dtype=dtype) for dtype in DTYPES} if bench.quick else pretrained(bench)
    rows, targets = [], []
    cases = [(setting, shapes[dtype]) for setting in SETTINGS for dtype in setting.dtypes]
    with bench.workers("ours", "theirs") as workers:
        for setting, shape in cases:
            row, ratio = time_one(bench, workers, shape, setting)
            rows.append(row)
            if setting.target is not None:
                what = f"tokens per second over batched generate, {setting.name}, {shape.dtype}"
                targets.append(Target.at_least(what, setting.target, ratio.median))
    head = ["dtype", "setting", "new tokens each", "ours, tokens/s", "ours / generate", "same texts"]
    ours, theirs = peaks(bench, shapes["bfloat16"])
    caption = (
        f"Greedy but for one setting. Peak memory with long prompts: ours {ours:.0f} MB, generate {theirs:.0f} MB."
    )
    text = TEXT.format(n_prompts=N_PROMPTS, batch=BATCH, name=NAME, n_long=N_LONG, long=LONG)
    return Section("Generation", text, [Table(head, rows, caption)], targets)


def asked(bench: Bench, kind: str) -> list[list[int]]:
    """Prompts of all built-in datasets, every second one without reasoning where mixed, or behind the others (apart).

    Exits where there are none.
    """
    if bench.quick or kind == "long":
        n_prompts, longest = (4, 20) if bench.quick else (N_LONG, LONG)
        return [random_ids(longest - number, number) for number in range(n_prompts)]
    import polars as pl

    if not PROMPTS.is_dir():
        sys.exit("error: the built-in study has not been run yet\nhint: make repro, or choose other --parts")
    ways = ("with_reasoning", "without_reasoning" if kind in ("mixed", "apart") else "with_reasoning")
    found = [
        [pl.read_parquet(PROMPTS / name / f"{way}.parquet")["prompt_ids"].to_list() for way in ways]
        for name in DATASETS
    ]
    chosen = [(number % 2, both[number % 2][number]) for both in found for number in range(N_PROMPTS // len(DATASETS))]
    return [prompt for _, prompt in (sorted(chosen, key=lambda one: one[0]) if kind == "apart" else chosen)]


def contenders(bench: Bench, workers: Sequence[Worker], shape: Shape, setting: Setting) -> list[Contender]:
    """Ours and generate."""
    case: dict[str, Any] = {"shape": asdict(shape), "prompts": asked(bench, setting.prompts), "batch_size": BATCH}
    case |= {"max_new_tokens": min(8, setting.most) if bench.quick else setting.most}
    case |= {"temperature": setting.temperature}
    ours, theirs = workers
    return [
        Contender("ours", ours, "generate_together", {**case, "tie_margin": setting.tie_margin}),
        Contender("generate", theirs, "generate_batched", case),
    ]


def time_one(bench: Bench, workers: Sequence[Worker], shape: Shape, setting: Setting) -> tuple[list[str], Ratio]:
    """A row of the table, and ours over generate by the token."""
    rounds = 1 if setting.prompts in ("mixed", "apart") else bench.rounds
    timings = take_turns(contenders(bench, workers, shape, setting), rounds, bench.clock)
    ours, other = timings["ours"], timings["generate"]
    for worker in workers:
        worker.ask(do="forget")
    lengths, count = [len(tokens) for tokens in ours.result], sum(map(len, other.result))
    ratio = Ratio.of(other, ours, sum(lengths) / count)
    same = sum(one == another for one, another in zip(ours.result, other.result, strict=True))
    span = f"{min(lengths)}-{max(lengths)}, mean {sum(lengths) / len(lengths):.0f}"
    rate = f"{sum(lengths) / ours.median:.0f}"
    return [shape.dtype, setting.name, span, rate, str(ratio), f"{same} of {len(lengths)}"], ratio


def peaks(bench: Bench, shape: Shape) -> list[float]:
    """MB above the loaded model for long prompts, ours and generate's."""
    with bench.workers("ours", "theirs", memory=True) as workers:
        both = contenders(bench, workers, shape, SETTINGS[-1])
        return [each.worker.ask(do="peak", way=each.way, case=each.case)["mb"] for each in both]
