"""Every file that a stage reads from an earlier one: missing, cut off, with one flipped bit, or another file in its
place, it is named and refused, and the way out is said."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml

from r2a_core.infra.errors import R2AError
from tests.reliability.conftest import QUESTIONS, TRACES, Ready
from tests.reliability.small_project import Project
from tests.study import call, write_params

LATER = (  # stages that the other tests of this folder do without, in order
    ("prepare_dataset", "couples"),
    ("select_pairs",),
    ("generate_pairs", "trained"),
    ("pairs", "trained"),
    ("capture_pairs", "trained"),
    ("patch", "trained"),
    ("heads", "trained"),
    ("maps", "trained", "texts"),
)
TEXTS, ASKED = "generations/trained/texts/with_reasoning.parquet", "generations/trained/arithmetic"
INDEX, MASSES = "activations/trained/texts/with_reasoning/index.parquet", "attention/trained/texts/with_reasoning"
TABLES = {  # stage and its arguments -> tables it reads, each with the stage that makes it
    ("generate", *QUESTIONS): {"datasets/arithmetic.parquet": "prepare_dataset"},
    ("judge", "trained", "arithmetic"): {"datasets/arithmetic.parquet": "prepare_dataset"},
    ("evaluate", "trained", "arithmetic"): {
        "datasets/arithmetic.parquet": "prepare_dataset",
        f"{ASKED}/with_reasoning.parquet": "generate",
        f"{ASKED}/without_reasoning.parquet": "generate",
        "judgements/trained/arithmetic.parquet": "judge",
    },
    ("capture", *TRACES): {TEXTS: "generate"},
    ("attention", *TRACES): {INDEX: "capture"},
    ("heads", "trained"): {f"{MASSES}.parquet": "attention", TEXTS: "generate"},
    ("maps", "trained", "texts"): {
        INDEX: "capture",
        f"{MASSES}.parquet": "attention",
        "heads/trained.parquet": "heads",
    },
    ("select_pairs",): {"datasets/couples.parquet": "prepare_dataset"},
    ("generate_pairs", "trained"): {
        "datasets/couples.parquet": "prepare_dataset",
        "pairs/selected.parquet": "select_pairs",
    },
    ("pairs", "trained"): {
        "datasets/couples.parquet": "prepare_dataset",
        "pairs/selected.parquet": "select_pairs",
        "generations/trained/couples/with_reasoning.parquet": "generate_pairs",
    },
    ("capture_pairs", "trained"): {"pairs/trained.parquet": "pairs"},
    ("patch", "trained"): {
        "pairs/trained.parquet": "pairs",
        "activations/trained/couples/clean/index.parquet": "capture_pairs",
    },
    ("figures_attention",): {
        f"{MASSES}.parquet": "attention",
        "heads/trained.parquet": "heads",
    },
    ("figures_patching",): {"patching/trained.parquet": "patch"},
}
READS = [(call, path, maker) for call, tables in TABLES.items() for path, maker in tables.items()]


def flip_a_bit(path: Path) -> None:
    content = path.read_bytes()
    place = len(content) // 3
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a flipped bit": flip_a_bit,
    "another file": lambda path: path.write_text('{"other": 1}'),
    "another table": lambda path: pl.DataFrame({"other": [1, 2]}).write_parquet(path),
}


@pytest.fixture(scope="module")
def whole(ready: Ready) -> Project:
    """A copy of the small project with the later stages run too, its run cut down to what they need."""
    root = ready.log.with_name("whole")
    shutil.copytree(ready.project.root, root, ignore=shutil.ignore_patterns(".git", ".dvc"))
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    params["run"] |= {"datasets": ["texts"], "settings": ["with_reasoning"]}
    write_params(root, params)
    for stage, *arguments in LATER:
        call(root, stage, *arguments)
    return Project(root)


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2A_DEVICE", "cpu")


def refusal(project: Project, path: Path, damage: str, *stage: str) -> R2AError:
    """What a stage says of a damaged file, which is whole again afterwards."""
    content = path.read_bytes()
    path.unlink()  # the work store may hold a link to it
    if damage != "missing":
        path.write_bytes(content)
        DAMAGES[damage](path)
    try:
        with pytest.raises(R2AError) as caught:
            call(project.root, *stage)
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    return caught.value


@pytest.mark.parametrize(("stage", "path", "maker"), READS, ids=[f"{call[0]}-{path}" for call, path, _ in READS])
def test_every_table_that_a_stage_reads_is_held_against_its_digest(
    whole: Project, stage: tuple[str, ...], path: str, maker: str
) -> None:
    error = refusal(whole, whole.data / path, "a flipped bit", *stage)
    assert str(whole.data / path) in error.message
    assert re.search(rf"dvc repro (--force )?{maker}\b", error.hint)


EVALUATE = ("evaluate", "trained", "arithmetic")
FILES = {  # one file of each format -> the stage that reads it, how it is damaged, the stage that is named
    f"{ASKED}/with_reasoning.parquet": (EVALUATE, ("missing", "cut off", "another table"), "generate"),
    INDEX.replace("index.parquet", "shard-00000.safetensors"): (
        ("attention", *TRACES),
        ("missing", "cut off", "a flipped bit", "another file"),
        "capture",
    ),
    "models/trained/model.safetensors": (("generate", *QUESTIONS), ("missing", "a flipped bit"), "prepare_model"),
    "models/trained/model.json": (("generate", *QUESTIONS), ("missing", "cut off"), "prepare_model"),
}
CASES = [(path, stage, damage, maker) for path, (stage, damages, maker) in FILES.items() for damage in damages]


@pytest.mark.parametrize(("path", "stage", "damage", "maker"), CASES, ids=[f"{case[2]}-{case[0]}" for case in CASES])
def test_a_damaged_file_of_each_format_is_refused(
    whole: Project, path: str, stage: tuple[str, ...], damage: str, maker: str
) -> None:
    if stage[0] == "attention":  # or the statistics would come from the work store, without a look at the shards
        shutil.rmtree(whole.work / "attention", ignore_errors=True)
    file = whole.data / path
    error = refusal(whole, file, damage, *stage)
    assert str(file if stage[0] != "generate" else file.parent) in error.message
    assert "dvc repro" in error.hint
    assert maker in error.hint


def test_a_damaged_finished_shard_of_the_work_store_is_refused(whole: Project) -> None:
    file = min((whole.work / "generate" / "-".join(QUESTIONS)).glob("*.parquet"))
    error = refusal(whole, file, "a flipped bit", "generate", *QUESTIONS)
    assert error.message == f"{file} is damaged: its content does not match the digest it was written with"
    assert f"rm {file}" in error.hint
