"""Arms of a trace against the model's own eager attention with an explicit mask, one whole forward pass per arm."""

import math
import sys
from collections.abc import Sequence
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from r2a_core.activations import suffix
from r2a_core.activations.hooks import model_shape
from r2a_core.activations.suffix import SuffixAttention
from r2a_core.config import ViewName
from r2a_core.knockout import prefix
from r2a_core.knockout.cut import CutPlan
from r2a_core.knockout.prefix import run_prefix
from r2a_core.knockout.run import arm_bytes, run_arms, write_anew, writes
from r2a_core.knockout.sets import Arm
from r2a_core.trace import TokenTrace, TraceSegments
from tests.random_models import random_model
from tests.small_models import EVERY_KIND, tiny_model

KINDS = ("mask", "zero", "zero_head", "mean_head")
HEADS = ((1, 0), (1, 3), (1, 5))  # two of one KV group, one of the other
MORE = ((0, 2), *HEADS)
ALL = tuple((layer, head) for layer in range(2) for head in range(6))
MEANS = {layer: torch.linspace(-1, 1, 48).reshape(6, 8) * (layer + 1) for layer in range(2)}
EOS = 3


def made_up_trace(seed: int = 0, question: int = 5, reasoning: int = 14, answer: int = 9) -> TokenTrace:
    generator = torch.Generator().manual_seed(seed)
    think_open, think_close = 1 + question, 2 + question + reasoning
    n_tokens = think_close + answer + 2
    ids = torch.randint(4, 64, (n_tokens,), generator=generator).tolist()
    ids[-1] = EOS
    return TokenTrace("item", tuple(ids), TraceSegments(think_open, think_close, n_tokens))


def rows_and_keys(view: str, segments: TraceSegments) -> tuple[slice, list[int]]:
    """The rows that are cut, and the keys that they lose."""
    if view == "answer":
        return slice(segments.think_close, None), list(segments.reasoning)
    hidden = range(1, segments.think_open) if view == "question" else segments.reasoning
    return slice(segments.think_open, segments.think_close), list(hidden)


def oracle(
    model: Any,
    trace: TokenTrace,
    arm: Arm,
    monkeypatch: pytest.MonkeyPatch,
    ids: Sequence[int] = (),
    view: str = "answer",
) -> Tensor:
    """Logits (row, vocabulary) from the first cut row on, by the model's own eager attention edited by hand."""
    segments, module = trace.segments, sys.modules[type(model.get_decoder().layers[0].self_attn).__module__]
    own, (rows, hidden) = module.eager_attention_forward, rows_and_keys(view, segments)

    def edited(layer: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **more: Any) -> Any:
        z, weights = own(layer, query, key, value, mask, **more)
        z = z.clone()
        for head in (head for number, head in arm.heads if number == layer.layer_idx):
            if arm.kind == "mask":
                own_mask = mask.clone()
                own_mask[..., rows, hidden] = -torch.inf
                own_mask.diagonal(dim1=-2, dim2=-1).zero_()
                cut = own(layer, query, key, value, own_mask, **more)[0]
            elif arm.kind == "zero":
                own_weights = weights.clone()
                own_weights[..., hidden] = 0
                cut = (own_weights @ value.repeat_interleave(3, 1)).transpose(1, 2)
            else:
                cut = torch.zeros_like(z) if arm.kind == "zero_head" else MEANS[layer.layer_idx].expand_as(z)
            z[:, rows, head] = cut[:, rows, head]
        return z, weights

    ids = ids or trace.token_ids[: segments.answer.stop - 1]
    with monkeypatch.context() as patched, torch.no_grad():
        patched.setattr(module, "eager_attention_forward", edited)
        return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, rows.start :]


def expected(model: Any, trace: TokenTrace, arm: Arm, monkeypatch: pytest.MonkeyPatch, view: str) -> Tensor:
    logits = oracle(model, trace, arm, monkeypatch, view=view).double().log_softmax(-1)
    stop = trace.segments.answer.stop
    return logits.gather(1, torch.tensor(trace.token_ids[stop - len(logits) : stop])[:, None])[:, 0]


def arms_of(*heads: tuple[tuple[int, int], ...]) -> list[Arm]:
    return [Arm.of(kind, each) for kind in KINDS for each in heads]  # type: ignore[arg-type]


VIEWS: tuple[ViewName, ...] = get_args(ViewName)
CASES = [(kind, "answer") for kind in EVERY_KIND]
CASES += [(kind, view) for kind in ("qwen2", "mistral", "gpt_oss") for view in VIEWS[1:]]


@pytest.mark.parametrize(("kind", "view"), CASES)
def test_every_arm_is_a_full_eager_pass_with_its_mask(
    kind: str, view: ViewName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first row of a view changes already, unless it loses nothing: of earlier reasoning, the first two."""
    model, trace = tiny_model(kind), made_up_trace()
    if view != "answer":
        monkeypatch.setattr(suffix, "MASK_ROWS", 9)
        monkeypatch.setattr(prefix, "LOGIT_ROWS", 10)
    run = run_prefix(model, trace, view)
    found = run_arms(model, run, arms_of((), HEADS, MORE, ALL), 1024, MEANS)
    for arm, log_probs in found.items():
        torch.testing.assert_close(log_probs, expected(model, trace, arm, monkeypatch, view), atol=1e-5, rtol=0)
        changed = (log_probs - run.log_probs).abs()
        first = 2 * (view == "earlier_reasoning")
        assert changed.max() < 1e-5 if not arm.heads else changed[first] > 1e-4
        assert arm.kind != "mask" or (changed[:first] < 1e-5).all()


@pytest.mark.parametrize("view", VIEWS)
def test_a_run_without_heads_is_the_same_bit_for_bit_beside_any_arms(view: ViewName) -> None:
    """What is cut in one row does not reach another."""
    model, trace = tiny_model("qwen2"), made_up_trace()
    run, nothing = run_prefix(model, trace, view), Arm.of("mask", ())
    alone = run_arms(model, run, [nothing], 1024)[nothing]
    beside = [run_arms(model, run, [nothing, Arm.of(kind, ALL)], 1024, MEANS)[nothing] for kind in KINDS]  # type: ignore[arg-type]
    empty = run_arms(model, run, arms_of(()), 1024, MEANS)
    assert all(torch.equal(each, beside[0]) for each in beside)
    assert all(torch.equal(each, empty[nothing]) for each in empty.values())
    torch.testing.assert_close(alone, beside[0], atol=1e-6, rtol=0)
    unread = made_up_trace(reasoning=0, question=0)  # nothing to cut
    run = run_prefix(model, unread, view)
    found = run_arms(model, run, [Arm.of("mask", ALL), Arm.of("zero", ALL)], 1024)
    assert all((each - run.log_probs).abs().max() < 1e-6 for each in found.values())


def test_order_and_company_of_arms_change_nothing() -> None:
    model, trace = tiny_model("mistral"), made_up_trace()
    run, arms = run_prefix(model, trace), arms_of((), HEADS, MORE)
    found, reverse = (run_arms(model, run, each, 1024, MEANS) for each in (arms, [*arms[::-1], *arms]))
    assert all(torch.equal(found[arm], reverse[arm]) for arm in arms)
    one_mib = run_arms(model, run, arms * 2, 1, MEANS)
    assert arm_bytes(model_shape(model), run) < 2**20
    assert all(torch.allclose(found[arm], one_mib[arm], atol=1e-6) for arm in arms)


def test_an_arm_costs_the_answer_above_its_lowest_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace with 14% answer in a model of 8 layers: cuts from layer 4 on cost a fourteenth of a pass each."""
    model = random_model("llama", 0, vocab_size=64, num_hidden_layers=8)
    trace = made_up_trace(question=40, reasoning=214, answer=42)
    run, attend, rows = run_prefix(model, trace), CutPlan.attend, list[int]()

    def counted(self: CutPlan, call: Any, query: Any, key: Any, value: Any) -> Any:
        rows.append(query.shape[0] * query.shape[2])
        return attend(self, call, query, key, value)

    monkeypatch.setattr(CutPlan, "attend", counted)
    arms = sorted([Arm.of("mask", [(layer, 0)]) for layer in range(4, 8)] + [Arm.of("mask", ((4, 1), (7, 2)))])
    run_arms(model, run, arms * 2, 1024)  # the same heads under two names are run once
    assert sum(rows) == 42 * (4 + 3 + 2 + 1 + 4)
    whole = len(arms) * (trace.segments.n_tokens - 1) * 8
    assert 17 < whole / sum(rows) < 21


def test_a_masked_head_costs_those_that_share_its_keys_and_no_hidden_key(monkeypatch: pytest.MonkeyPatch) -> None:
    model, trace, given, attend = tiny_model("llama"), made_up_trace(), [], SuffixAttention.by_blocks

    def counted(self: SuffixAttention, *each: Any) -> Tensor:
        given.append((each[2].shape[1], each[3].shape[2]))  # heads of the queries, tokens of the keys
        return attend(self, *each)

    monkeypatch.setattr(SuffixAttention, "by_blocks", counted)
    run_arms(model, run_prefix(model, trace), [Arm.of("mask", [(1, 0)])], 1024)
    whole = trace.segments.n_tokens - 2  # all but the end, which writes nothing, and the answer's last token
    assert given == [(6, whole), (3, whole - len(trace.segments.reasoning))]


def cut_by_hand(model: Any, trace: TokenTrace, arm: Arm, limit: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    ids = list(trace.token_ids[: trace.segments.answer.start])
    for _ in range(limit):
        ids.append(int(oracle(model, trace, arm, monkeypatch, ids)[-1].argmax()))
        if ids[-1] == EOS:
            return ids[trace.segments.answer.start : -1]
    return ids[trace.segments.answer.start :]


@pytest.mark.parametrize("kind", ["qwen2", "mistral", "gpt_oss"])
def test_an_answer_written_anew_is_that_of_whole_passes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, trace, arms = tiny_model(kind), made_up_trace(1), arms_of((), HEADS, ALL)
    by_hand = {arm: cut_by_hand(model, trace, arm, 24, monkeypatch) for arm in arms}
    ends = (EOS, by_hand[arms[1]][3])  # so that some arms end before others
    found = write_anew(model, run_prefix(model, trace), arms, ends, 24, MEANS)
    for arm, answer in by_hand.items():
        places = [place for place, token in enumerate(answer) if token in ends]
        assert list(found[arm]) == answer[: places[0] if places else None]
    assert len({len(answer) for answer in found.values()}) > 1
    assert len(set(found.values())) > 4


COPIED = range(10, 20)  # tokens of the reasoning, and of the answer


def model_that_copies(layer: int, head: int, think_close: int) -> Any:
    """A random model in which one head writes the answer: a row looks for the token after its own, and copies it.

    Embeddings are one-hot. In the slowest pair of dimensions (7, 15) of RoPE a token is an angle.
    """
    sizes = {"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "tie_word_embeddings": False}
    model = random_model("llama", 0, **sizes)  # 4 heads of 16 dimensions, 2 KV heads
    attention, own = model.model.layers[layer].self_attn, slice(16 * head, 16 * head + 16)
    shared, tokens = slice(16 * (head // 2), 16 * (head // 2) + 16), torch.tensor(COPIED)
    angles = torch.arange(len(COPIED)) * 2 * math.pi / len(COPIED)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(64))
        model.lm_head.weight.copy_(4 * torch.eye(64))
        places = [
            (attention.q_proj, own, torch.tensor([think_close, *COPIED[:-1]])),
            (attention.k_proj, shared, tokens),
        ]
        for projection, rows, looking in places:
            weight = torch.zeros(16, 64)
            weight[7, looking], weight[15, looking] = 4 * angles.cos(), 4 * angles.sin()
            projection.weight[rows] = weight
        attention.v_proj.weight[shared] = 0
        attention.v_proj.weight[16 * (head // 2) + torch.arange(len(COPIED)), tokens] = 1
        attention.o_proj.weight[:, own] = 0
        attention.o_proj.weight[tokens, 16 * head + torch.arange(len(COPIED))] = 1
    return model


def test_a_head_that_copies_the_answer_is_the_one_whose_cut_costs_it() -> None:
    planted, trace = (1, 2), made_up_trace(reasoning=len(COPIED), answer=len(COPIED))
    ids = list(trace.token_ids)
    for part in (trace.segments.reasoning, trace.segments.answer):
        ids[part.start : part.stop] = COPIED
    trace = TokenTrace("item", tuple(ids), trace.segments)
    model = model_that_copies(*planted, think_close=ids[trace.segments.think_close])
    run = run_prefix(model, trace)
    assert run.log_probs.mean() > -0.1
    every = [Arm.of("mask", [(layer, head)]) for layer in range(2) for head in range(4)]
    costs = {
        arm.heads[0]: float((run.log_probs - each).mean()) for arm, each in run_arms(model, run, every, 64).items()
    }
    assert costs[planted] > 3
    assert max(abs(cost) for head, cost in costs.items() if head != planted) < 0.1
    ours, nothing = Arm.of("mask", [planted]), Arm.of("mask", ())
    written = write_anew(model, run, [ours, nothing], (EOS,), len(COPIED))
    assert [writes(model, trace, answer) for answer in (written[nothing], written[ours])] == [True, False]
    assert written[nothing] == tuple(COPIED)
    assert written[ours] != written[nothing]


@pytest.mark.parametrize(("view", "question"), [("question", True), ("earlier_reasoning", False)])
def test_a_head_that_copies_into_the_reasoning_is_the_one_whose_cut_costs_it(view: ViewName, question: bool) -> None:
    """From the question, or from the first half of the reasoning into the second."""
    planted, n = (1, 2), len(COPIED)
    trace = made_up_trace(question=n, reasoning=n if question else 2 * n)
    segments, ids = trace.segments, list(trace.token_ids)
    copies = segments.query if question else range(segments.reasoning.start, segments.reasoning.start + n)
    target = range(segments.think_close - n, segments.think_close)
    for part in (copies, target):
        ids[part.start : part.stop] = COPIED
    trace = TokenTrace("item", tuple(ids), segments)
    model = model_that_copies(*planted, think_close=ids[target.start - 1])
    run = run_prefix(model, trace, view)
    own = run.part(target)
    arms = [Arm.of("mask", [(layer, head)]) for layer in range(2) for head in range(4)]
    found = run_arms(model, run, arms, 64)
    costs = {arm.heads[0]: float((run.log_probs - each)[own][1:].mean()) for arm, each in found.items()}
    assert costs[planted] > 3
    assert max(abs(cost) for head, cost in costs.items() if head != planted) < 0.1
