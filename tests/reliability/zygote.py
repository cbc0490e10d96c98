"""Starts stages of a project copy as real processes without the seconds that imports take: a process that has imported
everything forks for each stage.

Zygote(project).start("generate", "trained", ...) -> process id; kill it with any signal; Zygote.wait(id) -> exit code,
minus the signal's number where a signal ended it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.reliability.small_project import Project

MODULES = (
    "dvc.api",
    "dvc.repo",
    "polars",
    "torch",
    "transformers",
    "transformers.models.qwen2.modeling_qwen2",
    "yaml",
)


class Zygote:
    """The process that forks. Use it in a `with` statement."""

    def __init__(self, project: Project) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.zygote"],
            cwd=project.root,
            env=project.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Zygote":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, **question: object) -> int:
        """One line to the process, one number back."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, log: Path, stage: str, *arguments: str) -> int:
        """Forks a process that runs a stage, its output going to `log`."""
        return self.ask(stage=stage, arguments=arguments, log=str(log))

    def wait(self, pid: int) -> int:
        """Exit code of a stage, when it has ended."""
        return self.ask(wait=pid)

    def run(self, log: Path, stage: str, *arguments: str) -> int:
        """A stage from start to end."""
        return self.wait(self.start(log, stage, *arguments))


def serve() -> None:
    """The process itself: a line of JSON in, a number out."""
    import importlib

    for module in MODULES:
        importlib.import_module(module)
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            answer = os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                run_forked(question["stage"], question["arguments"], question["log"])
        print(answer, flush=True)


def run_forked(stage: str, arguments: list[str], log: str) -> None:
    """What `python -m stages.STAGE ARGUMENTS` does, in this process. Does not return."""
    import importlib
    import signal

    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = [f"stages/{stage}.py", *arguments]
    module = importlib.import_module(f"stages.{stage}")
    module.run_stage(getattr(module, stage))


if __name__ == "__main__":
    serve()
