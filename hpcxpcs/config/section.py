"""What all sections of keys have in common: how they are read, walked through, and what is wrong with them."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from hpcxpcs.config.problems import NO_VALUE, KeyPath, Problem, dotted, suggestion

_MAPPINGS = (dict, Mapping)
_WRONG_KIND = {
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "model_type": "must be a section of keys",
    "dict_type": "must be a section of keys",
    "tuple_type": "must be a list, such as [..., ...]",
}
_OUT_OF_RANGE = {
    "greater_than": ("must be greater than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
}


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


def read_section[S: BaseModel](section: type[S], data: Any, model: str | None = None) -> tuple[S | None, list[Problem]]:
    """A section from plain data, or None and all that is wrong; with `model`, names are those of its parameters."""
    try:
        return section.model_validate(data, context={"model": model}), []
    except ValidationError as error:
        return None, [_explained(detail, data, section) for detail in error.errors(include_url=False)]


def _explained(detail: Any, data: Any, root: type[BaseModel]) -> Problem:
    """One finding of pydantic (an item of `ValidationError.errors()`) on data for `root`, as a Problem."""
    path = tuple(part for part in detail["loc"] if part != "[key]")
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return Problem(path, _unknown_key(path, root))
    field = _field_at(path, root)
    value = _value_at(data, path, detail["input"])
    if kind == "missing":
        predicate = "is missing"
    elif kind == "value_error":
        predicate = str(context["error"])
    elif kind == "literal_error" and field is not None:
        allowed = [word for word in get_args(field.annotation) if isinstance(word, str)]
        predicate = f"must be one of {', '.join(allowed)}{suggestion(str(value), allowed)}"
    elif kind in _OUT_OF_RANGE:
        text, key = _OUT_OF_RANGE[kind]
        predicate = f"{text} {context[key]:g}"
    else:
        predicate = _WRONG_KIND.get(kind, detail["msg"])
    if predicate.startswith("is missing") or "[key]" in detail["loc"]:
        value = NO_VALUE
    if field is not None and ";" not in predicate:  # a semicolon begins a remedy, which says enough
        predicate = f"{predicate} ({field.description})"
    return Problem(path, predicate, value)


def _value_at(data: Any, path: KeyPath, otherwise: Any) -> Any:
    """The value as written, which readers may have changed before a check refused it."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return otherwise
    return data


def _unknown_key(path: KeyPath, root: type[BaseModel]) -> str:
    """Why a key is refused: what the section knows, what was meant, or where the key belongs."""
    section = _section_at(path[:-1], root)
    known = tuple(section.model_fields) if section else ()
    key = str(path[-1])
    hint = suggestion(key, known)
    elsewhere = [dotted(found) for found in leaf_paths(root) if found[-1] == key]
    if not hint and elsewhere:
        hint = f"; did you mean {elsewhere[0]}?"
    return f"is not a known key{hint or '; known here: ' + ', '.join(known)}"


def _section_at(path: KeyPath, root: type[BaseModel]) -> type[BaseModel] | None:
    """The section that holds the keys below a path; None where the next part is a name of the user's."""
    section: type[BaseModel] | None = root
    entries: type[BaseModel] | None = None  # of a mapping whose next part is a name
    for part in path:
        if entries is not None:
            section, entries = entries, None
        elif isinstance(part, str) and section is not None:
            field = section.model_fields.get(part)
            section = inner_section(field) if field else None
            if field is not None and holds_named_sections(field):
                section, entries = None, section
    return section


def _field_at(path: KeyPath, root: type[BaseModel]) -> FieldInfo | None:
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return None
    section = _section_at(tuple(names[:-1]), root)
    return section.model_fields.get(names[-1]) if section else None
