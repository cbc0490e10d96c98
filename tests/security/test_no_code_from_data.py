"""No file that is read can hold code: no pickle, no eval, no unsafe YAML, in the sources or in what they write.

ruff's security rules (pyproject.toml) refuse most of it in every source; what they do not know is searched for here.
"""

import re
import subprocess
import sys

import pytest

from tests.study import ROOT

SOURCES = [path for folder in ("r2a_core", "stages", "tools", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
UNKNOWN_TO_RUFF = re.compile(
    r"\b(sympify|parse_expr|read_pickle|to_pickle|__import__|joblib|cloudpickle|jsonpickle)\b"
    r"|^\s*(import|from) (pickle|dill|shelve|marshal)\b"
    r"|allow_pickle=(?!False)|trust_remote_code=(?!False)|np\.load\(|torch\.(load|save)\(",
    re.MULTILINE,
)
REFUSED = [  # by ruff, with the rule's code
    ("S301", "import pickle\npickle.loads(y)"),
    ("S302", "import marshal\nmarshal.loads(y)"),
    ("S307", "x = eval(y)"),
    ("S102", "exec(y)"),
    ("S506", "import yaml\nyaml.load(y)"),
    ("S605", "import os\nos.system(y)"),
    ("S602", "import subprocess\nsubprocess.run(y, shell=True)"),
]
FOUND = [
    "np.load(x, allow_pickle=True)",
    "from dill import loads",
    "sympy.sympify(x)",
    "f(trust_remote_code=True)",
    "torch.load(x)",
]
HARMLESS = ["model.eval()", "re.compile(x)", "yaml.safe_load(x)", "f(trust_remote_code=False)", "allow_pickle=False"]


def ruff(source: str) -> int:
    command = [sys.executable, "-m", "ruff", "check", "--select", "S", "--stdin-filename", "r2a_core/x.py", "-"]
    return subprocess.run(command, input=source, text=True, cwd=ROOT, capture_output=True, check=False).returncode


@pytest.mark.parametrize(("rule", "source"), REFUSED)
def test_the_project_s_linter_refuses_code_from_data(rule: str, source: str) -> None:
    assert ruff(f"{source}\n") == 1
    assert f'"{rule}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_no_source_runs_data() -> None:
    assert [text for text in FOUND if not UNKNOWN_TO_RUFF.search(text)] == []
    assert [text for text in HARMLESS if UNKNOWN_TO_RUFF.search(text)] == []
    found = {path.relative_to(ROOT): bool(UNKNOWN_TO_RUFF.search(path.read_text(encoding="utf-8"))) for path in SOURCES}
    assert [path for path, hit in found.items() if hit] == []
    assert ROOT / "r2a_core" / "models" / "load.py" in SOURCES
