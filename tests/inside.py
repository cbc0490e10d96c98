"""Stages run in the test's own process, over a small study in a folder of its own: what they print and how they end.

A stage that ends in anything but an exit code fails the test with its own exception: a user would see a traceback.
"""

import importlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from r2a_core.config import TextsModel
from r2a_core.models.prepare import prepare
from stages import _stage
from stages._pipeline import read_yaml

ROOT = Path(__file__).resolve().parents[1]
ASKED = "<｜begin▁of▁sentence｜>{question} <think>\n"
EOS = "<｜end▁of▁sentence｜>"
STAGES = {  # imported before any folder of theirs is changed
    path.stem: importlib.import_module(f"stages.{path.stem}") for path in (ROOT / "stages").glob("[a-z]*.py")
}


@dataclass(frozen=True)
class Ended:
    """How a stage ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return (self.err.strip().splitlines() or [""])[-1]


@dataclass(frozen=True)
class Study:
    """A folder with params.yaml, dvc.yaml, imports/ and data/."""

    root: Path
    monkeypatch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    @property
    def data(self) -> Path:
        return self.root / "data"

    def write_params(self, **change: Any) -> None:
        """The project's params with the models `tiny` (texts only) and the dataset `texts`, and what is given."""
        params = read_yaml(ROOT / "params.yaml")
        params["run"] |= {"models": ["tiny"], "datasets": ["texts"]}
        params["models"]["tiny"] = {"kind": "texts"}
        params["datasets"]["texts"] = {
            "kind": "traces",
            "instruction": "",
            "file": "texts.jsonl",
            "texts_of": {"tiny": "tiny"},
        }
        params["datasets"]["built_in_pairs"]["n"] = 2
        (self.root / "params.yaml").write_text(json.dumps(params | change))

    def run(self, stage: str, *arguments: str) -> Ended:
        """Runs `python -m stages.STAGE ARGUMENTS` in this process."""
        module = STAGES[stage]
        self.monkeypatch.chdir(self.root)
        self.monkeypatch.setattr(_stage, "ROOT", self.root)
        for name, path in (("DATA", self.data), ("WORK", self.root / ".work")):
            if hasattr(module, name):
                self.monkeypatch.setattr(module, name, path)
        if stage in ("prepare_dataset", "doctor"):
            self.monkeypatch.setattr(module, "ROOT", self.root)
        self.monkeypatch.setattr(sys, "argv", [f"stages.{stage}", *arguments])
        self.capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            _stage.run_stage(getattr(module, stage))
        out, err = self.capture.readouterr()
        return Ended(int(ended.value.code or 0), out, err)


def made_study(root: Path, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> Study:
    """A study of four imported texts, its model prepared and its datasets not."""
    study = Study(root, monkeypatch, capture)
    shutil.copy(ROOT / "dvc.yaml", root / "dvc.yaml")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (root / "imports").mkdir()
    rows = [
        {
            "model": "tiny",
            "setting": f"{setting}_reasoning",
            "unique_id": unique_id,
            "problem": question,
            "response": ASKED.format(question=question) + f"{thought}</think>\\boxed{{{answer}}}{EOS}",
            "answer": "2",
        }
        for unique_id, question, answer in (("q/1", "1+1?", "2"), ("../q2", "4-2?", "3"))
        for setting, thought in (("with", "Hm, so."), ("without", "Okay."))
    ]
    (root / "imports" / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study.write_params()
    prepare(TextsModel(kind="texts"), study.data / "models" / "tiny")
    return study
