"""Every cell of a pair: the packed staircase, one full forward pass a cell, TransformerLens, and the token-layer bound.

Bench -> Section. A forward pass a cell costs the same for every cell, so the peers run a few cells a round.
"""

from dataclasses import asdict, dataclass, replace

from benchmarks.cases import SMALL, TINY, Shape, build_pair, patched_passes
from benchmarks.pretrained import NAME, SIZES, model_name, pretrained
from benchmarks.report import Section, Table, Target
from benchmarks.turns import Bench, Contender, Ratio, Timing, Way, take_turns

TEXT = """
The residual stream patched at 12 positions (9 tokens of a probe before `</think>`, which is 130 tokens before the
end, and the last 3) and every layer, on random tokens. *{name}*: the built-in study's model of {sizes.n_layers} layers,
width {sizes.width}, {sizes.n_heads} heads and {sizes.n_kv_heads} KV heads; *random*: Qwen2 and Llama models of
{shape.n_layers} layers, width {shape.width}, {shape.n_heads} heads and {shape.n_kv_heads} KV heads. *Ours* is timed
whole: clean run, corrupted run and all cells. *One forward per cell* is an ordinary transformers forward pass with a
hook; *the same, cached* keeps keys and values of the tokens before each position, and runs the others through all
layers; *TransformerLens* is `run_with_hooks` of a HookedTransformer on `hook_resid_pre`, *bridge* the same of its
wrapper of the transformers model; *nnsight* is a trace that edits what enters a layer. These run one cell a round (the
cached one a cell of each position), and a pair is counted as all of its cells and two plain passes, for the clean and
the corrupted run. *Cells alone* leaves these two out on both sides.

The bound counts token-layers: a cell (l, p) changes the tokens from p on in the layers from l on, so it takes (T - p)
(L - l) of the T L token-layers of a forward pass. *Cells / bound* is the time of the cells alone over that share of a
plain SDPA forward pass; *whole / bound* counts the clean and the corrupted run on both sides.
"""


FULL = ((SMALL, 1000), (replace(SMALL, kind="llama"), 1000), (SMALL, 2000))  # random models, tokens
QUICK = ((TINY, 48), (replace(TINY, kind="llama"), 48))
FULL_FORWARD, LENS = "one forward per cell", "TransformerLens"
PEERS: dict[str, Way] = {
    FULL_FORWARD: ("full_forward_cells", {"count": 1}),
    "the same, cached": ("cached_cells", {"count": len(build_pair(48).positions)}),
    LENS: ("lens_cells", {"count": 1}),
    "bridge": ("lens_cells", {"count": 1, "bridge": True}),
    "nnsight": ("nnsight_cells", {"count": 1}),
}
GOALS = {1000: 40, 2000: 100}  # tokens -> times TransformerLens, for random models
LENGTHS = (300, 1000, 2000)  # of the pretrained model


@dataclass(frozen=True)
class Pair:
    """What one pair on one model took."""

    shape: Shape
    n_tokens: int
    ours: Timing
    peers: dict[str, Ratio]  # over ours
    lens_cells: Ratio  # TransformerLens's cells over our cells, without clean and corrupted run
    cells_over_bound: Ratio
    whole_over_bound: Ratio
    forwards: float  # forward passes that the cells' token-layers make

    @property
    def name(self) -> str:
        return model_name(self.shape) if self.shape.folder else f"random {self.shape.kind}"


def measure(bench: Bench) -> Section:
    random = QUICK if bench.quick else FULL
    real = {} if bench.quick else pretrained(bench)
    pairs = [*((shape, n_tokens) for shape in real.values() for n_tokens in LENGTHS), *random]
    found = [time_one(bench, shape, n_tokens) for shape, n_tokens in pairs]
    text = TEXT.format(name=NAME, sizes=SIZES, shape=random[0][0])
    peers = [*PEERS, f"{LENS}, cells alone"]
    head = ["model", "dtype", "T", "ours, s", *peers, "cells / bound", "whole / bound", "bound"]
    rows = [
        [
            pair.name,
            pair.shape.dtype,
            str(pair.n_tokens),
            f"{pair.ours.median:.2f}",
            *map(str, (*pair.peers.values(), pair.lens_cells, pair.cells_over_bound, pair.whole_over_bound)),
            f"{pair.forwards:.2f} passes",
        ]
        for pair in found
    ]
    table = Table(head, rows, "Times over ours.")
    return Section("Patching", text, [table], [target for pair in found for target in targets(pair)])


def time_one(bench: Bench, shape: Shape, n_tokens: int) -> Pair:
    """One pair on one model, all ways in turns."""
    case = {"shape": asdict(shape), "n_tokens": n_tokens}
    with bench.workers("ours", "theirs") as (ours, theirs):
        contenders = [
            Contender("ours", ours, "patch_pair", case),
            Contender("cells", ours, "patch_cells", case),
            Contender("plain", ours, "forward", case),
            *(Contender(name, theirs, way, case | more) for name, (way, more) in PEERS.items()),
        ]
        timings = take_turns(contenders, bench.rounds, bench.clock)
    compare(timings, shape, n_tokens)
    forwards = patched_passes(n_tokens, build_pair(n_tokens).positions, shape.n_layers)
    n_cells = len(build_pair(n_tokens).positions) * shape.n_layers
    pair, cells = timings["ours"], timings["cells"]
    alone = {name: timings[name].times(n_cells / given["count"]) for name, (_, given) in PEERS.items()}
    runs = timings["plain"].times(2)
    return Pair(
        shape,
        n_tokens,
        pair,
        {name: Ratio.of(each.plus(runs), pair) for name, each in alone.items()},
        Ratio.of(alone[LENS], cells),
        Ratio.of(cells, timings["plain"], 1 / forwards),
        Ratio.of(pair, timings["plain"], 1 / (forwards + 2)),
        forwards,
    )


def compare(timings: dict[str, Timing], shape: Shape, n_tokens: int) -> None:
    """Raises RuntimeError when in float32 ours differs from one forward per cell by more than rounding."""
    (clean, corrupted), grid = timings["ours"].result
    columns = build_pair(n_tokens).positions
    for (layer, token), found in timings[FULL_FORWARD].result:
        gap = abs(grid[layer][columns.index(token)] - found) / abs(clean - corrupted)
        if gap > 1e-3 and shape.dtype == "float32":
            raise RuntimeError(f"patched cells differ from full forward passes by {gap} NLD")


def targets(pair: Pair) -> list[Target]:
    name = f"{pair.name}, {pair.shape.dtype}, T = {pair.n_tokens}"
    what, goal = f"cells over the token-layer bound, {name}", 1.15 if pair.shape.folder else 1.4
    found = [Target.at_most(what, goal, pair.cells_over_bound.median)]
    if not pair.shape.folder and pair.n_tokens in GOALS:
        lens = pair.lens_cells.median
        found.append(Target.at_least(f"TransformerLens over ours, cells, {name}", GOALS[pair.n_tokens], lens))
    return found
