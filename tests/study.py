"""Studies in folders of their own, and their stages run in the test's process.

folder = study_folder(tmp_path, params)      params.yaml, the project's dvc.yaml, an empty imports/
call(folder, "evaluate", "m", "chat")        the stage's function: raises what it raises
run(folder, "evaluate", "m", "chat")         its command line: exit code and what it prints (fixture `command_line`)
"""

import copy
import importlib
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from r2a_core.config import TextsModel
from r2a_core.infra.pins import content_digest
from r2a_core.models.prepare import prepare
from r2a_core.paths import StudyPaths

ROOT = Path(__file__).resolve().parents[1]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PARAMS["run"] |= {  # two models, two datasets
    "models": ["tiny_qwen2", "tiny_llama"],
    "datasets": ["arithmetic", "comparison"],
    "readers": [],
    "pairs": "built_in_pairs",
}
PARAMS["generate"]["limit"] = PARAMS["pairs"]["generate"]["limit"] = None
SMALL_RECIPE = PARAMS["models"]["tiny_qwen2"]["recipe"] | {  # a model trained in a second
    "n_layers": 4,
    "width": 32,
    "mlp_width": 64,
    "steps": 2,
    "copy_steps": 1,
    "ramp_steps": 1,
    "batch_tokens": 1024,
    "copy_tokens": 512,
}


def params_with(**sections: dict[str, Any]) -> dict[str, Any]:
    """The project's own params, with the keys of `sections` put in place of its own, section by section."""
    params = copy.deepcopy(PARAMS)
    if "models" in sections.get("run", {}):
        params["run"]["readers"] = []  # they read what the project's own models wrote
    for name, values in sections.items():
        params[name] |= values
    return params


def write_params(root: Path, params: dict[str, Any]) -> None:
    """params.yaml (JSON is YAML too)."""
    (root / "params.yaml").write_text(json.dumps(params), encoding="utf-8")


def study_folder(root: Path, params: dict[str, Any]) -> Path:
    """Makes `root` a study's folder; returns it."""
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "dvc.yaml", root / "dvc.yaml")
    (root / "imports").mkdir(exist_ok=True)
    write_params(root, params)
    return root


def call(root: Path, stage: str, *names: str) -> None:
    """Runs the function of a stage in a study's folder."""
    module = importlib.import_module(f"stages.{stage}")
    with chdir(root):
        getattr(module, stage)(*names)


@dataclass(frozen=True)
class Ended:
    """How a stage's command line ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return (self.err.strip().splitlines() or [""])[-1]


CommandLine = Callable[..., Ended]


def command_line(monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> CommandLine:
    """A function that does `python -m stages.STAGE ARGUMENTS` in a study's folder, in this process.

    A stage that ends in anything but an exit code fails the test with its own exception: a user would see a traceback.
    """

    def run(root: Path, stage: str, *arguments: str) -> Ended:
        module = importlib.import_module(f"stages.{stage}")
        monkeypatch.setattr(sys, "argv", [f"stages.{stage}", *arguments])
        capture.readouterr()
        with chdir(root), pytest.raises(SystemExit) as ended:
            module.run_stage(getattr(module, stage))
        out, err = capture.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run


ASKED = "<｜begin▁of▁sentence｜>{question} <think>\n"
EOS = "<｜end▁of▁sentence｜>"
ROWS = [  # of a study of four imported texts
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


def import_texts(root: Path, rows: list[dict[str, Any]], **texts_of: str) -> dict[str, Any]:
    """Writes imports/texts.jsonl; returns the entry of `datasets` that reads it."""
    path = root / "imports" / "texts.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pin = content_digest(path)
    return {"kind": "traces", "instruction": "", "file": path.name, "sha256": pin, "texts_of": texts_of}


@dataclass(frozen=True)
class Study:
    """The study's folder and a way to run its stages."""

    root: Path
    command: Callable[..., Ended]
    texts: dict[str, Any]  # entry of `datasets`

    @property
    def paths(self) -> StudyPaths:
        return StudyPaths(self.root)

    def run(self, stage: str, *arguments: str) -> Ended:
        """Runs `python -m stages.STAGE ARGUMENTS` in the folder."""
        return self.command(self.root, stage, *arguments)

    def write_params(self, **sections: Any) -> None:
        """The study's params with whole sections replaced."""
        own = params_with(
            run={"models": ["tiny"], "datasets": ["texts"]},
            models={"tiny": {"kind": "texts"}},
            datasets={"texts": self.texts, "built_in_pairs": PARAMS["datasets"]["built_in_pairs"] | {"n": 2}},
        )
        write_params(self.root, own | sections)


def study_of_texts(root: Path, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> Study:
    """A study of four imported texts, its model prepared and its datasets not."""
    texts = import_texts(root, ROWS, tiny="tiny")
    made = Study(study_folder(root, {}), command_line(monkeypatch, capture), texts)
    made.write_params()
    prepare(TextsModel(kind="texts"), made.paths.model("tiny"))
    return made
