"""The work store keeps finished shards, lets one writer in, and refuses damaged shards by name."""

import errno
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from r2a_core.infra import environment, processes
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


VERSIONS = {"torch": "2.13.0+cpu", "transformers": "5.24.0", "tokenizers": "0.23.3"}
GPU = "NVIDIA H100 80GB HBM3"


def set_surroundings(
    monkeypatch: pytest.MonkeyPatch, gpus: int = 0, gpu: str = GPU, cpu: str = "AVX2", **versions: str
) -> None:
    monkeypatch.setattr(environment, "version", (VERSIONS | versions).__getitem__)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: gpu)


OTHERS = [
    ("auto", {"torch": "2.11.0+cpu"}, "torch 2.11.0+cpu", "torch 2.13.0+cpu"),
    ("auto", {"torch": "2.13.0+cu130", "gpus": 1}, f"torch 2.13.0+cu130, cuda {GPU}", "torch 2.13.0+cpu, cpu AVX2"),
    ("cuda:1", {"gpus": 2, "gpu": "NVIDIA A100"}, "cuda NVIDIA A100", "cpu AVX2"),
    ("auto", {"transformers": "5.17.0"}, "transformers 5.17.0", "transformers 5.24.0"),
    ("auto", {"tokenizers": "0.22.0"}, "tokenizers 0.22.0", "tokenizers 0.23.3"),
    ("cpu", {"cpu": "AVX512", "gpus": 1}, "cpu AVX512", "cpu AVX2"),
    ("mps", {}, "mps", "cpu AVX2"),
]


@pytest.mark.parametrize(("device", "other", "theirs", "ours"), OTHERS, ids=[case[2] for case in OTHERS])
def test_shards_of_another_environment_are_named_kept_and_not_used(
    tmp_path, monkeypatch, caplog, device, other, theirs, ours
):
    calls: list[str] = []

    def both(device: str, text: str) -> list[Path]:
        with open_store(tmp_path, "stage", "item") as store:
            own = store.on(device)
            return [own.shard(name, ".txt", counting_writer(calls, text)) for name in ("f1", "f2")]

    set_surroundings(monkeypatch, **other)
    first = both(device, "there")
    set_surroundings(monkeypatch)
    assert not caplog.records
    second = both("auto", "here")
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"item: 2 shards made under {theirs} are kept but not used: this is {ours}"
    ]
    assert both("auto", "again") == second
    assert {path.read_text() for path in second} == {"here"}
    set_surroundings(monkeypatch, **other)
    assert both(device, "again") == first
    assert {path.read_text() for path in first} == {"there"}
    assert calls == ["there"] * 2 + ["here"] * 2


def test_work_without_a_model_names_no_environment_and_does_not_load_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from r2a_core.infra.shards import open_store\n"
        f"with open_store(Path({str(tmp_path)!r}), 'judge', 'item') as store:\n"
        "    print(store.shard('f1', '.txt', lambda path: path.write_text('x')), 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}/judge/item/f1.txt False\n"
