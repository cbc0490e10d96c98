"""tools/install_torch.py against a package index on 127.0.0.1 with a torch and a uv of a few bytes."""

import functools
import os
import socket
import subprocess
import sys
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = """import os, sys
open(os.environ["UV_SAID"], "w").write(" ".join(sys.argv[1:]))
sys.exit(os.environ["UV_ENDS"] or 0)
"""


def add_wheel(index: Path, name: str, version: str, code: str = "", requires: str = "") -> None:
    """A wheel of one module, in the index's folder of its name."""
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{name}/__init__.py": "",
        f"{name}/__main__.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{path},sha256={urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
        for path, text in files.items()
    ]
    folder = index / name.replace("_", "-")
    folder.mkdir(parents=True)
    with ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in (files | {f"{info}/RECORD": "\n".join([*record, f"{info}/RECORD,,"])}).items():
            wheel.writestr(path, text)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """The folder of the index, and its address."""
    folder = tmp_path / "index"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def install(
    tmp_path: Path, address: str, uv_ends: str = "", path: str = "/nowhere"
) -> "subprocess.CompletedProcess[str]":
    """Runs the program as in an environment of its own: tmp_path/site. Nothing but `address` is asked for packages."""
    (tmp_path / "pins.txt").write_text("numpy==2.0\ntorch==9.9\n")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    site = str(tmp_path / "site")
    own |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": address, "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
    own |= {"PIP_TARGET": site, "PYTHONPATH": site, "PATH": path}
    own |= {"UV_SAID": str(tmp_path / "uv"), "UV_ENDS": uv_ends}
    command = [sys.executable, str(ROOT / "tools" / "install_torch.py"), str(tmp_path / "pins.txt")]
    return subprocess.run(command, env=own, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("cuda", "gpu", "uv_ends", "by_pip", "said"),
    [
        (False, False, "", True, ""),
        (True, True, "", True, ""),
        (True, False, "", False, ""),
        (True, False, "No wheel fits", True, "uv found none at PyTorch's own (No wheel fits)"),
    ],
    ids=["the index has a CPU build", "there is a GPU", "PyTorch has a CPU build", "there is no CPU build"],
)
def test_the_build_that_fits_is_installed(
    tmp_path: Path, index: tuple[Path, str], cuda: bool, gpu: bool, uv_ends: str, by_pip: bool, said: str
) -> None:
    folder, address = index
    add_wheel(folder, "torch", "9.9", requires="nvidia-cublas" if cuda else "")
    add_wheel(folder, "nvidia_cublas", "1.0")
    add_wheel(folder, "uv", "1.0", code=UV)
    (tmp_path / "bin").mkdir()
    if gpu:
        (tmp_path / "bin" / "nvidia-smi").touch(mode=0o755)
    done = install(tmp_path, address, uv_ends, str(tmp_path / "bin"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "torch").is_dir() is by_pip
    assert (tmp_path / "site" / "nvidia_cublas").is_dir() is (by_pip and cuda)
    asked = (tmp_path / "uv").read_text() if (tmp_path / "uv").exists() else ""
    assert asked.endswith("--torch-backend cpu torch==9.9") is (cuda and not gpu)
    assert ("2 packages, gigabytes to download" in done.stderr) is bool(said)
    assert said in done.stderr


def test_a_machine_without_an_index_is_told_in_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    done = install(tmp_path, f"http://127.0.0.1:{free}")
    assert done.returncode == 3
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: pip finds no torch==9.9 to install: No matching distribution found for torch==9.9")
    assert hint.startswith("hint: connect this machine to a package index, or give pip a folder of wheels")
