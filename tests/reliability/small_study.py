"""A whole study of seconds a stage, run once undisturbed, and copies of it to disturb.

Two models (one trained, one of a local folder), two datasets (one imported), both settings. `make repro` and dvc run as
they do for a user, so a copy has the code, a git of its own and the environment of this one.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil
import yaml

from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import Tags
from r2a_core.infra.pins import content_digest
from stages._plan import filled, items
from tests.random_models import random_model
from tests.reliability.conftest import Project
from tests.study import PARAMS, ROOT, SMALL_RECIPE, params_with

MAKE = ("make", "--no-print-directory", "--assume-old=.venv/.ready", "repro")
TAG = "R2A_DISTURBED"  # environment variable of every process of a run
LIMIT = 900  # s, of one run
SENTENCE = re.compile(r"^error: (.+)\nhint: (.+)$", re.MULTILINE)
QUIET = {"OMP_NUM_THREADS": "1", "R2A_THREADS": "1", "R2A_DEVICE": "cpu", "HF_HUB_OFFLINE": "1"}
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")
TEXTS = {
    "kind": "traces",
    "instruction": "",
    "file": "texts.jsonl",
    "texts_of": {"trained": "author", "local": "author"},
}

Lock = dict[str, Any]  # of dvc.lock: stage -> cmd, deps, params, outs


def read_lock(root: Path) -> Lock:
    """Reads the stages of a dvc.lock."""
    return yaml.load((root / "dvc.lock").read_bytes(), yaml.CSafeLoader)["stages"]


def write_lock(root: Path, stages: Lock) -> None:
    """Writes a dvc.lock with these stages."""
    text = yaml.dump({"schema": "2.0", "stages": stages}, Dumper=yaml.CSafeDumper, sort_keys=False)
    (root / "dvc.lock").write_text(text, encoding="utf-8")


def snapshot(root: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file of data/, by path."""
    files = sorted(path for path in (root / "data").rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass
class Run:
    """A command at work in a copy."""

    process: "subprocess.Popen[bytes]"
    tag: str
    log: Path

    def processes(self) -> dict[int, psutil.Process]:
        """Returns the living processes of the run, this one's child and all that came of it, by id."""
        mark, found = f"{TAG}={self.tag}\0".encode(), {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (place / "environ").read_bytes() + b"\0":
                    found[int(place.name)] = psutil.Process(int(place.name))
            except (OSError, psutil.Error):
                continue
        return found

    def by_role(self) -> dict[str, list[psutil.Process]]:
        """Sorts the processes: make, repro (and dvc, where it is one of its own), stage, worker of a stage."""
        roles: dict[str, list[psutil.Process]] = {}
        found, role_of = self.processes(), {}
        for pid, process in sorted(found.items(), key=lambda item: item[1].create_time()):
            try:
                words, parent = process.cmdline(), role_of.get(process.ppid())
            except psutil.Error:
                continue
            if parent in ("stage", "worker"):
                role = "worker"
            elif any(word.startswith("stages.") for word in words[1:3]):
                role = "doctor" if "stages.doctor" in words else "stage"
            elif "repro" in " ".join(words):
                role = {"make": "make", "sh": "shell"}.get(Path(words[0]).name, "dvc" if parent == "repro" else "repro")
            else:
                role = "shell"
            role_of[pid] = role
            roles.setdefault(role, []).append(process)
        return roles

    def alive(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> int:
        """Waits for the command to end; its exit code, or minus the signal that ended it."""
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"still at work after {LIMIT} s: {self.last()}") from None

    def end(self) -> None:
        """Kills all processes of the run."""
        for process in self.processes().values():
            try:
                process.kill()
            except psutil.Error:
                continue
        self.process.wait()

    def left(self, seconds: float) -> list[str]:
        """Returns what is still alive so long after the command has ended, and kills it."""
        ends = time.monotonic() + seconds
        while (found := self.processes()) and time.monotonic() < ends:
            time.sleep(0.05)
        lines = []
        for process in found.values():
            try:
                lines.append(" ".join(process.cmdline()))
                process.kill()
            except psutil.Error:
                continue
        return lines

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def last(self) -> str:
        return "\n".join(self.output().strip().splitlines()[-6:])

    def sentence(self) -> tuple[str, str] | None:
        """Returns the last error and its hint that the run has printed."""
        found = SENTENCE.findall(self.output())
        return found[-1] if found else None


@dataclass
class Disturbed:
    """A copy of the study, in which a fault is made."""

    root: Path
    draw: Random
    runs: list[Run] = field(default_factory=list)

    def start(self, *command: str) -> Run:
        """Starts a command in the copy, in a process group of its own, as a shell does."""
        tag, log = f"{self.root}-{len(self.runs)}", self.root.parent / f"{len(self.runs)}.log"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | QUIET
        environment |= {TAG: tag, "DVC_SITE_CACHE_DIR": str(self.root.parent / "site"), "PYTHONPATH": str(self.root)}
        environment["PATH"] = f"{self.root / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=self.root, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.runs.append(Run(process, tag, log))
        return self.runs[-1]

    def make(self) -> Run:
        return self.start(*MAKE)

    def git(self, *arguments: str) -> None:
        subprocess.run([*GIT, *arguments], cwd=self.root, check=True, capture_output=True)

    def forget(self, stages: Sequence[str]) -> None:
        """Makes these stages ones that never ran: none in dvc.lock, the run cache and the work store."""
        lock = read_lock(self.root)
        commands = [lock.pop(stage)["cmd"] for stage in stages]
        write_lock(self.root, lock)
        for entry in list(run_cache(self.root)):
            if yaml.load(entry.read_bytes(), yaml.CSafeLoader)["cmd"] in commands:
                shutil.rmtree(entry.parent)
        for command in commands:
            name, *item = command.split("stages.")[1].split()
            shutil.rmtree(self.root / ".work" / name / "-".join(item), ignore_errors=True)

    def swap(self, name: str, content: bytes) -> Callable[[], None]:
        """Replaces a file; returns what puts the old one back. Written anew, or moved aside and back with its times."""
        path = self.root / name
        if self.draw.random() < 0.5:
            old = path.read_bytes()
            path.write_bytes(content)
            return lambda: void(path.write_bytes(old))
        aside = self.root.parent / f"{len(list(self.root.parent.iterdir()))}.aside"
        path.rename(aside)
        path.write_bytes(content)
        return lambda: void(aside.replace(path))


def void(_: object) -> None:
    return None


def run_cache(root: Path) -> Iterator[Path]:
    """Yields the files of DVC's run cache."""
    return (path for path in (root / ".dvc" / "cache" / "runs").rglob("*") if path.is_file())


@dataclass(frozen=True)
class Reference:
    """The undisturbed study: its folder, files, dvc.lock, run cache and the seconds of each stage."""

    root: Path
    files: dict[str, str]
    lock: Lock
    seconds: dict[str, float]

    def copy(self, folder: Path, draw: Random) -> Disturbed:
        """Copies it into an empty folder. The cache is shared: DVC never writes a file there twice."""
        root = folder / "study"
        root.mkdir(parents=True)
        for place in self.root.iterdir():
            if place.name != ".dvc":
                subprocess.run(["cp", "-a", place, root / place.name], check=True)
        shutil.copytree(self.root / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
        (root / ".dvc" / "cache").mkdir()
        for place in (self.root / ".dvc" / "cache").iterdir():
            link = "-a" if place.name == "runs" else "-al"
            subprocess.run(["cp", link, place, root / ".dvc" / "cache" / place.name], check=True)
        return Disturbed(root, draw)


def reference(root: Path) -> Reference:
    """The study of a folder, run undisturbed if it has not been run yet."""
    times = root.parent / "seconds.json"
    if not times.exists():
        shutil.rmtree(root, ignore_errors=True)
        make_study(root)
        times.write_text(json.dumps(run_undisturbed(root)), encoding="utf-8")
    return Reference(root, snapshot(root), read_lock(root), json.loads(times.read_text(encoding="utf-8")))


def make_study(root: Path) -> None:
    """Copies the project's code and writes the study's params and imports."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines():
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith(("data/", "docs/", "tests/")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    (root / ".venv").symlink_to((ROOT / ".venv").resolve())
    tokenizer = build_tokenizer()
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "max_position_embeddings": 2048, "num_hidden_layers": 2}
    random_model("llama", 1, initializer_range=0.3, **sizes).save_pretrained(str(root / "imports" / "model"))
    tokenizer.save_pretrained(str(root / "imports" / "model"))
    rows = [text(setting, number) for setting in PARAMS["run"]["settings"] for number in range(4)]
    (root / "imports" / TEXTS["file"]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (root / "params.yaml").write_text(yaml.safe_dump(params(root), sort_keys=False), encoding="utf-8")
    config = root / ".dvc" / "config"
    # no daemon of DVC that asks for a newer version
    config.write_text(config.read_text(encoding="utf-8").replace("[core]", "[core]\n    check_update = false"))


def params(root: Path) -> dict[str, Any]:
    """The project's own params, smaller."""
    local = {"kind": "local", "path": "imports/model", "dtype": "float32", "tags": Tags().model_dump()}
    datasets = {
        "texts": TEXTS | {"sha256": content_digest(root / "imports" / TEXTS["file"])},
        "arithmetic": PARAMS["datasets"]["arithmetic"] | {"n": 6},
        "built_in_pairs": PARAMS["datasets"]["built_in_pairs"] | {"n": 2},
    }
    return params_with(
        run={"models": ["trained", "local"], "datasets": ["texts", "arithmetic"]},
        models={
            "trained": {"kind": "train", "dtype": "float32", "recipe": SMALL_RECIPE},
            "local": local | {"sha256": content_digest(root / "imports" / "model")},
        },
        datasets=datasets,
        generate={"max_new_tokens": 16, "batch_size": 4, "shard_items": 3},
        evaluate={"bootstrap_draws": 200},
        maps={"traces": 1, "top_heads": 1, "cells": 16},
        report={"texts": 4, "traces": 1, "heads": 1},
    )


def text(setting: str, number: int) -> dict[str, str]:
    """A row of imported texts."""
    question = f"Which is faster, a car at {number} km/h or a bus at 9 km/h?"
    steps = "".join(f"First, clearly speed gives {number}={step} here.\n" for step in range(4 + number))
    thought = steps if setting == "with_reasoning" else "Okay."
    answer = f"</think>\n\nSecond, it is {number}.\n\nThus, it is \\boxed{{{number}}}.<｜end▁of▁sentence｜>"
    response = f"<｜begin▁of▁sentence｜>{question} <think>\n{thought}{answer}"
    row = {"model": "author", "setting": setting, "finish": "stop", "unique_id": str(number), "problem": question}
    return row | {"answer": str(number), "response": response}


def run_undisturbed(root: Path) -> dict[str, float]:
    """Runs the stages in the order of dvc.yaml, has dvc record them, and commits; the seconds of each stage.

    They are forked from a process that has imported the libraries, which takes a fifth of the time of `make repro`.
    """
    study, values = Disturbed(root, Random(0)), params(root)
    study.git("init", "--quiet")
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    seconds = {}
    for name, entry in stages.items():
        for suffix, item in items(entry.get("matrix", {}), values).items():
            words = filled(entry["cmd"], {**values, "item": item}).split()[2:]
            project, started = Project(root, root.parent / "stage.log"), time.monotonic()
            assert project.run(words[0].removeprefix("stages."), *words[1:]) == 0, project.log.read_text()
            seconds["@".join([name, suffix]).rstrip("@")] = time.monotonic() - started
    seconds[next(iter(seconds))] = 0.0  # it was the imports
    started = time.monotonic()  # of a process that a user starts
    subprocess.run([sys.executable, "-m", "stages.select_pairs"], cwd=root, check=True, env=os.environ | QUIET)
    start = time.monotonic() - started
    assert study.start("dvc", "commit", "--force").wait() == 0, study.runs[-1].last()
    study.git("add", "--all")
    study.git("commit", "--quiet", "--message", "undisturbed")
    return {name: start + own for name, own in seconds.items()}
