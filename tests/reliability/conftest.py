"""A small project whose stages have run once, and a process that starts them quickly."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.reliability.small_project import Project, small_project
from tests.reliability.zygote import Zygote

TRACES = ("trained", "texts", "with_reasoning")
QUESTIONS = ("trained", "arithmetic", "without_reasoning")
IN_ORDER = (
    ("prepare_dataset", "texts"),
    ("prepare_dataset", "arithmetic"),
    ("prepare_model", "trained"),
    ("generate", *QUESTIONS),
    ("generate", *TRACES),
    ("capture", *TRACES),
    ("attention", *TRACES),
    ("generate", "trained", "arithmetic", "with_reasoning"),
    ("judge", "trained", "arithmetic"),
    ("evaluate", "trained", "arithmetic"),
)


@dataclass(frozen=True)
class Ready:
    """A small project, what its stages wrote undisturbed, and the process that starts stages in it."""

    project: Project
    snapshot: dict[str, str]
    zygote: Zygote
    log: Path


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    folder = tmp_path_factory.mktemp("reliability")
    project, log = small_project(folder / "project", models=["trained"]), folder / "stage.log"
    with Zygote(project) as zygote:
        for stage, *arguments in IN_ORDER:
            assert zygote.run(log, stage, *arguments) == 0, log.read_text()
        yield Ready(project, project.snapshot(), zygote, log)
