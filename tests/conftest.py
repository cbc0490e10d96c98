"""Fixtures every test may use."""

from pathlib import Path
from typing import Any

import dvc  # noqa: F401  its log keeps the stdout of the first import: not that of a test, which closes
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
    from r2a_core.config import Tags
    from r2a_core.models.load import resolve_tags
    from r2a_core.tokenizer import LoadedTokenizer
    from tests.small_models import byte_tokenizer

    tokenizer, tags = byte_tokenizer(), Tags()
    return LoadedTokenizer(tokenizer, tags, resolve_tags(tokenizer, tags))
