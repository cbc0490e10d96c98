"""Stages on bad input: exit code 2 (a mistake) or 3 (something is missing), a sentence, and a way out as last line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.inside import ROOT, Ended, Study, made_study

GENERATE = ("generate", "tiny", "texts", "with_reasoning")
Spoil = Callable[[Study], Any]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Study:
    return made_study(tmp_path, monkeypatch, capfd)


def check(ended: Ended, code: int, says: str, hint: str) -> None:
    """One sentence and one hint, and nothing of Python."""
    assert ended.code == code, ended.err
    assert "Traceback" not in ended.err
    lines = ended.err.strip().splitlines()
    assert any(line.startswith("error: ") and says in line for line in lines), ended.err
    assert lines[-1].startswith("hint: ")
    assert hint in lines[-1]
    assert not ended.out


def nothing(study: Study) -> None:
    """The study as it is."""


def params(**change: Any) -> Spoil:
    return lambda study: study.write_params(**change)


def params_file(content: str | bytes | None) -> Spoil:
    def spoil(study: Study) -> None:
        path = study.root / "params.yaml"
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def dataset(**change: Any) -> Spoil:
    def spoil(study: Study) -> None:
        values = json.loads((study.root / "params.yaml").read_text())
        values["datasets"]["texts"] = change
        (study.root / "params.yaml").write_text(json.dumps(values))

    return spoil


def model(**change: Any) -> Spoil:
    def spoil(study: Study) -> None:
        values = json.loads((study.root / "params.yaml").read_text())
        values["models"]["tiny"] = change
        (study.root / "params.yaml").write_text(json.dumps(values))

    return spoil


def file(name: str, content: str) -> Spoil:
    def spoil(study: Study) -> None:
        path = study.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    return spoil


def after(*stages: tuple[str, ...], then: Spoil = nothing) -> Spoil:
    def spoil(study: Study) -> None:
        for stage in stages:
            assert study.run(*stage).code == 0
        then(study)

    return spoil


def environment(**values: str) -> Spoil:
    return lambda study: [study.monkeypatch.setenv(name, value) for name, value in values.items()]


TRACES = {"kind": "traces", "instruction": ""}
TAGS = {"bos": "<s>", "eos": "</s>", "think_open": "<think>", "think_close": "</think>"}
PREPARE, JUDGE, EVALUATE = ("prepare_dataset", "texts"), ("judge", "tiny", "texts"), ("evaluate", "tiny", "texts")
CASES: dict[str, tuple[Spoil, tuple[str, ...], int, str, str]] = {
    "no such dataset": (
        nothing,
        ("prepare_dataset", "maths"),
        2,
        "run.datasets in params.yaml does not name 'maths'",
        "choose from texts",
    ),
    "a dataset of another folder": (
        nothing,
        ("prepare_dataset", "../texts"),
        2,
        "does not name '../texts'",
        "choose from texts",
    ),
    "no such setting": (
        nothing,
        ("generate", "tiny", "texts", "both"),
        2,
        "run.settings in params.yaml does not",
        "add it",
    ),
    "no such model": (
        nothing,
        ("prepare_model", "huge"),
        2,
        "run.models in params.yaml does not name 'huge'",
        "add it",
    ),
    "no params": (params_file(None), PREPARE, 2, "params.yaml cannot be read", "git checkout params.yaml"),
    "empty params": (params_file(""), PREPARE, 2, "params.yaml holds no sections", "git checkout"),
    "params that are a list": (params_file("- a\n"), PREPARE, 2, "params.yaml holds no sections", "git checkout"),
    "params with a tab": (params_file("run:\n\tmodels: []\n"), PREPARE, 2, "is not valid YAML", "mind the"),
    "a key given twice": (params_file("run: {}\nrun: {}\n"), PREPARE, 2, "is not valid YAML", "give no key twice"),
    "params that are no text": (params_file(b"\xff\xfe\x00"), PREPARE, 2, "is not valid YAML", "mind the"),
    "no section run": (params_file("models: {}\n"), PREPARE, 2, "params.yaml has no run.datasets", "add it"),
    "a dataset without entry": (
        params(datasets={}),
        PREPARE,
        2,
        "params.yaml has no datasets",
        "take what names it out",
    ),
    "models without entry": (params(models={}), ("prepare_model", "tiny"), 2, "params.yaml has no models", "add it"),
    "an unknown key": (
        dataset(**TRACES, file="texts.jsonl", files=1),
        PREPARE,
        2,
        "unknown key 'files'",
        "the keys of",
    ),
    "an unknown kind": (dataset(kind="essays"), PREPARE, 2, "datasets.texts.kind is 'essays'", "the kinds are"),
    "no file": (dataset(**TRACES, file="none.jsonl"), PREPARE, 2, "imports/none.jsonl does not exist", "copy the file"),
    "a file elsewhere": (dataset(**TRACES, file="../params.yaml"), PREPARE, 2, "lies outside imports/", "copy it into"),
    "a file of another form": (
        file("imports/texts.jsonl", '{"a": 1}\n'),
        PREPARE,
        2,
        "texts.jsonl has no column model",
        "rename or add it",
    ),
    "a model elsewhere": (
        model(kind="local", path="/none", dtype="float32", tags=TAGS),
        ("prepare_model", "tiny"),
        3,
        "/none has no config.json",
        "give a model folder",
    ),
    "a Hub out of reach": (
        lambda study: (
            model(kind="hub", hub_id="a/b", revision="main", dtype="float32", tags=TAGS)(study),
            study.monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True),
        ),
        ("prepare_model", "tiny"),
        3,
        "HF_HUB_OFFLINE is set",
        "unset HF_HUB_OFFLINE",
    ),
    "no dataset": (nothing, GENERATE, 3, "texts.parquet does not exist", "dvc repro prepare_dataset"),
    "a damaged dataset": (file("data/datasets/texts.parquet", "x"), GENERATE, 2, "is damaged", "dvc repro"),
    "no model": (
        after(PREPARE, then=lambda study: (study.data / "models" / "tiny" / "model.json").unlink()),
        GENERATE,
        3,
        "model.json does not exist",
        "dvc repro prepare_model",
    ),
    "a damaged model": (
        after(PREPARE, then=file("data/models/tiny/model.json", "{")),
        GENERATE,
        2,
        "model.json is",
        "dvc",
    ),
    "a damaged tokenizer": (
        after(PREPARE, then=file("data/models/tiny/tokenizer.json", "{")),
        GENERATE,
        2,
        "its files do not match the digest in model.json",
        "delete the folder, then rebuild it",
    ),
    "threads in words": (
        environment(R2A_THREADS="two"),
        GENERATE,
        2,
        "R2A_THREADS must be a positive",
        "R2A_THREADS=2",
    ),
    "no threads": (environment(R2A_THREADS="0"), GENERATE, 2, "R2A_THREADS must be a positive", "R2A_THREADS=2"),
    "nothing to evaluate": (
        after(PREPARE),
        EVALUATE,
        3,
        "with_reasoning.parquet does not",
        "dvc repro",
    ),
    "damaged generations": (
        after(PREPARE, then=file("data/generations/tiny/texts/with_reasoning.parquet", "x")),
        EVALUATE,
        2,
        "with_reasoning.parquet is damaged",
        "dvc repro",
    ),
    "nothing to capture": (
        nothing,
        ("capture", "tiny", "texts", "with_reasoning"),
        3,
        "does not exist",
        "dvc repro generate",
    ),
    "nothing captured": (
        nothing,
        ("attention", "tiny", "texts", "with_reasoning"),
        3,
        "does not exist",
        "dvc repro capture",
    ),
    "nothing to rank": (nothing, ("heads", "tiny"), 2, "with_reasoning.parquet is missing", "dvc repro attention"),
    "nothing to map": (nothing, ("maps", "tiny", "texts"), 3, "does not exist", "dvc repro"),
    "no pairs to select": (nothing, ("select_pairs",), 3, "does not exist", "dvc repro prepare_dataset"),
    "no pairs to answer": (nothing, ("generate_pairs", "tiny"), 3, "does not exist", "dvc repro"),
    "no pairs to align": (nothing, ("pairs", "tiny"), 3, "does not exist", "dvc repro"),
    "no pairs to capture": (nothing, ("capture_pairs", "tiny"), 3, "does not exist", "dvc repro"),
    "no pairs to patch": (nothing, ("patch", "tiny"), 3, "does not exist", "dvc repro"),
    "no evaluation to draw": (nothing, ("figures_evaluation",), 3, "does not exist", "dvc repro evaluate"),
    "a doctor of bad params": (
        params(runs={}),
        ("doctor", "--params-only"),
        2,
        "unknown section 'runs'",
        "run, generate",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_stage_ends_in_a_sentence_and_a_way_out(study: Study, case: str) -> None:
    spoil, stage, code, says, hint = CASES[case]
    spoil(study)
    check(study.run(*stage), code, says, hint)


def test_a_study_of_texts_runs_and_counts_its_answers(study: Study) -> None:
    """The stages that the cases above spoil, unspoilt; item ids with slashes and dots become no paths."""
    for stage in (PREPARE, GENERATE, (*GENERATE[:3], "without_reasoning"), JUDGE, EVALUATE):
        ended = study.run(*stage)
        assert ended.code == 0, ended.err
    rows = pl.read_parquet(study.data / "evaluation" / "tiny" / "texts.parquet")
    assert rows.select("item_id", "score").unique(maintain_order=True).rows() == [("q/1", 1.0), ("../q2", 0.0)]
    assert not [path for path in study.root.rglob("*") if "q2" in path.name or path.name == "1"]


@pytest.mark.parametrize(
    ("command", "says", "hint"),
    [
        (("stages.prepare_dataset", "no_such_dataset"), "does not name 'no_such_dataset'", "hint: add it there"),
        (
            ("stages.generate", "tiny_qwen2", "arithmetic", "../with_reasoning"),
            "does not name '../with_reasoning'",
            "hint: add it there",
        ),
    ],
)
def test_a_command_line_of_its_own(command: tuple[str, ...], says: str, hint: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert says in lines[-2]
    assert lines[-1].startswith(hint)
    assert not done.stdout


def test_a_missing_argument_is_a_usage_error() -> None:
    done = subprocess.run([sys.executable, "-m", "stages.generate"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Missing argument" in done.stderr
    assert "Traceback" not in done.stderr
