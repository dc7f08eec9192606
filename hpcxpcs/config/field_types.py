"""Types of configuration values, each with its reader and JSON Schema, and the base of all sections."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    StrictStr,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo

from hpcxpcs.config.numbers import read_memory, read_number, read_whole
from hpcxpcs.config.parameters import MODEL_NAMES, parameter_named
from hpcxpcs.config.prior import PRIOR_KINDS, Prior, read_prior
from hpcxpcs.config.problems import KeyPath, suggestion
from hpcxpcs.files.places import path_problem

_MAPPINGS = (dict, Mapping)
_LONGEST_DT = 1e12
"""Seconds; far beyond any measurement, and small enough for the arithmetic of times."""
_LARGEST_Q = 10.0
"""1/Å; where atoms scatter."""

Number = Annotated[float, BeforeValidator(read_number)]
Whole = Annotated[int, BeforeValidator(read_whole)]


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _path(value: str) -> str:
    problem = path_problem(_text(value))
    if problem is not None:
        raise ValueError(problem)
    return value


Text = Annotated[StrictStr, AfterValidator(_text)]
PathText = Annotated[StrictStr, AfterValidator(_path)]


def _read_parameter_name(value: object, info: ValidationInfo) -> str:
    """The canonical name; checked against the model when the validation context names one."""
    if not isinstance(value, str):
        raise ValueError("is not a parameter name")
    model = (info.context or {}).get("model")
    return parameter_named(value, model) if model in MODEL_NAMES else value


ParameterName = Annotated[str, BeforeValidator(_read_parameter_name)]
PriorValue = Annotated[
    Prior,
    PlainValidator(read_prior),
    PlainSerializer(Prior.to_mapping),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"type": {"enum": list(PRIOR_KINDS)}},
            "required": ["type"],
            "additionalProperties": {"type": "number"},
        }
    ),
]


def _read_dt(value: object) -> float | Literal["auto", "frames"]:
    if value == "auto":
        return "auto"
    if value == "frames":
        return "frames"
    number = _number_or(value, "a number of seconds, auto or frames", ("auto", "frames"))
    if not 0 < number <= _LONGEST_DT:
        raise ValueError("must be greater than 0" if number <= 0 else f"must be at most {_LONGEST_DT:g} s")
    return number


def _number_or(value: object, allowed: str, words: Sequence[str]) -> float:
    try:
        return read_number(value)
    except ValueError as error:
        hint = suggestion(value, words) if isinstance(value, str) else ""
        raise ValueError(f"{error}; allowed: {allowed}{hint}") from None


def _read_sigma(value: object) -> float | str:
    if isinstance(value, str) and (value == "auto" or "/" in value):
        return value
    number = _number_or(value, "auto, a number, or a dataset path such as /exchange/sigma", ("auto",))
    if number <= 0:
        raise ValueError("must be greater than 0")
    return number


def _read_dead_frames(value: object) -> str | tuple[int, ...]:
    if value in ("auto", "none"):
        return str(value)
    if not isinstance(value, (list, tuple)):
        hint = suggestion(value, ("auto", "none")) if isinstance(value, str) else ""
        raise ValueError(f"must be auto, none or a list of frames such as [17, 230]{hint}")
    frames = sorted({read_whole(frame) for frame in value})
    if frames and frames[0] < 1:
        raise ValueError("has a frame below 1; frames count from 1")
    return tuple(frames) or "none"


def _read_memory(value: object) -> int | Literal["auto"]:
    return "auto" if value == "auto" else read_memory(value)


def _read_q(value: object) -> float | Literal["unknown"]:
    if value == "unknown":
        return "unknown"
    number = _number_or(value, "a number in 1/Å or unknown", ("unknown",))
    if not 0 < number <= _LARGEST_Q:
        raise ValueError("must be greater than 0" if number <= 0 else f"must be at most {_LARGEST_Q:g} 1/Å")
    return number


DT = Annotated[
    float | Literal["auto", "frames"],
    BeforeValidator(_read_dt),
    WithJsonSchema({"anyOf": [{"enum": ["auto", "frames"]}, {"type": "number", "exclusiveMinimum": 0}]}),
]
Wavevector = Annotated[
    float | Literal["unknown"],
    BeforeValidator(_read_q),
    WithJsonSchema(
        {"anyOf": [{"const": "unknown"}, {"type": "number", "exclusiveMinimum": 0, "maximum": _LARGEST_Q}]}
    ),
]
Sigma = Annotated[
    float | str,
    BeforeValidator(_read_sigma),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number", "exclusiveMinimum": 0}]}),
]
DeadFrames = Annotated[
    Literal["auto", "none"] | tuple[int, ...],
    BeforeValidator(_read_dead_frames),
    WithJsonSchema(
        {"anyOf": [{"enum": ["auto", "none"]}, {"type": "array", "items": {"type": "integer", "minimum": 1}}]}
    ),
]
MemorySize = Annotated[int, BeforeValidator(read_memory)]
Memory = Annotated[
    int | Literal["auto"],
    BeforeValidator(_read_memory),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
]


def commented(example: Any) -> dict[str, Any]:
    """Mark a key that the template shows as a comment, with this example value."""
    return {"commented_example": example}


def is_section(annotation: object) -> bool:
    """Whether a field's annotation is a section of keys itself."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


class Section(BaseModel):
    """A frozen group of keys; unknown keys are refused, and an empty section is all defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _descend_into_empty_sections(cls, given: Any) -> Any:
        """Validate absent and empty sections too, so that a missing key is named with its full path."""
        if not isinstance(given, Mapping):
            return given
        empty: dict[str, object] = {
            name: {}
            for name, field in cls.model_fields.items()
            if is_section(field.annotation) and given.get(name) is None
        }
        return {**given, **empty}


def leaf_paths(section: type[BaseModel], path: KeyPath = ()) -> Iterator[KeyPath]:
    """The paths of all keys below a section that are not sections themselves."""
    for name, field in section.model_fields.items():
        inner = inner_section(field)
        if inner is None:
            yield (*path, name)
        else:
            yield from leaf_paths(inner, (*path, name))


def holds_named_sections(field: FieldInfo) -> bool:
    """Whether a field is a mapping from names that the user chooses to sections."""
    return get_origin(field.annotation) in _MAPPINGS and inner_section(field) is not None


def inner_section(field: FieldInfo) -> type[BaseModel] | None:
    """The section inside a field's annotation, also when optional, in a list or under a name."""
    annotation: Any = field.annotation
    candidates = [annotation]
    while candidates:
        candidate = candidates.pop()
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
        if get_origin(candidate) in (Union, types.UnionType, tuple, *_MAPPINGS):
            candidates += get_args(candidate)
    return None
