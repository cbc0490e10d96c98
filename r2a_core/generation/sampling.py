"""Choosing a token: the arg-max, or a draw from the softmax whose random numbers come from a hash.

logits (row, vocabulary), a temperature, a key for each row -> token ids and their lead over the next best

The Gumbel-max trick: the arg-max of logits / temperature plus Gumbel noise is a draw from the softmax. The noise is a
hash of (seed, item, run, step, token), so that a draw depends on nothing else and is the same on every device.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

GAMMA = 0x9E3779B97F4A7C15  # odd; splits a key into a stream of keys

MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))  # shifts and factors of splitmix64

WORD = 2**64


def request_seed(seed: int, item_id: str, run: int) -> int:
    """Returns a seed for one response, 0 .. 2^31 - 1, for engines that draw their own random numbers."""
    digest = hashlib.blake2b(f"{seed}\0{item_id}\0{run}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def step_key(seed: int, item_id: str, run: int, step: int) -> int:
    """Returns 64 bits that stand for one step of one response."""
    digest = hashlib.blake2b(f"{seed}\0{item_id}\0{run}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") + step * GAMMA * GAMMA) % WORD


def uniforms(keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Returns one number in (0, 1) for each key (int64) and token, broadcast, the same on every device. float64.

    The splitmix64 hash of key and token, to 53 bits.
    """
    state = keys + (tokens + 1) * signed(GAMMA)
    for shift, factor in MIXERS:
        state = (state ^ ((state >> shift) & (2 ** (64 - shift) - 1))) * signed(factor)
    return (((state >> 11) & (2**53 - 1)).double() + 0.5) * 2.0**-53


def signed(word: int) -> int:
    """Returns the 64-bit word as torch's int64 holds it."""
    word %= WORD
    return word - WORD if word >= WORD // 2 else word


@dataclass(frozen=True)
class SampledTokens:
    """Chosen token of each row and its lead over the next best."""

    tokens: torch.Tensor  # (row,)
    margins: torch.Tensor  # (row,), logits; over the temperature where one is set


FAR = 25.0  # logits over temperature behind the best: of a vocabulary, such tokens have less than 1e-5 of the softmax


def choose(logits: torch.Tensor, temperature: float, keys: Sequence[int]) -> SampledTokens:
    """Chooses the arg-max of logits (row, vocabulary) or, at a temperature, of logits / temperature plus Gumbel noise.

    The noise of a row comes from its key alone, so the choice is a draw from the softmax that the same key repeats.
    Tokens that are FAR behind get none: for a whole vocabulary it takes as long as a small model's forward pass.
    """
    if temperature == 0:
        best = logits.topk(2, dim=-1)
        return SampledTokens(best.indices[:, 0], best.values[:, 0] - best.values[:, 1])
    least = logits.amax(-1, keepdim=True) - FAR * temperature
    rows, tokens = (logits >= least).nonzero(as_tuple=True)
    row_keys = torch.tensor([signed(key) for key in keys], device=logits.device)
    noise = -torch.log(-torch.log(uniforms(row_keys[rows], tokens)))
    counts = rows.bincount(minlength=len(logits))
    places = torch.arange(len(rows), device=logits.device) - (counts.cumsum(0) - counts)[rows]
    scores = (least.double() / temperature).repeat(1, max(2, int(counts.max())))
    near = torch.zeros_like(scores, dtype=torch.int64)
    scores[rows, places] = logits[rows, tokens].double() / temperature + noise
    near[rows, places] = tokens
    best = scores.topk(2, dim=-1)
    return SampledTokens(near.gather(1, best.indices[:, :1])[:, 0], best.values[:, 0] - best.values[:, 1])
