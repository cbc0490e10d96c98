"""Status and segment bounds by token ids, each step of the funnel in its order."""

import pytest

from r2a_core.infra.errors import R2AError
from r2a_core.tokenizer import TagIds
from r2a_core.trace import TokenTrace, TraceSegments, TraceStatus, classify, token_trace

IDS = TagIds(bos=0, eos=1, think_open=2, think_close=3, pad=1)
BOX, WORD = 7, 9
WITH = [0, 9, 9, 2, 8]  # BOS, question, <think>, newline
WITHOUT = [0, 9, 9, 2, 8, 8, 3]  # the same, closed
CASES = {
    "a whole trace": (WITH, [9, 9, 3, 9, 7, 1], TraceStatus("ok", 3, 7, 8, 10)),
    "without reasoning": (WITHOUT, [9, 7, 1], TraceStatus("ok", 3, 6, 7, 9)),
    "no reasoning at all": (WITH, [3, 7, 1], TraceStatus("ok", 3, 5, 6, 7)),
    "a second <think> is a word like others": (WITH, [2, 3, 7, 1], TraceStatus("ok", 3, 6, 7, 8)),
    "stopped by length": (WITH, [9, 9, 3, 9, 7], TraceStatus("unfinished", 3)),
    "stopped by length without reasoning": (WITHOUT, [9, 7], TraceStatus("unfinished", 3)),
    "an end in the middle": (WITH, [9, 1, 3, 7], TraceStatus("unfinished", 3)),
    "nothing": (WITH, [], TraceStatus("unfinished", 3)),
    "never closed": (WITH, [9, 7, 1], TraceStatus("bad_think", 3)),
    "closed twice": (WITH, [9, 3, 9, 3, 7, 1], TraceStatus("bad_think", 3)),
    "closed again": (WITHOUT, [9, 3, 7, 1], TraceStatus("bad_think", 3)),
    "unfinished before badly closed": (WITH, [9, 3, 9, 3, 7], TraceStatus("unfinished", 3)),
    "no box in the answer": (WITH, [7, 3, 9, 1], TraceStatus("no_answer", 3, 6, 7, 8)),
    "an empty answer": (WITH, [7, 3, 1], TraceStatus("no_answer", 3, 6, 7, 7)),
    "an end at once": (WITHOUT, [1], TraceStatus("no_answer", 3, 6, 7, 7)),
    "badly closed before no box": (WITHOUT, [9, 3, 9, 1], TraceStatus("bad_think", 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_status_and_bounds(case: str) -> None:
    prompt, response, expected = CASES[case]
    assert classify(prompt, response, IDS, lambda answer: BOX in answer) == expected


def test_only_the_answer_is_searched_for_a_box() -> None:
    seen: list[list[int]] = []
    classify(WITH, [7, 3, 9, 9, 1], IDS, lambda answer: not seen.append(answer))
    assert seen == [[9, 9]]


def test_a_model_without_bos() -> None:
    assert classify([9, 2], [9, 3, 7, 1], IDS, lambda answer: True) == TraceStatus("ok", 1, 3, 4, 5)


def test_a_trace_of_ones_own_needs_no_box() -> None:
    trace = token_trace("mine", WITH, [9, 9, 3, 9, 1], IDS)
    assert trace == TokenTrace("mine", (*WITH, 9, 9, 3, 9, 1), TraceSegments(3, 7, 10))
    for response, status in (([9, 3, 9], "unfinished"), ([9, 9, 1], "bad_think"), ([9, 3, 1], "no_answer")):
        with pytest.raises(R2AError, match=f"'mine' leaves the funnel as {status}"):
            token_trace("mine", WITH, response, IDS)


def test_the_six_segments_share_out_all_tokens_but_the_last() -> None:
    segments = TraceSegments(think_open=3, think_close=7, n_tokens=11)
    ranges = segments.ranges()
    assert ranges == {
        "bos": range(1),
        "query": range(1, 3),
        "think_open": range(3, 4),
        "reasoning": range(4, 7),
        "think_close": range(7, 8),
        "answer": range(8, 10),
    }
    assert [token for each in ranges.values() for token in each] == list(range(10))


@pytest.mark.parametrize("bounds", [(0, 5, 9), (5, 5, 9), (6, 5, 9), (2, 8, 9), (2, 9, 9)])
def test_bounds_out_of_order_are_refused(bounds: tuple[int, int, int]) -> None:
    with pytest.raises(R2AError, match="segments out of order"):
        TraceSegments(*bounds)
