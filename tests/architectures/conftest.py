"""Tiny random models of the architectures of other reasoning models, with their special tokens and their entries.

Each is a folder in Hugging Face format, prepared from an entry of params.yaml as any local model is.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from r2a_core.config import ModelParams, parse
from r2a_core.infra.pins import content_digest
from r2a_core.models.load import LoadedModel, load_model
from r2a_core.models.prepare import prepare

HERE = Path(__file__).parent
ARCHITECTURES = json.loads((HERE / "architectures.json").read_text())
ENTRIES = yaml.safe_load((HERE / "entries.yaml").read_text())
SIZES = ARCHITECTURES.pop("sizes")


class Architecture(NamedTuple):
    loaded: LoadedModel  # a model prepared from its entry
    plain: Any  # the same weights by transformers alone, with eager attention


def build_tokenizer(facts: dict[str, Any]) -> PreTrainedTokenizerFast:
    """One token a byte, or one a character with spaces written as U+2581, and the special tokens of the model."""
    if facts["alphabet"] == "bytes":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        tokenizer = Tokenizer(models.BPE({symbol: number for number, symbol in enumerate(alphabet)}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        symbols = [*(f"<0x{byte:02X}>" for byte in range(256)), *map(chr, range(33, 127)), "\n", "▁"]
        vocabulary = {symbol: number for number, symbol in enumerate(symbols)}
        tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in facts["special"]])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in facts["added"]])
    if bos := facts["prepends_bos"]:
        special = [(bos, tokenizer.token_to_id(bos))]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=facts["pad"])


def build_weights(facts: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> Any:
    """A random model, wide enough for attention to be far from uniform."""
    text = {**SIZES, "vocab_size": len(tokenizer) + 3, "pad_token_id": tokenizer.pad_token_id}
    own = facts["config"]
    merged = {**own, "text_config": text | own["text_config"]} if "text_config" in own else text | own
    config = AutoConfig.for_model(**merged)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    for name, weight in model.named_parameters():
        if name.endswith("sinks"):
            torch.nn.init.normal_(weight, mean=1.0)
        else:
            mean = 2.0 if "q_norm" in name or "k_norm" in name else 0.5 if "norm" in name else 0.0
            torch.nn.init.normal_(weight, mean=mean, std=0.3)
    return model


@pytest.fixture(scope="session")
def prepare_entry(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes the model folder of an architecture and prepares it from its entry with some tags changed."""

    @cache
    def weights(name: str) -> Path:
        folder = tmp_path_factory.mktemp("weights") / name
        tokenizer = build_tokenizer(ARCHITECTURES[name])
        build_weights(ARCHITECTURES[name], tokenizer).save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
        return folder

    def prepared(name: str, **tags: str | None) -> Path:
        path = weights(name)
        own = {"path": str(path), "sha256": content_digest(path), "tags": ENTRIES[name]["tags"] | tags}
        folder = tmp_path_factory.mktemp("prepared") / name
        prepare(parse(ModelParams, ENTRIES[name] | own, f"models.{name}"), folder)
        return folder

    return prepared


@pytest.fixture(scope="session")
def architecture(prepare_entry: Callable[..., Path]) -> Callable[[str], Architecture]:
    """Prepares and loads (once) an architecture by name."""

    @cache
    def build(name: str) -> Architecture:
        folder = prepare_entry(name)
        loaded = load_model(folder, "cpu")
        source = json.loads((folder / "model.json").read_text())["source"]
        plain = AutoModelForCausalLM.from_pretrained(source, attn_implementation="eager", dtype=torch.float32).eval()
        return Architecture(loaded, plain)

    return build
