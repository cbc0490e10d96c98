"""What a prepared model folder stands for: the four kinds, their places, and the Hub out of reach."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi, constants, errors

from r2a_core.config import GgufSource, Tags
from r2a_core.infra.errors import MissingPrerequisite
from r2a_core.models.pointer import (
    ModelPointer,
    from_pretrained_args,
    is_cached,
    read_pointer,
    resolve_hub,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = ModelPointer("hub", "bfloat16", Tags(), "deepseek-ai/small", COMMIT)


@pytest.fixture
def unreached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache, and a Hub that no request reaches."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def fail(*args: Any, **options: Any) -> None:
        raise errors.HTTPError("no route")  # type: ignore[attr-defined]

    monkeypatch.setattr(HfApi, "model_info", fail)
    return tmp_path / "hub"


@pytest.mark.parametrize(
    "pointer",
    [
        HUB,
        ModelPointer("local", "float32", Tags(bos=None, eos="<|im_end|>"), "~/m", weights="ab"),
        ModelPointer("gguf", "float32", Tags(), gguf=GgufSource(path="/files", file="m.gguf", sha256="0" * 64)),
        ModelPointer("texts", None, Tags()),
        ModelPointer("train", "float32", Tags()),
    ],
)
def test_a_pointer_comes_back_as_it_was_written(tmp_path: Path, pointer: ModelPointer) -> None:
    pointer.write(tmp_path)
    assert read_pointer(tmp_path) == pointer
    assert (tmp_path / "model.json").read_bytes().endswith(b"}\n")


def test_a_branch_is_pinned_to_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    found = SimpleNamespace(sha=COMMIT)
    monkeypatch.setattr(HfApi, "model_info", lambda self, *args, **options: asked.append(options) or found)
    assert resolve_hub("deepseek-ai/small", "main") == COMMIT
    assert asked[0]["revision"] == "main"


def test_an_unreached_hub_is_a_missing_prerequisite(unreached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_hub("deepseek-ai/small", COMMIT) == COMMIT  # a commit is its own answer
    with pytest.raises(MissingPrerequisite, match=r"the Hub was not reached for deepseek-ai/small") as caught:
        resolve_hub("deepseek-ai/small", "main")
    assert caught.value.exit_code == 3
    assert caught.value.hint == "connect this machine, or take the model out of run.models"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingPrerequisite, match="HF_HUB_OFFLINE is set") as caught:
        resolve_hub("deepseek-ai/small", "main")
    assert "unset HF_HUB_OFFLINE" in caught.value.hint


def snapshot(cache: Path, *names: str) -> Path:
    folder = cache / "models--deepseek-ai--small" / "snapshots" / COMMIT
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_the_cache_is_used_without_network_once_it_is_whole(unreached: Path) -> None:
    folder = snapshot(unreached, "config.json", "tokenizer.json")
    assert not is_cached("deepseek-ai/small", COMMIT, weights=True)
    assert not is_cached("deepseek-ai/small", COMMIT, weights=False)
    snapshot(unreached, "tokenizer_config.json", "model-1.safetensors")
    assert is_cached("deepseek-ai/small", COMMIT, weights=False)
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not is_cached("deepseek-ai/small", COMMIT, weights=True)
    with pytest.raises(MissingPrerequisite, match="not reached"):
        from_pretrained_args(HUB, Path("m"), weights=True)
    snapshot(unreached, "model-2.safetensors")
    assert is_cached("deepseek-ai/small", COMMIT, weights=True)
    assert from_pretrained_args(HUB, Path("m"), weights=True) == {
        "pretrained_model_name_or_path": "deepseek-ai/small",
        "revision": COMMIT,
        "local_files_only": True,
    }


def test_other_kinds_never_use_the_network(tmp_path: Path) -> None:
    for kind, place in (("train", tmp_path), ("texts", tmp_path), ("local", tmp_path / "weights")):
        pointer = ModelPointer(kind, None, Tags(), str(tmp_path / "weights"))
        assert from_pretrained_args(pointer, tmp_path, weights=True) == {
            "pretrained_model_name_or_path": str(place),
            "local_files_only": True,
        }
