"""Time and peak memory of capture against a plain forward pass and against eager output_attentions.

Random Qwen2 model (8 layers, width 512, 8 heads, 2 KV heads), one thread, float32. A trace of T tokens: 50 of
question, 10% of answer, the rest reasoning. Times are medians of rounds in which the ways take turns; peak memory is
the growth of the process's resident set over the loaded model, each way in a process of its own (Linux).

usage: python benchmarks/capture.py [--lengths 512,1024,2048,4096] [--long 8192,10000] [--rounds 3]
prints a markdown table
"""

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from r2a_core.activations.capture import CaptureConfig, capture_trace
from r2a_core.attention.live import segment_masses_live
from r2a_core.attention.masses import layer_statistics
from r2a_core.traces.segments import TraceSegments

LAYERS, WIDTH = 8, 512
ANSWER = CaptureConfig("answer", "bfloat16", None, (), (), "answer")
BOTH = CaptureConfig("answer_and_reasoning", "bfloat16", None, (), (), "answer")


def build_model() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=1024,
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=32768,
    )
    return Qwen2ForCausalLM(config).eval()


def plain(model: Any, ids: list[int], segments: TraceSegments) -> None:
    """One forward pass by SDPA, nothing recorded."""
    model.set_attn_implementation("sdpa")
    model(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=1)


def capture_answer(model: Any, ids: list[int], segments: TraceSegments) -> None:
    """Queries of answer rows and all keys, in memory."""
    model.set_attn_implementation("sdpa")
    capture_trace(model, ids, segments, ANSWER)


def capture_both(model: Any, ids: list[int], segments: TraceSegments) -> None:
    """Queries of answer and reasoning rows and all keys, in memory."""
    model.set_attn_implementation("sdpa")
    capture_trace(model, ids, segments, BOTH)


def capture_and_measure(model: Any, ids: list[int], segments: TraceSegments) -> None:
    """The same, and all statistics of answer and reasoning rows from it."""
    model.set_attn_implementation("sdpa")
    trace = capture_trace(model, ids, segments, BOTH)
    for layer in trace.layers:
        layer_statistics(trace, layer)


def measure_answer(model: Any, ids: list[int], segments: TraceSegments) -> None:
    """Capture of answer rows, and their statistics."""
    model.set_attn_implementation("sdpa")
    trace = capture_trace(model, ids, segments, ANSWER)
    for layer in trace.layers:
        layer_statistics(trace, layer)


def live(model: Any, ids: list[int], segments: TraceSegments) -> None:
    """Masses of answer and reasoning rows inside the forward pass."""
    model.set_attn_implementation("sdpa")
    segment_masses_live(model, ids, segments)


def eager(model: Any, ids: list[int], segments: TraceSegments) -> None:
    """transformers' output_attentions, and the segment masses of the answer rows from it."""
    model.set_attn_implementation("eager")
    out = model(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=1, output_attentions=True)
    for pattern in out.attentions:
        for tokens in segments.ranges().values():
            pattern[0, :, segments.answer.start : segments.answer.stop, tokens.start : tokens.stop].sum(-1).mean(-1)


WAYS: dict[str, Callable[[Any, list[int], TraceSegments], None]] = {
    "plain SDPA": plain,
    "capture, answer rows": capture_answer,
    "+ statistics": measure_answer,
    "capture, answer and reasoning rows": capture_both,
    "+ statistics of both": capture_and_measure,
    "live masses of both": live,
    "eager output_attentions": eager,
}


def trace_of(n_tokens: int) -> tuple[list[int], TraceSegments]:
    ids = torch.randint(1, 1024, (n_tokens,), generator=torch.Generator().manual_seed(1)).tolist()
    return ids, TraceSegments(50, n_tokens - n_tokens // 10 - 2, n_tokens)


@torch.no_grad()
def peak_memory(way: str, n_tokens: int) -> None:
    """Prints the growth of the resident set in MB; run in a process of its own."""
    torch.set_num_threads(1)
    model = build_model()
    WAYS[way](model, *trace_of(64))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident now
    before = memory("VmRSS")
    WAYS[way](model, *trace_of(n_tokens))
    print(memory("VmHWM") - before)


def memory(name: str) -> float:
    """A size from Linux's account of this process, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


@torch.no_grad()
def time_ways(ways: list[str], n_tokens: int, rounds: int) -> dict[str, float]:
    """Median seconds of each way."""
    torch.set_num_threads(1)
    model = build_model()
    ids, segments = trace_of(n_tokens)
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            start = time.process_time()
            WAYS[way](model, ids, segments)
            taken[way].append(time.process_time() - start)
    return {way: statistics.median(seconds) for way, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="512,1024,2048,4096", help="tokens, every way")
    parser.add_argument("--long", default="8192,10000", help="tokens, every way but eager")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", nargs=2, metavar=("WAY", "TOKENS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak_memory(options.peak[0], int(options.peak[1]))
        return
    print("| T | way | CPU seconds | over plain | peak MB |\n|---|---|---|---|---|")
    lengths = [(int(n), list(WAYS)) for n in options.lengths.split(",") if n]
    lengths += [
        (int(n), [way for way in WAYS if way != "eager output_attentions"]) for n in options.long.split(",") if n
    ]
    for n_tokens, ways in lengths:
        seconds = time_ways(ways, n_tokens, options.rounds)
        for way in ways:
            command = [sys.executable, __file__, "--peak", way, str(n_tokens)]
            peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            ratio = seconds[way] / seconds["plain SDPA"]
            print(f"| {n_tokens} | {way} | {seconds[way]:.2f} | {ratio:.2f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
