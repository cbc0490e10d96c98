"""Installs the pinned PyTorch into the running environment, without CUDA packages where there is no NVIDIA GPU.

usage: python tools/install_torch.py constraints.txt

With an NVIDIA driver, or where the package index itself offers a CPU build, this is `pip install torch==PIN`. Elsewhere
on Linux the index's default build would bring gigabytes of CUDA packages, which a dry run shows without downloading
them; then uv, which knows where PyTorch keeps its CPU builds, installs that build instead.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]


def pinned_version(constraints: Path) -> str:
    """The torch version that the constraints file pins."""
    match = re.search(r"^torch==(\S+)", constraints.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if match is None:
        sys.exit(f"error: {constraints} pins no torch version\nhint: add a line such as torch==2.13.0")
    return match.group(1)


def would_bring_cuda(requirement: str) -> bool:
    """Whether a plain pip install would bring NVIDIA packages, from a dry run's report."""
    command = [*PIP, "--dry-run", "--report", "-", requirement]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return any(entry["metadata"]["name"].lower().startswith("nvidia-") for entry in report["install"])


def main() -> None:
    version = pinned_version(Path(sys.argv[1]))
    requirement = f"torch=={version}"
    has_gpu = shutil.which("nvidia-smi") is not None
    if has_gpu or not would_bring_cuda(requirement):
        subprocess.run([*PIP, requirement], check=True)
        return
    subprocess.run([*PIP, "uv"], check=True)
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    subprocess.run([*uv, "--torch-backend", "cpu", requirement], check=True)


if __name__ == "__main__":
    main()
