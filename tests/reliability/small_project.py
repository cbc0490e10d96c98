"""A copy of the project with a small study in it: every expensive stage has several shards and takes seconds.

models    trained    kind train, a recipe of three steps
          memorised  kind local: a random model that has learnt the right responses to the pairs by heart, so that
                     pairs pass all filters and there is something to capture and patch
datasets  texts      kind traces: well-formed texts of those two models, to capture and measure
          arithmetic questions that the models answer with nonsense, cut off
          couples    pairs
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from r2a_core.config import DatasetParams, Tags, parse
from r2a_core.data.items import Item
from r2a_core.data.prepare import load_dataset

ROOT = Path(__file__).resolve().parents[2]
BRIEF = " Please reason step by step (but not overthinking), and put your final answer within \\boxed{}."
N_PAIRS, N_QUESTIONS = 8, 24
TEXT_LINES = 18  # of reasoning in the first text; each has one more
COUPLES = {"kind": "generated_pairs", "instruction": BRIEF, "n": N_PAIRS, "seed": 3}
QUIET = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "R2A_THREADS": "1", "R2A_DEVICE": "cpu", "HF_HUB_OFFLINE": "1"}
RECIPE = {
    "n_layers": 4,
    "width": 32,
    "mlp_width": 64,
    "steps": 2,
    "copy_steps": 1,
    "batch_tokens": 1024,
    "copy_tokens": 512,
    "ramp_steps": 1,
}


@dataclass(frozen=True)
class Project:
    """A copy of the project."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def work(self) -> Path:
        return self.root / ".work"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands in the copy: its own code, this Python, one thread."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, **QUIET, "PATH": path, "PYTHONPATH": str(self.root)}

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in the copy, to its end. Raises AssertionError with its output when it fails."""
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done

    def snapshot(self) -> dict[str, str]:
        """SHA-256 of every file of data/, by path."""
        files = sorted(path for path in self.data.rglob("*") if path.is_file())
        return {path.relative_to(self.data).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def leftovers(self) -> list[str]:
        """Temporary files below data/ and .work/."""
        found = [path for folder in (self.data, self.work) for path in folder.rglob(".tmp-*")]
        return sorted(str(path.relative_to(self.root)) for path in found)


def copy_project(root: Path) -> Project:
    """The project's own files (tracked, and new ones that git does not ignore) at `root`, under a git of their own."""
    names = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(names, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith(("data/", "docs/")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    project = Project(root)
    project.run("git", "init", "-q")
    return project


def small_params(local_model: Path) -> dict[str, Any]:
    """The params of the study with everything small. local_model: folder of the model `memorised`."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    recipe = params["models"]["tiny_qwen2"]["recipe"] | RECIPE
    instruction = params["datasets"]["arithmetic"]["instruction"]
    params["run"] |= {"models": ["trained", "memorised"], "datasets": ["texts", "arithmetic"], "pairs": "couples"}
    params["models"] = {
        "trained": {"kind": "train", "dtype": "float32", "recipe": recipe},
        "memorised": {
            "kind": "local",
            "path": str(local_model),
            "dtype": "float32",
            "tags": Tags().model_dump(),
        },
    }
    params["datasets"] = {
        "texts": {
            "kind": "traces",
            "instruction": "",
            "file": "texts.jsonl",
            "texts_of": {"trained": "author", "memorised": "author"},
        },
        "arithmetic": {"kind": "arithmetic", "instruction": instruction, "n": N_QUESTIONS, "seed": 0},
        "couples": COUPLES,
    }
    params["generate"] |= {"max_new_tokens": 24, "batch_size": 8, "shard_items": 4}
    layers = [0, 1]
    kept = {"dtype": "float32", "shard_mb": 1, "residual_layers": layers, "z_layers": layers, "stream_rows": "all"}
    params["capture"] |= kept
    params["pairs"]["generate"] |= {"max_new_tokens": 160, "batch_size": 8, "shard_items": 4}
    params["patch"]["capture"] |= {"logit_diff_threshold": 0.0, "shard_pairs": 2, "with_z": True}
    params["patch"]["sweep"] |= {"components": ["resid_pre", "z"]}
    return params


def questions() -> list[Item]:
    """The questions of the pairs, clean and corrupted in turn."""
    return load_dataset(parse(DatasetParams, COUPLES, "datasets.couples"), ROOT).items


def response(item: Item, lines: int) -> str:
    """A right response with that many lines of reasoning."""
    thinking = "".join(f"First, clearly speed gives {item.gold}={step} here.\n" for step in range(lines))
    said = "".join(f"Second, it is {item.gold}.\n" for _ in range(1 + lines % 2))
    return f"{thinking}</think>\n\n{said}\nThus, the best one is \\boxed{{{item.gold}}}.{Tags().eos}"


def write_texts(path: Path) -> None:
    """Longer responses to those questions, as texts that an author has written before."""
    labels = {"model": "author", "setting": "with_reasoning", "finish": "stop"}
    rows = [
        {**labels, "unique_id": item.item_id, "problem": item.question, "answer": item.gold, "response": text}
        for item, text in ((item, response(item, TEXT_LINES + number)) for number, item in enumerate(questions()))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def small_project(root: Path, models: Sequence[str] = ("trained", "memorised")) -> Project:
    """A copy of the project with the small study of these models, and its texts. `memorised` takes some seconds."""
    project = copy_project(root)
    local_model = root.with_name(f"{root.name}-memorised")
    params = small_params(local_model)
    params["run"]["models"] = list(models)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    write_texts(root / "imports" / "texts.jsonl")
    if "memorised" in models:
        project.run(sys.executable, "-m", "tests.reliability.memorised", str(local_model))
    return project
