"""What is edited while a stage runs: it ends with code 2 and names it; its outputs are not what DVC would record."""

import importlib
import os
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from r2a_core.infra.errors import R2AError
from stages import _study
from stages._guard import refuse_mixed
from tests.study import PARAMS, ROOT, Study

Edit = Callable[[Study, Path], object]
GENERATE = ("generate", "tiny", "texts", "with_reasoning")


def generate_at(temperature: float, **others: Any) -> Edit:
    generate = PARAMS["generate"] | {"temperature": temperature}
    return lambda study, checkout: study.write_params(generate=generate, **others)


def code(name: str) -> Edit:

    def edit(study: Study, checkout: Path) -> None:
        with (checkout / name).open("a") as file:
            file.write("# an edit\n")

    return edit


def same_bytes_again(study: Study, checkout: Path) -> None:
    path = study.paths.items("texts")
    shutil.copy(path, path.with_name("copy"))
    os.replace(path.with_name("copy"), path)


RESOURCES = PARAMS["resources"] | {"workers": 3}
EDITS: dict[str, tuple[Edit, str]] = {
    "nothing": (lambda study, checkout: None, ""),
    "a param": (generate_at(0.9), "generate.temperature in params.yaml"),
    "a param of another stage": (generate_at(0.6, judge=PARAMS["judge"] | {"seed": 7}), ""),
    "how shards are run": (generate_at(0.6, resources=RESOURCES), ""),
    "params that cannot be read": (lambda study, checkout: (study.root / "params.yaml").write_text("a: b: c"), "YAML"),
    "a module": (code("r2a_core/generation/decode.py"), "r2a_core/generation/decode.py"),
    "a new module": (code("r2a_core/data/new.py"), "r2a_core/data/new.py"),
    "a module of another stage": (code("r2a_core/patching/sweep.py"), ""),
    "an input": (same_bytes_again, "data/datasets/texts.parquet"),
    "an input that goes": (lambda study, checkout: study.paths.items("texts").unlink(), "data/datasets/texts.parquet"),
}


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the code that stages take for their own."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("r2a_core", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(_study, "CODE", root)
    return root


@pytest.mark.parametrize("edited", EDITS)
def test_a_stage_ends_with_an_error_when_what_it_depends_on_changes_meanwhile(
    study: Study, checkout: Path, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    edit, named = EDITS[edited]
    assert study.run("prepare_dataset", "texts").code == 0
    module = importlib.import_module("stages.generate")
    read = module.read_items

    def edited_meanwhile(path: Path) -> Any:
        items = read(path)
        edit(study, checkout)
        return items

    monkeypatch.setattr(module, "read_items", edited_meanwhile)
    ended = study.run(*GENERATE)
    assert ended.code == (2 if named else 0), ended.err
    assert named in ended.err
    if named not in ("", "YAML"):
        assert f"error: {named} changed while the stage ran" in ended.err
        assert ended.last.endswith("run dvc repro again: finished shards are kept")


TEXTS, RESPONSES, GRADES, FIGURES = "data/texts", "data/responses", "data/evaluation/tiny", "data/figures"
LOCK = {  # input, output and params of entries of dvc.lock
    "generate@tiny": (TEXTS, RESPONSES, {"generate": {"seed": 0}}),
    "evaluate@tiny": (RESPONSES, GRADES, {"evaluate": {"seed": 0}}),
    "evaluate@gone": (RESPONSES, "data/evaluation/gone", {"evaluate": {"seed": 5}}),
    "figures": ("data/evaluation", FIGURES, {"run.models": ["tiny"]}),
    "prepare@reader1": ("data/none", TEXTS, {"generate": {"seed": 7}}),  # it made another reader's since
}
MADE = {RESPONSES: "generate@tiny", GRADES: "evaluate@tiny", FIGURES: "figures", TEXTS: "prepare@reader0"}
AGREED = {"generate": {"seed": 0}, "evaluate": {"seed": 0}, "run": {"models": ["tiny"]}, "judge": {"seed": 0}}


@pytest.mark.parametrize(
    ("reads", "params", "named"),
    [
        (FIGURES, {}, ""),
        ("data/evaluation", {"judge": {"seed": 1}, "run": {"models": []}}, ""),
        ("data/evaluation", {"evaluate": {"seed": 1}}, f"evaluate.seed in params.yaml changed after {GRADES} was made"),
        (FIGURES, {"generate": {"seed": 1}}, f"generate.seed in params.yaml changed after {RESPONSES} was made"),
        (FIGURES, {"generate": {}}, f"generate.seed in params.yaml changed after {RESPONSES} was made"),
        (TEXTS, {"generate": {"seed": 1}}, ""),
    ],
)
def test_a_stage_does_not_start_on_what_was_made_with_other_params(
    reads: str, params: dict[str, Any], named: str
) -> None:
    lock = {
        name: {"deps": [{"path": dep}], "outs": [{"path": out}], "params": {"params.yaml": values}}
        for name, (dep, out, values) in LOCK.items()
    }
    with pytest.raises(R2AError, match=re.escape(named)) if named else nullcontext():
        refuse_mixed(lock, [reads], MADE, AGREED | params)


def test_code_that_was_edited_after_its_import_does_not_run(study: Study, checkout: Path) -> None:
    code("r2a_core/data/items.py")(study, checkout)
    ended = study.run("prepare_dataset", "texts")
    assert ended.code == 2
    assert "r2a_core/data/items.py changed while the stage started" in ended.err
    assert not study.paths.items("texts").exists()
