"""What one clone has computed and pushed, another pulls; there nothing runs, or with other params what they change.

The study is two quick stages, a model and a dataset, in a copy of the project under a git of its own.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.processes import PATH
from tests.sharing.servers import FAKE_KEYS, s3_server, ssh_server
from tests.study import PARAMS, ROOT, SMALL_RECIPE, params_with

TARGETS = ("prepare_model@trained", "prepare_dataset@arithmetic")
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")


@dataclass(frozen=True)
class Clone:
    root: Path

    def run(self, *command: str) -> str:
        """A command in the clone, with its code and this Python; what it prints. Fails the test when it fails."""
        environment = os.environ | {"R2A_THREADS": "1", "R2A_DEVICE": "cpu", "PATH": PATH, "PYTHONPATH": str(self.root)}
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def write_params(self, n: int) -> None:
        params = params_with(
            run={"models": ["trained"], "datasets": ["arithmetic"]},
            models={"trained": {"kind": "train", "recipe": SMALL_RECIPE}},
            datasets={"arithmetic": PARAMS["datasets"]["arithmetic"] | {"n": n}},
        )
        (self.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")

    def snapshot(self) -> dict[str, str]:
        """SHA-256 of every file of data/, by path."""
        data = self.root / "data"
        files = [path for path in data.rglob("*") if path.is_file()]
        return {str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which both stages have run, committed, without a remote: the files that git knows or would take."""
    first = Clone(tmp_path_factory.mktemp("sharing") / "first")
    for name in Clone(ROOT).run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith(("data/", "docs/", "tests/")):
            (first.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, first.root / name)
    first.run("git", "init", "-q")
    first.write_params(n=24)
    first.run("dvc", "repro", *TARGETS)
    first.run("git", "add", "--all")
    first.run(*GIT, "commit", "--quiet", "--message", "computed")
    return first


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


def shared(first: Clone, root: Path, config: str) -> Clone:
    """A fresh clone that knows the shared place, to which the first one has pushed what it computed."""
    (first.root / ".dvc" / "config.local").write_text(config, encoding="utf-8")
    first.run("dvc", "push", *TARGETS)
    first.run("git", "clone", "--quiet", str(first.root), str(root))
    (root / ".dvc" / "config.local").write_text(config, encoding="utf-8")
    return Clone(root)


@pytest.mark.parametrize("kind", ["directory", "ssh", "s3"])
def test_a_fresh_clone_pulls_and_runs_nothing(
    computed: Clone, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FAKE_KEYS.items():
        monkeypatch.setenv(name, value)
    with remote(kind, tmp_path) as config:
        second = shared(computed, tmp_path / "second", config)
        assert second.snapshot() == {}
        second.run("dvc", "pull", *TARGETS)
        repeated = second.run("dvc", "repro", *TARGETS)
    assert "Running stage" not in repeated
    assert all(f"Stage '{target}' didn't change, skipping" in repeated for target in TARGETS)
    assert second.snapshot() == computed.snapshot()
    assert len(second.snapshot()) > len(TARGETS)


def test_clones_with_other_params_share_what_is_common(computed: Clone, tmp_path: Path) -> None:
    with remote("directory", tmp_path) as config:
        second = shared(computed, tmp_path / "second", config)
        second.write_params(n=5)
        output = second.run("dvc", "repro", "--pull", *TARGETS)
    assert "Running stage 'prepare_dataset@arithmetic'" in output
    assert "Running stage 'prepare_model@trained'" not in output
    ours, theirs = second.snapshot(), computed.snapshot()
    different = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
    assert different == {"datasets/arithmetic.parquet"}
