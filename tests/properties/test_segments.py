"""Any sequence of tokens: its status is that of its tags, its bounds are ordered, its segments share out its tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2a_core.infra.errors import R2AError
from r2a_core.tokenizer import TagIds
from r2a_core.trace import SEGMENTS, TraceSegments, classify

IDS = TagIds(bos=0, eos=1, think_open=2, think_close=3, pad=1)
BOX, WORDS = 7, (5, 6, 7)
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
    assert found.think_open is not None
    assert found.think_close is not None
    segments = TraceSegments(found.think_open, found.think_close, len(tokens))
    ranges = segments.ranges()
    assert tuple(ranges) == SEGMENTS
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
