"""Fixtures every test may use."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dvc  # noqa: F401  its log keeps the stdout of the first import: not that of a test, which closes
import polars as pl
import pytest

from r2a_core.infra.errors import R2AError

HERE = Path(__file__).resolve().parent
REFERENCE = Path(os.environ.get("R2A_REFERENCE", HERE.parent.parent / "shared" / "reference"))

pytest_plugins = ["tests.servers"]


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder with the texts published with the paper, from R2A_REFERENCE; tests that need them are skipped without."""
    if not REFERENCE.is_dir():
        pytest.skip("the published texts are not on this machine (set R2A_REFERENCE)")
    return REFERENCE


@pytest.fixture(scope="session")
def published() -> Callable[[str], pl.DataFrame]:
    """Reads a table of tests/published: numbers of the paper's own runs."""
    return lambda name: pl.read_parquet(HERE / "published" / f"{name}.parquet")


@pytest.fixture(scope="session")
def byte_text() -> Any:
    """A LoadedTokenizer whose tokens are the bytes (ids 0..255) and the tags (from 256 on)."""
    from r2a_core.config import Tags
    from r2a_core.models.tokenizers import resolve_tags
    from r2a_core.tokenizer import LoadedTokenizer
    from tests.small_models import byte_tokenizer

    tokenizer, tags = byte_tokenizer(), Tags()
    return LoadedTokenizer(tokenizer, tags, resolve_tags(tokenizer, tags))


@pytest.fixture(scope="session")
def built_in_tokenizer() -> Any:
    """A LoadedTokenizer of the built-in models' tokenizer."""
    from r2a_core.builtin.tokenizer import build_tokenizer
    from r2a_core.config import Tags
    from r2a_core.models.tokenizers import resolve_tags
    from r2a_core.tokenizer import LoadedTokenizer

    tokenizer, tags = build_tokenizer(), Tags()
    return LoadedTokenizer(tokenizer, tags, resolve_tags(tokenizer, tags))


@pytest.fixture(scope="session")
def refused() -> Any:
    """`refused(call, says, hint)`: runs `call`, which must raise R2AError with these words in sentence and hint."""

    def check(call: Callable[[], Any], says: str | Sequence[str], hint: str | Sequence[str]) -> R2AError:
        with pytest.raises(R2AError) as caught:
            call()
        error = caught.value
        for words, text in ((says, error.message), (hint, error.hint)):
            for word in [words] if isinstance(words, str) else words:
                assert word in text, f"{word!r} is not in {text!r}"
        assert len(error.message) < 1000
        assert error.hint
        assert error.exit_code in (2, 3)
        return error

    return check


@pytest.fixture(scope="session")
def tiny_model() -> Any:
    """Builds (once) a random model by its kind; see tests/small_models.py."""
    from tests.small_models import tiny_model

    return tiny_model


@pytest.fixture(scope="session")
def byte_tokenizer() -> Any:
    """A tokenizer whose tokens are the bytes and the tags."""
    from tests.small_models import byte_tokenizer

    return byte_tokenizer()
