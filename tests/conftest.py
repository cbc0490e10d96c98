"""Fixtures every test may use."""

from pathlib import Path

import pytest

REFERENCE = Path(__file__).resolve().parent.parent.parent / "shared" / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the published data of the study; tests that need it are skipped where it is absent."""
    if not REFERENCE.is_dir():
        pytest.skip("the published reference data is not on this machine")
    return REFERENCE
