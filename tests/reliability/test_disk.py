"""A disk that is full or must not be written ends a stage in one sentence, and the repeat goes on where it stopped."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.reliability.conftest import QUESTIONS, TRACES, Ready
from tests.reliability.test_kills import finished


@dataclass(frozen=True)
class Disk:
    """A small file system over a folder; what lay there comes back when it goes."""

    folder: Path

    def remount(self, options: str) -> None:
        mount("-o", f"remount,{options}", str(self.folder))


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Disk]:
    """A file system in memory with these mount options over a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module", autouse=True)
def _may_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where this process may not mount anything."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        with small_disk(tmp_path_factory.mktemp("disk"), "size=64k"):
            pass
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine lets nobody mount a small disk: {error.stderr.decode().strip()}")


WRITERS = {  # stage, its arguments, folder that lies on the small disk, size at which it is full
    "dataset": ("prepare_dataset", ("arithmetic",), "data/datasets", "4k"),
    "model": ("prepare_model", ("trained",), "data/models/trained", "64k"),
    "shards of responses": ("generate", QUESTIONS, f".work/generate/{'-'.join(QUESTIONS)}", "16k"),
    "responses": ("generate", QUESTIONS, "data/generations/trained/arithmetic", "4k"),
    "activations": ("capture", TRACES, "data/activations/trained/texts/with_reasoning", "1m"),
    "shards of statistics": ("attention", TRACES, f".work/attention/{'-'.join(TRACES)}", "16k"),
    "statistics": ("attention", TRACES, "data/attention/trained/texts", "4k"),
    "grades": ("evaluate", ("trained", "arithmetic"), "data/evaluation/trained", "4k"),
}


def refused(ready: Ready, stage: str, arguments: tuple[str, ...], folder: Path) -> str:
    """Runs a stage that must end with code 3, a sentence about that folder and a way out; what it said."""
    code = ready.zygote.run(ready.log, stage, *arguments)
    said = ready.log.read_text()
    assert code == 3, said
    assert "Traceback" not in said
    error, hint = said.splitlines()[-2:]
    assert error.startswith(f"error: {folder}")
    assert hint.startswith("hint: ")
    assert "then run dvc repro again" in hint
    return f"{error}\n{hint}"


def below(snapshot: dict[str, str], folder: Path, data: Path) -> dict[str, str]:
    """The part of a snapshot that lies in a folder of data/, or in none of it all."""
    return {name: digest for name, digest in snapshot.items() if folder in (data / name).parents}


@pytest.mark.parametrize("written", list(WRITERS))
def test_a_full_disk_is_named_and_the_repeat_goes_on(ready: Ready, written: str) -> None:
    stage, arguments, place, size = WRITERS[written]
    folder = ready.project.root / place
    with small_disk(folder, f"size={size}") as disk:
        said = refused(ready, stage, arguments, folder)
        assert "cannot be written: No space left on device after" in said
        assert "MB free" in said
        assert not list(folder.rglob(".tmp-*"))
        shards = finished(ready.project.work / stage / "-".join(arguments))
        disk.remount("size=64m")
        assert ready.zygote.run(ready.log, stage, *arguments) == 0, ready.log.read_text()
        after = finished(ready.project.work / stage / "-".join(arguments))
        assert {name: after[name] for name in shards} == shards  # none of them was computed anew
        found = below(ready.project.snapshot(), folder, ready.project.data)  # the rest lies hidden below
        assert bool(found) == place.startswith("data/")
        assert found.items() <= below(ready.snapshot, folder, ready.project.data).items()
        assert ready.project.leftovers() == []
    assert ready.project.snapshot() == ready.snapshot


@pytest.mark.parametrize("written", list(WRITERS))
def test_a_disk_that_must_not_be_written_is_named(ready: Ready, written: str) -> None:
    stage, arguments, place, _ = WRITERS[written]
    folder = ready.project.root / place
    with small_disk(folder, "size=64m,ro"):
        said = refused(ready, stage, arguments, folder)
        assert "cannot be written: Read-only file system" in said
        assert "hint: permit writing to " in said
    assert ready.project.snapshot() == ready.snapshot


def test_room_for_activations_is_asked_for_before_the_first_is_computed(ready: Ready) -> None:
    folder = ready.project.work / "capture" / "-".join(TRACES)
    with small_disk(folder, "size=1m"):
        assert ready.zygote.run(ready.log, "capture", *TRACES) == 3
        error, hint = ready.log.read_text().splitlines()[-2:]
        assert error.startswith("error: the activations need ")
        assert str(folder) in error
        assert hint.startswith("hint: free some space, or lower capture.limit")
        assert not finished(folder)
    assert ready.project.snapshot() == ready.snapshot


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"), [("size=4k", "No space left on device"), ("size=64m,ro", "Read-only file system")]
)
def test_dvc_names_a_cache_that_cannot_be_written_and_goes_on_later(ready: Ready, options: str, says: str) -> None:
    cache = ready.project.root / ".dvc" / "cache"
    command = ("dvc", "repro", "--single-item", "--force", "prepare_dataset@arithmetic")
    with small_disk(cache, options):
        failed = ready.project.run(*command, check=False)
    assert failed.returncode == 255
    assert "Traceback" not in failed.stderr
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("ERROR: failed to reproduce 'prepare_dataset@arithmetic'")
    assert says in last
    assert str(cache) in failed.stderr
    ready.project.run(*command)
    assert ready.project.snapshot() == ready.snapshot
