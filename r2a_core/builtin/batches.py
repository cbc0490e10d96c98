"""Training batches of a built-in reasoner: repeated random tokens for the copy warm-up, then texts of the task mix.

Input: a BatchPlan. Output: an endless stream of Batches, the same for the same seed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from random import Random
from typing import Any

import torch

from r2a_core.builtin.pieces import Piece, TrainingText
from r2a_core.builtin.texts import training_text
from r2a_core.builtin.tokenizer import PAD, TAGS, cut_pattern, single_words, spelled
from r2a_core.config import TextMix

SORTED_AT_ONCE = 512  # samples; batches are of samples of like length

COPY_EVERY = 24  # batches of texts: one in this many is of repeated tokens, for copying to stay general

LONGEST_PADDING = 16  # tokens at the start of a segment


@dataclass(frozen=True)
class BatchPlan:
    """Says what is drawn, and how much of it."""

    seed: int
    copy_steps: int  # batches of the copy warm-up
    copy_tokens: int  # tokens of each
    batch_tokens: int  # tokens of each batch of texts, about
    mix: TextMix


@dataclass(frozen=True)
class Batch:
    """Right-padded token ids (sample, token) and their weights in the loss."""

    ids: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True)
class EncodedText:
    """Token ids of a training text and their weights in the loss."""

    ids: list[int]
    weights: list[float]

    def add(self, ids: Sequence[int], weight: float) -> None:
        self.ids.extend(ids)
        self.weights.extend([weight] * len(ids))

    def __len__(self) -> int:
        return len(self.ids)


class TextEncoder:
    """Encodes TrainingText -> EncodedText: BOS + prompt + <think> + thinking + </think> + answer + EOS.

    Pieces are cut as the tokenizer cuts them, and the ids of each cut kept. Padded texts have some pads before BOS and
    after each tag, as aligned pairs do (r2a_core.pairs.align).
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.cut = re.compile(cut_pattern())
        self.known: dict[str, list[int]] = {}
        tags = (PAD, TAGS.bos, TAGS.eos, TAGS.think_open, TAGS.think_close)
        self.pad, self.bos, self.eos, self.think_open, self.think_close = tokenizer.convert_tokens_to_ids(list(tags))

    def __call__(self, text: TrainingText, random: Random) -> EncodedText:
        pads = [random.randint(0, LONGEST_PADDING) if text.padded and random.random() < 0.7 else 0 for _ in range(3)]
        encoded = EncodedText([], [])
        encoded.add([self.pad] * pads[0] + [self.bos], 0.0)
        self.add_pieces(encoded, (Piece(text.prompt, 0.0),))
        encoded.add([self.think_open] + [self.pad] * pads[1], 0.0)
        self.add_pieces(encoded, text.thinking)
        encoded.add([self.think_close], float(text.with_reasoning))
        encoded.add([self.pad] * pads[2], 0.0)
        self.add_pieces(encoded, text.answer)
        encoded.add([self.eos], 1.0)
        return encoded

    def add_pieces(self, encoded: EncodedText, pieces: Sequence[Piece]) -> None:
        """Adds the tokens of the joined pieces; a token has the weight of the piece it ends in."""
        ends, place = iter(pieces), 0
        piece = next(ends)
        end = len(piece.text)
        for match in self.cut.finditer("".join(each.text for each in pieces)):
            place = match.end()
            while place > end:
                piece = next(ends)
                end += len(piece.text)
            encoded.add(self.ids_of(match.group()), piece.weight)

    def ids_of(self, word: str) -> list[int]:
        """Returns the token ids of one pre-token."""
        if word not in self.known:
            self.known[word] = [token.id for token in self.tokenizer.backend_tokenizer.model.tokenize(spelled(word))]
        return self.known[word]


def batches(plan: BatchPlan, tokenizer: Any) -> Iterator[Batch]:
    """Yields batches of the copy warm-up, then of the texts, endlessly."""
    random = Random(plan.seed)
    encode = TextEncoder(tokenizer)
    tags = {encode.pad, encode.bos, encode.eos, encode.think_open, encode.think_close}
    ordinary = [token for token in range(len(tokenizer)) if token not in tags]
    words = tokenizer.convert_tokens_to_ids([spelled(word) for word in single_words()])
    for _ in range(plan.copy_steps):
        yield copy_batch(random, plan.copy_tokens, words)
    texts = (encode(training_text(random, plan.mix), random) for _ in count())
    for number, batch in enumerate(batches_of(texts, SORTED_AT_ONCE, plan.batch_tokens, random, encode.pad)):
        yield batch if (number + 1) % COPY_EVERY else copy_batch(random, plan.copy_tokens, ordinary)


def copy_batch(random: Random, tokens: int, vocabulary: list[int], length: int = 40) -> Batch:
    """Draws sequences of distinct tokens that repeat with a period of 6 to 18; the loss counts from the second on."""
    ids, weights = [], []
    for _ in range(max(1, tokens // length)):
        period = random.randint(6, 18)
        pattern = random.sample(vocabulary, period)
        ids.append([pattern[place % period] for place in range(length)])
        weights.append([float(place >= period) for place in range(length)])
    return Batch(torch.tensor(ids), torch.tensor(weights))


def batches_of(
    texts: Iterator[EncodedText], sorted_at_once: int, batch_tokens: int, random: Random, pad: int
) -> Iterator[Batch]:
    """Yields batches of about batch_tokens tokens, each of texts of similar length, in random order.

    texts: endless; sorted_at_once of them are drawn and sorted at a time.
    """
    while True:
        groups: list[list[EncodedText]] = [[]]
        for text in sorted(islice(texts, sorted_at_once), key=len):
            if groups[-1] and (len(groups[-1]) + 1) * len(text) > batch_tokens:
                groups.append([])
            groups[-1].append(text)
        random.shuffle(groups)
        for group in groups:
            yield pad_batch(group, pad)


def pad_batch(group: Sequence[EncodedText], pad: int) -> Batch:
    """Pads texts on the right; causal attention never sees the padding."""
    width = max(map(len, group))
    ids = [text.ids + [pad] * (width - len(text)) for text in group]
    weights = [text.weights + [0.0] * (width - len(text)) for text in group]
    return Batch(torch.tensor(ids), torch.tensor(weights))
