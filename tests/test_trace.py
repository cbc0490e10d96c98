"""Segments and status of a trace, which traces are taken, and its last boxed answer, that all readers share."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2a_core.attention.map_selection import default_span
from r2a_core.config import AlignmentConfig, EvaluateParams
from r2a_core.data.items import Item, QuestionPair
from r2a_core.evaluation.funnel import evaluate
from r2a_core.infra.errors import R2AError
from r2a_core.pairs.align import PairRejected, Response, align
from r2a_core.pairs.filter import response_faults
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, TagIds, plain_ids, token_pieces
from r2a_core.trace import (
    SEGMENTS,
    SETTINGS,
    TokenTrace,
    TraceSegments,
    TraceStatus,
    boxed_answers,
    classify,
    has_boxed,
    last_boxed_answer,
    select_traces,
    token_trace,
)

# boxes: a text and what stands in its boxes; results: the last paragraph of an answer, its result, and what alignment
# leaves of the answer; statuses: a name, prompt, response, and the fields of its TraceStatus
CASES = json.loads((Path(__file__).parent / "trace_cases.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("text", "boxes"), CASES["boxes"])
def test_boxes_balance_and_come_in_the_order_of_their_start(text: str, boxes: list[str]) -> None:
    found = boxed_answers(text)
    assert [box.content for box in found] == boxes
    assert [text[box.inside.start : box.inside.stop] for box in found] == boxes
    assert all(text[box.start :].startswith(("\\boxed", "\\fbox")) for box in found)
    assert has_boxed(text) is bool(boxes)
    assert last_boxed_answer(text) == (found[-1] if found else None)


MARKS = ("\\boxed{", "\\fbox {", "{", "}", "\\{", "\\}", "\\", "\\frac", "1")


@settings(derandomize=True, max_examples=300)
@given(st.lists(st.sampled_from(MARKS) | st.text(max_size=3), max_size=14).map("".join))
def test_boxes_are_what_stands_in_them(text: str) -> None:
    for box in boxed_answers(text):
        assert box.content == box.content.strip() != ""
        assert text[box.inside.start : box.inside.stop] == box.content
        assert re.match(r"\\(?:boxed|fbox)\s*\{\s*" + re.escape(box.content) + r"\s*\}", text[box.start :])


def test_a_text_of_boxes_that_never_close_takes_one_pass() -> None:
    assert boxed_answers("\\boxed{" * 200_000) == []  # a scan from each box to the end would take hours


@pytest.mark.parametrize(("paragraph", "result", "kept"), CASES["results"])
def test_funnel_grader_maps_and_alignment_read_one_result(
    byte_text: LoadedTokenizer, paragraph: str, result: str | None, kept: str | None
) -> None:
    ids = byte_text.ids
    prompt = prompt_ids(byte_text, "Which?", "", "with_reasoning")
    said = f"\n\nOkay.\n\n{paragraph}"
    response = [*plain_ids(byte_text, "Hm, \\boxed{Z}."), ids.think_close, *plain_ids(byte_text, said), ids.eos]
    text = byte_text.hf.decode(response)

    def decoded(tokens: Sequence[int]) -> str:
        return byte_text.hf.decode(tokens)

    status = classify(prompt, response, ids, lambda answer: has_boxed(decoded(answer)))
    assert status.status == ("ok" if result else "no_answer")

    fields = {name: [getattr(status, name)] for name in ("think_open", "think_close", "answer_start", "answer_end")}
    row = pl.DataFrame({"item_id": ["i"], "run": [0], "status": [status.status], "response": [text], **fields})
    rows = {str(setting): row for setting in SETTINGS}
    params = EvaluateParams(timeout_seconds=10, bootstrap_draws=100, seed=0)
    items = [Item("i", "Which?", result or "X", "math")]
    graded = evaluate(items, rows, 1, params, model="m", dataset="d", decoding="greedy").frame
    assert graded["extracted"].to_list() == [result, result]

    wrong = QuestionPair("p", "Which?", "Y", "Which?", "Y", "larger", "letters")
    both = {f"p-{name}": {"response": text, "status": status.status} for name in ("clean", "corrupted")}
    reason = f"answers {result!r}, not 'Y'" if result else "holds no boxed answer"
    assert response_faults([wrong], both, 10)["p"][1] == f"the clean response {reason}"

    pair = QuestionPair("p", "Which?", "X", "Which?", "Y", "larger", "letters")
    config = AlignmentConfig(padding="visible", probe_in="reasoning", keep_reasoning=True, ending_tokens=3)
    sides = (Response(prompt, response), Response(prompt, response))
    if result is None:
        with pytest.raises(PairRejected, match="the clean response holds no"):
            align(byte_text, pair, sides, "plain", config)
    else:
        found = align(byte_text, pair, sides, "plain", config)
        assert decoded(found.clean.ids[found.think_close + 1 :]) == f"{kept}Thus, the larger one is \\boxed{{"

    if result is not None:
        tokens = [*prompt, *response]
        segments = TraceSegments(status.think_open or 0, status.think_close or 0, len(tokens))
        span = default_span("i", segments, token_pieces(byte_text.hf, tokens))
        assert decoded(tokens[span.start : span.end]) == result


IDS = TagIds(bos=0, eos=1, think_open=2, think_close=3, pad=1)
BOX = 7
WITH = [0, 9, 9, 2, 8]  # BOS, question, <think>, newline


@pytest.mark.parametrize("case", CASES["statuses"], ids=lambda case: case[0])
def test_status_and_bounds(case: Any) -> None:
    _, prompt, response, expected = case
    assert classify(prompt, response, IDS, lambda answer: BOX in answer) == TraceStatus(*expected)


def test_only_the_answer_is_searched_for_a_box_and_bos_may_be_absent() -> None:
    seen: list[list[int]] = []
    classify(WITH, [7, 3, 9, 9, 1], IDS, lambda answer: not seen.append(answer))
    assert seen == [[9, 9]]
    assert classify([9, 2], [9, 3, 7, 1], IDS, lambda answer: True) == TraceStatus("ok", 1, 3, 4, 5)


def test_a_text_ends_with_any_token_that_ends_texts() -> None:
    ids = TagIds(bos=0, eos=1, think_open=2, think_close=3, pad=1, other_ends=(4,))
    for end in (1, 4):
        assert classify(WITH, [9, 3, 7, end], ids, lambda answer: True) == TraceStatus("ok", 3, 6, 7, 8)
    assert classify(WITH, [9, 3, 7, 4], IDS, lambda answer: True).status == "unfinished"


def test_a_trace_of_ones_own_needs_no_box() -> None:
    trace = token_trace("mine", WITH, [9, 9, 3, 9, 1], IDS)
    assert trace == TokenTrace("mine", (*WITH, 9, 9, 3, 9, 1), TraceSegments(3, 7, 10))
    for response, status in (([9, 3, 9], "unfinished"), ([9, 9, 1], "bad_think"), ([9, 3, 1], "no_answer")):
        with pytest.raises(R2AError, match=f"'mine' leaves the funnel as {status}"):
            token_trace("mine", WITH, response, IDS)


WORDS = (5, 6, 7)
REPEATABLE = settings(derandomize=True, deadline=None, max_examples=400)
words = st.lists(st.sampled_from(WORDS), max_size=4)
prompts = st.builds(
    lambda query, inside, closed: [0, *query, 2, *inside, *([3] if closed else [])], words, words, st.booleans()
)
responses = st.lists(st.sampled_from((0, 1, 2, 3, *WORDS)), max_size=12)


@REPEATABLE
@given(prompts, responses)
def test_the_status_is_that_of_the_first_step_not_passed(prompt: list[int], response: list[int]) -> None:
    found = classify(prompt, response, IDS, lambda answer: BOX in answer)
    text = "".join(str(token) for token in prompt + response)
    if not response or not text.endswith("1"):
        expected = "unfinished"
    elif text.count("3") != 1:
        expected = "bad_think"
    else:
        expected = "ok" if str(BOX) in text.split("3")[1] else "no_answer"
    assert found.status == expected
    assert found.think_open == text.index("2")
    if expected in ("unfinished", "bad_think"):
        assert (found.think_close, found.answer_start, found.answer_end) == (None, None, None)
    else:
        assert found.think_close == text.index("3")
        assert (found.answer_start, found.answer_end) == (text.index("3") + 1, len(text) - 1)


@REPEATABLE
@given(prompts, responses)
def test_the_segments_of_a_whole_trace_share_out_its_tokens(prompt: list[int], response: list[int]) -> None:
    found = classify(prompt, response, IDS, lambda answer: True)
    if found.status != "ok":
        return
    tokens = prompt + response
    segments = TraceSegments(found.think_open or 0, found.think_close or 0, len(tokens))
    ranges = segments.ranges()
    assert tuple(ranges) == SEGMENTS == ("bos", "query", "think_open", "reasoning", "think_close", "answer")
    assert [index for each in ranges.values() for index in each] == list(range(len(tokens) - 1))
    assert [tokens[index] for index in (*ranges["bos"], *ranges["think_open"], *ranges["think_close"])] == [0, 2, 3]
    assert 3 not in [tokens[index] for name in ("query", "reasoning", "answer") for index in ranges[name]]
    assert len(segments.answer) > 0
    assert (segments.answer.start, segments.answer.stop) == (found.answer_start, found.answer_end)


@REPEATABLE
@given(st.integers(-3, 12), st.integers(-3, 12), st.integers(-3, 12))
def test_bounds_are_refused_or_ordered(think_open: int, think_close: int, n_tokens: int) -> None:
    in_order = 1 <= think_open < think_close <= n_tokens - 3  # an answer token and the EOS follow
    if not in_order:
        with pytest.raises(R2AError, match="out of order"):
            TraceSegments(think_open, think_close, n_tokens)
        return
    segments = TraceSegments(think_open, think_close, n_tokens)
    lengths = [len(each) for each in segments.ranges().values()]
    assert sum(lengths) == n_tokens - 1
    assert lengths[0] == lengths[2] == lengths[4] == 1
    assert lengths[5] >= 1


def generations(*rows: tuple[str, int, str]) -> pl.DataFrame:
    """Rows of item, run and status; run r has a response of r + 3 tokens."""
    about = {"prompt_ids": [0, 5, 1], "think_open": 2}
    return pl.DataFrame(
        [
            about
            | {"item_id": item, "run": run, "status": status, "response_ids": [7] * run + [2, 8, 3]}
            | {"think_close": 3 + run if status == "ok" else None}
            for item, run, status in rows
        ]
    )


def test_the_first_well_formed_response_of_each_item_in_item_order():
    frame = generations(
        ("b", 0, "unfinished"), ("a", 0, "ok"), ("c", 0, "bad_think"), ("a", 1, "ok"), ("b", 2, "ok"), ("b", 1, "ok")
    )
    assert select_traces(frame) == [
        TokenTrace("b", (0, 5, 1, 7, 2, 8, 3), TraceSegments(2, 4, 7)),
        TokenTrace("a", (0, 5, 1, 2, 8, 3), TraceSegments(2, 3, 6)),
    ]
    assert select_traces(generations(("a", 0, "no_answer"))) == []
