"""The peers' environment, .venv-peers: TransformerLens 3 and nnsight, with the project's own torch and transformers."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-peers"


def python() -> Path:
    """The interpreter of the peers' environment, which `make bench` and `make test-peers` set up."""
    if not (FOLDER / ".ready").is_file():
        sys.exit(f"error: {FOLDER} is not set up\nhint: make test-peers")
    return FOLDER / "bin" / "python"
