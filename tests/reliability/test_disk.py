"""A disk that is full or must not be written ends a stage in one sentence, and the repeat goes on where it stopped."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.reliability.conftest import QUESTIONS, TRACES, Project, finished


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory with these mount options over a folder; what lay there comes back when it goes."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module", autouse=True)
def _may_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        with small_disk(tmp_path_factory.mktemp("disk"), "size=64k"):
            pass
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine lets nobody mount a small disk: {error.stderr.decode().strip()}")


WRITERS = {  # stage and arguments, folder that lies on the small disk, size at which it is full
    "a table": (("prepare_dataset", "arithmetic"), "data/datasets", "4k"),
    "a model": (("prepare_model", "trained"), "data/models/trained", "64k"),
    "shards": (("generate", *QUESTIONS), f".work/generate/{'-'.join(QUESTIONS)}", "16k"),
    "activations": (("capture", *TRACES), "data/activations/trained/texts/with_reasoning", "1m"),
}


def refused(project: Project, stage: tuple[str, ...]) -> tuple[str, str]:
    """Runs a stage that must end with code 3 and two lines, a sentence and a way out; the two."""
    code = project.run(*stage)
    said = project.log.read_text()
    assert code == 3, said
    assert "Traceback" not in said
    error, hint = said.splitlines()[-2:]
    assert (error[:7], hint[:6]) == ("error: ", "hint: ")
    return error, hint


@pytest.mark.parametrize("written", list(WRITERS))
def test_a_full_disk_is_named_and_the_repeat_goes_on(project: Project, written: str) -> None:
    stage, place, size = WRITERS[written]
    folder, shards = project.root / place, project.shards(stage[0], stage[1:])
    with small_disk(folder, f"size={size}"):
        error, hint = refused(project, stage)
        assert place in error
        assert "cannot be written: No space left on device after" in error
        assert "MB free" in error
        assert "then run dvc repro again" in hint
        assert not list(folder.rglob(".tmp-*"))
        before = finished(shards)
        mount("-o", "remount,size=64m", str(folder))
        assert project.run(*stage) == 0, project.log.read_text()
        after = finished(shards)
        assert {name: after[name] for name in before} == before  # none of them was computed anew
        assert any(folder.iterdir())
        assert project.snapshot().items() <= project.undisturbed.items()  # the rest lies hidden below the disk
    assert project.snapshot() == project.undisturbed


def test_room_for_activations_is_asked_for_before_the_first_is_computed(project: Project) -> None:
    folder = project.shards("capture", TRACES)
    with small_disk(folder, "size=1m"):
        error, hint = refused(project, ("capture", *TRACES))
        assert error.startswith("error: the activations need ")
        assert "-".join(TRACES) in error
        assert hint.startswith("hint: free some space, or lower capture.limit")
        assert not finished(folder)
