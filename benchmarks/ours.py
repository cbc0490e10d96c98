"""This project's ways, and what they are measured against in the same process: a plain forward pass.

Each way is a function of a case that builds what it needs and returns a call to be timed; the call returns numbers to
be compared with the peers'.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from benchmarks import ours_disk
from benchmarks.cases import (
    TOKENS,
    Shape,
    build_model,
    end_of_text,
    random_sets,
    token_ids,
    weights_digest,
)
from benchmarks.pairs import aligned, segments_of
from r2a_core.activations.capture import capture_trace
from r2a_core.activations.hooks import decoder_layers, removed_after
from r2a_core.activations.store import ActivationReader, StoredTrace, shard_name
from r2a_core.activations.writer import write_index, write_shard
from r2a_core.attention.masses import REFLECTION, TokenGroups, layer_statistics, masses_in_forward
from r2a_core.builtin.tasks.encode import encode_text
from r2a_core.builtin.tasks.texts import training_texts
from r2a_core.config import CaptureConfig, ResponseParams, Tags, TaskMix, load_params
from r2a_core.generation.decode import GenerationRequest, generate
from r2a_core.knockout.prefix import run_prefix
from r2a_core.knockout.run import run_arms
from r2a_core.knockout.sets import Arm
from r2a_core.models.load import LoadedModel, load_model
from r2a_core.models.prepare import prepare
from r2a_core.patching.packed import PackedSweep, PatchRows
from r2a_core.patching.runs import capture_clean, run_unpatched
from r2a_core.patching.sweep import sites_of, sweep_resid
from r2a_core.tokenizer import LoadedTokenizer, TagIds
from r2a_core.trace import TokenTrace

Run = Callable[[], Any]
MEMORY = 2**32  # bytes, for patched rows
ARMS_MIB = 256  # MiB for the arms of one pass, as params.yaml has it
LONGEST = 8192  # tokens of a case
SENTENCE = 20  # tokens, about


def config(rows: str) -> CaptureConfig:
    """Capture of these rows of all layers, as the study stores them."""
    return CaptureConfig(
        rows=rows,  # pyright: ignore[reportArgumentType]
        dtype="bfloat16",
        layers=None,
        residual_layers=(),
        z_layers=(),
        stream_rows="answer",
    )


def digest(shape: dict[str, Any]) -> Run:
    return lambda: weights_digest(Shape(**shape))


def forward(shape: dict[str, Any], n_tokens: int, logits: int = 1) -> Run:
    """A plain forward pass by SDPA. logits: how many last rows get them, 0 for all."""
    model, ids = build_model(Shape(**shape)), torch.tensor([token_ids(Shape(**shape), n_tokens)])

    def run() -> None:
        model(input_ids=ids, use_cache=False, logits_to_keep=logits)

    return run


def capture(shape: dict[str, Any], n_tokens: int, rows: str = "answer_and_reasoning") -> Run:
    """Queries and keys of one trace, in memory."""
    model, ids, segments = build_model(Shape(**shape)), token_ids(Shape(**shape), n_tokens), segments_of(n_tokens)

    def run() -> None:
        capture_trace(model, ids, segments, config(rows))

    return run


def live_masses(shape: dict[str, Any], n_tokens: int) -> Run:
    """All masses and walks of a trace from one forward pass; those on segments, in the order of theirs.segment_sums."""
    model, ids, segments = build_model(Shape(**shape)), token_ids(Shape(**shape), n_tokens), segments_of(n_tokens)

    starts = segments.reasoning[::SENTENCE]
    sentences = [range(start, min(start + SENTENCE, segments.reasoning.stop)) for start in starts]
    groups = TokenGroups(segments, (), sentences)

    def run() -> list[float]:
        found = masses_in_forward(model, "t", ids, groups).masses.values()
        both = [torch.stack([each.answer, each.reasoning]) for each in found if each.reasoning is not None]
        return torch.stack(both)[..., :REFLECTION].transpose(2, 3).flatten().tolist()

    return run


def captured(shape: dict[str, Any], n_tokens: int, rows: str, folder: str, traces: int = 1) -> list[StoredTrace]:
    """The same trace captured and stored some times over, each in a shard."""
    model, place = build_model(Shape(**shape)), Path(folder)
    trace = capture_trace(model, token_ids(Shape(**shape), n_tokens), segments_of(n_tokens), config(rows))
    paths = [place / shard_name(number) for number in range(traces)]
    for number, path in enumerate(paths):
        write_shard(path, [trace.record(f"t{number:05d}", token_ids(Shape(**shape), n_tokens))], "benchmark")
    write_index(place / "index.parquet", paths)
    return list(ActivationReader(place))


def stored_statistics(shape: dict[str, Any], n_tokens: int, rows: str, folder: str, traces: int = 1) -> Run:
    """All statistics of traces from their shards, read anew and verified each time."""
    captured(shape, n_tokens, rows, folder, traces)

    def run() -> None:
        for trace in ActivationReader(Path(folder)):
            for layer in trace.layers:
                layer_statistics(trace, layer)

    return run


def stored_reading(shape: dict[str, Any], n_tokens: int, rows: str, folder: str) -> Run:
    """Reading and verifying the same shards, nothing else."""
    captured(shape, n_tokens, rows, folder)

    def run() -> None:
        for trace in ActivationReader(Path(folder)):
            for layer in trace.layers:
                trace.queries(layer).clone()
                trace.keys(layer).clone()

    return run


def patch_pair(shape: dict[str, Any], n_tokens: int, pairs: int = 1) -> Run:
    """Clean run, corrupted run and all cells of a pair: logit differences (layer, position)."""
    model, pair = build_model(Shape(**shape)), aligned(n_tokens)

    def run() -> Any:
        for _ in range(pairs):
            sweep = sweep_resid(model, pair, capture_clean(model, pair), run_unpatched(model, pair), MEMORY)
        return [[sweep.ld_clean, sweep.ld_corrupted], sweep.metrics.logit_diff.tolist()]

    return run


def patch_cells(shape: dict[str, Any], n_tokens: int) -> Run:
    """The cells alone, with clean and corrupted run there already."""
    model, pair = build_model(Shape(**shape)), aligned(n_tokens)
    clean, unpatched = capture_clean(model, pair), run_unpatched(model, pair)
    rows = [PatchRows(layer, streams[None]) for layer, streams in enumerate(clean.resid_pre)]

    def run() -> None:
        PackedSweep(model, pair, unpatched, MEMORY).run(sites_of(pair), rows)

    return run


def knockout_case(shape: dict[str, Any], n_tokens: int) -> tuple[Any, TokenTrace, list[Arm]]:
    """The model, the trace, and the arms in the order of the random sets."""
    size = Shape(**shape)
    trace = TokenTrace("t", tuple(token_ids(size, n_tokens)), segments_of(n_tokens))
    return build_model(size), trace, [Arm.of("mask", heads) for heads in random_sets(size.n_layers, size.n_heads)]


def unchanged_run(shape: dict[str, Any], n_tokens: int) -> Run:
    """The unchanged run of a trace, with what its sets share."""
    model, trace, _ = knockout_case(shape, n_tokens)

    def run() -> None:
        run_prefix(model, trace)

    return run


def knock_out(shape: dict[str, Any], n_tokens: int) -> Run:
    """All sets, with the unchanged run there already: log-probabilities (set, token)."""
    model, trace, arms = knockout_case(shape, n_tokens)
    prefix = run_prefix(model, trace)

    def run() -> list[list[float]]:
        found = run_arms(model, prefix, arms, ARMS_MIB)
        return [found[arm].tolist() for arm in arms]

    return run


def trace_tokens(tokenizer: LoadedTokenizer) -> list[int]:
    """Problems with traces and answers, one after the other, as long as the longest case."""
    shares = dict.fromkeys(("without_reasoning", "probing", "perturbed", "contradicted", "padded"), 0.0)
    texts = training_texts(0, TaskMix(tasks={"stories": 1.0, "comparisons": 1.0, "swaps": 1.0}, **shares))
    found: list[int] = []
    while len(found) < LONGEST:
        found += encode_text(next(texts), tokenizer, Random(0)).ids
    return found


def token_layers(shape: dict[str, Any], n_tokens: int) -> Run:
    """Token-layers of a plain forward pass, of the unchanged run and of all sets, as hooks count them."""
    model, trace, arms = knockout_case(shape, n_tokens)
    prefix, plain = run_prefix(model, trace), forward(shape, n_tokens)

    def run() -> list[float]:
        ways = (plain, lambda: run_prefix(model, trace), lambda: run_arms(model, prefix, arms, ARMS_MIB))
        return [counted(model, way) for way in ways]

    return run


def counted(model: Any, run: Run) -> float:
    """Rows that pass through each layer's linear modules while `run` runs, each module by its share of the weights."""
    found = 0.0

    def hook(share: float) -> Callable[..., None]:
        def count(module: Any, args: tuple[torch.Tensor]) -> None:
            nonlocal found
            found += share * args[0].shape[:-1].numel()

        return count

    handles = []
    for layer in decoder_layers(model):
        linear = [each for each in layer.modules() if isinstance(each, torch.nn.Linear)]
        size = sum(each.weight.numel() for each in linear)
        handles += [each.register_forward_pre_hook(hook(each.weight.numel() / size)) for each in linear]
    with removed_after(handles):
        run()
    return found


def save_model(name: str, folder: str) -> Run:
    """Prepares a model of params.yaml and saves its weights as transformers reads them, and tokens of real traces."""

    def run() -> None:
        place = Path(folder) / name
        prepare(load_params(Path("params.yaml")).models[name], place)
        loaded = load_model(place, "cpu")
        loaded.model.save_pretrained(folder)
        Path(folder, TOKENS).write_text(json.dumps(trace_tokens(loaded.tokenizer)), encoding="utf-8")

    return run


def generate_together(
    shape: dict[str, Any],
    prompts: list[list[int]],
    max_new_tokens: int,
    batch_size: int,
    temperature: float,
    tie_margin: float,
) -> Run:
    """Responses to prompts by the study's own generation."""
    model = build_model(Shape(**shape))
    loaded = LoadedModel(model, LoadedTokenizer(None, Tags(), TagIds(0, end_of_text(model), 2, 3, 0)))
    requests = [GenerationRequest(str(number), 0, tuple(prompt)) for number, prompt in enumerate(prompts)]
    sampling = ResponseParams(
        max_new_tokens=max_new_tokens, batch_size=batch_size, tie_margin=tie_margin, shard_items=1
    ).sampled(temperature)

    def run() -> list[list[int]]:
        return [list(response.response_ids) for response in generate(loaded, requests, sampling)]

    return run


if sys.platform != "linux":
    raise SystemExit("error: the benchmark reads Linux's accounts of memory and disk\nhint: run it on Linux")

WAYS: dict[str, Callable[..., Run]] = {
    way.__name__: way
    for way in (
        digest,
        forward,
        capture,
        live_masses,
        stored_statistics,
        stored_reading,
        patch_pair,
        patch_cells,
        unchanged_run,
        knock_out,
        token_layers,
        save_model,
        generate_together,
    )
} | ours_disk.WAYS
