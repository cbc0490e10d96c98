"""Answers of a model are text: graded, none is run, and none takes more than its share of time and memory."""

import resource
import time
from pathlib import Path

import pytest

from r2a_core.evaluation.sandbox import grade_many
from r2a_core.trace import boxed_answers

SECONDS = 3.0  # s, wall time of an answer

CODE = [
    "__import__('os').system('touch {canary}')",
    "\\text{{__import__('os').system('touch {canary}')}}",
    "__import__(\"pathlib\").Path('{canary}').touch()",
    "open('{canary}', 'w').write('x')",
    "exec(\"open('{canary}','w')\")",
    "eval(compile('open(\"{canary}\", \"w\")', '', 'exec'))",
    "().__class__.__base__.__subclasses__()",
    "[c for c in ().__class__.__base__.__subclasses__()]",
    "lambda: open('{canary}', 'w')",
    "\\operatorname{{system}}(\\text{{touch {canary}}})",
    "$(touch {canary})",
    "`touch {canary}`",
    "; touch {canary} #",
    "\\input{{{canary}}}",
    "\\write18{{touch {canary}}}",
    "\\immediate\\write18{{touch {canary}}}",
    "{{{{cycler.__init__.__globals__.os.popen('touch {canary}')}}}}",
    "!!python/object/apply:os.system ['touch {canary}']",
    '"], "correct"]\n["correct", "x"',
    "1\n2\n3",
    "\0",
    "\ud800",
    "Symbol('x').func(open('{canary}', 'w'))",
    "x.subs(x, open('{canary}', 'w'))",
]
LARGE = [
    "9**9**9",
    "9^{{9^{{9}}}}",
    "10^{{100000000}}",
    "100000000!",
    "5!!!!!!!!",
    "(1+x)^{{5000}}",
    "{nested}",
    "\\frac{{1}}{{" * 40 + "2" + "}}" * 40,
    "{long}",
    "1e999999999",
    "0." + "1" * 900,
    "9" * 990,
    "99999999999999999999_{{36}}",
]


def filled(answers: list[str], canary: Path) -> list[str]:
    return [
        answer.format(canary=canary, nested="(" * 400 + "1" + ")" * 400, long="x+" * 5000 + "1") for answer in answers
    ]


def test_no_answer_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    answers = filled(CODE, canary)
    verdicts = grade_many([(answer, "2") for answer in answers] + [("2", answer) for answer in answers], SECONDS)
    assert "correct" not in [verdict.outcome for verdict in verdicts]
    assert not canary.exists()
    assert grade_many([("\\frac{4}{2}", "2")], SECONDS)[0].outcome == "correct"


def test_large_answers_cost_their_time_and_no_more(tmp_path: Path) -> None:
    answers = filled(LARGE, tmp_path / "canary")
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    verdicts = grade_many([(answer, "2") for answer in answers] + [("4", "4")], 1.0)
    late = sum(verdict.outcome == "timeout" for verdict in verdicts)
    assert {verdict.outcome for verdict in verdicts[:-1]} <= {"wrong", "timeout"}
    assert verdicts[-1].outcome == "correct"
    assert time.monotonic() - started < 20 * (late + 1) + len(answers)
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB, of the largest child so far
    assert max(used, before) < 5 * 1024**2


@pytest.mark.parametrize(
    "text", ["\\boxed{" * 50_000, "{" * 200_000, "\\boxed{" + "}" * 200_000, "\\boxed{a}" * 20_000, "\\" * 300_001]
)
def test_boxes_are_found_in_one_pass(text: str) -> None:
    started = time.monotonic()
    boxed_answers(text)
    assert time.monotonic() - started < 5
