"""Every section and record of params.yaml: a wrong value is refused by the name of its key, with a way out."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from stages._params import check_all_params, check_sections
from stages._pipeline import read_yaml

ROOT = Path(__file__).resolve().parents[2]
CASES = json.loads(Path(__file__).with_name("params.json").read_text(encoding="utf-8"))
SECRETS = ("pass@", "api_key=abcdef", "hf_abcdefghij")


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return read_yaml(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def text() -> str:
    return (ROOT / "params.yaml").read_text(encoding="utf-8")


def with_value(params: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of `params` in which the value of a dotted key is another one. What the key leads to need not exist."""
    changed = copy.deepcopy(params)
    inside = changed
    *way, last = key.split(".")
    for part in way:
        inside = inside.setdefault(part, {})
    inside[last] = value
    return changed


@pytest.mark.parametrize(("key", "value", "says", "hint"), CASES, ids=[f"{case[0]}={case[1]!r:.40}" for case in CASES])
def test_a_wrong_value_is_refused(refused, params, key: str, value: Any, says: str, hint: str) -> None:
    error = refused(lambda: check_sections(with_value(params, key, value)), ["params.yaml", says], hint)
    assert not any(secret in str(error) for secret in SECRETS)


SECTIONS = ("run", "generate", "evaluate", "capture", "attention", "heads", "maps", "pairs", "patch", "report")


@pytest.mark.parametrize("section", SECTIONS)
def test_a_missing_section_is_refused(refused, params, section: str) -> None:
    left = {name: value for name, value in params.items() if name != section}
    refused(lambda: check_sections(left), f"{section} must be a mapping, not None", f"indent the keys of {section}")


def test_the_file_itself_passes(params) -> None:
    assert check_sections(params).models


FILES = [
    ("empty", "", "holds no sections", "git checkout params.yaml"),
    ("only a comment", "# nothing\n", "holds no sections", "git checkout"),
    ("a list", "- run\n- generate\n", "holds no sections", "git checkout"),
    ("a word", "run", "holds no sections", "git checkout"),
    ("null", "null\n", "holds no sections", "git checkout"),
    ("a tab for indentation", "run:\n\tmodels: []\n", "is not valid YAML", "mind the indentation"),
    ("an open bracket", "run: {models: [a, b\n", "is not valid YAML", "the quotes"),
    ("an open quote", "run: 'a\n", "is not valid YAML", "the quotes"),
    ("a key given twice", "run: {}\nrun: {}\n", "is not valid YAML: while constructing a mapping", "give no key twice"),
    ("an alias without anchor", "run: *none\n", "found undefined alias", "mind the"),
    ("two documents", "run: {}\n---\nrun: {}\n", "expected a single document", "mind the"),
    (
        "a Python object",
        "run: !!python/object/apply:os.system [touch x]\n",
        "could not determine a constructor",
        "mind",
    ),
    ("a tag", "run: !secret 1\n", "could not determine a constructor", "mind"),
    ("a NUL", "run: \0\n", "is not valid YAML", "mind"),
    ("no such day", "run: 2020-99-99\n", "is not valid YAML", "mind"),
    ("a number of 5000 digits", f"run: {'9' * 5000}\n", "is not valid YAML", "mind"),
    ("brackets in one another", f"run: {'[' * 2000}{']' * 2000}\n", "params.yaml", ""),  # by depth, or as no mapping
    ("a key that is a list", "? [1, 2]\n: 3\n", "unknown section a list of 2", "run, generate"),
    ("a key that is a number", "1: 3\n", "unknown section 1", "run, generate"),
    ("an anchor inside itself", "run: &a [*a]\n", "run must be a mapping, not a list of 1", "indent"),
    ("a mapping inside itself", "run: &a {models: *a}\n", "run.models must be a list, found a mapping", "write run"),
    ("a number with a word", "run: {models: [a]}x\n", "is not valid YAML", "mind"),
]


@pytest.mark.parametrize(("name", "content", "says", "hint"), FILES, ids=[case[0] for case in FILES])
def test_a_file_that_is_no_params(refused, tmp_path: Path, name: str, content: str, says: str, hint: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content, encoding="utf-8")
    refused(lambda: check_all_params(path), says, hint)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_of_another_encoding(refused, tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "params.yaml").write_bytes(f"# Größe\n{text.encode('ascii', 'ignore').decode()}".encode(encoding))
    refused(lambda: check_all_params(tmp_path / "params.yaml"), "is not valid YAML", "mind")


def test_a_file_that_is_not_there_or_no_file(refused, tmp_path: Path) -> None:
    refused(lambda: check_all_params(tmp_path / "params.yaml"), "cannot be read: No such file", "git checkout")
    refused(lambda: check_all_params(tmp_path), "cannot be read: Is a directory", "git checkout")


def test_a_byte_order_mark_changes_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8-sig")
    assert check_all_params(tmp_path / "params.yaml") == check_all_params(ROOT / "params.yaml")


def test_anchors_that_would_unfold_to_a_billion_values_are_refused_at_once(refused, tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    (tmp_path / "params.yaml").write_text("\n".join([*lines, "run: {models: *a9}"]))
    refused(lambda: check_all_params(tmp_path / "params.yaml"), "unknown section 'a0'", "run, generate")
    (tmp_path / "params.yaml").write_text(
        "run:\n  " + "\n  ".join([*lines, "models: *a9", "datasets: [a]", "settings: []", "pairs: p"])
    )
    refused(lambda: check_all_params(tmp_path / "params.yaml"), "run has the unknown key 'a0'", "the keys of run")
