"""Code dependencies are found from the sources, and dvc.yaml lists exactly them."""

import re
from pathlib import Path

import pytest
import yaml

from r2a_core.infra.shards import code_digest, code_files, fingerprint, folder_digest

ROOT = Path(__file__).resolve().parent.parent
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def project(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_the_closure_follows_imports_inside_functions_and_leaves_the_rest(tmp_path):
    project(
        tmp_path,
        {
            "r2a_core/__init__.py": "",
            "r2a_core/a.py": "import json\n",
            "r2a_core/b.py": "from r2a_core import a\n",
            "r2a_core/c.py": "import r2a_core.d\n",
            "r2a_core/d.py": "",
            "r2a_core/unused.py": "",
            "stages/run.py": "from r2a_core.b import x\ndef f():\n    import r2a_core.c\n",
        },
    )
    found = [path.as_posix() for path in code_files(tmp_path / "stages/run.py", tmp_path)]
    assert found == ["r2a_core/a.py", "r2a_core/b.py", "r2a_core/c.py", "r2a_core/d.py", "stages/run.py"]
    before = code_digest(tmp_path / "stages/run.py", tmp_path)
    (tmp_path / "r2a_core/unused.py").write_text("changed = 1\n")
    assert code_digest(tmp_path / "stages/run.py", tmp_path) == before
    (tmp_path / "r2a_core/d.py").write_text("changed = 1\n")
    assert code_digest(tmp_path / "stages/run.py", tmp_path) != before


@pytest.mark.parametrize("name", sorted(STAGES))
def test_dvc_lists_exactly_the_code_a_stage_imports(name):
    script = re.search(r"python -m stages\.(\w+)", STAGES[name]["cmd"])
    assert script is not None
    listed = [dep for dep in STAGES[name]["deps"] if dep.endswith(".py")]
    imported = [path.as_posix() for path in code_files(ROOT / "stages" / f"{script[1]}.py", ROOT)]
    assert listed == imported, "run: make deps"


def test_fingerprints_differ_by_part_name_and_value():
    prints = {fingerprint(a=1, b=2), fingerprint(a=2, b=1), fingerprint(a=1, c=2), fingerprint(a=1, b="2")}
    assert len(prints) == 4
    assert fingerprint(a=1, b=2) == fingerprint(b=2, a=1)


def test_a_folder_digest_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("x")
    first = folder_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = folder_digest(tmp_path)
    (tmp_path / "b").write_text("y")
    assert len({first, second, folder_digest(tmp_path)}) == 3
