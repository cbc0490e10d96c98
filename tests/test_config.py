"""params.yaml becomes typed records; what is unknown or impossible is refused with a sentence that names the key."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2a_core.config import GenerateParams, Params, load_params, load_sections, parse, read_yaml
from r2a_core.infra.errors import R2AError

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "params.yaml"
SECRETS = ("pass@", "api_key=abcdef", "hf_abcdefghij")
# A key, a wrong value (or the content of a file), what the error says and part of its hint.
BAD = json.loads((ROOT / "tests" / "bad_params.json").read_text(encoding="utf-8"))
FILES = [
    *BAD["files"],
    (f"run: {'9' * 5000}\n", "is not valid YAML", "mind"),
    (f"run: {'[' * 2000}{']' * 2000}\n", "params.yaml", ""),  # by depth, or as an incomplete file
]


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return read_yaml(FILE)


def refusal(call: Callable[[], Any]) -> R2AError | None:
    try:
        call()
    except R2AError as error:
        return error
    return None


def with_value(params: dict[str, Any], way: list[Any], value: Any) -> dict[str, Any]:
    """A copy of `params` in which one value is another one. What the way leads to need not exist."""
    changed = copy.deepcopy(params)
    inside = changed
    for part in way[:-1]:
        inside = inside.setdefault(part, {}) if isinstance(inside, dict) else inside[part]
    inside[way[-1]] = value
    return changed


@pytest.mark.parametrize(("key", "value", "says", "hint"), BAD["values"])
def test_a_wrong_value_is_refused_by_name(refused, params, key: str, value: Any, says: str, hint: str) -> None:
    error = refused(lambda: parse(Params, with_value(params, key.split("."), value), ""), says, hint)
    assert error.exit_code == 2
    assert not any(secret in str(error) for secret in SECRETS)


@pytest.mark.parametrize(("readers", "says", "hint"), BAD["readers"])
def test_a_reader_that_cannot_be_compared_is_refused(refused, params, readers: Any, says: str, hint: str) -> None:
    run = params["run"] | {"models": ["tiny_qwen2"], "readers": readers}
    refused(lambda: parse(Params, params | {"run": run}, ""), says, hint)


@pytest.mark.parametrize("section", Params.model_fields)
def test_a_missing_section_is_refused(refused, params, section: str) -> None:
    left = {name: value for name, value in params.items() if name != section}
    refused(lambda: parse(Params, left, ""), f"{section} is missing", f"add {section} to params.yaml")


@pytest.mark.parametrize(("content", "says", "hint"), FILES, ids=[case[0][:20] or "empty" for case in FILES])
def test_a_file_that_is_no_params(refused, tmp_path: Path, content: str, says: str, hint: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content, encoding="utf-8")
    refused(lambda: load_params(path), says, hint)


def test_a_file_must_be_there_and_a_byte_order_mark_changes_nothing(refused, tmp_path: Path) -> None:
    refused(lambda: load_params(tmp_path / "params.yaml"), "cannot be read: No such file", "git checkout")
    refused(lambda: load_params(tmp_path), "cannot be read: Is a directory", "git checkout")
    (tmp_path / "params.yaml").write_text(FILE.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert load_params(tmp_path / "params.yaml") == load_params(FILE)


def test_anchors_that_would_unfold_to_a_billion_values_are_refused_at_once(refused, tmp_path: Path, params) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    (tmp_path / "params.yaml").write_text("\n".join([*lines, "run: {models: *a9}"]))
    refused(lambda: load_params(tmp_path / "params.yaml"), "unknown key 'a0'", "generate")
    unfolded = read_yaml(tmp_path / "params.yaml")["a9"]
    spoilt = with_value(params, ["run", "models"], unfolded)
    refused(lambda: parse(Params, spoilt, ""), "run.models.0 must be", "correct")


def test_only_the_sections_that_are_asked_for_are_read(refused, tmp_path: Path) -> None:
    text = FILE.read_text(encoding="utf-8").replace("executor: local", "executor: slurm")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    values = read_yaml(tmp_path / "params.yaml")
    found = load_sections(values, ["heads", "models"])
    assert found.heads == load_params(FILE).heads
    assert found.models["r1_qwen_7b"].kind == "hub"
    with pytest.raises(AttributeError, match="'resources'"):
        _ = found.resources
    says = "resources.executor must be 'local' or 'ray'"
    refused(lambda: load_sections(values, ["resources"]), says, "correct")
    refused(lambda: load_sections({"run": {}}, ["heads"]), "heads is missing", "git checkout")


def test_records_keep_their_types_as_python_and_as_json() -> None:
    params = load_params(FILE)
    assert params.capture.residual_layers == ()
    assert isinstance(params.generate.temperature, float)
    assert params.heads.retrieval.of("r1_qwen_7b").needle == "sentence"
    assert params.heads.retrieval.of("another") == params.heads.retrieval.default
    again = json.loads(json.dumps(params.model_dump(mode="json"), allow_nan=False))
    assert parse(Params, again, "") == params


def test_responses_to_the_pairs_are_greedy_and_share_all_else() -> None:
    shared = load_params(FILE).pairs.generate
    made = shared.sampled()
    assert isinstance(made, GenerateParams)
    assert (made.temperature, made.runs, made.retry, made.decoding) == (0.0, 1, False, "greedy")
    assert made.model_dump(include=set(type(shared).model_fields)) == shared.model_dump()


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
