"""From a section of params.yaml to a typed, frozen record: unknown keys and impossible values are refused.

The records themselves live beside the code that uses them; their fields carry units and, through Annotated, ranges.
"""

import functools
import math
import re
import reprlib
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from r2a_core.errors import R2AError

Record = TypeVar("Record")
# Branch, tag or commit of a Hub repository; it becomes part of a path in the Hub's cache.
Revision = Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")]
LARGEST = 2**63  # whole numbers stay below it on either side, as table columns and random generators ask
KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
SECRET = re.compile(  # a login or a key in an address, or what access tokens of usual services look like
    r"//[^/@\s]*@|[?&](?:api[_-]?key|key|(?:access_)?token|password|secret)=|"
    r"\b(?:hf_[A-Za-z0-9]{30,}|sk-[\w-]{20,}|AKIA[0-9A-Z]{16})\b",
    re.IGNORECASE,
)
SHOWN = reprlib.Repr()  # a value in an error message
SHOWN.maxstring = SHOWN.maxother = 80


def parse(record_type: type[Record], values: Any, section: str) -> Record:
    """`values` (a mapping read from params.yaml at `section`) as a `record_type`, a frozen dataclass.

    Types are not coerced: "3" is not a number and 3.5 is not a count. Raises R2AError naming the key, the value found
    and what is allowed.
    """
    check_value(record_type, values, section)
    try:
        return adapter(record_type).validate_python(dict(values), strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join([section, *(str(part) for part in first["loc"])])
        found = "" if first["type"] == "missing" else f", found {shown(first['input'])}"
        message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        raise R2AError(f"params.yaml: {key}: {message}{found}", f"correct {key} in params.yaml") from None


@functools.cache
def adapter(record_type: type[Record]) -> TypeAdapter[Record]:
    """Pydantic's reader of a record, made once."""
    return TypeAdapter(record_type)


def check_value(hint: Any, value: Any, place: str) -> None:
    """Raises R2AError when `value` is not of the type `hint`, or a record anywhere in it has an unknown key.

    Ranges, choices and missing keys are left to pydantic.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        check_value(inner[0], value, place)
    elif origin in (Union, types.UnionType):
        rest = [each for each in inner if each is not types.NoneType]
        if len(rest) == 1 and value is not None:  # a choice of several is left to pydantic
            check_value(rest[0], value, place)
    elif is_dataclass(hint):
        check_record(hint, value, place)
    elif origin is dict:
        for key, each in mapping(value, place).items():
            check_value(inner[0], key, f"{place}: the key {shown(key)}")
            check_value(inner[1], each, f"{place}.{key}")
    elif origin is tuple:
        check_list(inner, value, place)
    elif hint in KINDS:
        check_plain(hint, value, place)


def check_record(record_type: Any, value: Any, place: str) -> None:
    """Raises R2AError when `value` is no mapping, or has a key that its record lacks."""
    hints = get_type_hints(record_type, include_extras=True)
    known = sorted(field.name for field in fields(record_type))
    for key, each in mapping(value, place).items():
        if key not in known:
            raise R2AError(
                f"params.yaml: {place} has the unknown key {shown(key)}", f"the keys of {place} are {', '.join(known)}"
            )
        check_value(hints[key], each, f"{place}.{key}")


def check_list(inner: tuple[Any, ...], value: Any, place: str) -> None:
    """Raises R2AError when `value` is no list, or one of the wrong length where the length is fixed."""
    if not isinstance(value, (list, tuple)):
        raise R2AError(f"params.yaml: {place} must be a list, found {shown(value)}", f"write {place} as [..., ...]")
    wanted = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
    if len(wanted) != len(value):
        raise R2AError(f"params.yaml: {place} must hold {len(wanted)} values, found {shown(value)}", f"correct {place}")
    for number, (hint, each) in enumerate(zip(wanted, value, strict=True)):
        check_value(hint, each, f"{place}[{number}]")


def check_plain(hint: type, value: Any, place: str) -> None:
    """Raises R2AError for a value of another type, a secret, a NaN, an infinity or a number of more than 64 bits."""
    allowed = (int, float) if hint is float else (hint,)
    fits = isinstance(value, allowed) and (hint is bool or not isinstance(value, bool))
    if not fits:
        raise R2AError(
            f"params.yaml: {place} must be {KINDS[hint]}, found {shown(value)}", f"correct {place} in params.yaml"
        )
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= each <= "\udfff" for each in value)):
        raise R2AError(
            f"params.yaml: {place} holds a NUL or half a character, found {shown(value)}", f"correct {place}"
        )
    if isinstance(value, str) and SECRET.search(value):
        raise R2AError(
            f"params.yaml: {place} holds a login or an access token",
            "take it out, and revoke it if it was shared: secrets are read from environment variables",
        )
    large = isinstance(value, int) and not -LARGEST <= value < LARGEST
    if large or (isinstance(value, float) and not math.isfinite(value)):
        raise R2AError(
            f"params.yaml: {place} must be a finite number of at most 64 bits, found {shown(value)}",
            f"correct {place} in params.yaml",
        )


def mapping(value: Any, place: str) -> Mapping[Any, Any]:
    """`value` itself. Raises R2AError when it is no mapping."""
    if not isinstance(value, Mapping):
        raise R2AError(f"params.yaml: {place} must be a mapping, not {shown(value)}", f"indent the keys of {place}")
    return value


def shown(value: Any) -> str:
    """A value for an error message, shortened; none that may hold a secret.

    Whole numbers of thousands of digits have no decimal form in Python.
    """
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return "a secret" if SECRET.search(str(value)) else SHOWN.repr(value)
