"""Retrieval scores: the needle test of Wu et al. (arXiv 2404.15574), for any causal language model.

model, needle tests -> layer, head, retrieval: the share of decoding steps at which the key with a head's largest
attention lies in the needle and holds the token that is generated at this step, mean over tests.

Needles come in three kinds, to suit what a model can copy:
    sentence   a made-up fact in English filler of a given length, asked for at the end
    sequence   a run of random tokens among random tokens, whose first ones are given again at the end
    question   the question of a trace, and the trace's own reasoning as what is generated
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from r2a_core.activations.attention import Recorder, recording
from r2a_core.activations.capture import forward
from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.attention.patterns import pattern_blocks
from r2a_core.config import CUE, NeedleParams
from r2a_core.infra.checks import check_finite
from r2a_core.infra.errors import R2AError
from r2a_core.trace import TraceSegments

FILLER = (
    "The {a} {b} stood beside the {c} all morning, and nobody in the village thought much of it. ",
    "When the rain stopped, a {b} was carried past the {a} gate towards the {c}. ",
    "Most people there prefer a {c} to a {b}, though the {a} ones are rarely seen in winter. ",
    "In the {a} season the {b} is mended first, and the {c} has to wait its turn. ",
)

NEEDLE = "The password of the {a} {b} is {words}. "

QUESTION = "\nQuestion: What is the password of the {a} {b}?\nAnswer: The password of the {a} {b} is"

ADJECTIVES = ("blue", "broken", "narrow", "silent", "wooden", "yellow", "early", "heavy", "northern", "old")

NOUNS = ("barrel", "bridge", "candle", "garden", "ladder", "market", "mirror", "river", "tower", "wagon", "kettle")

WORDS = (
    "apple",
    "falcon",
    "granite",
    "harbour",
    "lantern",
    "meadow",
    "orange",
    "pepper",
    "saddle",
    "thunder",
    "velvet",
)


@dataclass(frozen=True)
class NeedleTest:
    """A prompt with a needle in it, and how many tokens are to be generated, or which."""

    token_ids: tuple[int, ...]  # of the prompt
    needle: range  # tokens of the prompt
    steps: int
    continuation: tuple[int, ...] | None = None  # tokens taken as generated; None: the model's own, greedy


@dataclass(frozen=True)
class RetrievalScores:
    """Scores by layer and head, and how much of the needles the model itself copied."""

    heads: pl.DataFrame  # layer, head, retrieval
    copied: float  # share of generated tokens that the needle holds; near 0, the scores mean nothing


@dataclass
class NeedleRecorder(Recorder):
    """Counts each layer's hits when the layer runs."""

    token_ids: Tensor  # (token,), prompt and what is generated
    rows: range  # the row that generates token i + 1 is row i
    needle: range
    hits: dict[int, Tensor] = field(default_factory=dict)  # layer -> (head,), steps

    def attention(self, layer: LayerAttention, query: Tensor, key: Tensor, log_sums: Tensor | None = None) -> None:
        hits = torch.zeros(layer.n_heads, dtype=torch.int64)
        for block in pattern_blocks(query, key, 0, layer, self.rows):
            strongest = block.logits.amax(dim=-1)  # NaN where any logit is
            check_finite(strongest, f"attention logits of layer {layer.layer} in a needle test", ("head", "row"))
            largest = block.logits.argmax(dim=-1).cpu() + block.keys.start  # (head, row), token
            inside = (largest >= self.needle.start) & (largest < self.needle.stop)
            generated = self.token_ids[block.rows.start + 1 : block.rows.stop + 1]
            hits += (inside & (self.token_ids[largest] == generated)).sum(dim=1)
        self.hits[layer.layer] = hits


@torch.no_grad()
def retrieval_scores(model: Any, tests: Sequence[NeedleTest]) -> RetrievalScores:
    """Returns the scores of all heads over all tests. Raises R2AError without tests."""
    if not tests:
        raise R2AError("the needle test has no tests", "capture more traces, or choose another heads.retrieval.needle")
    shares: dict[int, Tensor] = {}
    copied = []
    for test in tests:
        generated = list(test.continuation) if test.continuation is not None else greedy(model, test)
        ids = torch.tensor([*test.token_ids, *generated])
        rows = range(len(test.token_ids) - 1, len(ids) - 1)
        recorder = NeedleRecorder(ids, rows, test.needle)
        with recording(model, recorder):
            forward(model, ids.tolist())
        for layer, hits in recorder.hits.items():
            shares[layer] = shares.get(layer, 0.0) + hits.double() / len(rows) / len(tests)
        inside = set(test.token_ids[test.needle.start : test.needle.stop])
        copied.append(sum(token in inside for token in generated) / len(generated))
    columns = [(layer, head, share) for layer in sorted(shares) for head, share in enumerate(shares[layer].tolist())]
    schema = {"layer": pl.Int16, "head": pl.Int16, "retrieval": pl.Float64}
    return RetrievalScores(pl.DataFrame(columns, schema=schema, orient="row"), float(np.mean(copied)))


def greedy(model: Any, test: NeedleTest) -> list[int]:
    """Returns the model's own continuation of a prompt, exactly `steps` tokens."""
    ids = torch.tensor([test.token_ids], device=model.device)
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=test.steps,
        min_new_tokens=test.steps,
        do_sample=False,
        pad_token_id=0,
    )
    return out[0, len(test.token_ids) :].tolist()


def sequence_tests(vocabulary: Sequence[int], bos: int | None, config: NeedleParams) -> list[NeedleTest]:
    """Makes tests of random tokens; the needle's tokens differ from one another and from all others."""
    if len(vocabulary) < 2 * config.needle_tokens:
        message = f"needles of {config.needle_tokens} tokens need twice as many ordinary tokens"
        raise R2AError(f"{message}, found {len(vocabulary)}", "lower heads.retrieval.needle_tokens")
    generator = np.random.default_rng(config.seed)
    tests = []
    for number in range(config.tests):
        shuffled = generator.permutation(np.asarray(vocabulary)).tolist()
        needle, others = shuffled[: config.needle_tokens], shuffled[config.needle_tokens :]
        size = max(0, haystack_size(config, number) - config.needle_tokens - CUE)
        hay = generator.choice(np.asarray(others), size).tolist()
        depth = int(generator.integers(0, size + 1))
        start = depth + (bos is not None)
        ids = ([] if bos is None else [bos]) + hay[:depth] + needle + hay[depth:] + needle[:CUE]
        tests.append(NeedleTest(tuple(ids), range(start, start + len(needle)), len(needle) - CUE))
    return tests


def sentence_tests(tokenizer: Any, bos: int | None, config: NeedleParams) -> list[NeedleTest]:
    """Makes tests of facts in English filler. The needle is the fact's words after `is`."""
    generator = np.random.default_rng(config.seed)

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    tests = []
    for number in range(config.tests):
        a, b = generator.choice(ADJECTIVES), generator.choice(NOUNS)
        words = " ".join(generator.choice(WORDS, config.needle_tokens))
        before = encode(NEEDLE.format(a=a, b=b, words="").removesuffix(" . "))
        fact, question = encode(f" {words}"), encode(QUESTION.format(a=a, b=b))
        size = haystack_size(config, number) - len(before) - len(fact) - len(question)
        sentences: list[list[int]] = []
        while (length := sum(map(len, sentences))) < size:
            names = {"a": generator.choice(ADJECTIVES), "b": generator.choice(NOUNS), "c": generator.choice(NOUNS)}
            sentence = encode(FILLER[int(generator.integers(len(FILLER)))].format(**names))
            if length + len(sentence) > size:
                break
            sentences.append(sentence)
        depth = int(generator.integers(0, len(sentences) + 1))
        head = [] if bos is None else [bos]
        head += [token for sentence in sentences[:depth] for token in sentence] + before
        tail = encode(". ") + [token for sentence in sentences[depth:] for token in sentence] + question
        needle = range(len(head), len(head) + len(fact))
        tests.append(NeedleTest((*head, *fact, *tail), needle, len(fact)))
    return tests


def question_tests(traces: Sequence[tuple[Sequence[int], TraceSegments]], count: int) -> list[NeedleTest]:
    """Makes tests of the first `count` traces with question and reasoning: the query is the needle."""
    tests = []
    for ids, segments in traces:
        reasoning = segments.reasoning
        if len(segments.query) and len(reasoning):
            given = tuple(ids[reasoning.start : reasoning.stop])
            tests.append(NeedleTest(tuple(ids[: reasoning.start]), segments.query, len(given), given))
    return tests[:count]


def haystack_size(config: NeedleParams, number: int) -> int:
    """Returns the tokens of the n-th test's whole prompt: from context / tests up to context, evenly."""
    return config.context * (number + 1) // config.tests
