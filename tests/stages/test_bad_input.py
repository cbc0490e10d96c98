"""Stages on bad input: exit code 2 (a mistake) or 3 (something is missing), a sentence, and a hint as last line."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from tests.study import ENTRY, PARAMS, Study

Spoil = Callable[[Study], Any]
TAGS = {"bos": "<s>", "eos": "</s>", "think_open": "<think>", "think_close": "</think>"}
TINY = ("tiny", "texts")
GENERATE = ("generate", *TINY, "with_reasoning")
PREPARE, JUDGE, EVALUATE = ("prepare_dataset", "texts"), ("judge", *TINY), ("evaluate", *TINY)


def nothing(study: Study) -> None:
    """The study as it is."""


def section(**sections: Any) -> Spoil:
    return lambda study: study.write_params(**sections)


def dataset(**entry: Any) -> Spoil:
    return section(datasets={"texts": entry})


def model(**entry: Any) -> Spoil:
    return section(models={"tiny": entry})


def file(name: str, content: str | bytes | None) -> Spoil:
    """A file of the study with other content, or gone."""

    def spoil(study: Study) -> None:
        path = study.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def after(*stages: tuple[str, ...], then: Spoil = nothing) -> Spoil:
    def spoil(study: Study) -> None:
        for stage in stages:
            assert study.run(*stage).code == 0
        then(study)

    return spoil


# What is spoilt, the stage that then runs, its exit code, and parts of its sentence and of its hint.
CASES: dict[str, tuple[Spoil, tuple[str, ...], int, str, str]] = {
    "no such dataset": (nothing, ("prepare_dataset", "maths"), 2, "has no dataset 'maths'", "the datasets are"),
    "a dataset elsewhere": (nothing, ("prepare_dataset", "../texts"), 2, "has no dataset '../texts'", "texts"),
    "no such model": (nothing, ("prepare_model", "huge"), 2, "has no model 'huge'", "the models are"),
    "no params": (file("params.yaml", None), PREPARE, 2, "params.yaml cannot be read", "git checkout params.yaml"),
    "empty params": (file("params.yaml", ""), PREPARE, 2, "params.yaml holds no sections", "git checkout"),
    "a list of params": (file("params.yaml", "- a\n"), PREPARE, 2, "params.yaml holds no sections", "git checkout"),
    "a tab": (file("params.yaml", "run:\n\tmodels: []\n"), PREPARE, 2, "is not valid YAML", "mind the"),
    "a key given twice": (file("params.yaml", "run: {}\nrun: {}\n"), PREPARE, 2, "is not valid YAML", "key twice"),
    "params that are no text": (file("params.yaml", b"\xff\xfe\x00"), PREPARE, 2, "is not valid YAML", "mind the"),
    "no pipeline": (file("dvc.yaml", None), PREPARE, 2, "dvc.yaml cannot be read", "git checkout dvc.yaml"),
    "no entries": (section(datasets={}), PREPARE, 2, "has no dataset 'texts'", "the datasets are"),
    "an unknown key": (dataset(**ENTRY, files=1), PREPARE, 2, "datasets.texts has the unknown key 'files'", "it has"),
    "an unknown kind": (dataset(kind="essays"), PREPARE, 2, "datasets.texts.kind is 'essays'", "the kinds are"),
    "a damaged section": (section(generate={}), GENERATE, 2, "generate", ""),
    "no file": (
        dataset(**ENTRY | {"file": "no.jsonl"}),
        PREPARE,
        2,
        "imports/no.jsonl does not exist",
        "copy the file",
    ),
    "a file of another form": (file("imports/texts.jsonl", '{"a": 1}\n'), PREPARE, 2, "has no column model", "rename"),
    "no local model": (
        model(kind="local", path="/none", dtype="float32", tags=TAGS),
        ("prepare_model", "tiny"),
        3,
        "/none has no config.json",
        "give a model folder",
    ),
    "no dataset": (nothing, GENERATE, 3, "texts.parquet does not exist", "dvc repro prepare_dataset"),
    "a damaged dataset": (file("data/datasets/texts.parquet", "x"), GENERATE, 2, "is damaged", "dvc repro"),
    "no model": (
        after(PREPARE, then=file("data/models/tiny/model.json", None)),
        GENERATE,
        3,
        "model.json does not exist",
        "dvc repro prepare_model",
    ),
    "a damaged model": (
        after(PREPARE, then=file("data/models/tiny/model.json", "{")),
        GENERATE,
        2,
        "model.json",
        "dvc",
    ),
    "a damaged tokenizer": (
        after(PREPARE, then=file("data/models/tiny/tokenizer.json", "{")),
        GENERATE,
        2,
        "its files do not match the digest in model.json",
        "delete the folder, then rebuild it",
    ),
    "nothing to evaluate": (after(PREPARE), EVALUATE, 3, "with_reasoning.parquet does not", "dvc repro"),
    "nothing to capture": (nothing, ("capture", *TINY, "with_reasoning"), 3, "does not exist", "dvc repro generate"),
    "nothing captured": (nothing, ("attention", *TINY, "with_reasoning"), 3, "does not exist", "dvc repro"),
    "nothing to rank": (nothing, ("heads", "tiny"), 2, "with_reasoning.parquet is missing", "dvc repro attention"),
    "nothing to map": (nothing, ("maps", *TINY), 3, "does not exist", "dvc repro"),
    "no pairs to select": (nothing, ("select_pairs",), 3, "does not exist", "dvc repro prepare_dataset"),
    "no pairs to answer": (nothing, ("generate_pairs", "tiny"), 3, "does not exist", "dvc repro"),
    "no pairs to align": (nothing, ("pairs", "tiny"), 3, "does not exist", "dvc repro"),
    "no pairs to capture": (nothing, ("capture_pairs", "tiny"), 3, "does not exist", "dvc repro"),
    "no pairs to patch": (nothing, ("patch", "tiny"), 3, "does not exist", "dvc repro"),
    "no evaluation to draw": (nothing, ("figures_evaluation",), 3, "does not exist", "dvc repro evaluate"),
    "a doctor of bad params": (section(runs={}), ("doctor", "--params-only"), 2, "runs", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_a_stage_ends_in_a_sentence_and_a_hint(study: Study, case: str) -> None:
    spoil, stage, code, says, hint = CASES[case]
    spoil(study)
    ended = study.run(*stage)
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    assert any(line.startswith("error: ") and says in line for line in ended.err.splitlines()), ended.err
    assert ended.last.startswith("hint: ")
    assert hint in ended.last
    assert not ended.out


@pytest.mark.parametrize("threads", ["two", "0", "-1", "1.5", ""])
def test_threads_are_a_positive_whole_number(study: Study, monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv("R2A_THREADS", threads)
    ended = study.run(*PREPARE)
    assert (ended.code, ended.last) == (2, "hint: for example R2A_THREADS=2")


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
