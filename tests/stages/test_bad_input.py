"""Stages on bad input: exit code 2 (a mistake) or 3 (something is missing), a sentence, and a hint as last line."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.study import PARAMS, Study

TINY = ("tiny", "texts")
GENERATE = ("generate", *TINY, "with_reasoning")
PREPARE, JUDGE, EVALUATE = ("prepare_dataset", "texts"), ("judge", *TINY), ("evaluate", *TINY)
# How the study is spoilt, the stage that then runs, its exit code, and parts of its sentence and of its hint.
CASES = json.loads(Path(__file__).with_name("bad_input.json").read_text(encoding="utf-8"))


def spoil(study: Study, after: Any = (), sections: Any = None, file: Any = None) -> None:
    """Runs stages, replaces sections of the params, and gives a file other content or removes it (None)."""
    for stage in after:
        assert study.run(*stage).code == 0
    if sections:
        study.write_params(**sections)
    if file:
        path = study.root / file[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if file[1] is not None:
            path.write_bytes(file[1].encode("latin-1"))


@pytest.mark.parametrize("case", CASES)
def test_a_stage_ends_in_a_sentence_and_a_hint(study: Study, case: str) -> None:
    spoilt, stage, code, says, hint = CASES[case]
    spoil(study, **spoilt)
    ended = study.run(*stage)
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    assert any(line.startswith("error: ") and says in line for line in ended.err.splitlines()), ended.err
    assert ended.last.startswith("hint: ")
    assert hint in ended.last
    assert not ended.out


@pytest.mark.parametrize("threads", ["two", "0", "-1", "1.5", "", "100000", "9" * 20, "٣"])
def test_threads_are_a_number_that_the_machine_has(study: Study, monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv("R2A_THREADS", threads)
    ended = study.run(*PREPARE)
    assert (ended.code, ended.last) == (2, "hint: for example R2A_THREADS=1")


def test_a_doctor_reports_files_that_are_absent_and_goes_on(study: Study) -> None:
    """In a clone that pulled what was made from them, they are not needed."""
    elsewhere = {"kind": "local", "path": "/none", "dtype": "float32", "tags": {}}
    study.write_params(models={**PARAMS["models"], "tiny": elsewhere})
    (study.root / "imports" / "texts.jsonl").unlink()
    ended = study.run("doctor", "--params-only")
    assert (ended.code, ended.err) == (0, "")
    assert "NO  texts          imports/texts.jsonl does not exist" in ended.out
    assert "NO  tiny           /none has no config.json" in ended.out
    recipe = PARAMS["models"]["smollm2_ignores_training"]["recipe"] | {"start": {"path": "/none", "sha256": "0" * 64}}
    study.write_params(models={**PARAMS["models"], "tiny": {"kind": "train", "recipe": recipe}})
    assert "NO  tiny.recipe.start the adapter /none does not exist" in study.run("doctor", "--params-only").out


def test_a_study_of_texts_runs_and_counts_its_answers(study: Study) -> None:
    """The stages that the cases above spoil, unspoilt; item ids with slashes and dots become no paths."""
    for stage in (PREPARE, GENERATE, (*GENERATE[:3], "without_reasoning"), JUDGE, EVALUATE):
        ended = study.run(*stage)
        assert ended.code == 0, ended.err
    rows = pl.read_parquet(study.paths.evaluation(*TINY))
    assert rows.select("item_id", "score").unique(maintain_order=True).rows() == [("q/1", 1.0), ("../q2", 0.0)]
    assert not [path for path in study.root.rglob("*") if "q2" in path.name or path.name == "1"]
    assert PARAMS["run"]["models"] != ["tiny"]  # the project's own study is another


@pytest.mark.parametrize("stage", ["generate", "capture", "attention"])
def test_a_setting_is_one_of_two(study: Study, stage: str) -> None:
    ended = study.run(stage, *TINY, "../both")
    assert ended.code == 2
    assert "is not one of" in ended.err
    assert "Traceback" not in ended.err
