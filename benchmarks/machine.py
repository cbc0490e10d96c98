"""What the time of a stage is made of on one device: stated figures, or those measured on this machine's CPU.

StudyOf, StageWork, Machine -> seconds. Operations, and the weights, keys, values and logits that are moved, are counted
without overlap.
"""

import copy
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import seconds
from benchmarks.passes import Passes, StageWork, StudyOf
from benchmarks.stage_work import scorings
from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.attention.masses import row_statistics
from r2a_core.attention.walk import ReasoningWalk
from r2a_core.infra.errors import R2AError
from r2a_core.paths import StudyPaths
from r2a_core.sentences.receivers import receivers
from r2a_core.walks.measures import answer_reading, cell_width
from r2a_core.walks.part_reading import PartRows

ROWS = 256  # of the pass that measures a rate
CACHE = 2**27  # numbers in layers that no cache holds: weights come from memory, as those of a whole model


@dataclass(frozen=True)
class Machine:
    """What the time of a stage is made of."""

    rate: float  # floating point operations a second
    bandwidth: float  # bytes a second between the device and its memory
    statistics: float  # attention weights a second, made and reduced
    layer: float  # s, of a layer's call beside what it computes
    start: float  # s, of a process that does nothing
    load: float  # s, to load the model
    head_row: float = 1e-5  # s, of one answer row of one head whose walk is measured on the CPU
    entries: float = 1e8  # a second, of sentence matrices of heads that are scored on the CPU
    disk: float = 1e9  # bytes a second

    def seconds(self, study: StudyOf, work: StageWork) -> float:
        """Returns the time of a stage."""
        start = work.runs * (self.start + (self.load if work.passes else 0))
        passes = sum(self.passing(study, passes) for passes in work.passes)
        on_cpu = work.head_rows * self.head_row + work.entries / self.entries
        return start + passes + work.weights / self.statistics + on_cpu + work.kept / self.disk

    def passing(self, study: StudyOf, passes: Passes) -> float:
        """Returns the time of passes of one kind."""
        shape = study.shape
        layer = study.layer_weights * shape.dtype.itemsize + passes.caches * passes.seen * shape.kv_bytes
        moved = passes.layers * layer + passes.logits * shape.n_vocab * passes.logit_bytes
        if passes.logits:
            moved += passes.unembeddings * shape.d_model * shape.n_vocab * shape.dtype.itemsize
        computed = operations(study, passes.rows, passes.seen) * passes.layers
        computed += 2 * passes.logits * shape.d_model * shape.n_vocab
        return passes.count * (
            passes.slower * computed / self.rate + moved / self.bandwidth + passes.layers * self.layer
        )


def operations(study: StudyOf, rows: float, seen: float) -> float:
    """Counts the floating point operations of one layer."""
    return rows * (2 * study.layer_weights + 4 * seen * study.shape.n_heads * study.shape.head_dim)


def measured(study: StudyOf) -> Machine:
    """Measures this CPU on one thread, in seconds. Raises R2AError for a model that is not prepared."""
    folder = StudyPaths(Path()).model(study.name)
    if not folder.is_dir():
        raise R2AError(f"{folder} is not there", f"prepare the model: dvc repro prepare_model@{study.name}")
    torch.set_num_threads(1)
    one, many = layer_seconds(study, (1, ROWS))
    rate = operations(study, ROWS, ROWS / 2) / (many - one)
    block = torch.ones(2**26)
    bandwidth = 2 * block.nbytes / cpu(block.clone)
    call = max(0.0, one - study.layer_weights * study.shape.dtype.itemsize / bandwidth)
    code = "import pathlib, stages.attention; from r2a_core.models.load import load_model; "
    code += "from r2a_core.models.tokenizers import load_tokenizer; load_"
    start, load = (child("-c", f"{code}{what}(pathlib.Path({str(folder)!r}))") for what in ("tokenizer", "model"))
    on_cpu = head_row_seconds(study), entries_a_second(study)
    return Machine(rate, bandwidth, weights_a_second(study), call, start, load - start, *on_cpu)


def layer_seconds(study: StudyOf, lengths: Sequence[int]) -> list[float]:
    """Measures a layer of the model's sizes on sequences of these lengths, among so many that no cache holds them."""
    from transformers import AutoModelForCausalLM

    sizes = copy.deepcopy(study.model.config)
    sizes.num_hidden_layers = min(study.shape.n_layers, max(2, CACHE // study.layer_weights))
    sizes.vocab_size = 64
    model = AutoModelForCausalLM.from_config(sizes, dtype=study.shape.dtype).eval()

    @torch.no_grad()
    def run(ids: torch.Tensor) -> None:
        model(input_ids=ids, use_cache=False, logits_to_keep=1)

    given = [torch.ones(1, n_tokens, dtype=torch.long) for n_tokens in lengths]
    return [cpu(partial(run, ids)) / sizes.num_hidden_layers for ids in given]


def cpu(work: Callable[[], Any]) -> float:
    """Returns the shortest CPU time of some rounds."""
    return seconds("cpu", work, 5, process_time)


def child(*arguments: str) -> float:
    """Runs Python and returns its CPU time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def weights_a_second(study: StudyOf) -> float:
    """Measures the statistics of one layer of a trace of this study."""
    trace, shape = study.lengths.trace, study.shape
    queries, keys = (torch.randn(n, trace.n_tokens, shape.head_dim) for n in (shape.n_heads, shape.n_kv_heads))
    layer = LayerAttention(0, shape.n_heads, shape.n_kv_heads, shape.head_dim, shape.head_dim**-0.5)
    return shape.n_heads * trace.n_tokens**2 / 2 / cpu(lambda: row_statistics(queries, keys, 0, layer, trace))


def head_row_seconds(study: StudyOf) -> float:
    """Measures an answer row of a head, its walking paths and other measures, on one layer of random shares."""
    heads, lengths, peak = study.shape.n_heads, study.lengths, study.params.walks.peak
    shares, numbers = random_rows(heads, lengths.answer, lengths.reasoning)
    even, near, *walk = numbers
    rows = PartRows(even, near, torch.full((lengths.answer,), lengths.reasoning), ReasoningWalk(*walk))
    taken = cpu(lambda: answer_reading(rows, (rows,), shares, lengths.reasoning, peak))
    return taken / (heads * lengths.answer)


def random_rows(heads: int, n_rows: int, n_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares (head, row, cell) of which one in twenty is three times the mean, and six numbers (head, row) in 0..1."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(6, heads, n_rows, generator=generator)
    shares = torch.empty(heads, n_rows, -(-n_tokens // cell_width(n_tokens))).exponential_(generator=generator)
    return shares / shares.sum(-1, keepdim=True), numbers


def entries_a_second(study: StudyOf) -> float:
    """Measures the receiver heads of one layer on random matrices, of as many sentences as are scored at the least."""
    config, generator = study.params.sentences, np.random.default_rng(0)
    proximity = config.proximity[0]
    n = max(study.lengths.reasoning // study.lengths.sentence, config.least + proximity)
    matrix = generator.random((study.shape.n_heads, n, n))
    taken = cpu(lambda: receivers(matrix, proximity, config.least, config.shuffles, generator))
    return matrix.size * scorings(config) / taken
