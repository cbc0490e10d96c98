"""A study of four imported texts, and stages as commands in it."""

from pathlib import Path

import pytest

from tests.study import Study, study_of_texts


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Study:
    return study_of_texts(tmp_path, monkeypatch, capfd)
