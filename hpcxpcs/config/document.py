"""YAML and JSON text as plain data that remembers the line of every key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hpcxpcs.config.problems import KeyPath, Problem, config_error
from hpcxpcs.config.values import number_from_text
from hpcxpcs.errors import ConfigError
from hpcxpcs.files.places import not_a_file

# More values than this in one file is an alias bomb, not a configuration.
_MOST_VALUES = 100_000
_MOST_BYTES = 10_000_000
_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset(
    f"{_TAG}{kind}" for kind in ("map", "seq", "str", "null", "bool", "int", "float", "timestamp", "merge", "value")
)


@dataclass(frozen=True)
class FileKind:
    """What a file ought to be, in the words of its errors: a key that it has, and where to get one."""

    key: str
    template: str


CONFIGURATION = FileKind("analysis_mode", "`hpcxpcs config new MODEL` prints a template")


@dataclass
class Document:
    """Plain data, the line (from 1) of every key and list item, and what is wrong with the text itself.

    origins: for data translated from an older program, the path in the file that the value at a path comes from.
    """

    data: Any
    name: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    set_on_command_line: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    origins: Mapping[KeyPath, KeyPath] = field(default_factory=dict)

    def as_in_the_file(self, path: KeyPath) -> KeyPath:
        """The path by which the file, possibly an older program's, knows what is at a path of the data."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.set_on_command_line:
                return path
            if path[:length] in self.origins:
                origin = self.origins[path[:length]]
                rest = path[length:]
                return (*origin, *rest) if (*origin, *rest) in self.lines else origin
        return path

    def place(self, path: KeyPath) -> str:
        """`file:line: ` of the key, or of the nearest key above it that is written down."""
        if (override := self._made_by_override(path)) is not None:
            return f"--set {override}: "
        for length in range(len(path), -1, -1):
            if path[:length] in self.set_on_command_line:
                return f"--set {self.set_on_command_line[path[:length]]}: "
            if path[:length] in self.lines:
                return f"{self.name}:{self.lines[path[:length]]}: "
        return f"{self.name}: " if self.name else ""

    def _made_by_override(self, path: KeyPath) -> str | None:
        """The override that made a section which the file does not have."""
        for made, override in self.set_on_command_line.items():
            if path and path not in self.lines and made[: len(path)] == path:
                return override
        return None


HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""First bytes of an HDF5 file."""


def read_document(path: Path, kind: FileKind = CONFIGURATION) -> Document:
    """The content of a YAML or JSON file; ConfigError when it is not readable text of either kind."""
    kind_of_file = not_a_file(path)
    if kind_of_file is not None and not path.is_dir() and not path.absolute().is_relative_to("/dev"):
        raise ConfigError(f"{path}: is {kind_of_file}, not a file")
    content = b""
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)  # a file may never end
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if content.startswith(HDF5_SIGNATURE):
            raise ConfigError(f"{path}: is an HDF5 data file; give the configuration that names it") from None
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except FileNotFoundError:
        remedy = f"`hpcxpcs config new MODEL -o {path}` writes one" if kind is CONFIGURATION else kind.template
        raise ConfigError(f"{path}: no such file; {remedy}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path}: has more than {_MOST_BYTES:,} bytes, which is no text of settings")
    is_json = path.suffix.lower() == ".json" or text.lstrip().startswith("{")
    return parse_document(text, str(path), as_json=is_json, kind=kind)


def parse_document(text: str, name: str, *, as_json: bool = False, kind: FileKind = CONFIGURATION) -> Document:
    """The mapping that a YAML or JSON text holds; ConfigError when it is malformed or holds no mapping."""
    if as_json:
        text = _strict_json(text, name)
    document = Document(data=None, name=name)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            document.data = _Builder(document).build(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{name}{line}: malformed YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: malformed YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{name}: is nested too deeply") from None
    return _checked(document, kind)


def _checked(document: Document, kind: FileKind) -> Document:
    if document.data is None:
        raise ConfigError(f"{document.name}: is empty; {kind.template}")
    if document.problems:
        raise config_error(document.problems, document.place, document.name)
    if not isinstance(document.data, dict):
        found = "a list" if isinstance(document.data, list) else "a single value"
        raise ConfigError(f"{document.name}: holds {found}, but must hold keys such as {kind.key}")
    return document


def _strict_json(text: str, name: str) -> str:
    """The same JSON with tabs as blanks, which YAML reads at the same lines; ConfigError when malformed."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{name}:{error.lineno}: malformed JSON: {error.msg}") from None
    except RecursionError:
        raise ConfigError(f"{name}: is nested too deeply") from None
    return text.replace("\t", " ")


def parse_value(text: str) -> Any:
    """The value that a command-line text such as "0.1", "[1, 2]" or "{min: 1, max: 2}" spells in YAML."""
    document = Document(data=None, name="")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = None if node is None else _Builder(document).build(node, ())
    except (yaml.YAMLError, RecursionError):
        raise ConfigError("the value is malformed; quote it, or check its brackets") from None
    if document.problems:
        raise config_error(document.problems, lambda path: "", "the value")
    return value


class _Builder:
    """Turns YAML nodes into plain data, noting lines, repeated keys and foreign tags."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.count += 1
        if self.count > _MOST_VALUES:
            raise ConfigError(f"{self.document.name}: holds more than {_MOST_VALUES} values")
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if node.tag not in _TAGS:
            self.document.problems.append(Problem(path, f"has the tag {node.tag}, which is not allowed"))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(str(node.value), node.tag)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.document.problems.append(Problem(path, "has a key that is not plain text"))
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            if key in found:
                first = self.document.lines[(*path, key)]
                self.document.problems.append(Problem((*path, key), f"is given in lines {first} and {line}; keep one"))
                continue
            self.document.lines[(*path, key)] = line
            found[key] = self.build(value_node, (*path, key))
        return found


def _scalar(text: str, tag: str) -> Any:
    """The plain value of a YAML scalar; numbers in a spelling that is not ours stay text."""
    if tag == f"{_TAG}null":
        return None
    if tag == f"{_TAG}bool":
        return text.lower() in ("yes", "true", "on")
    if tag in (f"{_TAG}int", f"{_TAG}float"):
        number = number_from_text(text)
        return text if number is None else number
    return _joined_surrogates(text)


def _joined_surrogates(text: str) -> str:
    r"""Text in which the two halves that JSON writes as \ud83d\ude00 are one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def as_plain(value: object) -> Any:
    """A deep copy of nested mappings and sequences as dicts with text keys and lists."""
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    return value
