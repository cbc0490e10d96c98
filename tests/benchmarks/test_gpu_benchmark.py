"""The GPU benchmark on small models: every part gives numbers, and without a GPU it says what is missing."""

import json
import sys

import pytest
import torch

from benchmarks import gpu


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    return gpu.main()


def test_every_part_is_measured_on_the_cpu(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "numbers.json"
    options = ["--device", "cpu", "--scale", "tiny", "--models", "r1_llama_8b", "--json", str(place)]
    assert run(monkeypatch, *options) == 0
    results = json.loads(place.read_text())
    assert results["hardware"]["torch"] == torch.__version__
    parts = results["models"]["r1_llama_8b"]
    assert list(parts) == list(gpu.PARTS)
    assert all(row["tokens/s"] > 0 for row in parts["generation"])
    assert [row["T"] for row in parts["capture"]] == [256] * 4 + [512] * 4
    assert all(row["seconds"] > 0 for row in parts["capture"])
    [patched] = parts["patching"]
    assert patched["cells"] == 3 * 12
    assert patched["difference in NLD"] < 0.2
    assert parts["shards"][0]["GB"] == pytest.approx(3 * (4 + 2) * 256 * 16 * 2 / 1e9, rel=0.1)
    drift = {row["quantity"]: row for row in parts["parity"]}
    assert 0 < drift["segment mass, answer rows"]["mean"] <= drift["segment mass, answer rows"]["largest"] < 0.01
    assert drift["lead of a token, batch against alone, float32"]["largest"] < 1e-5
    printed = capsys.readouterr().out
    assert "### r1_llama_8b, patching" in printed
    assert results["hardware"]["date"] in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_or_with_real_sizes_on_the_cpu_it_says_so(monkeypatch, capsys):
    assert run(monkeypatch) == 3
    assert "needs a CUDA GPU, and this machine has none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(monkeypatch, "--device", "cpu")
    assert "need a GPU" in capsys.readouterr().err
