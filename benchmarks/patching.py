"""Time to patch every cell of a pair: the packed staircase, one full forward per cell, and TransformerLens.

Random Llama and Qwen2 models (width 512, 8 heads, 2 KV heads), one thread, float32. A pair has T tokens; patched are 8
tokens of a probe that ends 180 tokens before the end, and the last 3, at every layer. The ways take turns. The
staircase is timed whole: clean run, corrupted run and all cells. A forward per cell costs the same for every cell, so
the other two ways run a few cells a round, and the time of a pair is the median of a cell times the number of cells,
without the clean run. Cells that several ways have are compared.

usage: python benchmarks/patching.py [--tokens 512,1024,2048] [--layers 8] [--rounds 5] [--cells 3] [--device cpu]
prints a markdown table; TransformerLens takes part where it is installed
"""

import argparse
import contextlib
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from r2a_core.patching.alignment import AlignedPair, PaddedSequence, PatchPosition, Role
from r2a_core.patching.metrics import Sweep
from r2a_core.patching.runs import CleanRun, capture_clean
from r2a_core.patching.sweep import sweep_resid

WIDTH, VOCABULARY, SUFFIX, PROBE, LAST, MEMORY_MIB = 512, 1024, 180, 8, 3, 2048
Cell = tuple[int, int]  # layer, token


@dataclass(frozen=True)
class Case:
    """A pair on a model, with the clean residual streams, and the cells in a fixed shuffled order."""

    model: Any
    pair: AlignedPair
    clean: CleanRun
    cells: list[Cell]


def build_model(kind: str, n_layers: int, device: str) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "initializer_range": 0.08,  # wide, so that cells have an effect
    }
    model: Any = LlamaForCausalLM(LlamaConfig(**sizes)) if kind == "llama" else Qwen2ForCausalLM(Qwen2Config(**sizes))
    model.set_attn_implementation("sdpa")
    return model.to(device).eval()


def build_case(model: Any, n_tokens: int, n_layers: int) -> Case:
    generator = torch.Generator().manual_seed(1)
    close = n_tokens - SUFFIX - 1
    ids = torch.randint(1, VOCABULARY, (n_tokens,), generator=generator).tolist()
    other = torch.randint(1, VOCABULARY, (n_tokens,), generator=generator).tolist()
    corrupted = other[: close - PROBE] + ids[close - PROBE :]
    flip = close - 3
    corrupted[flip] = ids[flip] % (VOCABULARY - 1) + 1
    roles: dict[int, Role] = dict.fromkeys(range(close - PROBE, close), "probe")
    roles |= {flip: "flip", **dict.fromkeys(range(n_tokens - LAST, n_tokens), "answer_end")}
    positions = tuple(PatchPosition(index, role, "", "") for index, role in sorted(roles.items()))
    sides = [PaddedSequence(tuple(side), (False,) * n_tokens, False) for side in (ids, corrupted)]
    pair = AlignedPair("p", "plain", sides[0], sides[1], positions, 1, 2, think_open=10, think_close=close)
    cells = [(layer, token) for layer in range(n_layers) for token in pair.indices]
    order = torch.randperm(len(cells), generator=generator).tolist()
    return Case(model, pair, capture_clean(model, pair), [cells[index] for index in order])


def staircase(case: Case) -> Sweep:
    """All cells of the pair, from the two sequences on."""
    return sweep_resid(case.model, case.pair, capture_clean(case.model, case.pair), MEMORY_MIB)


def logit_diff(case: Case, logits: torch.Tensor) -> float:
    return (logits[case.pair.answer_a] - logits[case.pair.answer_b]).item()


def clean_vector(case: Case, cell: Cell) -> torch.Tensor:
    return case.clean.resid_pre[cell[0], case.clean.rows_of([cell[1]])[0]].to(case.model.device)


def full_forward(case: Case, cell: Cell) -> float:
    """One cell by a forward pre-hook on its layer and an ordinary forward pass."""
    vector = clean_vector(case, cell)

    def hook(module: Any, args: Any, kwargs: Any) -> Any:
        hidden = args[0].clone()
        hidden[0, cell[1]] = vector
        return (hidden, *args[1:]), kwargs

    handle = case.model.model.layers[cell[0]].register_forward_pre_hook(hook, with_kwargs=True)
    ids = torch.tensor([case.pair.corrupted.ids], device=case.model.device)
    logits = case.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1]
    handle.remove()
    return logit_diff(case, logits)


def lens_cell(case: Case, hooked: Any) -> Callable[[Case, Cell], float]:
    """One cell by TransformerLens's run_with_hooks."""

    def run(case: Case, cell: Cell) -> float:
        vector = clean_vector(case, cell)

        def patch(stream: torch.Tensor, hook: Any) -> torch.Tensor:
            stream[0, cell[1]] = vector
            return stream

        ids = torch.tensor([case.pair.corrupted.ids], device=case.model.device)
        logits = hooked.run_with_hooks(ids, fwd_hooks=[(f"blocks.{cell[0]}.hook_resid_pre", patch)])
        return logit_diff(case, logits[0, -1])

    return run


def hooked_transformer(model: Any, kind: str, device: str) -> Any:
    """The same weights as a HookedTransformer, unprocessed."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig  # pyright: ignore[reportMissingImports]
    from transformer_lens.pretrained import weight_conversions  # pyright: ignore[reportMissingImports]

    config = model.config
    lens = HookedTransformerConfig(
        n_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        d_head=config.hidden_size // config.num_attention_heads,
        n_heads=config.num_attention_heads,
        n_key_value_heads=config.num_key_value_heads,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        n_ctx=config.max_position_embeddings,
        eps=config.rms_norm_eps,
        act_fn="silu",
        normalization_type="RMS",
        positional_embedding_type="rotary",
        rotary_dim=config.hidden_size // config.num_attention_heads,
        rotary_base=int(config.rope_parameters["rope_theta"]),
        rotary_adjacent_pairs=False,
        final_rms=True,
        gated_mlp=True,
        original_architecture="LlamaForCausalLM" if kind == "llama" else "Qwen2ForCausalLM",
        device=device,
    )
    with contextlib.redirect_stdout(sys.stderr):
        hooked = HookedTransformer(lens)
    convert = getattr(weight_conversions, f"convert_{kind}_weights")
    plain = {"fold_ln": False, "center_writing_weights": False, "center_unembed": False, "fold_value_biases": False}
    hooked.load_and_process_state_dict(convert(model, lens), **plain)
    return hooked.eval()


@contextlib.contextmanager
def timed(times: list[float], device: str, count: int = 1) -> Iterator[None]:
    """Appends the seconds of each of `count` equal things done inside."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter() if device != "cpu" else time.process_time()
    yield
    if device != "cpu":
        torch.cuda.synchronize()
    now = time.perf_counter() if device != "cpu" else time.process_time()
    times.append((now - start) / count)


@torch.no_grad()
def compare(kind: str, n_tokens: int, options: argparse.Namespace) -> None:
    """Prints the rows of one model and length."""
    model = build_model(kind, options.layers, options.device)
    case = build_case(model, n_tokens, options.layers)
    by_cell: dict[str, Callable[[Case, Cell], float]] = {"one full forward per cell": full_forward}
    if importlib.util.find_spec("transformer_lens"):
        by_cell["TransformerLens"] = lens_cell(case, hooked_transformer(model, kind, options.device))
    seconds: dict[str, list[float]] = {way: [] for way in ("packed staircase", *by_cell)}
    errors = dict.fromkeys(by_cell, 0.0)
    sweep = staircase(case)
    for way in by_cell.values():
        way(case, case.cells[0])
    for number in range(options.rounds):
        with timed(seconds["packed staircase"], options.device):
            sweep = staircase(case)
        chosen = [case.cells[(number * options.cells + k) % len(case.cells)] for k in range(options.cells)]
        for name, way in by_cell.items():
            with timed(seconds[name], options.device, options.cells):
                found = [way(case, cell) for cell in chosen]
            expected = [sweep.metrics.logit_diff[layer, sweep.positions.index(token)] for layer, token in chosen]
            span = abs(sweep.ld_clean - sweep.ld_corrupted)
            gaps = [abs(ours - theirs) / span for ours, theirs in zip(expected, found, strict=True)]
            errors[name] = max([errors[name], *gaps])
    ours = statistics.median(seconds["packed staircase"])
    print(f"| {kind} | {n_tokens} | packed staircase | {ours:.2f} | 1 | |")
    for name in by_cell:
        pair = statistics.median(seconds[name]) * len(case.cells)
        print(f"| {kind} | {n_tokens} | {name} | {pair:.1f} | {pair / ours:.1f} | {errors[name]:.0e} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="512,1024,2048", help="lengths of a pair")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cells", type=int, default=3, help="cells a round of the ways that take one at a time")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    unit = "CPU seconds" if options.device == "cpu" else "seconds"
    print(
        f"| model | T | way | {unit} a pair | over staircase | largest difference in NLD |\n|---|---|---|---|---|---|"
    )
    for kind in ("llama", "qwen2"):
        for length in options.tokens.split(","):
            compare(kind, int(length), options)


if __name__ == "__main__":
    main()
