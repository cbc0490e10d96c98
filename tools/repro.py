"""dvc repro, with the models of the run prepared side by side first: training one takes minutes and a single core.

usage: python tools/repro.py [ARGUMENTS OF dvc repro]
Exit code: that of the first dvc that fails.
"""

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    models = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["run"]["models"]
    waiting = [f"prepare_model@{model}" for model in models]
    while waiting:
        some, waiting = waiting[: os.cpu_count()], waiting[os.cpu_count() :]
        started = [subprocess.Popen(["dvc", "--wait-for-lock", "repro", "--single-item", stage]) for stage in some]
        for code in [process.wait() for process in started]:
            if code:
                sys.exit(code)
    sys.exit(subprocess.call(["dvc", "repro", *sys.argv[1:]]))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # the stages were interrupted too, and have said what is kept
        sys.exit(130)
