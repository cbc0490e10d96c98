"""The work store keeps finished shards, lets one writer in, and refuses damaged shards by name."""

import errno
from pathlib import Path

import pytest

from r2a_core.infra import processes
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.shards import open_store


def counting_writer(calls: list[str], text: str):
    def write(path: Path) -> None:
        calls.append(text)
        path.write_text(text)

    return write


def test_a_shard_that_failed_halfway_is_computed_again_and_a_finished_one_is_not(tmp_path):
    calls: list[str] = []

    def broken(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError), open_store(tmp_path, "stage", "item") as store:
        store.shard("f1", ".txt", broken)
    with open_store(tmp_path, "stage", "item") as store:
        assert not list((tmp_path / "stage" / "item").iterdir())
        store.shard("f1", ".txt", counting_writer(calls, "whole"))
    with open_store(tmp_path, "stage", "item") as store:
        assert store.shard("f1", ".txt", counting_writer(calls, "again")).read_text() == "whole"
    assert calls == ["whole"]


def test_a_damaged_shard_is_named_and_refused(tmp_path):
    with open_store(tmp_path, "stage", "item") as store:
        path = store.shard("f1", ".txt", counting_writer([], "content"))
        path.write_text("contenT")
        with pytest.raises(R2AError, match="damaged") as caught:
            store.shard("f1", ".txt", counting_writer([], "content"))
        assert str(path) in str(caught.value)
        assert "rm " in caught.value.hint


def test_a_second_writer_is_refused_and_other_items_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "DYING_SECONDS", 0)
    with open_store(tmp_path, "stage", "item"):
        with pytest.raises(R2AError, match="another run"), open_store(tmp_path, "stage", "item"):
            pass
        with open_store(tmp_path, "stage", "other"):
            pass


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
