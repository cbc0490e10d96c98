"""Speed and memory of the models at their published sizes, with random weights, on the device that is there.

A model, a Scale -> Rows for each part: tokens a second of generation, against transformers' generate of the same batch,
padded on the left; capture of long traces, against a plain forward pass by SDPA, with the peak of memory and what its
account says; patching a pair, against one forward pass a cell; knocking out sets of heads, against one forward pass a
set; writing and reading shards. Both of what is compared have the same runs, counted and not. Sizes are those of the
published configs, so time and memory are those of the real models; texts and numbers mean nothing.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import by_layer, generate_padded, masked_forward, random_sets
from benchmarks.measuring import Rows, peak_gigabytes, seconds
from benchmarks.memory_model import capture_account, weight_bytes
from benchmarks.ours import config as capture_config
from benchmarks.pairs import Case, build_case, full_forward
from benchmarks.sizes import PUBLISHED, TINY
from r2a_core.activations.capture import capture_trace
from r2a_core.activations.store import ActivationReader, shard_name
from r2a_core.activations.writer import write_index, write_shard
from r2a_core.attention.masses import layer_statistics
from r2a_core.config import ResponseParams, Tags
from r2a_core.config import Rows as KeptRows
from r2a_core.generation import decode as generation
from r2a_core.generation.decode import GenerationRequest, generate
from r2a_core.infra.memory import MIB
from r2a_core.knockout.prefix import run_prefix
from r2a_core.knockout.run import run_arms
from r2a_core.knockout.sets import Arm
from r2a_core.models.load import LoadedModel
from r2a_core.patching.metrics import Sweep
from r2a_core.patching.runs import capture_clean, run_unpatched
from r2a_core.patching.sweep import sweep_resid
from r2a_core.tokenizer import LoadedTokenizer, TagIds
from r2a_core.trace import TokenTrace, TraceSegments

IDS = TagIds(bos=0, eos=1, think_open=2, think_close=3, pad=0)
TEMPERATURE = 0.6
Texts = Sequence[Sequence[int]]
CAPTURED: dict[KeptRows, str] = {"answer": "answer rows", "all": "all rows"}


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    batches: tuple[int, ...]  # responses that grow at a time
    new_tokens: int
    lengths: tuple[int, ...]  # tokens of captured traces
    pairs: tuple[int, ...]  # tokens of patched pairs
    cells: int  # by a forward pass each
    memory_mib: int  # for patched rows
    rounds: int  # counted runs, after one more where there are several


FULL = Scale((16, 64), 128, (2048, 8192), (1024,), 4, 8192, 2)
SMALL = Scale((2, 4), 8, (256, 512), (256,), 2, 64, 1)


def build(name: str, scale: Scale, device: str, dtype: torch.dtype) -> Any:
    """A model of published sizes with the same random weights each time."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**{**PUBLISHED[name], **(TINY if scale is SMALL else {})}, eos_token_id=IDS.eos)
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


def random_ids(model: Any, count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, model.config.vocab_size, (count,), generator=generator).tolist()


def trace_of(model: Any, n_tokens: int) -> tuple[list[int], TraceSegments]:
    """A trace of n_tokens: a tenth of it is the answer, 50 tokens the question."""
    return random_ids(model, n_tokens), TraceSegments(50, n_tokens - n_tokens // 10 - 2, n_tokens)


@torch.no_grad()
def measure_generation(model: Any, scale: Scale, device: str) -> Rows:
    """New tokens a second of batches: this project's, and transformers' generate of the same prompts."""
    rows: Rows = []
    for batch in scale.batches:
        prompts = [random_ids(model, 100 + seed % 7 * 10, seed) for seed in range(batch)]
        with decided_alone() as alone:
            ours, n_tokens = token_rate(device, lambda: own_texts(model, prompts, scale), scale.rounds)  # noqa: B023
        other, _ = token_rate(device, lambda: generated_texts(model, prompts, scale), scale.rounds)  # noqa: B023
        row = {"batch": batch, "ours, tokens/s": ours, "generate, tokens/s": other, "ratio": ours / other}
        rows.append(row | {"decided alone": len(alone) / n_tokens})
    return rows


def token_rate(device: str, texts: Callable[[], Texts], rounds: int) -> tuple[float, int]:
    """New tokens a second, and those of all runs. Each run makes the same texts."""
    made: list[int] = []
    taken = seconds(device, lambda: made.append(sum(map(len, texts()))), rounds)
    return made[-1] / taken, sum(made)


def own_texts(model: Any, prompts: Sequence[list[int]], scale: Scale) -> Texts:
    """Responses of this project, all prompts in one batch."""
    loaded = LoadedModel(model, LoadedTokenizer(None, Tags(), IDS))
    requests = [GenerationRequest(str(number), 0, tuple(prompt)) for number, prompt in enumerate(prompts)]
    config = ResponseParams(
        max_new_tokens=scale.new_tokens, batch_size=len(prompts), tie_margin=0.001, shard_items=1
    ).sampled(TEMPERATURE)
    return [result.response_ids for result in generate(loaded, requests, config)]


def generated_texts(model: Any, prompts: Sequence[list[int]], scale: Scale) -> Texts:
    """Responses of transformers' generate, padded on the left, to the first end of a text or the cap."""
    from transformers import GenerationConfig

    config = GenerationConfig(
        max_new_tokens=scale.new_tokens,
        eos_token_id=IDS.eos,
        pad_token_id=IDS.pad,
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=0,
    )
    torch.manual_seed(0)
    return generate_padded(model, prompts, config)


@contextmanager
def decided_alone() -> Iterator[list[None]]:
    """Yields a list that gets an entry for each token that is decided on its text alone."""
    found, choose_alone = list[None](), generation.choose_alone

    def counting(*args: Any) -> Any:
        found.append(None)
        return choose_alone(*args)

    generation.choose_alone = counting
    try:
        yield found
    finally:
        generation.choose_alone = choose_alone


@torch.no_grad()
def measure_capture(model: Any, scale: Scale, device: str) -> Rows:
    """Capture and statistics of one trace of each length."""
    rows: Rows = []
    dtype = str(model.dtype).removeprefix("torch.")
    for n_tokens in scale.lengths:
        ids, segments = trace_of(model, n_tokens)
        given = torch.tensor([ids], device=device)

        def plain(given: torch.Tensor = given) -> None:
            model(input_ids=given, use_cache=False, logits_to_keep=1)

        base, peak = seconds(device, plain, scale.rounds), peak_gigabytes(device, plain)
        rows.append({"T": n_tokens, "way": "plain forward", "seconds": base, "ratio": 1.0, "peak GB": peak})
        for kept, label in CAPTURED.items():
            config = capture_config(kept)

            def capture(ids: Any = ids, segments: Any = segments, config: Any = config) -> Any:
                return capture_trace(model, ids, segments, config)

            taken, peak = seconds(device, capture, scale.rounds), peak_gigabytes(device, capture)
            account = capture_account(model.config, dtype, segments, config, weight_bytes(model.config, dtype))
            row = {"T": n_tokens, "way": f"capture, {label}", "seconds": taken, "ratio": taken / base, "peak GB": peak}
            rows.append(row | {"account GB": account.peak / 1e9})
        trace = capture_trace(model, ids, segments, capture_config("answer"))

        def statistics(trace: Any = trace) -> None:
            for layer in trace.layers:
                layer_statistics(trace, layer, device)

        taken, peak = seconds(device, statistics, scale.rounds), peak_gigabytes(device, statistics)
        row = {"T": n_tokens, "way": "statistics of answer rows", "seconds": taken, "ratio": taken / base}
        rows.append(row | {"peak GB": peak})
    return rows


@torch.no_grad()
def measure_patching(model: Any, scale: Scale, device: str) -> Rows:
    """Every layer and 12 positions of a pair at once, and some cells by a forward pass each."""
    rows: Rows = []
    for n_tokens in scale.pairs:
        case = build_case(model, n_tokens, model.config.num_hidden_layers)
        found: list[Any] = []

        def sweep(case: Any = case, found: list[Any] = found) -> None:
            runs = capture_clean(model, case.pair), run_unpatched(model, case.pair)
            found.append(sweep_resid(model, case.pair, *runs, scale.memory_mib * MIB))

        taken, peak = seconds(device, sweep, scale.rounds), peak_gigabytes(device, sweep)
        row = {"T": n_tokens, "cells": len(case.cells), "seconds a pair": taken, "peak GB": peak}
        rows.append(row | cells_alone(case, found[-1], taken, scale, device))
    return rows


def cells_alone(case: Case, sweep: Sweep, taken: float, scale: Scale, device: str) -> dict[str, float]:
    """Some cells by a forward pass each, half of them of the last token: time, effects and differences in NLD."""
    last = [cell for cell in case.cells if cell[1] == sweep.positions[-1]]
    cells = [*last[: scale.cells // 2], *(cell for cell in case.cells if cell not in last)][: scale.cells]
    runs: list[list[float]] = []
    each = seconds(device, lambda: runs.append([full_forward(case, cell) for cell in cells]), scale.rounds) / len(cells)
    span = sweep.ld_clean - sweep.ld_corrupted
    own = [sweep.metrics.logit_diff[layer, sweep.positions.index(token)] for layer, token in cells]
    ours, alone = ([(value - sweep.ld_corrupted) / span for value in values] for values in (own, runs[-1]))
    gaps = [abs(a - b) for a, b in zip(ours, alone, strict=True)]
    row = {"seconds a cell alone": each, "ratio": each * len(case.cells) / taken}
    row |= {"largest effect, NLD": max(map(abs, alone)), "difference in NLD": max(gaps)}
    return row | {"share of a cell's effect": max(gap / abs(one) for gap, one in zip(gaps, alone, strict=True))}


@torch.no_grad()
def measure_knockout(model: Any, scale: Scale, device: str) -> Rows:
    """The answer of a trace under all sets of heads at once, and under some by a forward pass each."""
    return [knocked_out(model, n_tokens, scale, device) for n_tokens in scale.pairs]


def knocked_out(model: Any, n_tokens: int, scale: Scale, device: str) -> dict[str, Any]:
    """The row of one trace."""
    ids, segments = trace_of(model, n_tokens)
    trace = TokenTrace("x", tuple(ids), segments)
    sets = random_sets(model.config.num_hidden_layers, model.config.num_attention_heads)
    arms, runs, found, alone = [Arm.of("mask", heads) for heads in sets], [], {}, []
    given = torch.tensor([ids[:-2]], device=device)
    targets = torch.tensor(ids[segments.think_close + 1 : -1], device=device)
    rows, keys = slice(segments.think_close, None), slice(segments.reasoning.start, segments.reasoning.stop)

    def together() -> None:
        runs.append(run_prefix(model, trace))
        found.update(run_arms(model, runs[-1], arms, scale.memory_mib))

    def one_by_one() -> None:
        alone.clear()
        for heads in sets[: scale.cells]:
            logits = masked_forward(model, given, by_layer(heads), rows, keys, len(targets))[0]
            alone.append(logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0].double().cpu())

    taken, peak = seconds(device, together, scale.rounds), peak_gigabytes(device, together)
    each = seconds(device, one_by_one, scale.rounds) / scale.cells
    gap = max((found[arm] - other).abs().max().item() for arm, other in zip(arms, alone, strict=False))
    moved = max((log_probs - runs[-1].log_probs).abs().max().item() for log_probs in found.values())
    row = {"T": n_tokens, "sets": len(sets), "seconds a trace": taken, "seconds a set alone": each}
    row |= {"ratio": each * len(sets) / taken, "peak GB": peak}
    return row | {"largest effect, nats": moved, "difference in nats": gap}


def measure_shards(model: Any, scale: Scale, device: str) -> Rows:
    """Writing (to the disk, synced) and reading back (every tensor) the activations of one trace, all rows."""
    ids, segments = trace_of(model, scale.lengths[0])
    trace = capture_trace(model, ids, segments, capture_config("all"))
    with tempfile.TemporaryDirectory(dir=".") as place:
        folder = Path(place)
        path = folder / shard_name(0)
        written = seconds("cpu", lambda: write_shard(path, [trace.record("x", ids)], "benchmark"))
        size = path.stat().st_size / 1e9
        indexed = seconds("cpu", lambda: write_index(folder / "index.parquet", [path]))
        stored = ActivationReader(folder).trace("x")
        read = seconds("cpu", lambda: [(stored.queries(layer), stored.keys(layer)) for layer in stored.layers])
    return [{"T": scale.lengths[0], "GB": size, "write GB/s": size / written, "index GB/s": size / indexed}] + [
        {"T": scale.lengths[0], "GB": size, "read GB/s": size / read}
    ]
