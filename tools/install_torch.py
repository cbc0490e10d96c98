"""Installs the pinned PyTorch into the running environment, without CUDA packages where there is no NVIDIA GPU.

usage: python tools/install_torch.py constraints.txt

With an NVIDIA driver, or where the package index itself offers a CPU build, this is `pip install torch==PIN`. Elsewhere
on Linux the index's default build would bring gigabytes of CUDA packages, which a dry run shows; then uv, which knows
where PyTorch keeps its CPU builds, installs that build instead. If it finds none, the default build is installed after
all, and announced: it works without a GPU too. Exit codes: 0 done, 2 no pin, 3 nothing to install from.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
UV = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable, "--torch-backend", "cpu"]

OFFLINE = "connect this machine to a package index, or give pip a folder of wheels: PIP_FIND_LINKS=FOLDER make install"


def pinned_version(constraints: Path) -> str:
    """Returns the torch version that the constraints file pins."""
    match = re.search(r"^torch==(\S+)", constraints.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if match is None:
        end(2, f"{constraints} pins no torch version", "add a line such as torch==2.13.0")
    return match.group(1)


def end(code: int, message: str, hint: str) -> NoReturn:
    """Ends the program with a sentence and a hint."""
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    sys.exit(code)


def planned(requirement: str) -> list[Any]:
    """Returns what a plain pip install would bring, from a dry run's report. Ends the program where nothing is found.

    An old pip downloads all of it for that, so pip itself is brought up to date where possible.
    """
    subprocess.run([*PIP, "--upgrade", "pip"], check=False, capture_output=True)
    done = subprocess.run([*PIP, "--dry-run", "--report", "-", requirement], capture_output=True, text=True)
    if done.returncode != 0:
        end(3, f"pip finds no {requirement} to install: {last_line(done.stderr)}", OFFLINE)
    return json.loads(done.stdout)["install"]


def brings_cuda(packages: list[Any]) -> bool:
    """Tells whether NVIDIA packages are among them."""
    return any(package["metadata"]["name"].lower().startswith("nvidia") for package in packages)


def no_cpu_build(requirement: str) -> str:
    """Installs the CPU build by uv. Returns "", or the reason why it could not."""
    for command in ([*PIP, "uv"], [*UV, requirement]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            return last_line(done.stderr)
    return ""


def last_line(text: str) -> str:
    """Returns the last line of what a program said that is its own error, not advice."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["no reason given"])[-1]


def main() -> None:
    requirement = f"torch=={pinned_version(Path(sys.argv[1]))}"
    packages = planned(requirement)
    if shutil.which("nvidia-smi") is None and brings_cuda(packages):
        reason = no_cpu_build(requirement)
        if not reason:
            return
        print(
            f"no CPU build of {requirement}: pip's index has the build for CUDA alone, and uv found none at PyTorch's "
            f"own ({reason}).\nInstalling the build for CUDA, which works without a GPU too: {len(packages)} packages, "
            "gigabytes to download",
            file=sys.stderr,
        )
    done = subprocess.run([*PIP, requirement])
    if done.returncode != 0:
        end(3, f"pip could not install {requirement}, as it says above", OFFLINE)


if __name__ == "__main__":
    main()
