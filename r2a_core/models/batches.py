"""Training batches of a built-in reasoner: repeated random tokens for the copy warm-up, then texts of the task mix.

Input: a BatchPlan. Output: an endless stream of Batches, the same for the same seed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from r2a_core.models.tasks import TextMix, TrainingText, training_text
from r2a_core.models.tokenizer import PAD, TAGS, cut_pattern

SORTED_AT_ONCE = 512  # samples; batches are of samples of like length
LONGEST_PADDING = 16  # tokens at the start of a segment


@dataclass(frozen=True)
class BatchPlan:
    """What is drawn, and how much of it."""

    seed: int
    copy_steps: int  # batches of the copy warm-up
    copy_tokens: int  # tokens of each
    batch_tokens: int  # tokens of each batch of texts, about
    mix: TextMix


@dataclass(frozen=True)
class Batch:
    """Right-padded token ids (sample, token) and which of them count in the loss."""

    ids: torch.Tensor
    learned: torch.Tensor


@dataclass(frozen=True)
class EncodedText:
    """Token ids of a training text and which of them count in the loss."""

    ids: list[int]
    learned: list[bool]

    def __len__(self) -> int:
        return len(self.ids)


class TextEncoder:
    """TrainingText -> EncodedText: BOS + prompt + <think> + thinking + </think> + answer + EOS.

    Pieces are cut as the tokenizer cuts them, and the ids of each cut remembered. Padded texts have some pads before BOS and after each tag, as aligned
    pairs do (r2a_core.patching.alignment).
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.cut = re.compile(cut_pattern())
        self.known: dict[str, list[int]] = {}
        tags = (PAD, TAGS.bos, TAGS.eos, TAGS.think_open, TAGS.think_close)
        self.pad, self.bos, self.eos, self.think_open, self.think_close = tokenizer.convert_tokens_to_ids(list(tags))

    def __call__(self, text: TrainingText, random: Random) -> EncodedText:
        pads = [random.randint(0, LONGEST_PADDING) if text.padded and random.random() < 0.7 else 0 for _ in range(3)]
        ids = [self.pad] * pads[0] + [self.bos, *self.pieces(text.prompt), self.think_open] + [self.pad] * pads[1]
        learned = [False] * len(ids)
        for piece in text.thinking:
            self.add(ids, learned, self.pieces(piece.text), piece.learnt)
        self.add(ids, learned, [self.think_close], text.with_reasoning)
        self.add(ids, learned, [self.pad] * pads[2], False)
        for piece in text.answer:
            self.add(ids, learned, self.pieces(piece.text), piece.learnt)
        self.add(ids, learned, [self.eos], True)
        return EncodedText(ids, learned)

    def add(self, ids: list[int], learned: list[bool], more: Sequence[int], learnt: bool) -> None:
        ids.extend(more)
        learned.extend([learnt] * len(more))

    def pieces(self, content: str) -> list[int]:
        """Token ids of a stretch of text."""
        ids: list[int] = []
        for word in self.cut.findall(content):
            if word not in self.known:
                self.known[word] = self.tokenizer.encode(word, add_special_tokens=False)
            ids += self.known[word]
        return ids


def batches(plan: BatchPlan, tokenizer: Any) -> Iterator[Batch]:
    """Batches of the copy warm-up, then of the texts, without end."""
    random = Random(plan.seed)
    encode = TextEncoder(tokenizer)
    tags = {encode.pad, encode.bos, encode.eos, encode.think_open, encode.think_close}
    ordinary = [token for token in range(len(tokenizer)) if token not in tags]
    for _ in range(plan.copy_steps):
        yield copy_batch(random, plan.copy_tokens, ordinary)
    yield from text_batches(random, plan, encode)


def copy_batch(random: Random, tokens: int, vocabulary: list[int], length: int = 40) -> Batch:
    """Random sequences that repeat with a period of 3 to 16 tokens; the loss counts from the second round on."""
    ids, learned = [], []
    for _ in range(max(1, tokens // length)):
        period = random.randint(3, 16)
        alphabet = random.choices(vocabulary, k=period)
        pattern = random.choices(alphabet, k=period) if random.random() < 0.5 else alphabet
        ids.append([pattern[place % period] for place in range(length)])
        learned.append([place >= period for place in range(length)])
    return Batch(torch.tensor(ids), torch.tensor(learned))


def text_batches(random: Random, plan: BatchPlan, encode: TextEncoder) -> Iterator[Batch]:
    """Batches of about plan.batch_tokens tokens, each of texts of like length, in random order."""
    while True:
        texts = sorted((encode(training_text(random, plan.mix), random) for _ in range(SORTED_AT_ONCE)), key=len)
        groups: list[list[EncodedText]] = [[]]
        for text in texts:
            if groups[-1] and (len(groups[-1]) + 1) * len(text) > plan.batch_tokens:
                groups.append([])
            groups[-1].append(text)
        random.shuffle(groups)
        for group in groups:
            yield pad_batch(group, encode.pad)


def pad_batch(group: Sequence[EncodedText], pad: int) -> Batch:
    """Texts padded on the right; causal attention never sees the padding."""
    width = max(map(len, group))
    ids = [text.ids + [pad] * (width - len(text)) for text in group]
    learned = [text.learned + [False] * (width - len(text)) for text in group]
    return Batch(torch.tensor(ids), torch.tensor(learned))
