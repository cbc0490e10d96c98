"""The one way to read params.yaml, whole or by section, with every fault worded as a sentence about a key."""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from r2a_core.config.models import RECIPES
from r2a_core.config.study import Params
from r2a_core.config.values import SECRET, format_value
from r2a_core.infra.errors import R2AError


def load_params(path: Path) -> Params:
    """Loads the whole of params.yaml. Raises R2AError at a key that is unknown, missing or impossible."""
    return parse(Params, read_yaml(path), "")


def load_sections(values: Mapping[str, Any], names: Sequence[str]) -> Params:
    """Makes records of the sections `names` of params.yaml only: reading another is an AttributeError that names it.

    values: of the whole file. Other sections may be invalid; `refuse_unknown` checks the names.
    """
    for name in names:
        if name not in values:
            raise R2AError(f"params.yaml: {name} is missing", "take it back from git: git checkout params.yaml")
    return Params.model_construct(
        **{name: parse(Params.model_fields[name].annotation, values[name], name) for name in names}
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file as a mapping. Raises R2AError when it is not YAML or not a mapping."""
    from ruamel.yaml import YAML, YAMLError

    checkout = f"take it back from git: git checkout {path.name}"
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise R2AError(f"{path.name} cannot be read: {error.strerror}", checkout) from None
    except (YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise R2AError(
            f"{path.name} is not valid YAML: {reason}", "mind the indentation and the quotes, and give no key twice"
        ) from None
    if not isinstance(values, dict):
        raise R2AError(f"{path.name} holds no sections", checkout)
    return values


def parse(record: Any, values: Any, place: str) -> Any:
    """Parses `values`, read from params.yaml at the key `place`, as `record`: a record or a union of records.

    Raises R2AError naming the key, the value found and what is allowed.
    """
    try:
        return adapter(record).validate_python(values)
    except ValidationError as error:
        raise explained(error.errors(include_url=False)[0], place) from None


@functools.cache
def adapter(record: Any) -> TypeAdapter[Any]:
    """Builds pydantic's adapter of a record, once."""
    return TypeAdapter(record)


def explained(error: ErrorDetails, place: str) -> R2AError:
    """Words the first thing that pydantic found wrong as a sentence about a key of params.yaml, with a hint."""
    unnamed = ("[key]", *RECIPES)  # steps of pydantic that no key has
    steps = [step for step in [*(place.split(".") if place else ()), *error["loc"]] if step not in unnamed]
    if steps and steps[0] in ("models", "datasets"):
        del steps[2:3]  # the kind that pydantic read the entry as
    if "base" in steps:
        place_of_kind = steps.index("base") + 1
        del steps[place_of_kind : place_of_kind + 1]  # likewise
    key = ".".join(str(step) if not SECRET.search(str(step)) else "a secret" for step in steps)
    found = f", found {format_value(error['input'])}"
    context = error.get("ctx", {})
    match error["type"]:
        case "refused":
            says, hint = f" {context['message']}", context["hint"]
        case "missing":
            says, hint = " is missing", f"add {key} to params.yaml"
        case "model_type" | "model_attributes_type" | "dict_type":
            says, hint = f" must be a mapping{found}", f"indent the keys of {key}"
        case "tuple_type":
            says, hint = f" must be a list{found}", f"write {key} as [..., ...]; a list of nothing is []"
        case "union_tag_not_found":
            says, hint = ".kind is missing", f"give {key} a kind, as its neighbours have"
        case "union_tag_invalid":
            says, kinds = f".kind is {format_value(error['input']['kind'])}", context["expected_tags"].replace("'", "")
            hint = f"the kinds are {kinds}"
        case _:
            allowed = re.sub("^[A-Z][a-z]+ should", "must", error["msg"]).replace(" after validation", "")
            says, hint = f" {allowed}{found}", f"correct {key}"
    return R2AError(f"params.yaml{': ' if key else ''}{key}{says}", hint)
