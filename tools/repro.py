"""dvc repro, with the stages of the built-in models side by side: each keeps one core busy, most of it in training.

usage: python tools/repro.py
Only stages of models that the pipeline trains run side by side, as many models as there are cores: the others may need
a device alone. A last `dvc repro` runs what is left, and all of it where nothing is trained. Exit code: that of the
last one, which meets every error again that was more than a moment's: dvc may read dvc.lock while another is writing
it.
"""

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
COMMON = ("prepare_dataset", "prepare_pairs")  # before any model
OF_A_MODEL = ("prepare_model", "generate", "judge", "evaluate", "capture", "attention", "heads", "maps")
BETWEEN = ("select_pairs",)  # needs all models
OF_ITS_PAIRS = ("generate_pairs", "pairs", "capture_pairs", "patch")
FIGURES = (("figures_attention",), ("figures_evaluation", "figures_patching"))


def main() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    trained = [name for name in params["run"]["models"] if params["models"][name]["kind"] == "train"]
    if len(trained) > 1:
        if subprocess.call(["dvc", "status", "--quiet"]) == 0:
            print("Data and pipelines are up to date.")
            return
        listed = subprocess.run(["dvc", "stage", "list", "--name-only"], check=True, capture_output=True, text=True)
        names = listed.stdout.split()
        side_by_side([[name] for name in in_order(names, COMMON)])
        side_by_side([in_order(names, OF_A_MODEL, model) for model in trained])
        if len(trained) == len(params["run"]["models"]):
            side_by_side([list(BETWEEN)])
            side_by_side([in_order(names, OF_ITS_PAIRS, model) for model in trained])
            side_by_side([list(stages) for stages in FIGURES])
    sys.exit(subprocess.call(["dvc", "repro"]))


def in_order(names: list[str], stages: tuple[str, ...], model: str | None = None) -> list[str]:
    """The stages' own names, such as generate@tiny_qwen2-arithmetic-with_reasoning, in the order of `stages`."""
    found = []
    for stage in stages:
        for name in names:
            base, _, item = name.partition("@")
            if base == stage and model in (None, item.partition("-")[0]):
                found.append(name)
    return found


def side_by_side(chains: list[list[str]]) -> None:
    """Runs chains of stages, each in its order, one process a chain; a chain that fails is tried once more.

    A chain has one CPU thread unless R2A_THREADS says otherwise: more would wait for one another.
    """
    own = {"R2A_THREADS": "1"} | dict(os.environ)
    at_once = os.cpu_count() or 1
    command = ["dvc", "--wait-for-lock", "repro", "--single-item"]
    for start in range(0, len(chains), at_once):
        some = chains[start : start + at_once]
        for _ in range(2):
            started = [subprocess.Popen([*command, *chain], env=own) for chain in some]
            codes = [process.wait() for process in started]
            some = [chain for chain, code in zip(some, codes, strict=True) if code]
            if not some:
                break


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # the stages were interrupted too, and have said what is kept
        sys.exit(130)
