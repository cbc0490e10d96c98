"""What a stage gets of params.yaml: what DVC itself finds declared for it, or an error that says what is missing."""

from pathlib import Path
from typing import Any

import pytest

from r2a_core.infra.errors import R2AError
from stages._pipeline import declared_params

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = """
stages:
  one:
    matrix: {model: '${run.models}', size: '${run.sizes}'}
    cmd: run ${item.model} ${item.size}
    params: [run.models, 'models.${item.model}', 'texts.${run.texts}.lines']
  listed:
    matrix: {model: [a]}
    cmd: run ${item.model}
    params: ['models.${item.model}']
"""
PARAMS = """
run: {models: [a, b], sizes: [1, large], texts: short}
models: {a: {depth: 1}, b: {depth: 2}}
texts: {short: {lines: 3, words: 4}}
"""
REFUSED = [
    ("two", PARAMS, "dvc.yaml has no stage two"),
    ("listed@b", PARAMS, "the matrix in dvc.yaml does not name 'b'"),
    ("one", PARAMS, "run.models in params.yaml does not name ''"),
    ("one@c-large", PARAMS, "run.models in params.yaml does not name 'c'"),
    ("one@a-small", PARAMS, "run.sizes in params.yaml does not name 'small'"),
    ("one@a-large", PARAMS.replace("a: {depth: 1}, ", ""), "params.yaml has no models.a"),
    ("one@a-large", PARAMS.replace("lines: 3, ", ""), "params.yaml has no texts.short.lines"),
    ("one@a-large", PARAMS.replace("texts: short", "x: 1"), "params.yaml has no run.texts"),
    ("one@a-large", PARAMS.replace("[a, b]", "abc"), "run.models in params.yaml does not name 'a'"),
    ("one@a-large", "run: 3", "params.yaml has no run.models"),
    ("one@a-large", "run: [", "params.yaml is not valid YAML"),
]


def test_every_stage_gets_what_dvc_finds_declared_for_it() -> None:
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        stages = list(repo.index.stages)
        assert len(stages) > 50
        for stage in stages:
            declared = [dependency.read_params() for dependency in stage.params]  # type: ignore[attr-defined]
            expected: dict[str, Any] = {}
            for key, value in (pair for each in declared for pair in each.items()):
                *sections, last = key.split(".")
                place = expected
                for section in sections:
                    place = place.setdefault(section, {})
                place[last] = value
            assert declared_params(ROOT, stage.name) == expected, stage.name  # type: ignore[attr-defined]


def test_an_item_and_a_name_of_the_params_are_put_in(tmp_path: Path) -> None:
    write(tmp_path, PARAMS)
    expected = {"run": {"models": ["a", "b"]}, "models": {"b": {"depth": 2}}, "texts": {"short": {"lines": 3}}}
    assert declared_params(tmp_path, "one@b-large") == declared_params(tmp_path, "one@b-1") == expected
    assert declared_params(tmp_path, "listed@a") == {"models": {"a": {"depth": 1}}}


@pytest.mark.parametrize(("stage", "params", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_what_is_not_there_is_named(tmp_path: Path, stage: str, params: str, message: str) -> None:
    write(tmp_path, params)
    with pytest.raises(R2AError) as refused:
        declared_params(tmp_path, stage)
    assert refused.value.message.startswith(message)
    assert refused.value.hint


def write(folder: Path, params: str) -> None:
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text(params)
