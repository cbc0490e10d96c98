"""Heads cut from the reasoning: rows of the answer alone, one forward pass a set, TransformerLens, nnsight, the bound.

Bench -> Section. A forward pass a set costs the same for every set, so the peers run one set a round.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from benchmarks.cases import N_SETS, SET_SIZE, SMALL, TINY, Shape, random_sets, segment_bounds
from benchmarks.pretrained import NAME, SIZES, model_name, pretrained
from benchmarks.report import Section, Table, Target
from benchmarks.turns import Bench, Contender, Ratio, Timing, Way, Worker, take_turns

TEXT = """
The answer's log-probabilities, by teacher forcing, under each of {n_sets} random sets of {size} heads that do not see
the reasoning from `</think>` on (`mask`). 14% of a trace is answer. *random*: the model of the section on patching;
*{name}*: the built-in study's pretrained model of {n_layers} layers, width {width}, {n_heads} heads and {n_kv_heads}
KV heads, on tokens of real traces. *Ours* is the unchanged run, which the peers are spared, and all sets. *Mask,
SDPA* and *mask, eager* are an ordinary transformers forward pass whose layers with heads of the set are given a mask
of their own; *mask, cached* is the first with keys and values of the tokens before the answer kept, so that a pass
takes the answer's rows alone; *TransformerLens* is `run_with_hooks` of a HookedTransformer on `hook_attn_scores`,
*bridge* the same of its wrapper of the transformers model; *nnsight* is a `trace` that edits what eager attention hands
to its softmax. These run one set per round, and are counted {n_sets} times.

The bound counts token-layers: a set whose lowest head is in layer l takes the answer's A rows in the layers from l
on, A (L - l) of the T L token-layers of a forward pass. *Sets / bound* is the time of the sets alone over that share
of a plain SDPA forward pass with the logits of every row; *whole / bound* counts the unchanged run on both sides.
*Fewer token-layers*: how many times as many of them a pass a set takes as the sets, and as sets and unchanged run.
Both sides are counted, not computed: hooks on every linear module of every layer count the rows that pass through it,
and a row through a whole layer is one token-layer.
"""
QUICK = replace(TINY, n_layers=4)
PEERS: dict[str, Way] = {
    "mask, SDPA": ("masked_forwards", {"attention": "sdpa"}),
    "mask, eager": ("masked_forwards", {"attention": "eager"}),
    "mask, cached": ("cached_sets", {}),
    "TransformerLens": ("lens_sets", {}),
    "bridge": ("lens_sets", {"bridge": True}),
    "nnsight": ("nnsight_sets", {}),
}
EQUAL = 1e-4  # nats, of one token, in float32


@dataclass(frozen=True)
class Cuts:
    """What all sets of one trace on one model took."""

    shape: Shape
    n_tokens: int
    ours: Timing
    peers: dict[str, Ratio]  # over ours
    sets_over_bound: Ratio
    whole_over_bound: Ratio
    fewer_sets: float  # token-layers of a pass a set, over those of the sets, as hooks count them
    fewer_whole: float
    gap: float  # largest difference of a log-probability from a peer's

    @property
    def model(self) -> str:
        return model_name(self.shape)

    def row(self) -> list[str]:
        ratios = [*self.peers.values(), self.sets_over_bound, self.whole_over_bound]
        fewer = f"{self.fewer_sets:.1f}, {self.fewer_whole:.1f}"
        place = [self.model, self.shape.dtype, str(self.n_tokens), f"{self.ours.median:.2f}"]
        return [*place, *map(str, ratios), fewer, f"{self.gap:.0e}"]


def measure(bench: Bench) -> Section:
    shapes, lengths = ([QUICK], [80]) if bench.quick else ([SMALL, *pretrained(bench).values()], [300, 1000])
    cases = [(shape, n_tokens) for shape in shapes for n_tokens in lengths]
    with bench.workers("ours", "theirs") as workers:
        return section([time_one(bench, workers, *case) for case in cases])


def section(found: Sequence[Cuts]) -> Section:
    """The page's part; targets are held by the longest traces."""
    head = ["model", "dtype", "T", "ours, s", *PEERS, "sets / bound", "whole / bound", "fewer token-layers", "gap"]
    text = TEXT.format(**asdict(SIZES), n_sets=N_SETS, size=SET_SIZE, name=NAME)
    caption = "Times over ours. *Gap* is the largest difference from a peer's log-probability of a token, in nats."
    longest = max(cuts.n_tokens for cuts in found)
    targets = [target for cuts in found if cuts.n_tokens == longest for target in goals(cuts)]
    return Section("Knock-out", text, [Table(head, [cuts.row() for cuts in found], caption)], targets)


def time_one(bench: Bench, workers: Sequence[Worker], shape: Shape, n_tokens: int) -> Cuts:
    """All sets of one trace on one model, all ways in turns."""
    case, (ours, theirs) = {"shape": asdict(shape), "n_tokens": n_tokens}, workers
    contenders = [
        Contender("unchanged", ours, "unchanged_run", case),
        Contender("sets", ours, "knock_out", case),
        Contender("plain", ours, "forward", {**case, "logits": 0}),
        *(Contender(name, theirs, way, {**case, "count": 1, **more}) for name, (way, more) in PEERS.items()),
    ]
    timings = take_turns(contenders, bench.rounds, bench.clock)
    whole, unchanged, cut = ours.ask(do="run", way="token_layers", case=case, times=1)["result"]
    for worker in workers:
        worker.ask(do="forget")
    sets, both = timings["sets"], timings["sets"].plus(timings["unchanged"])
    layers = sum(shape.n_layers - heads[0][0] for heads in random_sets(shape.n_layers, shape.n_heads))
    bound = len(segment_bounds(n_tokens)["answer"]) * layers / (n_tokens * shape.n_layers)  # passes
    return Cuts(
        shape,
        n_tokens,
        both,
        {name: Ratio.of(timings[name], both, N_SETS) for name in PEERS},
        Ratio.of(sets, timings["plain"], 1 / bound),
        Ratio.of(both, timings["plain"], 1 / (1 + bound)),
        N_SETS * whole / cut,
        N_SETS * whole / (unchanged + cut),
        largest_gap(sets.result, timings, shape.dtype),
    )


def largest_gap(ours: list[list[float]], timings: dict[str, Timing], dtype: str) -> float:
    """Largest difference of a log-probability from a peer's; RuntimeError in float32 when it is beyond rounding."""
    found = {}
    for name in PEERS:
        pairs = [pair for number, each in timings[name].result for pair in zip(ours[number], each, strict=True)]
        found[name] = max(abs(a - b) for a, b in pairs)
        if dtype == "float32" and found[name] > EQUAL:
            raise RuntimeError(f"log-probabilities differ from those of {name} by {found[name]} nats")
    return max(found.values())


def goals(cuts: Cuts) -> list[Target]:
    fewer, name = "token-layers of a pass a set over those of the sets", f"{cuts.model}, T = {cuts.n_tokens}"
    bound = f"sets over the token-layer bound, {name}, {cuts.shape.dtype}"
    own = [Target.at_least(f"{fewer}, {name}", 10, cuts.fewer_sets)] if cuts.shape.dtype == "float32" else []
    return [*own, Target.at_most(bound, 1.3, cuts.sets_over_bound.median)]
