"""A damaged file of each format that a stage reads is named and refused, with the stage that makes it.

Flips and cuts anywhere in a file: tests/infra/test_files.py, tests/activations/test_store.py, tests/models.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from r2a_core.infra.errors import R2AError
from tests.reliability.conftest import QUESTIONS, TRACES, Project
from tests.study import call

SHARD = "data/activations/trained/texts/with_reasoning/shard-00000.safetensors"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def rewrite(path: Path) -> None:
    path.write_text('{"other": 1}')


def swap(path: Path) -> None:
    path.write_bytes(path.with_name("shard-00001.safetensors").read_bytes())


ASKED, EVALUATE = "data/generations/trained/arithmetic", ("evaluate", "trained", "arithmetic")
READS = [  # stage, a table that it reads, the stage that makes the table
    (("generate", *QUESTIONS), "data/datasets/arithmetic.parquet", "prepare_dataset"),
    (EVALUATE, f"{ASKED}/with_reasoning.parquet", "generate"),
    (EVALUATE, "data/judgements/trained/arithmetic.parquet", "judge"),
    (("capture", *TRACES), "data/generations/trained/texts/with_reasoning.parquet", "generate"),
    (("attention", *TRACES), "data/activations/trained/texts/with_reasoning/index.parquet", "capture"),
]
CASES: dict[str, tuple[str, Callable[[Path], object], tuple[str, ...], str]] = {
    **{f"{read[0]}-{path}": (path, flip, read, maker) for read, path, maker in READS},
    "no table": ("data/judgements/trained/arithmetic.parquet", Path.unlink, EVALUATE, "judge"),
    "activations": (SHARD, flip, ("attention", *TRACES), "capture"),
    "other activations": (SHARD, swap, ("attention", *TRACES), "capture"),
    "a model": ("data/models/trained/model.safetensors", flip, ("generate", *QUESTIONS), "prepare_model"),
    "a summary": ("data/evaluation/trained/arithmetic.json", rewrite, ("figures_evaluation",), "evaluate"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_file_is_named_with_the_stage_that_makes_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    name, damage, stage, maker = CASES[case]
    monkeypatch.setenv("R2A_DEVICE", "cpu")
    file = project.root / name
    damage(file)
    if stage[0] == "attention":  # or the statistics would come from the work store, without a look at the shards
        shutil.rmtree(project.root / ".work" / "attention")
    with pytest.raises(R2AError) as caught:
        call(project.root, *stage)
    named = name if case != "a model" else "data/models/trained"
    assert named in caught.value.message
    assert re.search(rf"dvc repro (--force )?{maker}\b", caught.value.hint)
