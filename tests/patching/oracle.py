"""One ordinary forward pass per patched cell, by hooks of its own: what patching must equal; and pairs to patch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from r2a_core.pairs.align import AlignedPair, PaddedSequence, PatchPosition
from tests.random_models import random_model


@dataclass(frozen=True)
class Edit:
    """What is put in the place of the residual stream entering a layer, or of a head's z, at one token."""

    component: Literal["resid", "z"]
    layer: int
    token: int
    vector: Tensor
    head: int = 0


def full_forward(
    model: Any, sequence: PaddedSequence, edits: Sequence[Edit] = (), record: dict[str, list[Tensor]] | None = None
) -> Tensor:
    """Last logits (vocab,) in float64.

    record: takes, layer after layer, "resid" (token, d_model) and "z" (token, head, head_dim).
    """
    ids, pad = torch.tensor([sequence.ids]), torch.tensor([sequence.pad])
    n_heads = model.config.get_text_config().num_attention_heads

    def edited(component: str, layer: int, values: Tensor) -> Tensor:
        values = values.clone()
        by_head = values[0].view(ids.shape[1], n_heads, -1)
        for edit in (edit for edit in edits if (edit.component, edit.layer) == (component, layer)):
            if component == "resid":
                values[0, edit.token] = edit.vector
            else:
                by_head[edit.token, edit.head] = edit.vector
        if record is not None:
            record.setdefault(component, []).append(values[0] if component == "resid" else by_head)
        return values

    handles = []
    for number, layer in enumerate(model.get_decoder().layers):

        def entering(module: Any, args: Any, number: int = number) -> Any:
            return (edited("resid", number, args[0]), *args[1:])

        def projecting(module: Any, args: Any, number: int = number) -> Any:
            return (edited("z", number, args[0]),)

        handles.append(layer.register_forward_pre_hook(entering))
        handles.append(layer.self_attn.o_proj.register_forward_pre_hook(projecting))
    extra = {}
    if sequence.masked:
        keep = (~pad).long()
        extra = {"attention_mask": keep, "position_ids": (keep.cumsum(1) - 1).clamp(min=0)}
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False, **extra).logits[0, -1].double()
    for handle in handles:
        handle.remove()
    return logits


class Oracle:
    """NLD of any edits of a pair's corrupted run, and the edits that put the clean run's activations in place."""

    def __init__(self, model: Any, aligned: AlignedPair) -> None:
        self.model, self.aligned = model, aligned
        self.record: dict[str, list[Tensor]] = {}
        self.ld_clean = self.logit_diff(full_forward(model, aligned.clean, record=self.record))
        self.ld_corrupted = self.logit_diff(full_forward(model, aligned.corrupted))

    def logit_diff(self, logits: Tensor) -> float:
        return (logits[self.aligned.answer_a] - logits[self.aligned.answer_b]).item()

    def nld(self, *edits: Edit) -> float:
        found = self.logit_diff(full_forward(self.model, self.aligned.corrupted, edits))
        return (found - self.ld_corrupted) / (self.ld_clean - self.ld_corrupted)

    def resid(self, layer: int, token: int) -> Edit:
        return Edit("resid", layer, token, self.record["resid"][layer][token])

    def head(self, layer: int, token: int, head: int) -> Edit:
        return Edit("z", layer, token, self.record["z"][layer][token, head], head)


VOCAB, N_LAYERS, N_HEADS, N_TOKENS = 60, 3, 4, 26
PLACES = {"probe": (16, 17), "flip": (18,), "think_close": (19,), "answer_end": (24, 25)}
ROLES: Any = {index: role for role, indices in PLACES.items() for index in indices}
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "num_hidden_layers": N_LAYERS,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
OWN: dict[str, Any] = {"qwen2": {}, "llama": {"attention_bias": True}, "mistral": {"sliding_window": 7}}


def build(kind, seed):
    """A model with weights large enough for patches to move the answer."""
    model = random_model(kind, seed, **SIZES, **OWN[kind])
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def pair(model, seed, masked, n_pad_clean=0, n_pad_corrupted=9):
    """Two random sequences with one pad run each; patched: two probe tokens, the flip, </think>, the last two.

    The answers are the tokens whose logits differ most between the two runs.
    """
    rng = np.random.default_rng(seed)
    tail = rng.integers(1, VOCAB, 10)
    sides = []
    for n_pad in (n_pad_clean, n_pad_corrupted):
        ids = np.concatenate([rng.integers(1, VOCAB, N_TOKENS - 10), tail])
        pad = np.zeros(N_TOKENS, bool)
        pad[3 : 3 + n_pad] = True
        ids[pad] = 0
        sides.append((ids, pad))
    sides[1][0][18] = (sides[0][0][18] + 1) % VOCAB
    clean, corrupted = (PaddedSequence(tuple(i.tolist()), tuple(p.tolist()), masked) for i, p in sides)
    positions = tuple(PatchPosition(index, role, "c", "k") for index, role in ROLES.items())
    change = full_forward(model, clean) - full_forward(model, corrupted)
    answers = int(change.argmax()), int(change.argmin())
    return AlignedPair("p0", "plain", clean, corrupted, positions, *answers, think_open=2, think_close=19)
