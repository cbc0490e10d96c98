"""Every file that a stage reads from an earlier one: missing, cut off, with one flipped bit, or another file in its
place, it is named and refused, and the way out is said."""

import importlib
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from r2a_core.infra.errors import R2AError
from tests.reliability.conftest import QUESTIONS, TRACES, Ready
from tests.reliability.small_project import ROOT, Project

LATER = (  # stages that the other tests of this folder do without, in order
    ("prepare_dataset", "couples"),
    ("select_pairs",),
    ("generate_pairs", "trained"),
    ("pairs", "trained"),
    ("capture_pairs", "trained"),
    ("patch", "trained"),
    ("heads", "trained"),
    ("maps", "trained", "texts"),
    ("figures_evaluation",),
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
    ("attention", *TRACES): {TEXTS: "generate", INDEX: "capture"},
    ("heads", "trained"): {f"{MASSES}.parquet": "attention", TEXTS: "generate"},
    ("maps", "trained", "texts"): {
        TEXTS: "generate",
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
BARE_READS = {  # modules that read parquet files by polars itself
    "r2a_core/frames.py": "the reader",
    "r2a_core/data/tables.py": "files of the user",
    "r2a_core/attention/jobs.py": "the work store",
    "r2a_core/attention/scoring.py": "the work store",
    "r2a_core/traces/shards.py": "the work store",
    "r2a_core/traces/usage.py": "the work store",
    "stages/patch.py": "the work store",
}


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def another_table(path: Path) -> None:
    pl.DataFrame({"other": [1, 2]}).write_parquet(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a flipped bit": lambda path: path.write_bytes(flipped(path.read_bytes(), path.stat().st_size // 3)),
}


@pytest.fixture(scope="module")
def whole(ready: Ready) -> Ready:
    """A copy of the small project with the later stages run too."""
    root = ready.log.with_name("whole")
    shutil.copytree(ready.project.root, root, ignore=shutil.ignore_patterns(".git", ".dvc"))
    copy = replace(ready, project=Project(root))
    for stage, *arguments in LATER:
        with pytest.MonkeyPatch.context() as patch:
            call(copy, patch, stage, *arguments)
    return copy


def call(ready: Ready, patch: pytest.MonkeyPatch, stage: str, *arguments: str) -> None:
    """Runs a stage of the small project in this process."""
    params: Any = yaml.safe_load((ready.project.root / "params.yaml").read_text(encoding="utf-8"))
    params["run"] |= {"datasets": ["arithmetic"] if stage == "figures_evaluation" else ["texts"]}
    params["run"] |= {"settings": ["with_reasoning"]}
    if stage in ("maps", "figures_attention"):  # declare a part of the section
        params["heads"] = {name: params["heads"][name] for name in ("top", "walk")}
    module = importlib.import_module(f"stages.{stage}")
    patch.setenv("R2A_DEVICE", "cpu")
    patch.setattr(module, "DATA", ready.project.data)
    patch.setattr(module, "WORK", ready.project.work, raising=False)
    patch.setattr(module, "read_params", lambda _: params)
    if hasattr(module, "ROOT") and stage == "prepare_dataset":
        patch.setattr(module, "ROOT", ready.project.root)
    getattr(module, stage)(*arguments)


def refusal(
    ready: Ready, patch: pytest.MonkeyPatch, path: Path, damage: Callable[[Path], object], *stage: str
) -> R2AError:
    """What a stage says of a damaged file, which is whole again afterwards."""
    content = path.read_bytes()
    try:
        damage(path)
        with pytest.raises(R2AError) as caught:
            call(ready, patch, *stage)
    finally:
        path.unlink(missing_ok=True)  # the work store may hold a link to it
        path.write_bytes(content)
    return caught.value


@pytest.mark.parametrize("damage", [*DAMAGES, "another table"])
@pytest.mark.parametrize(("stage", "path", "maker"), READS, ids=[f"{call[0]}-{path}" for call, path, _ in READS])
def test_damaged_tables_are_named_with_the_stage_that_makes_them(
    whole: Ready, monkeypatch: pytest.MonkeyPatch, stage: tuple[str, ...], path: str, maker: str, damage: str
) -> None:
    file = whole.project.data / path
    error = refusal(whole, monkeypatch, file, DAMAGES.get(damage, another_table), *stage)
    assert str(file) in error.message
    assert re.search(rf"dvc repro (--force )?{maker}\b", error.hint)


@pytest.mark.parametrize("damage", [*DAMAGES, "another shard"])
def test_damaged_activation_shards_are_refused(whole: Ready, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    file = whole.project.data / INDEX.replace("index.parquet", "shard-00000.safetensors")
    content = file.with_name("shard-00001.safetensors").read_bytes()

    def replace_file(path: Path) -> None:
        path.unlink()
        path.write_bytes(content)

    def damaged(path: Path) -> None:
        whole_content = path.read_bytes()
        path.unlink()  # a link to the shard of the work store, which stays whole
        path.write_bytes(whole_content)
        DAMAGES[damage](path)

    for finished in (whole.project.work / "attention").rglob("*.parquet*"):
        finished.unlink()  # or the statistics would come from the work store, without a look at the shards
    error = refusal(whole, monkeypatch, file, damaged if damage in DAMAGES else replace_file, "attention", *TRACES)
    assert str(file) in error.message
    assert error.hint.endswith("dvc repro capture")


@pytest.mark.parametrize("damage", list(DAMAGES))
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "model.json"])
def test_damaged_model_files_are_refused(whole: Ready, monkeypatch: pytest.MonkeyPatch, name: str, damage: str) -> None:
    file = whole.project.data / "models" / "trained" / name
    error = refusal(whole, monkeypatch, file, DAMAGES[damage], "generate", *QUESTIONS)
    assert str(file.parent) in error.message
    assert "dvc repro" in error.hint
    assert "prepare_model" in error.hint


@pytest.mark.parametrize("damage", ["missing", "cut off", "another file"])
def test_damaged_summaries_are_refused(whole: Ready, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    file = whole.project.data / "evaluation" / "trained" / "arithmetic.json"
    action = DAMAGES.get(damage, lambda path: path.write_text('{"other": 1}'))
    error = refusal(whole, monkeypatch, file, action, "figures_evaluation")
    assert str(file) in error.message
    assert "dvc repro" in error.hint
    assert "evaluate" in error.hint


def test_a_damaged_finished_shard_of_the_work_store_is_refused(whole: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    file = min((whole.project.work / "generate" / "-".join(QUESTIONS)).glob("*.parquet"))
    error = refusal(whole, monkeypatch, file, DAMAGES["a flipped bit"], "generate", *QUESTIONS)
    assert error.message == f"{file} is damaged: its content does not match the digest it was written with"
    assert f"rm {file}" in error.hint


def test_tables_are_read_with_their_digest() -> None:
    paths = [path for folder in ("r2a_core", "stages") for path in (ROOT / folder).rglob("*.py")]
    bare = {path.relative_to(ROOT).as_posix() for path in paths if "pl.read_parquet" in path.read_text("utf-8")}
    assert bare <= set(BARE_READS)
