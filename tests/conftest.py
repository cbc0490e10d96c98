"""Fixtures every test may use."""

from pathlib import Path
from typing import Any

import pytest

REFERENCE = Path(__file__).resolve().parent.parent.parent / "shared" / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the published data of the study; tests that need it are skipped where it is absent."""
    if not REFERENCE.is_dir():
        pytest.skip("the published reference data is not on this machine")
    return REFERENCE


@pytest.fixture(scope="session")
def byte_text() -> Any:
    """A LoadedTokenizer whose tokens are the bytes (ids 0..255) and the tags (from 256 on)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from r2a_core.models.loading import LoadedTokenizer, resolve_tags
    from r2a_core.models.tags import Tags

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: number for number, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tags = Tags()
    tokenizer.add_special_tokens([AddedToken(str(tag), normalized=False) for tag in (tags.bos, tags.eos)])
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in (tags.think_open, tags.think_close)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=tags.bos, eos_token=tags.eos)
    return LoadedTokenizer(fast, tags, resolve_tags(fast, tags))
