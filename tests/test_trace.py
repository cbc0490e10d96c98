"""The last boxed answer of a text, and that every part of the study reads the same one."""

import re
from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2a_core.attention.map_selection import default_span
from r2a_core.config import AlignmentConfig, EvaluateParams
from r2a_core.data.items import Item
from r2a_core.data.pairs import QuestionPair
from r2a_core.evaluation.funnel import evaluate
from r2a_core.pairs.align import PairRejected, Response, align
from r2a_core.pairs.filter import response_faults
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, plain_ids, token_pieces
from r2a_core.trace import SETTINGS, TraceSegments, boxed_answers, classify, has_boxed, last_boxed_answer

BOXES = [
    (r"so \boxed{5}.", ["5"]),
    (r"\boxed{3} then \boxed{5}", ["3", "5"]),
    (r"\fbox{7}", ["7"]),
    (r"\boxed {7}", ["7"]),
    (r"\boxed{\frac{1}{2}}", [r"\frac{1}{2}"]),
    (r"\boxed{\left\{1, 2\right\}}", [r"\left\{1, 2\right\}"]),
    (r"\boxed{\left\{ x \right.}", [r"\left\{ x \right."]),  # an escaped brace need not be closed
    (r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}", [r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"]),
    (r"\boxed{a \\}", [r"a \\"]),
    (r"\boxed{\boxed{5}}", [r"\boxed{5}", "5"]),
    (r"\boxed{3} and \boxed{5", ["3"]),
    (r"\boxed{ {5 }", []),
    (r"{ \boxed{5}", ["5"]),
    (r"} \boxed{5} }", ["5"]),
    (r"\boxed{}, \boxed{ }", []),
    (r"put it in \boxed{}: \boxed{4}", ["4"]),
    (r"\boxed 5", []),
    (r"\boxedx{5}", []),
    ("boxed{5}", []),
    ("", []),
    ("\\boxed{\n 12 \n}", ["12"]),
]


@pytest.mark.parametrize(("text", "boxes"), BOXES)
def test_boxes_balance_and_come_in_the_order_of_their_start(text: str, boxes: list[str]) -> None:
    found = boxed_answers(text)
    assert [box.content for box in found] == boxes
    assert [text[box.inside.start : box.inside.stop] for box in found] == boxes
    assert all(text[box.start :].startswith(("\\boxed", "\\fbox")) for box in found)
    assert has_boxed(text) is bool(boxes)
    assert last_boxed_answer(text) == (found[-1] if found else None)


@given(st.lists(st.text(alphabet="ab12 +", min_size=1).filter(str.strip), min_size=1), st.text(alphabet="xy ,."))
def test_every_box_is_found_wherever_it_stands(contents: list[str], between: str) -> None:
    text = between.join(f"\\boxed{{{content}}}" for content in contents)
    assert [box.content for box in boxed_answers(text)] == [content.strip() for content in contents]


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


RESULTS = [  # the last paragraph of an answer, its result, and what alignment leaves of the answer
    (r"It is \boxed{X}.", "X", "\n\nOkay.\n\n"),
    (r"It is \fbox{X}.", "X", "\n\nOkay.\n\n"),
    (r"It is \boxed {X}.", "X", "\n\nOkay.\n\n"),
    ("It is \\fbox\n{ X }.", "X", "\n\nOkay.\n\n"),
    (r"\boxed{Y} no, \fbox{X}", "X", "\n\nOkay.\n\n"),
    ("It is \\boxed{X}.\n\nSo I put it in \\boxed{}.", "X", "\n\nOkay.\n\n"),
    ("It is \\fbox{X}.\n\nLet me box it: \\boxed{", "X", "\n\nOkay.\n\n"),
    ("Say \\boxed{Y}.\n\nIt is \\fbox{X}.", "X", "\n\nOkay.\n\nSay \\boxed{Y}.\n\n"),
    (r"It is \boxed{\text{X}}.", r"\text{X}", "\n\nOkay.\n\n"),
    (r"It is \boxed {\{X\}}.", r"\{X\}", "\n\nOkay.\n\n"),
    (r"It is X, in no \boxed{}.", None, None),
    (r"It is \boxed X.", None, None),
]


@pytest.mark.parametrize(("paragraph", "result", "kept"), RESULTS)
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
