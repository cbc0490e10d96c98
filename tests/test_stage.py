"""What a stage's command line prints and how it exits, whatever goes wrong inside."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAD = "from stages._stage import run_stage\n\ndef command() -> None:\n"
CASES = {
    "raise R2AError('a is wrong', 'mend a')": (2, "error: a is wrong\nhint: mend a\n"),
    "raise MissingPrerequisite('no GPU', 'use R2A_DEVICE=cpu')": (3, "error: no GPU\nhint: use R2A_DEVICE=cpu\n"),
    "raise KeyboardInterrupt": (130, "interrupted: finished shards are kept; dvc repro goes on from there\n"),
    "raise MemoryError": (3, "error: out of memory: MemoryError\n"),
    "import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried')": (3, "error: out of memory: CUDA out of"),
    f"raise OSError({errno.ENOSPC}, 'full', '/a/b')": (3, "error: /a/b cannot be written: No space left on device"),
    f"raise OSError({errno.EROFS}, 'no', '/a/b')": (
        3,
        "error: /a/b cannot be written: Read-only file system\nhint: permit",
    ),
}


@pytest.mark.parametrize(("body", "expected"), CASES.items(), ids=list(CASES))
def test_known_trouble_is_a_sentence_with_a_way_out(body: str, expected: tuple[int, str]) -> None:
    found = run(body)
    assert found.returncode == expected[0]
    assert found.stderr.startswith(expected[1])
    assert "Traceback" not in found.stderr
    assert found.stdout == ""


def test_a_bug_keeps_its_traceback() -> None:
    found = run("[][0]")
    assert found.returncode == 1
    assert "IndexError: list index out of range" in found.stderr


def run(body: str) -> "subprocess.CompletedProcess[str]":
    """A stage whose command does `body`."""
    code = f"from r2a_core.infra.errors import MissingPrerequisite, R2AError\n{HEAD}    {body}\n\nrun_stage(command)\n"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
