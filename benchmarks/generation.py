"""Generation: the study's batches against transformers' `generate`, one prompt at a time, on a tiny model.

Bench -> Section. Needs the tiny model and its prompts, which `make repro` makes.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import Section, Table, Target
from benchmarks.turns import ROOT, Bench, Contender, Ratio, Timing, Worker, take_turns

TEXT = """
{n_prompts} prompts of the study's own (built-in model `tiny_qwen2`, arithmetic and comparison). Ours answers all of
them with a batch of {batch} (continuous batching); transformers' `generate` answers one prompt at a time, {count} per
round, and is measured per token. *Greedy*: both sides give the same tokens and stop where the model stops. *Mixed
lengths*: sampled at a temperature so high that the model rambles, which spreads the lengths from {shortest} to
{longest} tokens; `generate` is made to take as many tokens per prompt as ours took.
"""
TINY_MODEL = ROOT / "data" / "models" / "tiny_qwen2"
PROMPTS = ROOT / "data" / "generations" / "tiny_qwen2"
NAMES = ("arithmetic", "comparison")
MOST_TOKENS, PROMPTS_EACH, BATCH, COUNT = 400, 64, 64, 12


@dataclass(frozen=True)
class Setting:
    """How tokens are chosen, and which responses count."""

    name: str
    temperature: float
    shortest: int  # tokens; responses below are left out of the work


SETTINGS = (Setting("greedy", 0.0, 1), Setting("mixed lengths", 1.8, 50))


def measure(bench: Bench) -> Section:
    prompts = [[4 + number, 5, 6] for number in range(8)] if bench.quick else study_prompts()
    folder = None if bench.quick else str(TINY_MODEL)
    rows, targets, spans = [], [], []
    with bench.workers("ours", "theirs") as workers:
        found = [time_one(bench, workers, setting, prompts, folder) for setting in SETTINGS]
    for setting, (ours, ratio, lengths) in zip(SETTINGS, found, strict=True):
        spans.append(lengths)
        mean = sum(lengths) / len(lengths)
        rate = f"{sum(lengths) / ours.median:.0f}"
        span = f"{min(lengths)}-{max(lengths)}, mean {mean:.0f}"
        rows.append([setting.name, str(len(lengths)), span, rate, str(ratio)])
        targets.append(Target.at_least(f"generate alone over ours, {setting.name}", 10, ratio.median))
    table = Table(["", "responses", "new tokens each", "ours, tokens/s", "generate alone / ours"], rows)
    known = {"n_prompts": len(prompts), "batch": BATCH, "count": COUNT}
    text = TEXT.format(**known, shortest=min(spans[-1]), longest=max(spans[-1]))
    return Section("Generation", text, [table], targets)


def study_prompts() -> list[list[int]]:
    """Prompts with reasoning of both built-in datasets. Exits with a hint when they are not there."""
    import polars as pl

    if not (TINY_MODEL / "config.json").is_file():
        sys.exit("error: the tiny models are not trained yet\nhint: make repro, or choose other --parts")
    files = [Path(PROMPTS, name, "with_reasoning.parquet") for name in NAMES]
    return [prompt for file in files for prompt in pl.read_parquet(file)["prompt_ids"].head(PROMPTS_EACH).to_list()]


def time_one(
    bench: Bench, workers: list[Worker], setting: Setting, prompts: list[list[int]], folder: str | None
) -> tuple[Timing, Ratio, list[int]]:
    """Our timing, the ratio by the token, and the lengths of the responses."""
    common = {"max_new_tokens": 8 if bench.quick else MOST_TOKENS, "batch_size": BATCH, "folder": folder}
    case: dict[str, Any] = {**common, "temperature": setting.temperature}
    ours, theirs = workers
    wanted = {**case, "prompts": {str(number): prompt for number, prompt in enumerate(prompts)}}
    first = ours.ask(do="run", way="generate_together", case=wanted, times=1)["result"]
    shortest = 1 if bench.quick else setting.shortest
    kept = [number for number, tokens in enumerate(first) if len(tokens) >= shortest]
    lengths = [len(first[number]) for number in kept]
    few = kept[:: max(1, len(kept) // COUNT)][:COUNT]
    alone = {
        "prompts": [prompts[number] for number in few],
        "lengths": [len(first[number]) for number in few],
        "temperature": setting.temperature,
        "folder": folder,
    }
    contenders = [
        Contender("ours", ours, "generate_together", {**case, "prompts": {str(n): prompts[n] for n in kept}}),
        Contender("alone", theirs, "generate_alone", alone),
    ]
    timings = take_turns(contenders, bench.rounds, bench.clock)
    if setting.temperature == 0 and timings["alone"].result != [first[number] for number in few]:
        raise RuntimeError("greedy responses differ from transformers' generate")
    share = sum(lengths) / sum(alone["lengths"])
    return timings["ours"], Ratio.of(timings["alone"], timings["ours"], share), lengths
