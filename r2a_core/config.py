"""From a section of params.yaml to a typed, frozen record: unknown keys and impossible values are refused with a sentence.

The records themselves live beside the code that uses them; their fields carry units and, through Annotated, ranges.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from r2a_core.errors import R2AError

Record = TypeVar("Record")


def parse(record_type: type[Record], values: Any, section: str) -> Record:
    """`values` (a mapping read from params.yaml at `section`) as a `record_type`, a frozen dataclass.

    Types are not coerced: "3" is not a number and 3.5 is not a count. Raises R2AError naming the key, the value found and
    what is allowed.
    """
    if not isinstance(values, Mapping):
        raise R2AError(f"params.yaml: {section} must be a mapping, not {values!r}", "indent its keys below it")
    refuse_unknown_keys(record_type, values, section)
    try:
        return TypeAdapter(record_type).validate_python(dict(values), strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([section, *(str(part) for part in first["loc"])])
        found = "" if first["type"] == "missing" else f", found {first['input']!r}"
        raise R2AError(f"params.yaml: {key}: {first['msg'].lower()}{found}", f"correct {key} in params.yaml") from None


def refuse_unknown_keys(record_type: Any, values: Mapping[str, Any], section: str) -> None:
    """Raises R2AError when `values` or a record nested in it has a key that its record lacks, or a bool for a number."""
    known = {field.name for field in fields(record_type)}
    unknown = [str(key) for key in values if key not in known]
    if unknown:
        raise R2AError(
            f"params.yaml: {section} has the unknown key {unknown[0]!r}",
            f"the keys of {section} are {', '.join(sorted(known))}",
        )
    hints = get_type_hints(record_type)
    for key, value in values.items():
        if isinstance(value, bool) and hints[key] in (int, float):
            raise R2AError(
                f"params.yaml: {section}.{key} must be a number, found {value!r}", f"correct {section}.{key}"
            )
        if is_dataclass(hints[key]) and isinstance(value, Mapping):
            refuse_unknown_keys(hints[key], value, f"{section}.{key}")
