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
    project.run("dvc", "remote", "remove", "local")
    project.run("dvc", "repro", *TARGETS)
    git(project.root, "add", "--all")
    git(project.root, "commit", "--quiet", "--message", "computed")
    return project


@contextmanager
def remote(kind: str, folder: Path) -> Iterator[list[list[str]]]:
    """A shared place; the dvc commands that name it in a clone."""
    add = ["dvc", "remote", "add", "--local", "--default", "shared"]
    modify = ["dvc", "remote", "modify", "--local", "shared"]
    if kind == "directory":
        yield [[*add, str(folder / "shared")]]
    elif kind == "ssh":
        with ssh_server(folder / "ssh") as server:
            own = [[*modify, "keyfile", str(server.key)], [*modify, "allow_agent", "false"]]
            yield [[*add, f"ssh://user@127.0.0.1:{server.port}/shared"], *own]
    else:
        with s3_server("shared") as address:
            yield [[*add, "s3://shared/cache"], [*modify, "endpointurl", address]]


def clone(first: Project, root: Path, commands: list[list[str]]) -> Project:
    """A fresh clone of the first one's commits that knows the shared place."""
    git(root.parent, "clone", "--quiet", str(first.root), str(root))
    second = Project(root)
    for command in commands:
        second.run(*command)
    return second


@pytest.mark.parametrize("kind", ["directory", "ssh", "s3"])
def test_a_fresh_clone_pulls_and_runs_nothing(
    computed: Project, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FAKE_KEYS.items():
        monkeypatch.setenv(name, value)
    with remote(kind, tmp_path) as commands:
        (computed.root / ".dvc" / "config.local").unlink(missing_ok=True)
        for command in commands:
            computed.run(*command)
        computed.run("dvc", "push", *TARGETS)
        second = clone(computed, tmp_path / "second", commands)
        assert second.snapshot() == {}
        second.run("dvc", "pull", *TARGETS)
        repeated = second.run("dvc", "repro", *TARGETS).stdout
    assert "Running stage" not in repeated
    assert all(f"Stage '{target}' didn't change, skipping" in repeated for target in TARGETS)
    assert second.snapshot() == computed.snapshot()
    assert len(second.snapshot()) > len(TARGETS)


def test_clones_with_other_params_share_what_is_common(computed: Project, tmp_path: Path) -> None:
    with remote("directory", tmp_path) as commands:
        (computed.root / ".dvc" / "config.local").unlink(missing_ok=True)
        for command in commands:
            computed.run(*command)
        computed.run("dvc", "push", *TARGETS)
        second = clone(computed, tmp_path / "second", commands)
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
