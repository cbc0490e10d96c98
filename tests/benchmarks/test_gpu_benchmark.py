"""The GPU check on small models: every part gives numbers within bounds, and without a GPU it says what is missing."""

import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_check
from r2a_core.patching.sweep import sweep_resid


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_check", *arguments])
    return gpu_check.main()


def test_every_part_is_checked_on_the_cpu(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R2A_DEVICE", "")
    kept, sections = {}, gpu_check.sections
    monkeypatch.setattr(
        gpu_check, "sections", lambda *given: (kept.setdefault(*each) and each for each in sections(*given))
    )
    assert run(monkeypatch, "--device", "cpu", "--small", "--models", "r1_llama_8b") == 0
    parts = {title.removeprefix("r1_llama_8b, "): rows for title, rows in kept.items()}
    assert list(parts)[:6] == [*gpu_check.PARTS, "parity"]
    assert [each["batch"] for each in parts["generation"]] == [2, 4]
    assert all(each["ours, tokens/s"] > 0 < each["generate, tokens/s"] for each in parts["generation"])
    assert [each["T"] for each in parts["capture"]] == [256] * 4 + [512] * 4
    assert all(each["seconds"] > 0 for each in parts["capture"])
    [patched], [cut] = parts["patching"], parts["knock-out"]
    assert (patched["cells"], cut["sets"]) == (3 * 12, 20)
    assert patched["difference in NLD"] < 0.2
    assert patched["largest effect, NLD"] > 0.5
    assert cut["difference in nats"] < 1e-2 < 0.1 < cut["largest effect, nats"]
    assert parts["shards"][0]["GB"] == pytest.approx(3 * (4 + 2) * 256 * 16 * 2 / 1e9, rel=0.1)
    within = {each["difference of"]: (each["largest"], each["within"]) for each in parts["parity"]}
    assert [answer for _, answer in within.values()].count("yes") == 5
    assert within["NLD, patched cells against a pass each, float32"][0] < 1e-5
    assert within["lead of a token, batch against alone, float32, logits"][0] < 1e-5
    study = parts["Built-in study, few questions"]
    stages = [each["stage"] for each in study]
    assert (stages[0], stages[-1], "knockout" in stages) == ("prepare_dataset", "report", True)
    assert next(each["traces"] for each in study if each["stage"] == "capture") >= 4
    printed = capsys.readouterr().out
    assert "## r1_llama_8b, patching" in printed
    assert f"torch {torch.__version__}" in printed


def test_cells_that_were_not_patched_pass_the_bounds(monkeypatch):
    def without_most(*given: Any) -> Any:
        found = sweep_resid(*given)
        found.metrics.logit_diff[:, :-1] = found.ld_corrupted
        return found

    model = gpu.build("r1_llama_8b", gpu.SMALL, "cpu", torch.float32)
    monkeypatch.setattr(gpu, "sweep_resid", without_most)
    [found] = gpu.measure_patching(model, gpu.SMALL, "cpu")
    assert found["share of a cell's effect"] == pytest.approx(1)
    assert found["difference in NLD"] > 1e-4


def test_generate_ends_as_this_project_does():
    model = gpu.build("r1_llama_8b", gpu.SMALL, "cpu", torch.float32)
    with torch.no_grad():
        model.lm_head.weight.mul_(0)  # every token is as likely
    scale = replace(gpu.SMALL, new_tokens=600)
    prompts = [gpu.random_ids(model, n, n) for n in (20, 25, 31, 40)]
    for texts in (gpu.own_texts(model, prompts, scale), gpu.generated_texts(model, prompts, scale)):
        assert [list(text).count(gpu.IDS.eos) for text in texts] == [int(len(text) < 600) for text in texts]
        assert all(text[-1] == gpu.IDS.eos for text in texts if len(text) < 600)
        assert min(map(len, texts)) < 600
        assert len({token for text in texts for token in text}) > 500  # of 1024: none is left out


def test_a_bound_that_is_passed_ends_with_1(monkeypatch, capsys):
    rows = [gpu_check.row("near", 0.1, 0.2), gpu_check.row("free", 9.0), gpu_check.row("far", 0.3, 0.2)]
    monkeypatch.setattr(gpu_check, "sections", lambda *given: [("parity", rows)])
    assert run(monkeypatch, "--device", "cpu", "--small") == 1
    printed = capsys.readouterr().out
    assert "| far | 0.3 | 0.2 | no |" in printed
    assert "1 bounds exceeded" in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_or_with_real_sizes_on_the_cpu_it_says_so(monkeypatch, capsys):
    assert run(monkeypatch) == 3
    assert "the machine has none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(monkeypatch, "--device", "cpu")
    assert "need a GPU" in capsys.readouterr().err
