"""The peers' ways: transformers' own attention and generation, TransformerLens's hooks and nnsight's traces.

Each way is a function of a case that builds what it needs and returns a call to be timed; the call returns numbers to
be compared with ours.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.cases import (
    Pair,
    Shape,
    build_model,
    build_pair,
    by_layer,
    chosen_cells,
    end_of_text,
    masked_forward,
    patched_forward,
    random_sets,
    segment_bounds,
    token_ids,
    weights_digest,
)

Run = Callable[[], Any]


def digest(shape: dict[str, Any]) -> Run:
    return lambda: weights_digest(Shape(**shape))


def segment_sums(pattern: torch.Tensor, bounds: dict[str, range]) -> list[torch.Tensor]:
    """Mean mass of each segment over answer rows and over reasoning rows, (head,) each; pattern (head, row, key)."""
    rows = [pattern[:, bounds[name].start : bounds[name].stop] for name in ("answer", "reasoning")]
    return [part[..., keys.start : keys.stop].sum(-1).mean(-1) for part in rows for keys in bounds.values()]


def eager_masses(shape: dict[str, Any], n_tokens: int) -> Run:
    """transformers' output_attentions=True, and the segment sums of every layer's matrices."""
    model, bounds = build_model(Shape(**shape), "eager"), segment_bounds(n_tokens)
    ids = torch.tensor([token_ids(Shape(**shape), n_tokens)])

    def run() -> list[float]:
        out = model(input_ids=ids, use_cache=False, logits_to_keep=1, output_attentions=True)
        sums = [torch.stack(segment_sums(pattern[0], bounds)) for pattern in out.attentions]
        return torch.stack(sums).double().flatten().tolist()

    return run


def hooked_transformer(model: Any, n_tokens: int) -> Any:
    """The weights of a transformers Llama or Qwen2 as a HookedTransformer, unprocessed, for up to n_tokens."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig  # pyright: ignore[reportMissingImports]
    from transformer_lens.pretrained import weight_conversions  # pyright: ignore[reportMissingImports]

    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    lens = HookedTransformerConfig(
        n_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        d_head=head_dim,
        n_heads=config.num_attention_heads,
        n_key_value_heads=config.num_key_value_heads,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        n_ctx=n_tokens,
        eps=config.rms_norm_eps,
        act_fn="silu",
        normalization_type="RMS",
        positional_embedding_type="rotary",
        rotary_dim=head_dim,
        rotary_base=int(config.rope_parameters["rope_theta"]),
        rotary_adjacent_pairs=False,
        final_rms=True,
        gated_mlp=True,
        original_architecture=type(model).__name__,
        device="cpu",
        dtype=model.dtype,
    )
    hooked = HookedTransformer(lens)
    convert = getattr(weight_conversions, f"convert_{config.model_type}_weights")
    plain = {"fold_ln": False, "center_writing_weights": False, "center_unembed": False, "fold_value_biases": False}
    hooked.load_and_process_state_dict(convert(model, lens), **plain)
    cosines, sines = model.model.rotary_emb(torch.zeros(1, dtype=model.dtype), torch.arange(n_tokens)[None])
    for block in hooked.blocks:  # its own angles are rounded in another way, which wide random weights show
        block.attn.rotary_cos.copy_(cosines[0])
        block.attn.rotary_sin.copy_(sines[0])
    return hooked.eval()


def lens_masses(shape: dict[str, Any], n_tokens: int) -> Run:
    """TransformerLens's run_with_hooks with a segment sum on every layer's hook_pattern."""
    size, bounds = Shape(**shape), segment_bounds(n_tokens)
    hooked, ids = hooked_transformer(build_model(size), n_tokens), torch.tensor([token_ids(size, n_tokens)])

    def run() -> list[float]:
        sums: list[torch.Tensor] = []

        def hook(pattern: torch.Tensor, hook: Any) -> None:
            sums.append(torch.stack(segment_sums(pattern[0], bounds)))

        names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(size.n_layers)]
        hooked.run_with_hooks(ids, return_type=None, fwd_hooks=[(name, hook) for name in names])
        return torch.stack(sums).double().flatten().tolist()

    return run


def difference(logits: torch.Tensor) -> float:
    """Logit difference of the two answers, tokens 1 and 2."""
    return (logits[1] - logits[2]).item()


def lens_pair(shape: dict[str, Any], n_tokens: int) -> tuple[Any, Pair, dict[str, torch.Tensor]]:
    """The hooked model, the pair, and the clean residual streams by hook name."""
    hooked, pair = hooked_transformer(build_model(Shape(**shape)), n_tokens), build_pair(n_tokens)
    _, cache = hooked.run_with_cache(torch.tensor([pair.clean]), names_filter=lambda name: name.endswith("resid_pre"))
    return hooked, pair, dict(cache)


def lens_runs(shape: dict[str, Any], n_tokens: int) -> Run:
    """Clean run with its residual streams kept, and corrupted run."""
    hooked, pair, _ = lens_pair(shape, n_tokens)

    def run() -> list[float]:
        clean, _ = hooked.run_with_cache(
            torch.tensor([pair.clean]), names_filter=lambda name: name.endswith("resid_pre")
        )
        return [difference(logits[0, -1]) for logits in (clean, hooked(torch.tensor([pair.corrupted])))]

    return run


def lens_cells(shape: dict[str, Any], n_tokens: int, count: int) -> Run:
    """Some cells by run_with_hooks, a forward pass each; the next ones each time it is called."""
    hooked, pair, clean = lens_pair(shape, n_tokens)

    def cell(place: tuple[int, int]) -> float:
        layer, token = place
        name = f"blocks.{layer}.hook_resid_pre"

        def patch(stream: torch.Tensor, hook: Any) -> torch.Tensor:
            stream[0, token] = clean[name][0, token]
            return stream

        return difference(hooked.run_with_hooks(torch.tensor([pair.corrupted]), fwd_hooks=[(name, patch)])[0, -1])

    return next_ones(cell, chosen_cells(pair, shape["n_layers"]), count)


def full_forward_cells(shape: dict[str, Any], n_tokens: int, count: int) -> Run:
    """Some cells by a forward pre-hook on a layer of the transformers model and an ordinary forward pass each."""
    model, pair = build_model(Shape(**shape)), build_pair(n_tokens)
    clean = model(input_ids=torch.tensor([pair.clean]), use_cache=False, output_hidden_states=True).hidden_states

    def cell(place: tuple[int, int]) -> float:
        layer, token = place
        return difference(patched_forward(model, pair.corrupted, layer, token, clean[layer][0, token]))

    return next_ones(cell, chosen_cells(pair, shape["n_layers"]), count)


def next_ones(compute: Callable[[Any], Any], cases: Sequence[Any], count: int) -> Run:
    """A call that computes the next `count` of the cases: each with what was found."""
    done = [0]

    def run() -> list[tuple[Any, Any]]:
        chosen = [cases[(done[0] + step) % len(cases)] for step in range(count)]
        done[0] += count
        return [(case, compute(case)) for case in chosen]

    return run


class Cut:
    """A trace whose answer is forced, and some next sets of heads: in these, `rows` no longer see `keys`."""

    def __init__(self, shape: dict[str, Any], n_tokens: int, count: int) -> None:
        bounds, ids = segment_bounds(n_tokens), token_ids(Shape(**shape), n_tokens)
        answer, reasoning = bounds["answer"], bounds["reasoning"]
        self.ids = torch.tensor([ids[: answer.stop - 1]])
        self.answer = torch.tensor(ids[answer.start : answer.stop])
        self.rows, self.keys = slice(answer.start - 1, None), slice(reasoning.start, reasoning.stop)
        self.sets, self.count = random_sets(shape["n_layers"], shape["n_heads"]), count

    def by(self, logits: Callable[[dict[int, list[int]]], torch.Tensor]) -> Run:
        """A call for log-probabilities of the answer by number of set. logits: heads by layer -> (1, row, token)."""

        def log_probs(number: int) -> list[float]:
            return (
                logits(by_layer(self.sets[number]))[0]
                .float()
                .log_softmax(-1)
                .gather(1, self.answer[:, None])[:, 0]
                .tolist()
            )

        return next_ones(log_probs, range(len(self.sets)), self.count)


def masked_forwards(shape: dict[str, Any], n_tokens: int, count: int, attention: str) -> Run:
    """An ordinary forward pass a set; the layers of its heads are given a mask of their own, (1, head, row, key)."""
    model, cut = build_model(Shape(**shape), attention), Cut(shape, n_tokens, count)
    return cut.by(lambda heads: masked_forward(model, cut.ids, heads, cut.rows, cut.keys, len(cut.answer)))


def lens_sets(shape: dict[str, Any], n_tokens: int, count: int) -> Run:
    """TransformerLens's run_with_hooks on hook_attn_scores, a forward pass a set."""
    hooked, cut = hooked_transformer(build_model(Shape(**shape)), n_tokens), Cut(shape, n_tokens, count)

    def logits(heads: dict[int, list[int]]) -> torch.Tensor:
        def hook(scores: torch.Tensor, hook: Any) -> torch.Tensor:
            scores[:, heads[hook.layer()], cut.rows, cut.keys] = -torch.inf
            return scores

        names = [f"blocks.{layer}.attn.hook_attn_scores" for layer in heads]
        return hooked.run_with_hooks(cut.ids, fwd_hooks=[(name, hook) for name in names])[:, cut.rows]

    return cut.by(logits)


def nnsight_sets(shape: dict[str, Any], n_tokens: int, count: int) -> Run:
    """nnsight's trace of a set, which edits what eager attention hands to its softmax; it does not reach into SDPA."""
    from nnsight import NNsight  # pyright: ignore[reportMissingImports]

    traced, cut = NNsight(build_model(Shape(**shape), "eager")), Cut(shape, n_tokens, count)

    def logits(heads: dict[int, list[int]]) -> torch.Tensor:
        with traced.trace(input_ids=cut.ids, use_cache=False, logits_to_keep=len(cut.answer)):
            for layer, own in sorted(heads.items()):
                attention = traced.model.layers[layer].self_attn.source.attention_interface_1
                scores = attention.source.nn_functional_softmax_0.inputs[0][0]
                scores[:, own, cut.rows, cut.keys] = -torch.inf
            found = traced.lm_head.output.save()
        return found  # noqa: RET504 (nothing returns from inside a trace)

    return cut.by(logits)


def generate_batched(
    shape: dict[str, Any], prompts: list[list[int]], max_new_tokens: int, batch_size: int, temperature: float
) -> Run:
    """transformers' generate, batch_size prompts at a time, padded on the left."""
    from transformers import GenerationConfig

    model = build_model(Shape(**shape))
    end = end_of_text(model)
    options = {"max_new_tokens": max_new_tokens, "do_sample": temperature > 0}
    options |= {"temperature": temperature, "top_k": 0} if temperature > 0 else {}
    config = GenerationConfig(eos_token_id=end, pad_token_id=0, **options)

    def run() -> list[list[int]]:
        made = []
        for start in range(0, len(prompts), batch_size):
            part = prompts[start : start + batch_size]
            width = max(map(len, part))
            ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in part])
            mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in part])
            texts = model.generate(ids, attention_mask=mask, generation_config=config)[:, width:].tolist()
            made += [text[: text.index(end) + 1] if end in text else text for text in texts]
        return made

    return run


WAYS: dict[str, Callable[..., Run]] = {
    "digest": digest,
    "eager_masses": eager_masses,
    "lens_masses": lens_masses,
    "lens_runs": lens_runs,
    "lens_cells": lens_cells,
    "full_forward_cells": full_forward_cells,
    "masked_forwards": masked_forwards,
    "lens_sets": lens_sets,
    "nnsight_sets": nnsight_sets,
    "generate_batched": generate_batched,
}
