"""Attention statistics from shards, against running the forward pass again, and against reading the shards.

Bench -> Section.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cases import REAL, SMALL, TINY, Shape
from benchmarks.pretrained import NAME, pretrained
from benchmarks.report import Section, Table, Target
from benchmarks.turns import Bench, Contender, Ratio, Timing, take_turns

TEXT = """
Everything that the stage `attention` computes for one trace (masses, links by token, walk along the reasoning) from its
shard, which is read and verified every time; compared with a plain SDPA forward pass, which by itself yields no
attention, and with the masses from eager attention and from TransformerLens. *{name}*: the built-in study's model;
*small*: 8 layers of the random model of the section on capture; *1.5B layers*: two layers of the size of
R1-Distill-Qwen-1.5B (width 1536, 12 heads, MLP 8960).
"""
NAMES = {"answer": "answer", "answer_and_reasoning": "answer and reasoning"}


@dataclass(frozen=True)
class Sizes:
    """Models by name, tokens, and whether the peers run too."""

    models: dict[str, Shape]
    n_tokens: int
    peers_on: str


FULL = Sizes({"small": SMALL, "1.5B layers": REAL}, 2048, "small")
GOALS = {"answer": 10, "answer_and_reasoning": 4}  # times a plain pass
QUICK = Sizes({"small": TINY}, 64, "small")


def measure(bench: Bench) -> Section:
    sizes = QUICK if bench.quick else FULL
    found: dict[tuple[str, str], dict[str, Timing]] = {}
    models = sizes.models if bench.quick else {NAME: pretrained(bench)["float32"], **sizes.models}
    for model, shape in models.items():
        for rows in NAMES:
            with_peers = model == sizes.peers_on and rows == "answer_and_reasoning"
            found[model, rows] = time_one(bench, shape, sizes.n_tokens, rows, with_peers)
    table = Table(
        ["model", "rows", "statistics, s", "plain pass", "eager", "TransformerLens", "statistics / reading"],
        [row(model, rows, timings) for (model, rows), timings in found.items()],
        f"T = {sizes.n_tokens}, float32; the middle columns are ratios to the statistics.",
    )
    return Section("Attention statistics from shards", TEXT.format(name=NAME), [table], targets(found, sizes))


def time_one(bench: Bench, shape: Shape, n_tokens: int, rows: str, with_peers: bool) -> dict[str, Timing]:
    case = {"shape": asdict(shape), "n_tokens": n_tokens}
    folders = [Path(bench.scratch, f"{way}-{shape.width}-{rows}") for way in ("statistics", "reading")]
    for folder in folders:
        folder.mkdir()
    stored = [{**case, "rows": rows, "folder": str(folder)} for folder in folders]
    with bench.workers("ours", "theirs") as (ours, theirs):
        contenders = [
            Contender("statistics", ours, "stored_statistics", stored[0]),
            Contender("reading", ours, "stored_reading", stored[1]),
            Contender("plain", ours, "forward", case),
        ]
        if with_peers:
            contenders.append(Contender("eager", theirs, "eager_masses", case))
            contenders.append(Contender("TransformerLens", theirs, "lens_masses", case))
        return take_turns(contenders, bench.rounds, bench.clock)


def row(model: str, rows: str, timings: dict[str, Timing]) -> list[str]:
    ours = timings["statistics"]
    others = [str(Ratio.of(timings[name], ours)) if name in timings else "-" for name in PEERS]
    return [model, NAMES[rows], f"{ours.median:.3f}", *others, str(Ratio.of(ours, timings["reading"]))]


PEERS = ("plain", "eager", "TransformerLens")


def targets(found: dict[tuple[str, str], dict[str, Timing]], sizes: Sizes) -> list[Target]:
    made = []
    for (model, rows), timings in found.items():
        ratio = Ratio.of(timings["plain"], timings["statistics"]).median
        what = f"plain forward pass over statistics of {NAMES[rows]} rows, {model}, T = {sizes.n_tokens}"
        made.append(Target.at_least(what, GOALS[rows], ratio))
    return made
