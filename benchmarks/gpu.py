"""The paper's three models at their real sizes, with random weights, on the GPU that is there.

Measured for each: tokens a second of generation, against one prompt at a time as the reference generates; capture of
long traces, against a plain forward pass by SDPA, with the peak of memory and what its account says; patching a pair,
against one forward pass a cell; writing and reading shards; and what bfloat16 changes against float32. Sizes are those
of the published configs, so time and memory are those of the real models; texts and numbers mean nothing.

usage: python benchmarks/gpu.py [--models r1_qwen_1b5,r1_llama_8b] [--parts generation,capture,patching,shards,parity]
       python benchmarks/gpu.py --device cpu --scale tiny     the same path on small models, without a GPU
prints markdown tables, and JSON to the file of --json. Exit code 3 without a GPU.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measuring import Rows, hardware, peak_gigabytes, seconds, table
from benchmarks.memory_model import capture_account, weight_bytes
from benchmarks.pairs import build_case, full_forward
from benchmarks.sizes import PUBLISHED, TINY
from r2a_core.activations.capture import capture_trace
from r2a_core.activations.store import ActivationReader, shard_name, write_index, write_shard
from r2a_core.attention.masses import TokenGroups, layer_statistics, masses_in_forward
from r2a_core.config import CaptureConfig, GenerateParams, ResponseParams, Tags
from r2a_core.config import Rows as KeptRows
from r2a_core.generation import decode as generation
from r2a_core.generation.decode import DecodingBatch, GenerationRequest, generate
from r2a_core.infra.memory import MIB
from r2a_core.models.load import LoadedModel
from r2a_core.patching.runs import capture_clean, run_unpatched
from r2a_core.patching.sweep import sweep_resid
from r2a_core.tokenizer import LoadedTokenizer, TagIds
from r2a_core.trace import TraceSegments

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


SCALES = {
    "full": Scale((16, 64, 128), 256, (2048, 8192, 32768), (1024, 2048), 5, 8192, 3),
    "tiny": Scale((2, 4), 8, (256, 512), (256,), 2, 64, 1),
}


def build(name: str, scale: str, device: str, dtype: torch.dtype) -> Any:
    """A model of published sizes with the same random weights each time."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**{**PUBLISHED[name], **(TINY if scale == "tiny" else {})}, eos_token_id=IDS.eos)
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
            config = CaptureConfig(
                rows=kept, dtype="bfloat16", layers=None, residual_layers=(), z_layers=(), stream_rows="answer"
            )

            def capture(ids: Any = ids, segments: Any = segments, config: CaptureConfig = config) -> Any:
                return capture_trace(model, ids, segments, config)

            taken, peak = seconds(device, capture, scale.rounds), peak_gigabytes(device, capture)
            account = capture_account(model.config, dtype, segments, config, weight_bytes(model.config, dtype))
            row = {"T": n_tokens, "way": f"capture, {label}", "seconds": taken, "ratio": taken / base, "peak GB": peak}
            rows.append(row | {"account GB": account.peak / 1e9})
        trace = capture_trace(
            model,
            ids,
            segments,
            CaptureConfig(
                rows="answer", dtype="bfloat16", layers=None, residual_layers=(), z_layers=(), stream_rows="answer"
            ),
        )

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


def measure_shards(model: Any, scale: Scale, device: str) -> Rows:
    """Writing (to the disk, synced) and reading back (every tensor) the activations of one trace, all rows."""
    ids, segments = trace_of(model, scale.lengths[0])
    trace = capture_trace(
        model,
        ids,
        segments,
        CaptureConfig(rows="all", dtype="bfloat16", layers=None, residual_layers=(), z_layers=(), stream_rows="answer"),
    )
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


@torch.no_grad()
def measure_parity(name: str, scale_name: str, device: str) -> Rows:
    """What bfloat16 changes: masses, NLD, tokens; and how far a batch moves the lead of a token."""
    scale = SCALES[scale_name]
    half, full = (build(name, scale_name, device, dtype) for dtype in (torch.bfloat16, torch.float32))
    full.load_state_dict(half.state_dict())
    ids, segments = trace_of(half, scale.lengths[0])
    groups = TokenGroups(segments, (), ())
    found = [masses_in_forward(model, "x", ids, groups).masses.values() for model in (half, full)]
    moved = torch.stack([(a.answer - b.answer).abs() for a, b in zip(*found, strict=True)])
    rows: Rows = [{"quantity": "segment mass, answer rows", "mean": moved.mean().item(), "largest": moved.max().item()}]
    sweeps = []
    for model in (half, full):
        pair = build_case(model, scale.pairs[0], model.config.num_hidden_layers).pair
        runs = capture_clean(model, pair), run_unpatched(model, pair)
        sweeps.append(sweep_resid(model, pair, *runs, scale.memory_mib * MIB).nld)
    moved_nld = abs(sweeps[0] - sweeps[1])
    rows.append({"quantity": "NLD", "mean": moved_nld.mean().item(), "largest": moved_nld.max().item()})
    given = torch.tensor([ids[:512]], device=device)
    best = [model(input_ids=given, use_cache=False).logits[0].argmax(-1) for model in (half, full)]
    rows.append({"quantity": "most likely token differs", "mean": (best[0] != best[1]).float().mean().item()})
    for label, model in (("bfloat16", half), ("float32", full)):
        rows.append({"quantity": f"lead of a token, batch against alone, {label}", **lead_shift(model, scale)})
    return rows


def lead_shift(model: Any, scale: Scale) -> dict[str, float]:
    """By how many logits a batch with a cache moves the lead of the best over the next token, against a pass alone.

    A tie_margin of the largest shift over the temperature makes every text independent of its batch.
    """
    prompts = [random_ids(model, 100 + seed % 7 * 10, seed) for seed in range(scale.batches[0])]
    rows = DecodingBatch.start(model, prompts, IDS.pad)
    shifts = []
    for _ in range(min(scale.new_tokens, 32)):
        for number, prompt in enumerate(prompts):
            given = torch.tensor([prompt], device=model.device)
            alone = model(input_ids=given, use_cache=False, logits_to_keep=1).logits[0, -1].float()
            first, second = alone.topk(2).indices.tolist()
            batched = rows.logits[number]
            shifts.append(((batched[first] - batched[second]) - (alone[first] - alone[second])).abs().item())
            prompt.append(first)
        rows.step(torch.tensor([prompt[-1] for prompt in prompts], device=model.device))
    return {"mean": sum(shifts) / len(shifts), "largest": max(shifts)}


PARTS = ("generation", "capture", "patching", "shards", "parity")


def measure(name: str, part: str, model: Any, options: argparse.Namespace) -> Rows:
    """The rows of one part for one model."""
    scale = SCALES[options.scale]
    if part == "parity":
        return measure_parity(name, options.scale, options.device)
    parts = {
        "generation": measure_generation,
        "capture": measure_capture,
        "patching": measure_patching,
        "shards": measure_shards,
    }
    return parts[part](model, scale, options.device)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(PUBLISHED), help="names, comma-separated")
    parser.add_argument("--parts", default=",".join(PARTS), help="what to measure, comma-separated")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--scale", choices=list(SCALES), default="full")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args()
    if options.device == "cpu" and options.scale != "tiny":
        parser.error("models of real size need a GPU; on the CPU there is --scale tiny")
    if options.device != "cpu" and not torch.cuda.is_available():
        print("benchmarks/gpu.py needs a CUDA GPU, and this machine has none.", file=sys.stderr)
        print("hint: --device cpu --scale tiny runs the same path on small models", file=sys.stderr)
        return 3
    results: dict[str, Any] = {"hardware": hardware(options.device), "scale": options.scale, "models": {}}
    print(", ".join(f"{key} {value}" for key, value in results["hardware"].items()))
    for name in options.models.split(","):
        parts = options.parts.split(",")
        model = build(name, options.scale, options.device, torch.bfloat16)
        for part in sorted(parts, key=PARTS.index):
            if part == "parity":
                model = None  # two copies of another dtype come
            rows = measure(name, part, model, options)
            results["models"].setdefault(name, {})[part] = rows
            print(f"\n### {name}, {part}\n\n{table(rows)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
