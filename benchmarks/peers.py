"""The peers' environment: TransformerLens 3 with the project's own torch and transformers, in .venv-peers."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-peers"
LENS = "transformer-lens==3.9.0"  # the last with HookedTransformer


def pinned(name: str) -> str:
    """name==version from constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{name}==\S+$", text, flags=re.MULTILINE)
    if found is None:
        sys.exit(f"error: constraints.txt pins no {name}\nhint: make pin")
    return found.group()


def python() -> Path:
    """The interpreter of the peers' environment, which is made, or made anew when its packages are others by now."""
    wanted = "\n".join([pinned("torch"), pinned("transformers"), LENS]) + "\n"
    mark, interpreter = FOLDER / ".ready", FOLDER / "bin" / "python"
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return interpreter
    print(f"setting up {FOLDER.name}: {', '.join(wanted.split())}", file=sys.stderr, flush=True)
    if not interpreter.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    install_torch = [str(interpreter), str(ROOT / "tools" / "install_torch.py"), str(ROOT / "constraints.txt")]
    subprocess.run(install_torch, check=True)
    subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", *wanted.split()], check=True)
    mark.write_text(wanted, encoding="utf-8")
    return interpreter
