"""TransformerLens's ways: run_with_hooks on a HookedTransformer, or on the bridge around the transformers model.

Each way is a function of a case, as those of benchmarks/theirs_hf.py. bridge: which of the two. A HookedTransformer
holds a copy of the weights in its own layout; the bridge (new in version 3) runs transformers' own modules.
"""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.cases import Shape, build_model, build_pair, chosen_cells, segment_bounds, token_ids
from benchmarks.theirs_hf import Cut, Run, difference, next_ones, segment_sums


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
        block.attn.rotary_cos, block.attn.rotary_sin = cosines[0], sines[0]
    return hooked.eval()


def bridged(model: Any) -> Any:
    """A transformers model with TransformerLens's hook points, put in place; its attention is computed eagerly."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformer_lens.model_bridge import TransformerBridge  # pyright: ignore[reportMissingImports]
    from transformers import PreTrainedTokenizerFast

    any_words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")), eos_token="a")
    return TransformerBridge.boot_transformers("any", hf_model=model, dtype=model.dtype, tokenizer=any_words).eval()


def hooked(shape: Shape, n_tokens: int, bridge: bool) -> Any:
    """The model of a shape in one of the two forms."""
    if bridge:
        return bridged(build_model.__wrapped__(shape, "eager"))  # a model of its own, which nothing else runs
    return hooked_transformer(build_model(shape), n_tokens)


def last_logits(model: Any, ids: torch.Tensor, hooks: list[Any], rows: slice, bridge: bool) -> torch.Tensor:
    """Logits of these rows of a run with hooks, (row, token); no others are computed, as in transformers."""
    if bridge:
        return model.run_with_hooks(ids, fwd_hooks=hooks, logits_to_keep=ids.shape[1] - rows.start)[0]
    stream = model.run_with_hooks(ids, fwd_hooks=hooks, stop_at_layer=model.cfg.n_layers)
    return model.unembed(model.ln_final(stream[:, rows]))[0]


def lens_masses(shape: dict[str, Any], n_tokens: int, bridge: bool = False) -> Run:
    """A segment sum on every layer's hook_pattern."""
    size, bounds = Shape(**shape), segment_bounds(n_tokens)
    model, ids = hooked(size, n_tokens, bridge), torch.tensor([token_ids(size, n_tokens)])

    def run() -> list[float]:
        sums: list[torch.Tensor] = []

        def hook(pattern: torch.Tensor, hook: Any) -> None:
            sums.append(torch.stack(segment_sums(pattern[0], bounds)))

        names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(size.n_layers)]
        model.run_with_hooks(ids, return_type=None, fwd_hooks=[(name, hook) for name in names])
        return torch.stack(sums).double().flatten().tolist()

    return run


def lens_cells(shape: dict[str, Any], n_tokens: int, count: int, bridge: bool = False) -> Run:
    """Some cells by run_with_hooks, a forward pass each; the next ones each time it is called."""
    model, pair = hooked(Shape(**shape), n_tokens, bridge), build_pair(n_tokens)
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(shape["n_layers"])]
    clean = dict(model.run_with_cache(torch.tensor([pair.clean]), names_filter=names)[1])

    def cell(place: tuple[int, int]) -> float:
        layer, token = place

        def patch(stream: torch.Tensor, hook: Any) -> torch.Tensor:
            stream[0, token] = clean[names[layer]][0, token]
            return stream

        ids, end = torch.tensor([pair.corrupted]), slice(n_tokens - 1, None)
        return difference(last_logits(model, ids, [(names[layer], patch)], end, bridge)[0])

    return next_ones(cell, chosen_cells(pair, shape["n_layers"]), count)


def lens_sets(shape: dict[str, Any], n_tokens: int, count: int, bridge: bool = False) -> Run:
    """An edit of hook_attn_scores in every layer with heads of the set, a forward pass a set."""
    model, cut = hooked(Shape(**shape), n_tokens, bridge), Cut(shape, n_tokens, count)

    def logits(heads: dict[int, list[int]]) -> torch.Tensor:
        def edit(own: list[int]) -> Callable[..., torch.Tensor]:
            def hook(scores: torch.Tensor, hook: Any) -> torch.Tensor:
                scores[:, own, cut.rows, cut.keys] = -torch.inf
                return scores

            return hook

        edits = [(f"blocks.{layer}.attn.hook_attn_scores", edit(own)) for layer, own in heads.items()]
        return last_logits(model, cut.ids, edits, cut.rows, bridge)[None]

    return cut.by(logits)


WAYS: dict[str, Callable[..., Run]] = {way.__name__: way for way in (lens_masses, lens_cells, lens_sets)}
