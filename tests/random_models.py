"""Random models of a few layers, alone and as prepared model folders."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import polars as pl
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import Tags
from r2a_core.data.items import Item, items_frame
from r2a_core.generation.rows import generation_row
from r2a_core.models.pointer import ModelPointer
from r2a_core.models.tokenizers import load_tokenizer
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import plain_ids
from r2a_core.trace import GENERATION_SCHEMA, has_boxed
from tests.study import call

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}


def random_model(kind: str, seed: int, dtype: torch.dtype = torch.float32, **sizes: Any) -> Any:
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **{**SIZES, **sizes})
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def save_random_model(folder: Path, kind: str, seed: int, **sizes: Any) -> None:
    """A random model with the built-in tokenizer, as a prepared model folder."""
    tokenizer = build_tokenizer()
    more = {"vocab_size": len(tokenizer), "max_position_embeddings": 2048, "initializer_range": 0.3}
    random_model(kind, seed, **{**more, **sizes}).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    ModelPointer("train", "float32", Tags()).write(folder)


def save_answers(
    data: Path, model: str, dataset: str, items: Sequence[Item], wrong: Mapping[str, str] = MappingProxyType({})
) -> None:
    """A dataset, and a made-up trace of each item; the traces have more sentences one after the other.

    wrong: the results of items, by id, that are not answered rightly.
    """
    text, rows = load_tokenizer(data / "models" / model), []
    for number, item in enumerate(items):
        steps = plain_ids(text, "First add 1. Wait, so much.\n" * (1 + number))
        answer = plain_ids(text, f"\nSo we add 2.\nThus \\boxed{{{wrong.get(item.item_id, item.gold)}}}.")
        prompt = prompt_ids(text, item.question, "", "with_reasoning")
        response = [*steps, text.ids.think_close, *answer, text.ids.eos]
        rows.append(generation_row(text, item, 0, prompt, response, 0, has_boxed))
    tables = {
        f"datasets/{dataset}": items_frame(items),
        f"generations/{model}/{dataset}/with_reasoning": pl.DataFrame(rows, schema=GENERATION_SCHEMA),
    }
    for name, table in tables.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        table.write_parquet(data / f"{name}.parquet")


def contents(data: Path, folders: Iterable[str]) -> dict[str, bytes]:
    """The files of these folders of a study's data."""
    files = [path for name in folders for path in (data / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(data)): path.read_bytes() for path in files}


def check_made_again_after_a_kill(root: Path, monkeypatch: pytest.MonkeyPatch, stage: str, jobs: ModuleType) -> None:
    """A stage of one shard on tiny and stories, and its figures, have the same bytes after a kill; nothing runs twice.

    jobs: the module whose save_frame writes the shard.
    """
    made = (stage, f"figures/{stage}", "metrics")
    first = contents(root / "data", made)
    for place in (root / ".work" / stage, root / "data" / stage, root / "data/figures" / stage):
        shutil.rmtree(place)

    def killed(path: Path, frame: pl.DataFrame) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "save_frame", killed)
        with pytest.raises(KeyboardInterrupt):
            call(root, stage, "tiny", "stories")
    call(root, stage, "tiny", "stories")
    monkeypatch.setattr(jobs, "save_frame", killed)
    call(root, stage, "tiny", "stories")  # nothing is computed again
    call(root, f"figures_{stage}")
    assert contents(root / "data", made) == first
