"""Hidden sentences against the model's own eager attention with a 4D mask, and a planted sentence that is needed."""

from typing import Any

import pytest
import torch
from torch import Tensor

from r2a_core.sentences.suppress import RowEffects, hide, run_base
from r2a_core.trace import TokenTrace
from tests.knockout.test_run import COPIED, made_up_trace, model_that_copies
from tests.small_models import tiny_model

SENTENCES = (range(7, 12), range(12, 16), range(16, 21))  # of the 14 tokens of made-up reasoning


def whole_pass(model: Any, trace: TokenTrace, hidden: range) -> Tensor:
    """Log-probabilities (row, vocabulary) in float64 by one pass with a mask written out for each kind of layer."""
    n = trace.segments.answer.stop - 1
    i, j = torch.arange(n)[:, None], torch.arange(n)
    seen = (j <= i) & ~((i >= hidden.stop) & (j >= hidden.start) & (j < hidden.stop))
    window = getattr(model.config, "sliding_window", None)
    near = seen & (i - j < (window or n))
    masks = {
        kind: torch.zeros(n, n).masked_fill(~visible, torch.finfo(torch.float32).min)[None, None]
        for kind, visible in (("full_attention", seen), ("sliding_attention", near))
    }
    mask = masks if hasattr(model.config, "layer_types") else masks["sliding_attention"]
    ids = torch.tensor([trace.token_ids[:n]])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0].double().log_softmax(-1)


@pytest.mark.parametrize("kind", ["qwen2", "mistral", "gemma2", "gpt_oss"])
def test_every_row_behind_a_sentence_is_that_of_a_whole_pass_with_the_mask(kind: str) -> None:
    model, trace = tiny_model(kind), made_up_trace()
    base, own = run_base(model, trace), whole_pass(model, trace, range(0))
    following = torch.tensor(trace.token_ids[1 : len(own) + 1])[:, None]
    for sentence in SENTENCES:
        without = whole_pass(model, trace, sentence)
        found = hide(model, base, sentence, sentence.stop, 1)
        kl = (own.exp() * (own - without)).sum(-1)
        torch.testing.assert_close(found.kl.double(), kl[sentence.stop :], atol=1e-5, rtol=0)
        picked = without.gather(1, following)[sentence.stop :, 0]
        torch.testing.assert_close(found.log_prob.double(), picked, atol=1e-5, rtol=0)
        assert kl[: sentence.stop].abs().max() < 1e-9
        assert found.kl.max() > 1e-3


def test_rows_without_anything_hidden_are_the_unchanged_ones_and_blocks_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, trace = tiny_model("qwen2"), made_up_trace()
    base, sentence = run_base(model, trace), SENTENCES[1]
    nothing = hide(model, base, range(0), SENTENCES[0].stop, 1)
    assert nothing.kl.abs().max() < 1e-6
    whole = hide(model, base, sentence, sentence.stop, 1)
    monkeypatch.setattr("r2a_core.sentences.suppress.LOGIT_BYTES", 2**20 // (3 * 64))  # three rows a block
    found = hide(model, base, sentence, sentence.stop, 1)
    for name in ("kl", "log_prob", "log_prob_base"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name), atol=1e-6, rtol=0)


def test_divergence_is_that_of_two_distributions_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    model, trace = tiny_model("qwen2"), made_up_trace()
    base = run_base(model, trace)
    p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.25, 0.5])
    logits = torch.full((2, 1, 64), -torch.inf)
    logits[:, 0, :3] = torch.stack([p, q]).log()
    monkeypatch.setattr("r2a_core.sentences.suppress.logits_of", lambda model, streams: finite(logits, streams))
    found = hide(model, base, SENTENCES[2], SENTENCES[2].stop, 1)
    torch.testing.assert_close(found.kl, torch.full_like(found.kl, 0.25 * torch.tensor(2.0).log().item()))


def finite(logits: Tensor, streams: Tensor) -> Tensor:
    return logits.clamp(min=-1e4).expand(2, streams.shape[1], -1)


def test_the_sentence_that_the_answer_is_copied_from_is_the_one_that_it_loses() -> None:
    """A head copies ten tokens of the reasoning into the answer; five of them stand in each of two sentences."""
    trace = made_up_trace(reasoning=len(COPIED), answer=len(COPIED))
    ids = list(trace.token_ids)
    for part in (trace.segments.reasoning, trace.segments.answer):
        ids[part.start : part.stop] = COPIED
    trace = TokenTrace("item", tuple(ids), trace.segments)
    model = model_that_copies(1, 2, think_close=ids[trace.segments.think_close])
    first, base = trace.segments.reasoning.start, run_base(model, trace)
    halves = [
        hide(model, base, hidden, hidden.stop, 1) for hidden in (range(first, first + 5), range(first + 5, first + 10))
    ]
    for number, effects in enumerate(halves):
        loss = lost(effects, trace)
        own = slice(5 * number, 5 * number + 5)
        assert loss[own].mean() > 10
        assert (loss.sum() - loss[own].sum()).abs() < 0.1 * loss.sum()


def lost(effects: RowEffects, trace: TokenTrace) -> Tensor:
    answer = trace.segments.answer
    return (effects.log_prob_base - effects.log_prob)[effects.rows(range(answer.start - 1, answer.stop - 1))]
