"""`adapter`: merged weights are W + B A * alpha / r and the rows of trained tokens; other adapters are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from r2a_core.config import LocalModel, ModelParams, parse
from r2a_core.infra.errors import R2AError
from r2a_core.infra.pins import content_digest
from r2a_core.models.adapter import CONFIG, WEIGHTS
from r2a_core.models.load import load_model
from r2a_core.models.prepare import prepare
from tests.random_models import save_random_model

ROWS = [5, 7]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_random_model(tmp_path / "base", "llama", 0, num_hidden_layers=2, tie_word_embeddings=True)
    (tmp_path / "base" / "model.json").unlink()
    return tmp_path / "base"


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """A random adapter of q_proj and down_proj (r 4, alpha 6) and two tokens, as peft writes it."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    config.trainable_token_indices = {"embed_tokens": ROWS}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(str(tmp_path / "lora"))
    (tmp_path / "lora" / "README.md").unlink(missing_ok=True)
    return tmp_path / "lora"


def entry(base: Path, adapter: Path, **changes: Any) -> LocalModel:
    place = {"path": str(adapter), "sha256": content_digest(adapter)} | changes
    values = {"kind": "local", "path": str(base), "sha256": content_digest(base), "dtype": "float32", "tags": {}}
    return parse(ModelParams, values | {"adapter": place}, "models.m")


def test_merged_weights_are_those_computed_by_hand(base: Path, adapter: Path, tmp_path: Path) -> None:
    prepare(entry(base, adapter), tmp_path / "m")
    model = load_model(tmp_path / "m", "cpu").model
    before, change = load_file(base / "model.safetensors"), load_file(adapter / WEIGHTS)
    expected = dict(before)
    for layer in range(2):
        for name in (f"model.layers.{layer}.self_attn.q_proj", f"model.layers.{layer}.mlp.down_proj"):
            a, b = (change[f"base_model.model.{name}.lora_{half}.weight"] for half in "AB")
            expected[f"{name}.weight"] = before[f"{name}.weight"] + b @ a * (6 / 4)
    expected["model.embed_tokens.weight"] = before["model.embed_tokens.weight"].clone()
    expected["model.embed_tokens.weight"][ROWS] = next(value for name, value in change.items() if "token" in name)
    found = dict(model.named_parameters())
    assert set(found) == set(expected)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, atol=1e-6, rtol=1e-6)
        assert torch.equal(weight, before[name]) != any(part in name for part in ("q_proj", "down_proj", "embed"))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    ids = torch.tensor([[3, *ROWS, 9]])
    from transformers import AutoModelForCausalLM

    by_hand = AutoModelForCausalLM.from_pretrained(base)
    by_hand.load_state_dict(expected, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, by_hand(ids).logits, atol=1e-4, rtol=1e-4)
    assert not any("lora" in name for name, _ in model.named_modules())
    with torch.profiler.profile() as profile, torch.no_grad():
        model.lm_head(torch.ones(3, 5, model.config.hidden_size)[:, -1:])
    assert "aten::bmm" not in [event.key for event in profile.key_averages()]  # one copy of the weights per row


def test_paths_that_are_relative_to_the_project_are_found_from_anywhere(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(entry(Path(base.name), Path(adapter.name)), Path("data/models/m"))
    monkeypatch.chdir("data/models")
    assert load_model(Path("m"), "cpu").model.config.num_hidden_layers == 2


def test_adapters_that_cannot_be_right_are_refused(refused: Any, base: Path, adapter: Path, tmp_path: Path) -> None:
    m = tmp_path / "m"
    refused(
        lambda: prepare(entry(base, adapter, sha256=None), m), "models.m.adapter.sha256 is null", "write into params"
    )
    with pytest.raises(R2AError, match="neither a folder nor a Hub id"):
        entry(base, adapter, hub_id="a/b")
    config, weights = (adapter / CONFIG).read_bytes(), load_file(adapter / WEIGHTS)
    first = next(iter(weights))
    for values, says in (
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"megatron_config": {"a": 1}}, "megatron_config is"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"lora_alpha": "6"}, "lora_alpha is '6', not a number"),
        ({"r": 5}, "down_proj.lora_A.weight has the shape (4, "),
        ({"rank_pattern": {"q_proj": 3}}, "q_proj.lora_A.weight has the shape (4, "),
        ({"target_modules": ["no_proj"]}, "does not fit the model: Target modules"),
        ({"trainable_token_indices": {"embed_tokens": [5, 70000]}}, "changes token 70000 of a model of"),
        ({"trainable_token_indices": {"embed_tokens": [5]}}, "token_adapter"),
        ({"target_modules": ["q_proj"]}, "has base_model.model.model.layers.0.mlp.down_proj"),
        (
            {"target_modules": ["q_proj", "down_proj", "v_proj"]},
            "lacks base_model.model.model.layers.0.self_attn.v",
        ),
    ):
        (adapter / CONFIG).write_text(json.dumps(json.loads(config) | values))
        prepare(entry(base, adapter), m)
        assert refused(lambda: load_model(m, "cpu"), says, "").exit_code == 2
    (adapter / CONFIG).write_bytes(config)
    prepare(entry(base, adapter), m)
    save_file(weights | {first: weights[first] + 1}, adapter / WEIGHTS)
    refused(lambda: load_model(m, "cpu"), "is not what models.m.adapter.sha256 says", "put the old content back")
    first_bad = weights | {first: weights[first] * float("nan")}
    save_file(first_bad, adapter / WEIGHTS)
    prepare(entry(base, adapter), m)
    refused(lambda: load_model(m, "cpu"), f"{WEIGHTS}: {first} has values that are not finite", "the adapter again")
    torch.save(weights, adapter / WEIGHTS)
    prepare(entry(base, adapter), m)
    refused(lambda: load_model(m, "cpu"), "is no safetensors file", "a pickle is not opened")
    torch.save(weights, adapter / "adapter_model.bin")
    (adapter / WEIGHTS).unlink()
    refused(lambda: prepare(entry(base, adapter), m), "only a pickle, which is not opened", "saved as safetensors")
