"""Does a GPU compute what the CPU does, and how fast: every part at R1-Distill sizes, and the built-in study.

usage: python -m benchmarks.gpu_check                        meant for ten minutes on one GPU of 80 GB -> docs/gpu.md
       python -m benchmarks.gpu_check --device cpu --small   the same on small models without a GPU, nothing is written
(or: make gpu-check) Random weights of published sizes -> generation, capture, patching, knock-out and shards in
bfloat16 (benchmarks.gpu); parity: bfloat16 against float32, and in float32 batches, patched cells and cut heads against
passes of their own, with bounds; then all stages of the built-in study on few questions. Exit code 1 where a bound is
passed, 3 without a GPU.
"""

import argparse
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch

from benchmarks.gpu import (
    FULL,
    IDS,
    SMALL,
    Scale,
    build,
    measure_capture,
    measure_generation,
    measure_knockout,
    measure_patching,
    measure_shards,
    random_ids,
    trace_of,
)
from benchmarks.knockout import EQUAL
from benchmarks.measuring import Rows, hardware, table
from benchmarks.pairs import build_case
from benchmarks.sizes import PUBLISHED
from r2a_core.attention.masses import TokenGroups, masses_in_forward
from r2a_core.config import read_yaml
from r2a_core.generation.batch import DecodingBatch
from r2a_core.infra.memory import MIB
from r2a_core.patching.runs import capture_clean, run_unpatched
from r2a_core.patching.sweep import sweep_resid
from stages._plan import filled, items

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "gpu.md"
MODELS = ("r1_qwen_1b5", "r1_llama_8b")
PARTS = {
    "generation": measure_generation,
    "capture": measure_capture,
    "patching": measure_patching,
    "knock-out": measure_knockout,
    "shards": measure_shards,
}
HEAD = """# On a GPU

Written by `make gpu-check`. Models have their published sizes and random weights, in bfloat16 where nothing else is
said: time and memory are those of the real models, texts and numbers mean nothing. *Parity* compares with the same
weights in float32, or with a pass of its own for each cell, set of heads or token; a *bound* is what rounding may do.
"""


@torch.no_grad()
def parity(name: str, scale: Scale, device: str) -> Rows:
    """What bfloat16 changes against float32; in float32, what batches and shared prefixes change."""
    half, full = (build(name, scale, device, dtype) for dtype in (torch.bfloat16, torch.float32))
    full.load_state_dict(half.state_dict())
    ids, segments = trace_of(half, scale.lengths[0])
    found = [masses_in_forward(each, "x", ids, TokenGroups(segments, (), ())).masses.values() for each in (half, full)]
    moved = torch.stack([(a.answer - b.answer).abs() for a, b in zip(*found, strict=True)])
    given = torch.tensor([ids[:512]], device=device)
    best = [each(input_ids=given, use_cache=False).logits[0].argmax(-1) for each in (half, full)]
    once = replace(scale, rounds=1, pairs=scale.pairs[:1])
    [patched], [cut] = measure_patching(full, once, device), measure_knockout(full, once, device)
    shift = "lead of a token, batch against alone"
    return [
        row("segment mass, answer rows, bfloat16 against float32", moved.max(), 0.02),
        row("NLD, the same", abs(nld(half, scale) - nld(full, scale)).max()),
        row("share of most likely tokens, the same", (best[0] != best[1]).float().mean()),
        row(f"{shift}, bfloat16, logits", lead_shift(half, scale)),
        row(f"{shift}, float32, logits", lead_shift(full, scale), 1e-3),
        row("NLD, patched cells against a pass each, float32", patched["difference in NLD"], 1e-4),
        row("the same, as a share of a cell's own effect", patched["share of a cell's effect"], 0.1),
        row("largest effect of these cells, NLD", patched["largest effect, NLD"]),
        row("log-probability, cut heads against a pass each, float32, nats", cut["difference in nats"], EQUAL),
    ]


def row(what: str, largest: Any, bound: float | None = None) -> dict[str, Any]:
    """A difference, and whether it is within its bound."""
    within = None if bound is None else "yes" if float(largest) <= bound else "no"
    return {"difference of": what, "largest": float(largest), "bound": bound, "within": within}


def nld(model: Any, scale: Scale) -> Any:
    """NLD of all cells of a pair, (layer, position)."""
    pair = build_case(model, scale.pairs[0], model.config.num_hidden_layers).pair
    runs = capture_clean(model, pair), run_unpatched(model, pair)
    return sweep_resid(model, pair, *runs, scale.memory_mib * MIB).nld


def lead_shift(model: Any, scale: Scale) -> float:
    """By how many logits a batch with a cache moves the lead of the best over the next token, against a pass alone.

    A tie_margin of this over the temperature makes every text independent of its batch.
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
    return max(shifts)


def few_questions(small: bool) -> dict[str, Any]:
    """The project's params with few questions; small: of a model trained for seconds, whose texts are well-formed."""
    params = read_yaml(ROOT / "params.yaml")
    params["run"]["datasets"] = params["run"]["datasets"][:2]
    params["generate"]["limit"] = 4 if small else 12
    params["pairs"]["generate"]["limit"] = 2 if small else 4
    if small:
        params["run"] |= {"models": ["tiny_qwen2"], "readers": []}
        params["generate"]["max_new_tokens"] = params["pairs"]["generate"]["max_new_tokens"] = 128
        steps = {"steps": 150, "copy_steps": 1, "ramp_steps": 10, "batch_tokens": 1024, "copy_tokens": 512}
        params["models"]["tiny_qwen2"]["recipe"] |= steps
    return params


def commands(params: dict[str, Any]) -> Iterator[list[str]]:
    """The modules of all stages with their arguments, in the order of dvc.yaml, which is one they can run in."""
    for stage in read_yaml(ROOT / "dvc.yaml")["stages"].values():
        for names in items(stage.get("matrix", {}), params).values():
            yield filled(stage["cmd"], {**params, "item": names}).removeprefix("python -m ").split()


def study(device: str, small: bool) -> Rows:
    """Runs the built-in study in a folder of its own, in this process: seconds of each stage, traces captured."""
    params, taken = few_questions(small), dict[str, float]()
    os.environ["R2A_DEVICE"] = device
    with tempfile.TemporaryDirectory() as place, chdir(place):
        Path("params.yaml").write_text(json.dumps(params), encoding="utf-8")  # JSON is YAML too
        shutil.copy(ROOT / "dvc.yaml", place)
        shutil.copytree(ROOT / "adapters", "adapters")
        for module, *names in commands(params):
            stage = module.removeprefix("stages.")
            begun = time.monotonic()
            getattr(importlib.import_module(module), stage)(*names)
            taken[stage] = taken.get(stage, 0.0) + time.monotonic() - begun
        captured = sum(map(n_traces, Path("data/activations").glob("*/*/with*_reasoning/index.parquet")))
    traces = {"capture": captured}
    return [{"stage": stage, "seconds": spent, "traces": traces.get(stage)} for stage, spent in taken.items()]


def n_traces(index: Path) -> int:
    """Traces whose activations a folder has."""
    return pl.read_parquet(index)["item_id"].n_unique()


def sections(models: list[str], small: bool, device: str) -> Iterator[tuple[str, Rows]]:
    """Everything that is measured, by title."""
    scale = SMALL if small else FULL
    for name in models:
        model = build(name, scale, device, torch.bfloat16)
        for part, measure in PARTS.items():
            yield f"{name}, {part}", measure(model, scale, device)
        del model  # two copies in other dtypes come
        yield f"{name}, parity", parity(name, scale, device)
    yield "Built-in study, few questions", study(device, small)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="of benchmarks/sizes.py, comma-separated")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--small", action="store_true", help="small models, nothing is written to docs/")
    options = parser.parse_args()
    if options.device == "cpu" and not options.small:
        parser.error("models of real size need a GPU; on the CPU there is --small")
    if options.device != "cpu" and not torch.cuda.is_available():
        print("error: this needs a CUDA GPU, and the machine has none", file=sys.stderr)
        print("hint: --device cpu --small runs the same path on small models", file=sys.stderr)
        return 3
    unknown = sorted(set(options.models.split(",")) - PUBLISHED.keys())
    if unknown:
        parser.error(f"--models: {', '.join(unknown)} is not among {', '.join(PUBLISHED)}")
    begun, passed, parts = time.monotonic(), 0, [HEAD]
    for title, rows in sections(options.models.split(","), options.small, options.device):
        parts.append(f"\n## {title}\n\n{table(rows)}\n")
        passed += sum(each.get("within") == "no" for each in rows)
        print(parts[-1], flush=True)
    spent = f"{(time.monotonic() - begun) / 60:.1f} minutes; {passed} bounds exceeded"
    parts.append(
        "\n" + ", ".join([*(f"{key} {value}" for key, value in hardware(options.device).items()), spent]) + "\n"
    )
    print(parts[-1])
    if not options.small:
        PAGE.write_text("".join(parts), encoding="utf-8")
    return int(passed > 0)


if __name__ == "__main__":
    sys.exit(main())
