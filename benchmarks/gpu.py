"""Speed and memory of the models at their published sizes, with random weights, on the device that is there.

A model, a Scale -> Rows for each part: tokens a second of generation, against one prompt at a time as the reference
generates; capture of long traces, against a plain forward pass by SDPA, with the peak of memory and what its account
says; patching a pair, against one forward pass a cell; knocking out sets of heads, against one forward pass a set;
writing and reading shards. Sizes are those of the published configs, so time and memory are those of the real models;
texts and numbers mean nothing.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import by_layer, masked_forward, random_sets
from benchmarks.measuring import Rows, peak_gigabytes, seconds
from benchmarks.memory_model import capture_account, weight_bytes
from benchmarks.ours import config as capture_config
from benchmarks.pairs import build_case, full_forward
from benchmarks.sizes import PUBLISHED, TINY
from r2a_core.activations.capture import capture_trace
from r2a_core.activations.store import ActivationReader, shard_name
from r2a_core.activations.writer import write_index, write_shard
from r2a_core.attention.masses import layer_statistics
from r2a_core.config import GenerateParams, ResponseParams, Tags
from r2a_core.config import Rows as KeptRows
from r2a_core.generation import decode as generation
from r2a_core.generation.decode import GenerationRequest, generate
from r2a_core.infra.memory import MIB
from r2a_core.knockout.prefix import run_prefix
from r2a_core.knockout.run import run_arms
from r2a_core.knockout.sets import Arm
from r2a_core.models.load import LoadedModel
from r2a_core.patching.runs import capture_clean, run_unpatched
from r2a_core.patching.sweep import sweep_resid
from r2a_core.tokenizer import LoadedTokenizer, TagIds
from r2a_core.trace import TokenTrace, TraceSegments

IDS = TagIds(bos=0, eos=1, think_open=2, think_close=3, pad=0)
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
    rounds: int


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
    """New tokens a second: one prompt at a time by transformers' generate, and this project's batches."""
    loaded = LoadedModel(model, LoadedTokenizer(None, Tags(), IDS))
    prompts = [tuple(random_ids(model, 100 + seed % 7 * 10, seed)) for seed in range(max(scale.batches))]
    ids = torch.tensor([prompts[0]], device=device)
    options = {"max_new_tokens": scale.new_tokens, "min_new_tokens": scale.new_tokens, "pad_token_id": IDS.pad}
    options |= {"do_sample": True, "temperature": 0.6, "attention_mask": torch.ones_like(ids)}
    alone = scale.new_tokens / seconds(device, lambda: model.generate(ids, **options), scale.rounds)
    rows: Rows = [{"way": "one prompt, transformers' generate", "tokens/s": alone, "ratio": 1.0, "decided alone": None}]
    counted = [0]
    choose_alone = generation.choose_alone

    def counting(*args: Any) -> Any:
        counted[0] += 1
        return choose_alone(*args)

    generation.choose_alone = counting
    for batch in scale.batches:
        requests = [GenerationRequest(str(number), 0, prompt) for number, prompt in enumerate(prompts[:batch])]
        config = ResponseParams(
            max_new_tokens=scale.new_tokens, batch_size=batch, tie_margin=0.001, shard_items=1
        ).sampled(0.6)
        counted[0], made = 0, [0]

        def work(requests: Sequence[GenerationRequest] = requests, config: GenerateParams = config) -> None:
            made[0] = sum(len(result.response_ids) for result in generate(loaded, requests, config))  # noqa: B023

        rate = 1 / seconds(device, work)
        row = {"way": f"batch of {batch}", "tokens/s": made[0] * rate, "ratio": made[0] * rate / alone}
        rows.append(row | {"decided alone": counted[0] / made[0]})
    generation.choose_alone = choose_alone
    return rows


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

        taken, peak = seconds(device, statistics), peak_gigabytes(device, statistics)
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
        cells = case.cells[: scale.cells]
        values: list[float] = []
        each = seconds(device, lambda c=cells, k=case, v=values: v.extend(full_forward(k, cell) for cell in c))
        each /= len(cells)
        span = abs(found[-1].ld_clean - found[-1].ld_corrupted)
        ours = [found[-1].metrics.logit_diff[layer, found[-1].positions.index(token)] for layer, token in cells]
        gap = max(abs(a - b) / span for a, b in zip(ours, values, strict=True))
        row = {"T": n_tokens, "cells": len(case.cells), "seconds a pair": taken, "seconds a cell alone": each}
        rows.append(row | {"ratio": each * len(case.cells) / taken, "peak GB": peak, "difference in NLD": gap})
    return rows


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
        for heads in sets[: scale.cells]:
            logits = masked_forward(model, given, by_layer(heads), rows, keys, len(targets))[0]
            alone.append(logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0].double().cpu())

    taken, peak = seconds(device, together, scale.rounds), peak_gigabytes(device, together)
    each = seconds(device, one_by_one) / scale.cells
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
