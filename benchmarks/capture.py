"""Segment masses of a trace: inside our forward pass, from transformers' output_attentions, and from TransformerLens.

Bench -> Section. Times against a plain forward pass by SDPA and against the peers; peaks of memory and their growth.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.cases import SMALL, TINY, Shape
from benchmarks.fits import exponent
from benchmarks.pretrained import NAME, SIZES, model_name, pretrained
from benchmarks.report import Section, Table, Target
from benchmarks.turns import Bench, Contender, Ratio, Timing, Way, Worker, take_turns

TEXT = """
Masses of answer and of reasoning query positions on the six segments, mean over positions, for every layer and head:
the study's Figures 2 and 3. *Live*: the forward pass itself yields the masses, as with `capture.store: false`.
*Capture*: queries of answer and reasoning positions and all keys are copied out in bfloat16, as the stage `capture`
stores them; the statistics are separate. *Eager*: transformers' `output_attentions=True`. *TransformerLens*:
`run_with_hooks` of a HookedTransformer with a segment sum on each layer's `hook_pattern`; *bridge*: the same of its
wrapper of the transformers model; *nnsight*: a trace that sums what each layer's eager attention returns. Live does
more than the peers: masses of sentences and each answer position's walk along the reasoning as well, which is all that
the stage `attention` computes.
*{name}*: the built-in study's model of {sizes.n_layers} layers, width {sizes.width}, {sizes.n_heads} heads and
{sizes.n_kv_heads} KV heads, on tokens of real traces; *random*: a Qwen2 model of {shape.n_layers} layers, width
{shape.width}, {shape.n_heads} heads and {shape.n_kv_heads} KV heads. A trace has 50 tokens of question and 14% of
answer, like the paper's; the rest is reasoning.
"""
PEERS: dict[str, Way] = {
    "eager": ("eager_masses", {}),
    "TransformerLens": ("lens_masses", {}),
    "bridge": ("lens_masses", {"bridge": True}),
    "nnsight": ("nnsight_masses", {}),
}
OURS: dict[str, Way] = {"plain": ("forward", {}), "live": ("live_masses", {}), "capture": ("capture", {})}


@dataclass(frozen=True)
class Case:
    """A model at one length."""

    shape: Shape
    n_tokens: int
    with_peers: bool


Found = dict[Case, dict[str, Timing]]


@dataclass(frozen=True)
class Sizes:
    """What is measured of a random model."""

    shape: Shape
    times: tuple[tuple[str, int], ...]  # dtype, tokens
    peaks: tuple[tuple[int, bool], ...]  # tokens, with the peers
    goal_tokens: int


FULL = Sizes(
    replace(SMALL, n_layers=4),
    (("float32", 4096), ("bfloat16", 4096)),
    ((1024, True), (2048, True), (4096, True), (8192, False)),
    4096,
)
QUICK = Sizes(TINY, (("float32", 64), ("bfloat16", 64)), ((64, True), (128, True)), 64)
LENGTHS = {512: True, 2048: True, 8192: False}  # of the pretrained model; eager's matrices of more fill the memory


def measure(bench: Bench) -> Section:
    sizes = QUICK if bench.quick else FULL
    cases = [Case(replace(sizes.shape, dtype=dtype), n_tokens, True) for dtype, n_tokens in sizes.times]
    if not bench.quick:
        real = pretrained(bench).values()
        cases[:0] = [Case(shape, *each) for shape in real for each in LENGTHS.items()]
    found = {case: time_one(bench, case) for case in cases}
    peaks = measure_peaks(bench, sizes)
    return Section(
        "Capture with segment masses",
        TEXT.format(name=NAME, sizes=SIZES, shape=sizes.shape),
        [times_table(found), peaks_table(peaks)],
        targets(found, peaks, sizes),
    )


def same_weights(ours: Worker, theirs: Worker, shape: Shape) -> None:
    """Raises RuntimeError when the two sides have different weights."""
    digests = [worker.ask(do="run", way="digest", case={"shape": asdict(shape)}, times=1) for worker in (ours, theirs)]
    if digests[0]["result"] != digests[1]["result"]:
        raise RuntimeError("the two environments make different weights of one seed")


def time_one(bench: Bench, case: Case) -> dict[str, Timing]:
    """Timings of all ways at one length; raises RuntimeError when they find different masses."""
    given: dict[str, Any] = {"shape": asdict(case.shape), "n_tokens": case.n_tokens}
    with bench.workers("ours", "theirs") as (ours, theirs):
        same_weights(ours, theirs, case.shape)
        sides = [(ours, OURS), (theirs, PEERS if case.with_peers else {})]
        contenders = [
            Contender(name, worker, way, given | more) for worker, ways in sides for name, (way, more) in ways.items()
        ]
        timings = take_turns(contenders, bench.rounds, bench.clock)
    if case.with_peers:
        live, eager = timings["live"].result, timings["eager"].result
        timings["eager"].result = gap = max(abs(a - b) for a, b in zip(live, eager, strict=True))
        if gap > (1e-4 if case.shape.dtype == "float32" else 0.05):
            raise RuntimeError(f"live masses differ from eager attention by {gap}")
    return timings


def measure_peaks(bench: Bench, sizes: Sizes) -> dict[tuple[str, int], float]:
    """MB above the loaded model by way and tokens, after a run on a short trace."""
    found = {}
    with bench.workers("ours", "theirs", memory=True) as (ours, theirs):
        for n_tokens, with_peers in sizes.peaks:
            sides = [(ours, OURS)] + ([(theirs, PEERS)] if with_peers else [])
            for worker, ways in sides:
                for name, (way, more) in ways.items():
                    case = {"shape": asdict(sizes.shape), "n_tokens": n_tokens, **more}
                    worker.ask(do="run", way=way, case={**case, "n_tokens": 64}, times=1)
                    found[name, n_tokens] = worker.ask(do="peak", way=way, case=case)["mb"]
                    worker.ask(do="forget")
    return found


def times_table(found: Found) -> Table:
    own, ratios = ["model", "dtype", "T", "plain SDPA, s", "live / plain"], [f"{name} / live" for name in PEERS]
    head, rows = [*own, "capture / plain", *ratios, "gap"], []
    for case, timings in found.items():
        row = [model_name(case.shape), case.shape.dtype, str(case.n_tokens), f"{timings['plain'].median:.3f}"]
        row += [str(Ratio.of(timings[name], timings["plain"])) for name in ("live", "capture")]
        row += [str(Ratio.of(timings[name], timings["live"])) if case.with_peers else "-" for name in PEERS]
        rows.append([*row, f"{timings['eager'].result:.0e}" if case.with_peers else "-"])
    return Table(head, rows, "*Gap*: the largest difference of a mass from eager attention.")


def peaks_table(peaks: dict[tuple[str, int], float]) -> Table:
    lengths = sorted({n_tokens for _, n_tokens in peaks})
    rows = []
    for name in (*OURS, *PEERS):
        known = {n_tokens: peaks[name, n_tokens] for n_tokens in lengths if (name, n_tokens) in peaks}
        cells = [f"{known[n_tokens]:.0f}" if n_tokens in known else "-" for n_tokens in lengths]
        rows.append([name, *cells, f"{exponent(list(known), list(known.values())):.2f}"])
    caption = "Peak memory above the loaded model in MB, float32, and the exponent of T that fits it best."
    return Table(["way", *(f"T = {n_tokens}" for n_tokens in lengths), "exponent"], rows, caption)


def targets(found: Found, peaks: dict[tuple[str, int], float], sizes: Sizes) -> list[Target]:
    goal, made = sizes.goal_tokens, []
    of_goal = {case.shape.dtype: timings for case, timings in found.items() if not case.shape.folder}
    for dtype in dict.fromkeys(case.shape.dtype for case in found):
        each = [timings for case, timings in found.items() if case.shape.dtype == dtype]
        over = max(Ratio.of(timings["live"], timings["plain"]).median for timings in each)
        made.append(Target.at_most(f"masses inside the pass over a plain one, worst case, {dtype}", 1.05, over))
    for dtype, faster in (("float32", 5), ("bfloat16", 12)):
        timings = of_goal[dtype]
        ratio = Ratio.of(timings["TransformerLens"], timings["live"]).median
        made.append(Target.at_least(f"TransformerLens over live masses, T = {goal}, {dtype}", faster, ratio))
    timings = of_goal["float32"]
    ratio = Ratio.of(timings["eager"], timings["live"]).median
    made.append(Target.at_least(f"eager output_attentions over live masses, T = {goal}, float32", 3.5, ratio))
    extra = {name: peaks[name, goal] - peaks["plain", goal] for name in ("live", *PEERS)}
    share = 100 * max(0.0, extra["live"]) / max(1.0, min(extra[name] for name in PEERS))
    made.append(Target.at_most(f"extra memory over a plain pass against the peers', T = {goal}", 3, share, "%"))
    longest = sorted({n_tokens for name, n_tokens in peaks if name == "live"})
    power = exponent(longest, [peaks["live", n_tokens] for n_tokens in longest])
    made.append(Target.at_most("exponent of T in the memory of live masses", 1.1, power, ""))
    return made
