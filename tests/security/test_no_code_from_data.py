"""No file that is read can hold code: no pickle, no eval, no unsafe YAML, in the sources or in what they write."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("r2a_core", "stages", "tools") for path in (ROOT / folder).rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "code", "codeop"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {  # dotted calls, by their last two names
    *("torch.load", "torch.save", "numpy.load", "np.load", "np.save", "pd.read_pickle", "sympy.sympify"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "os.system", "os.popen", "pty.spawn"),
}
LOADS = {"read_pickle", "to_pickle", "sympify", "parse_expr", "unsafe_load"}


def dotted(node: ast.expr) -> str:
    """The last two names of what is called: a.b.c(...) is b.c."""
    if isinstance(node, ast.Attribute):
        before = node.value
        name = before.attr if isinstance(before, ast.Attribute) else before.id if isinstance(before, ast.Name) else ""
        return f"{name}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def faults(tree: ast.AST) -> list[str]:
    """What a source does that data could turn into code."""
    found: list[str] = []
    pyyaml = any(isinstance(node, ast.Import) and node.names[0].name == "yaml" for node in ast.walk(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [f"import {alias.name}" for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(f"from {node.module}")
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            options = {option.arg: option.value for option in node.keywords}
            if name.startswith("yaml.") and not pyyaml:  # ruamel's reader, which makes plain values
                continue
            if name in BUILTINS or name in CALLS or name.split(".")[-1] in LOADS:
                found.append(f"{name}()")
            if name.endswith("YAML") and "unsafe" in ast.unparse(node):
                found.append("YAML(typ='unsafe')")
            for option in ("shell", "allow_pickle"):
                value = options.get(option)
                if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
                    found.append(f"{name}({option}=...)")
            trust = options.get("trust_remote_code")
            if trust is not None and ast.unparse(trust) != "False":
                found.append(f"{name}(trust_remote_code={ast.unparse(trust)})")
    return found


def test_there_are_sources() -> None:
    assert len(SOURCES) > 80


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_a_source_runs_no_data(path: Path) -> None:
    assert faults(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from joblib import load", "eval(x)", "exec(x)", "torch.load(x)", "a.torch.load(x)"),
        *(
            "import yaml; yaml.load(x)",
            "os.system(x)",
            "run(x, shell=True)",
            "np.load(x, allow_pickle=True)",
            "__import__(x)",
        ),
        *("f(trust_remote_code=True)", "sympy.sympify(x)", "compile(x, y, z)", "pd.read_pickle(x)"),
    ],
)
def test_the_search_finds(source: str) -> None:
    assert faults(ast.parse(source))


def test_the_search_leaves_what_is_harmless() -> None:
    assert faults(ast.parse("model.eval(); re.compile(x); yaml.safe_load(x); f(trust_remote_code=False)")) == []


def test_nothing_that_was_written_is_a_pickle() -> None:
    """By the first bytes of every file in data/ and .work/, whatever its name."""
    files = [path for folder in ("data", ".work") for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in files:
        with path.open("rb") as stream:
            start = stream.read(4)
        assert not start.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")), path
        assert path.suffix not in (".pkl", ".pickle", ".pt", ".pth", ".bin", ".npy", ".npz", ".joblib"), path
