"""params.yaml becomes typed records; what is unknown or impossible is refused with a sentence that names the key."""

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2a_core.config import (
    EndpointModel,
    GenerateParams,
    Params,
    ServedModel,
    adapter,
    load_params,
    load_sections,
    parse,
    read_yaml,
)
from r2a_core.infra.errors import R2AError

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "params.yaml"
SECRETS = ("pass@", "api_key=abcdef", "hf_abcdefghij")
NEEDLE = {"needle": "sentence", "tests": 1, "context": 9, "needle_tokens": 3, "seed": 0}
SPAN = {"model": "tiny_qwen2", "dataset": "arithmetic", "item_id": "a"}
RECIPE = "models.tiny_qwen2.recipe"

# A key, a wrong value, what the error says and part of its hint.
CASES: list[tuple[str, Any, str, str]] = [
    ("run", None, "run must be a mapping, found None", "indent the keys of run"),
    ("run", [], "run must be a mapping, found a list of 0", "indent"),
    ("run.models", "tiny", "run.models must be a list, found 'tiny'", "write run.models as [..., ...]"),
    ("run.models", {"tiny_qwen2": 1}, "run.models must be a list, found a mapping", "write"),
    ("run.models", [], "run.models must have at least 1 item", "correct"),
    ("run.models", ["tiny"], "run.models names 'tiny', which models does not have", "the models are tiny_qwen2"),
    ("run.models", ["tiny_qwen2", "tiny_qwen2"], "run.models holds 'tiny_qwen2' twice", "name it once"),
    ("run.models", [["tiny_qwen2"]], "run.models.0 must be a valid string, found a list of 1", "correct run.models.0"),
    ("run.datasets", ["../arithmetic"], "run.datasets names '../arithmetic'", "the datasets are arithmetic"),
    ("run.datasets", ["arithmetic", "arithmetic"], "run.datasets holds 'arithmetic' twice", "name it once"),
    ("run.datasets", ["built_in_pairs"], "'built_in_pairs' is in run.datasets and in run.pairs", "name it once"),
    ("run.settings", ["withR"], "run.settings.0 must be 'with_reasoning' or 'without_reasoning'", "correct"),
    ("run.settings", ["with_reasoning"] * 2, "run.settings holds 'with_reasoning' twice", "name it once"),
    ("run.pairs", "arithmetic", "run.pairs names 'arithmetic', a dataset of kind arithmetic", "generated_pairs"),
    ("run.pairs", "none", "run.pairs names 'none', which datasets does not have", "the datasets are"),
    ("run.seed", 1, "run has the unknown key 'seed'", "it has datasets, models, pairs, settings"),
    ("generat", {}, "params.yaml has the unknown key 'generat'", "generate, heads"),
    ("hf_abcdefghijklmnopqrstuvwxyzABCDEFGH", 1, "the unknown key a secret", "it has"),
    ("models", [], "models must be a mapping, found a list of 0", "indent the keys of models"),
    ("models.a/b", {"kind": "texts"}, "models.a/b is no name", "letters, digits and _"),
    ("models.a;touch x", {"kind": "texts"}, "models.a;touch x is no name", "rename it"),
    ("models...", {"kind": "texts"}, "models. is no name", "rename it"),
    ("models.tiny_qwen2", None, "models.tiny_qwen2 must be a mapping, found None", "indent"),
    ("models.tiny_qwen2", {"dtype": "float32"}, "models.tiny_qwen2.kind is missing", "give models.tiny_qwen2 a kind"),
    ("models.tiny_qwen2.kind", ["train"], "models.tiny_qwen2.kind is a list of 1", "the kinds are train, hub"),
    ("models.tiny_qwen2.kind", "Train", "models.tiny_qwen2.kind is 'Train'", "the kinds are train, hub"),
    ("models.tiny_qwen2.kind", "http://me:pass@h", "models.tiny_qwen2.kind is a secret", "the kinds are"),
    ("models.tiny_qwen2.dtype", "float64", "models.tiny_qwen2.dtype must be 'float32', 'bfloat16' or", "correct"),
    (RECIPE, 3, "models.tiny_qwen2.recipe must be a mapping, found 3", "indent the keys of models.tiny_qwen2.recipe"),
    (f"{RECIPE}.lr", 0.1, "models.tiny_qwen2.recipe has the unknown key 'lr'", "adam_rate"),
    (f"{RECIPE}.seed", -1, "recipe.seed must be greater than or equal to 0, found -1", "correct"),
    (f"{RECIPE}.seed", 2**64, "recipe.seed must be less than 9223372036854775808, found a whole number of", "correct"),
    (f"{RECIPE}.threads", "1", "recipe.threads must be a valid integer, found '1'", "correct"),
    (f"{RECIPE}.n_layers", 4.0, "recipe.n_layers must be a valid integer, found 4.0", "correct"),
    (f"{RECIPE}.n_layers", True, "recipe.n_layers must be a valid integer, found True", "correct"),
    (f"{RECIPE}.width", None, "recipe.width must be a valid integer, found None", "correct"),
    (f"{RECIPE}.muon_rate", float("nan"), "recipe.muon_rate must be a finite number, found nan", "correct"),
    (f"{RECIPE}.flat_share", 1.5, "recipe.flat_share must be less than or equal to 1, found 1.5", "correct"),
    (f"{RECIPE}.mix.comparision", 0.1, "recipe.mix has the unknown key 'comparision'", "comparison"),
    *(
        ("models.r1_qwen_1b5.hub_id", hub_id, "models.r1_qwen_1b5.hub_id must match pattern", "correct")
        for hub_id in ("DeepSeek", "../models", "/etc/models", "a/b/c", "https://huggingface.co/a/b", "")
    ),
    ("models.r1_qwen_1b5.hub_id", "https://me:pass@h.co/a/b", "hub_id holds a login or an access token", "environment"),
    ("models.r1_qwen_1b5.hub_id", 5, "hub_id must be a valid string, found 5", "correct"),
    ("models.r1_qwen_1b5.revision", "../../main", "models.r1_qwen_1b5.revision must match pattern", "correct"),
    ("models.r1_qwen_1b5.tags", None, "models.r1_qwen_1b5.tags must be a mapping, found None", "indent"),
    ("models.r1_qwen_1b5.tags.eos", None, "tags.eos must be a valid string, found None", "correct"),
    ("models.r1_qwen_1b5.tags.think_open", "a\0b", "tags.think_open holds a NUL or half a character", "take it out"),
    ("models.r1_qwen_1b5.tags.think_open", "\ud800", "tags.think_open holds a NUL or half a character", "take it out"),
    ("models.r1_qwen_1b5.path", "x", "models.r1_qwen_1b5 has the unknown key 'path'", "hub_id"),
    ("models.r1_full.endpoint.base_url", "ftp://a", "endpoint.base_url is no plain http(s) address", "https://api"),
    (
        "models.r1_full.endpoint.key_env",
        "sk-1",
        "endpoint.key_env is not the name of an environment",
        "DEEPSEEK_API_KEY",
    ),
    ("datasets.x/y", {"kind": "arithmetic"}, "datasets.x/y is no name", "letters, digits and _"),
    ("datasets.arithmetic.kind", 1, "datasets.arithmetic.kind is 1", "the kinds are arithmetic"),
    ("datasets.arithmetic.n", 100001, "datasets.arithmetic.n must be less than or equal to 100000", "correct"),
    ("datasets.arithmetic.instruction", None, "datasets.arithmetic.instruction must be a valid string", "correct"),
    ("datasets.arithmetic.size", 3, "datasets.arithmetic has the unknown key 'size'", "instruction, kind, n, seed"),
    ("datasets.math500.revision", "a/../b", "datasets.math500.revision must match pattern", "correct"),
    ("datasets.math500.n", 5, "datasets.math500 has the unknown key 'n'", "file, instruction, kind, revision"),
    ("datasets.r1_traces.texts_of", ["r1"], "datasets.r1_traces.texts_of must be a mapping", "indent"),
    ("datasets.r1_traces.texts_of", {"r1": 5}, "texts_of.r1 must be a valid string, found 5", "correct"),
    ("datasets.r1_traces.texts_of", {"r9": "r1"}, "datasets.r1_traces.texts_of names 'r9'", "the models are"),
    ("datasets.r1_traces.texts_of", {"hf_" + "a" * 30: 5}, "texts_of.a secret", "it was shared"),
    ("datasets.object_pairs.n", -1, "datasets.object_pairs.n must be greater than 0", "correct"),
    ("generate.temperature", float("-inf"), "generate.temperature must be a finite number", "correct"),
    ("generate.temperature", 11, "generate.temperature must be less than or equal to 10, found 11", "correct"),
    ("generate.temperature", True, "generate.temperature must be a valid number, found True", "correct"),
    ("generate.temperature", "0.6", "generate.temperature must be a valid number, found '0.6'", "correct"),
    ("generate.max_new_tokens", 1e3, "generate.max_new_tokens must be a valid integer, found 1000.0", "correct"),
    ("generate.retry", 1, "generate.retry must be a valid boolean, found 1", "correct generate.retry"),
    ("generate.retry", "yes", "generate.retry must be a valid boolean, found 'yes'", "correct"),
    ("generate.without_mode", "none", "generate.without_mode must be 'finished' or 'empty'", "correct"),
    ("generate.limit", 0, "generate.limit must be greater than 0", "correct"),
    ("generate.tie_margin", 1, "generate.tie_margin must be less than 1", "correct"),
    ("generate.backend.models", {"a b": "vllm"}, "generate.backend.models.a b is no name", "rename it"),
    ("evaluate.bootstrap_draws", 99, "evaluate.bootstrap_draws must be greater than or equal to 100", "correct"),
    ("capture.rows", "every", "capture.rows must be 'answer', 'answer_and_reasoning' or 'all'", "correct"),
    ("capture.layers", [True], "capture.layers.0 must be a valid integer, found True", "correct"),
    ("capture.residual_layers", None, "capture.residual_layers must be a list, found None", "write"),
    ("attention.reflection_phrases", "wait", "attention.reflection_phrases must be a list, found 'wait'", "write"),
    ("heads.walk.mass", 1.2, "heads.walk.mass must be less than or equal to 1", "correct"),
    ("heads.induction.period", 1, "heads.induction.period must be greater than 1", "correct"),
    ("heads.retrieval.default.needle_tokens", 2, "default.needle_tokens must be greater than 2", "correct"),
    ("heads.retrieval.models.r1_qwen_1b5", NEEDLE | {"tests": True}, "r1_qwen_1b5.tests must be a valid", "correct"),
    ("heads.retrieval.models.r1_qwen_1b5", {"needle": "sentence"}, "r1_qwen_1b5.tests is missing", "add heads"),
    ("heads.retrieval.models.r2", NEEDLE, "heads.retrieval.models names 'r2'", "the models are"),
    ("maps.heads", {"tiny_qwen2": [0, 1]}, "maps.heads.tiny_qwen2.0 must be a list, found 0", "write maps.heads"),
    ("maps.heads", {"tiny_qwen2": [[0]]}, "maps.heads.tiny_qwen2.0.1 is missing", "add"),
    ("maps.heads", {"tiny_qwen2": [[0, 1, 2]]}, "maps.heads.tiny_qwen2.0 must have at most 2 items", "correct"),
    ("maps.heads", {"tiny_qwen9": [[0, 1]]}, "maps.heads names 'tiny_qwen9'", "the models are"),
    ("maps.items", {"maths": ["a"]}, "maps.items names 'maths'", "the datasets are"),
    ("maps.spans", [SPAN | {"txt": "y"}], "maps.spans.0 has the unknown key 'txt'", "dataset, end, item_id"),
    ("maps.spans", [SPAN], "maps.spans.0 is neither a text nor a range", "give text, or start and end"),
    ("maps.spans", [SPAN | {"text": "x", "start": 1, "end": 2}], "maps.spans.0 is neither", "give text"),
    ("maps.spans", [SPAN | {"start": 5, "end": 5}], "maps.spans.0 is neither", "start must be below end"),
    ("maps.spans", [SPAN | {"model": "m", "text": "x"}], "maps.spans names 'm'", "the models are"),
    ("maps.spans", [SPAN | {"dataset": "d", "text": "x"}], "maps.spans names 'd'", "the datasets are"),
    ("pairs", {"generate": {}}, "pairs.generate.max_new_tokens is missing", "add"),
    ("pairs.generate.temperature", 0, "pairs.generate has the unknown key 'temperature'", "batch_size"),
    ("pairs.align.probes", ["plain", "plain"], "pairs.align.probes holds 'plain' twice", "name it once"),
    ("pairs.align.probes", [], "pairs.align.probes must have at least 1 item", "correct"),
    ("patch.sweep.components", ["z", "z"], "patch.sweep.components holds 'z' twice", "name it once"),
    ("patch.sweep.restored_roles", ["think"], "patch.sweep.restored_roles.0 must be 'probe', 'flip'", "correct"),
    ("patch.crossing.confidence", 95, "patch.crossing.confidence must be less than 1", "correct"),
    ("report.title", "see https://a.b/?api_key=abcdef", "report.title holds a login or an access token", "environment"),
    ("report.columns", 513, "report.columns must be less than or equal to 512", "correct"),
    ("resources.executor", "slurm", "resources.executor must be 'local' or 'ray', found 'slurm'", "correct"),
]
FILES = [
    ("", "holds no sections", "git checkout params.yaml"),
    ("- run\n- generate\n", "holds no sections", "git checkout"),
    ("run:\n\tmodels: []\n", "is not valid YAML", "mind the indentation"),
    ("run: 'a\n", "is not valid YAML", "the quotes"),
    ("run: {}\nrun: {}\n", "is not valid YAML: while constructing a mapping", "give no key twice"),
    ("run: *none\n", "found undefined alias", "mind the"),
    ("run: {}\n---\nrun: {}\n", "expected a single document", "mind the"),
    ("run: !!python/object/apply:os.system [touch x]\n", "could not determine a constructor", "mind"),
    ("run: \0\n", "is not valid YAML", "mind"),
    ("run: 2020-99-99\n", "is not valid YAML", "mind"),
    (f"run: {'9' * 5000}\n", "is not valid YAML", "mind"),
    (f"run: {'[' * 2000}{']' * 2000}\n", "params.yaml", ""),  # by depth, or as an incomplete file
    ("? [1, 2]\n: 3\n", "unknown key a list of 2", "generate"),
    ("1: 3\n", "unknown key 1", "generate"),
]


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return read_yaml(FILE)


def refusal(call: Callable[[], Any]) -> R2AError | None:
    """The R2AError that a call ends in, if it does; any other kind goes through."""
    try:
        call()
    except R2AError as error:
        return error
    return None


def refused(call: Callable[[], Any], says: str, hint: str) -> R2AError:
    error = refusal(call)
    assert error is not None
    assert says in error.message
    assert hint in error.hint
    assert error.hint
    assert error.exit_code == 2
    assert len(error.message) < 1000
    return error


def with_value(params: dict[str, Any], way: list[Any], value: Any) -> dict[str, Any]:
    """A copy of `params` in which one value is another one. What the way leads to need not exist."""
    changed = copy.deepcopy(params)
    inside = changed
    for part in way[:-1]:
        inside = inside.setdefault(part, {}) if isinstance(inside, dict) else inside[part]
    inside[way[-1]] = value
    return changed


@pytest.mark.parametrize(("key", "value", "says", "hint"), CASES, ids=[f"{case[0]}={case[1]!r:.40}" for case in CASES])
def test_a_wrong_value_is_refused_by_name(params, key: str, value: Any, says: str, hint: str) -> None:
    error = refused(lambda: parse(Params, with_value(params, key.split("."), value), ""), says, hint)
    assert not any(secret in str(error) for secret in SECRETS)


@pytest.mark.parametrize("section", Params.model_fields)
def test_a_missing_section_is_refused(params, section: str) -> None:
    left = {name: value for name, value in params.items() if name != section}
    refused(lambda: parse(Params, left, ""), f"{section} is missing", f"add {section} to params.yaml")


@pytest.mark.parametrize(("content", "says", "hint"), FILES, ids=[case[0][:20] or "empty" for case in FILES])
def test_a_file_that_is_no_params(tmp_path: Path, content: str, says: str, hint: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content, encoding="utf-8")
    refused(lambda: load_params(path), says, hint)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_of_another_encoding(tmp_path: Path, encoding: str) -> None:
    text = FILE.read_text(encoding="utf-8").encode("ascii", "ignore").decode()
    (tmp_path / "params.yaml").write_bytes(f"# Größe\n{text}".encode(encoding))
    refused(lambda: load_params(tmp_path / "params.yaml"), "is not valid YAML", "mind")


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    refused(lambda: load_params(tmp_path / "params.yaml"), "cannot be read: No such file", "git checkout")
    refused(lambda: load_params(tmp_path), "cannot be read: Is a directory", "git checkout")


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(FILE.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert load_params(tmp_path / "params.yaml") == load_params(FILE)


def test_anchors_that_would_unfold_to_a_billion_values_are_refused_at_once(tmp_path: Path, params) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    (tmp_path / "params.yaml").write_text("\n".join([*lines, "run: {models: *a9}"]))
    refused(lambda: load_params(tmp_path / "params.yaml"), "unknown key 'a0'", "generate")
    unfolded = read_yaml(tmp_path / "params.yaml")["a9"]
    refused(
        lambda: parse(Params, with_value(params, ["run", "models"], unfolded), ""), "run.models.0 must be", "correct"
    )


def test_only_the_sections_that_are_asked_for_are_read(tmp_path: Path) -> None:
    text = FILE.read_text(encoding="utf-8").replace("executor: local", "executor: slurm")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    found = load_sections(tmp_path / "params.yaml", ["heads", "models"])
    assert found.heads == load_params(FILE).heads
    assert found.models["r1_qwen_7b"].kind == "hub"
    with pytest.raises(AttributeError, match="'resources'"):
        _ = found.resources
    says = "resources.executor must be 'local' or 'ray'"
    refused(lambda: load_sections(tmp_path / "params.yaml", ["resources"]), says, "correct")
    (tmp_path / "params.yaml").write_text("run: {}\n")
    refused(lambda: load_sections(tmp_path / "params.yaml", ["heads"]), "heads is missing", "git checkout")


def test_records_keep_their_types_as_python_and_as_json() -> None:
    params = load_params(FILE)
    assert params.capture.residual_layers == ()
    assert isinstance(params.generate.temperature, float)
    assert params.heads.retrieval.of("r1_qwen_7b").needle == "sentence"
    assert params.heads.retrieval.of("another") == params.heads.retrieval.default
    again = json.loads(json.dumps(params.model_dump(mode="json"), allow_nan=False))
    assert parse(Params, again, "") == params


def test_records_are_the_same_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "record").write_bytes(pickle.dumps(load_params(FILE)))
    check = (
        "import pickle, sys; from pathlib import Path; from r2a_core.config import load_params;"
        "assert pickle.loads(Path(sys.argv[1]).read_bytes()) == load_params(Path('params.yaml'))"
    )
    subprocess.run([sys.executable, "-c", check, str(tmp_path / "record")], cwd=ROOT, check=True)


def test_responses_to_the_pairs_are_greedy_and_share_all_else() -> None:
    shared = load_params(FILE).pairs.generate
    made = shared.sampled()
    assert isinstance(made, GenerateParams)
    assert (made.temperature, made.runs, made.retry, made.decoding) == (0.0, 1, False, "greedy")
    assert made.model_dump(include=set(type(shared).model_fields)) == shared.model_dump()


def test_a_served_entry_is_stored_without_what_every_model_has() -> None:
    entry = load_params(FILE).models["r1_full"]
    assert isinstance(entry, EndpointModel)
    assert set(adapter(ServedModel).dump_python(entry)) == set(ServedModel.model_fields)


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, -(2**63) - 1, 10**400, "\ud800"]),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.dates(),
)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
REPEATABLE = settings(
    derandomize=True, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside a value."""
    found = [way] if way else []
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        found += places(each, (*way, key))
    return found


@REPEATABLE
@given(data=st.data(), value=values)
def test_any_value_anywhere_is_taken_or_refused_by_name(params: dict[str, Any], data: Any, value: Any) -> None:
    way = data.draw(st.sampled_from(places(params)))
    error = refusal(lambda: parse(Params, with_value(params, list(way), value), ""))
    if error is not None:
        assert error.hint
        assert "params.yaml" in error.message
        assert len(error.message) < 1000


@REPEATABLE
@given(text=st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@`\n\t ,?01.~"), max_size=40))
def test_any_text_is_a_mapping_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    error = refusal(lambda: read_yaml(path))
    assert error is None or error.hint
