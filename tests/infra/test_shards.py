"""The work store keeps finished shards, lets one writer in, and refuses damaged shards by name."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.shards import open_store


def counting_writer(calls: list[str], text: str):
    def write(path: Path) -> None:
        calls.append(text)
        path.write_text(text)

    return write


def test_a_finished_shard_is_not_computed_again(tmp_path):
    calls: list[str] = []
    for _ in range(2):
        with open_store(tmp_path, "stage", "item") as store:
            path = store.shard("f1", ".txt", counting_writer(calls, "one"))
            assert path.read_text() == "one"
    assert calls == ["one"]


def test_a_shard_that_failed_halfway_is_computed_again_and_its_leftover_removed(tmp_path):
    def broken(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError), open_store(tmp_path, "stage", "item") as store:
        store.shard("f1", ".txt", broken)
    with open_store(tmp_path, "stage", "item") as store:
        assert not list((tmp_path / "stage" / "item").iterdir())
        assert store.shard("f1", ".txt", counting_writer([], "whole")).read_text() == "whole"


def test_a_damaged_shard_is_named_and_refused(tmp_path):
    with open_store(tmp_path, "stage", "item") as store:
        path = store.shard("f1", ".txt", counting_writer([], "content"))
        path.write_text("contenT")
        with pytest.raises(R2AError, match="damaged") as caught:
            store.shard("f1", ".txt", counting_writer([], "content"))
        assert str(path) in str(caught.value)
        assert "rm " in caught.value.hint


def test_a_second_writer_is_refused_at_once_and_other_items_are_not(tmp_path):
    with open_store(tmp_path, "stage", "item"):
        with pytest.raises(R2AError, match="another run"), open_store(tmp_path, "stage", "item"):
            pass
        with open_store(tmp_path, "stage", "other"):
            pass


def test_a_killed_writer_releases_the_lock_and_keeps_its_finished_shards(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from r2a_core.infra.shards import open_store\n"
        "with open_store(Path(sys.argv[1]), 'stage', 'item') as store:\n"
        "    store.shard('done', '.txt', lambda p: p.write_text('done') and None)\n"
        "    def slow(p):\n"
        "        p.write_text('half'); print('writing', flush=True); time.sleep(60)\n"
        "    store.shard('slow', '.txt', slow)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.05)
    calls: list[str] = []
    with open_store(tmp_path, "stage", "item") as store:
        assert store.has("done", ".txt")
        assert not store.has("slow", ".txt")
        assert not list((tmp_path / "stage" / "item").glob(".tmp-*"))
        store.shard("done", ".txt", counting_writer(calls, "done"))
    assert calls == []


def test_a_full_disk_names_the_place_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    def fill(path: Path) -> None:
        path.write_bytes(b"x" * 2_000_000)
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_store(tmp_path, "stage", "item") as store, pytest.raises(MissingPrerequisite) as caught:
        store.shard("f" * 32, ".bin", fill)
    assert "item/ffff" in caught.value.message
    assert "after 2.0 MB" in caught.value.message
    assert "finished shards are kept" in caught.value.hint
    assert not list((tmp_path / "stage" / "item").iterdir())
