"""Kinds of values in params.yaml, the base of its records, and how a refusal is worded.

Nothing is coerced ("3" is no number, 3.5 no count, true no 1) except whole numbers to floats and lists to tuples.
"""

import re
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

T = TypeVar("T")
LARGEST = 2**63  # whole numbers stay below it on either side: table columns and random generators ask for 64 bits
SECRET = re.compile(  # a login or a key in an address, or what access tokens of usual services look like
    r"//[^/@\s]*@|[?&](?:api[_-]?key|key|(?:access_)?token|password|secret)=|"
    r"\b(?:hf_[A-Za-z0-9]{30,}|sk-[\w-]{20,}|AKIA[0-9A-Z]{16})\b",
    re.IGNORECASE,
)
SHOWN = reprlib.Repr()  # a value in an error message
SHOWN.maxstring = SHOWN.maxother = 80
REFUSED = "refused"  # type of the errors raised here; the value is not shown with them


def refused(message: str, hint: str) -> PydanticCustomError:
    """Makes a validator's error; `message` continues the key's name. Neither holds the value: it may be a secret."""
    return PydanticCustomError(REFUSED, "{message}", {"message": message, "hint": hint})


def plain_text(text: str) -> str:
    """Returns `text`. Refuses a NUL, half a character, a login and an access token."""
    if re.search("[\0\ud800-\udfff]", text):
        raise refused("holds a NUL or half a character", "take it out")
    if SECRET.search(text):
        raise refused(
            "holds a login or an access token",
            "take it out, and revoke it if it was shared: secrets are read from environment variables",
        )
    return text


def some_words(text: str) -> str:
    """Returns `text`. Refuses one without anything to read in it: it would be found everywhere, or nowhere."""
    if not text.strip():
        raise refused("is empty", "write what to look for, or take it out")
    return text


def plain_name(name: Any) -> str:
    """Returns `name`. Refuses what cannot be a folder's name, a word of a command and a key."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise refused("is no name", "a name is letters, digits and _; rename it")
    return name


def unique(values: tuple[T, ...]) -> tuple[T, ...]:
    """Returns `values`. Refuses duplicates: their rows would be duplicates too."""
    for value in values:
        if values.count(value) > 1:
            raise refused(f"holds {format_value(value)} twice", "name it once")
    return values


def some_of(choices: Any) -> AfterValidator:
    """Refuses an empty list by naming the choices, a Literal."""

    def some(values: tuple[T, ...]) -> tuple[T, ...]:
        if not values:
            raise refused("is empty", f"name one or more of {', '.join(get_args(choices))}")
        return values

    return AfterValidator(some)


def as_tuple(value: Any) -> Any:
    """Turns a YAML list into a tuple; leaves anything else for pydantic to refuse."""
    return tuple(value) if isinstance(value, list) else value


def format_value(value: Any) -> str:
    """Formats a value for an error message, shortened, unless it may hold a secret.

    Whole numbers of thousands of digits have no decimal form in Python.
    """
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return "a secret" if SECRET.search(str(value)) else SHOWN.repr(value)


Text = Annotated[str, AfterValidator(plain_text)]
Words = Annotated[Text, AfterValidator(some_words)]
Name = Annotated[str, BeforeValidator(plain_name)]  # of a model or dataset
HubId = Annotated[Text, Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")]
Revision = Annotated[Text, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")]  # branch, tag or commit; part of a cache's path
Pin = Annotated[Text, Field(pattern="^[0-9a-f]{64}$")] | None  # SHA-256 of what lies outside the project (infra.pins)
Count = Annotated[int, Field(gt=0, lt=LARGEST)]
Whole = Annotated[int, Field(ge=0, lt=LARGEST)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Listed = Annotated[tuple[T, ...], BeforeValidator(as_tuple)]
Unique = Annotated[tuple[T, ...], AfterValidator(unique), BeforeValidator(as_tuple)]
NonEmpty = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(unique), BeforeValidator(as_tuple)]
Setting = Literal["with_reasoning", "without_reasoning"]  # paper section 3: it reasons, or its reasoning is closed
SETTINGS: tuple[Setting, ...] = get_args(Setting)
Dtype = Literal["float32", "bfloat16", "float16"]
AnyDtype = Literal[Dtype, "auto"]  # auto: bfloat16 where the machine computes in it fast, else float32
Layer = Whole  # number of a decoder layer, from 0
Head = Annotated[tuple[Layer, Whole], BeforeValidator(as_tuple)]  # layer, head in it


class Record(BaseModel):
    """A frozen part of params.yaml."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True, defer_build=True
    )

    @model_validator(mode="before")
    @classmethod
    def known_keys(cls, values: Any) -> Any:
        """Refuses an unknown key before any other fault, listing the known keys."""
        for key in values if isinstance(values, Mapping) else ():
            if key not in cls.model_fields:
                raise refused(
                    f"has the unknown key {format_value(key)}", f"it has {', '.join(sorted(cls.model_fields))}"
                )
        return values


class ByModel(Record, Generic[T]):
    """One value for every model, except those that `models` names."""

    default: T
    models: dict[Name, T] = {}  # in place of the default

    def of(self, model: str) -> T:
        return self.models.get(model, self.default)
