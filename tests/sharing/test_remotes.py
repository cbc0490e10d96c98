"""What one clone has computed and pushed, another pulls; there nothing runs, or with other params what they change.

The study is the small one of the reliability tests, its two quickest stages: a model and a dataset.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.reliability.small_project import Project, small_project
from tests.sharing.servers import FAKE_KEYS, s3_server, ssh_server

TARGETS = ("prepare_model@trained", "prepare_dataset@arithmetic")


def git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone in which both stages have run, committed, without a remote."""
    project = small_project(tmp_path_factory.mktemp("sharing") / "first", models=["trained"])
    (project.root / "imports" / "texts.jsonl").unlink()  # no part of git, and a dependency of every dataset
    project.run("dvc", "repro", *TARGETS)
    git(project.root, "add", "--all")
    git(project.root, "commit", "--quiet", "--message", "computed")
    return project


@contextmanager
def remote(kind: str, folder: Path) -> Iterator[str]:
    """A shared place; what .dvc/config.local says of it in a clone."""
    head = "[core]\n    remote = shared\n['remote \"shared\"']\n"
    if kind == "directory":
        yield f"{head}    url = {folder / 'shared'}\n"
    elif kind == "ssh":
        with ssh_server(folder / "ssh") as server:
            url = f"ssh://user@127.0.0.1:{server.port}/shared"
            yield f"{head}    url = {url}\n    keyfile = {server.key}\n    allow_agent = false\n"
    else:
        with s3_server("shared") as address:
            yield f"{head}    url = s3://shared/cache\n    endpointurl = {address}\n"


def push(project: Project, config: str) -> None:
    """Pushes what the first clone has computed."""
    (project.root / ".dvc" / "config.local").write_text(config, encoding="utf-8")
    project.run("dvc", "push", *TARGETS)


def clone(first: Project, root: Path, config: str) -> Project:
    """A fresh clone of the first one's commits that knows the shared place."""
    git(root.parent, "clone", "--quiet", str(first.root), str(root))
    (root / ".dvc" / "config.local").write_text(config, encoding="utf-8")
    return Project(root)


@pytest.mark.parametrize("kind", ["directory", "ssh", "s3"])
def test_a_fresh_clone_pulls_and_runs_nothing(
    computed: Project, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FAKE_KEYS.items():
        monkeypatch.setenv(name, value)
    with remote(kind, tmp_path) as config:
        push(computed, config)
        second = clone(computed, tmp_path / "second", config)
        assert second.snapshot() == {}
        second.run("dvc", "pull", *TARGETS)
        repeated = second.run("dvc", "repro", *TARGETS).stdout
    assert "Running stage" not in repeated
    assert all(f"Stage '{target}' didn't change, skipping" in repeated for target in TARGETS)
    assert second.snapshot() == computed.snapshot()
    assert len(second.snapshot()) > len(TARGETS)


def test_clones_with_other_params_share_what_is_common(computed: Project, tmp_path: Path) -> None:
    with remote("directory", tmp_path) as config:
        push(computed, config)
        second = clone(computed, tmp_path / "second", config)
        path = second.root / "params.yaml"
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
        params["datasets"]["arithmetic"]["n"] = 5
        path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
        output = second.run("dvc", "repro", "--pull", *TARGETS).stdout
    assert "Running stage 'prepare_dataset@arithmetic'" in output
    assert "Running stage 'prepare_model@trained'" not in output
    ours, theirs = second.snapshot(), computed.snapshot()
    different = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
    assert different == {"datasets/arithmetic.parquet"}
