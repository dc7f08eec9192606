"""Old configurations as ours, or one error that lists what cannot be understood or would change the answer."""

from __future__ import annotations

import shlex
from pathlib import Path

from hpcxpcs.config.dialects.recognise import dialect_of
from hpcxpcs.config.dialects.rules import Fate, Record
from hpcxpcs.config.dialects.translate import Translation, translated
from hpcxpcs.config.document import Document
from hpcxpcs.config.problems import NO_VALUE, Problem, config_error, dotted


def from_old(
    document: Document, base: Path | None, *, accept: bool = False, dialect: str | None = None
) -> Translation | None:
    """The translation of an old document, None for one of ours; ConfigError when it is not to be had.

    Without `accept` a dropped key that would change the answer is an error. `dialect` overrules recognition.
    """
    dialect = dialect or dialect_of(document.data)
    if dialect is None:
        return None
    translation = translated(document, dialect, base)
    problems = [*translation.problems, *([] if accept else answer_changes(translation, document))]
    if problems:
        ordered = sorted(problems, key=lambda problem: document.lines.get(problem.path, 0))
        raise config_error(ordered, document.place, document.name or "the configuration")
    return translation


def answer_changes(translation: Translation, document: Document) -> list[Problem]:
    """What would go and change the answer, each with the remedy."""
    name = shlex.quote(document.name) if document.name else "OLD"
    command = f"hpcxpcs config migrate {name} -o NEW --accept"
    by_key = {dotted(path): path for path in document.lines}
    problems = []
    for record in translation.records:
        if record.changes_answer:
            stays = record.fate in (Fate.RENAMED, Fate.REPLACED)
            verb = "is" if record.fate is Fate.UNKNOWN else "has no counterpart that gives the same answer:"
            way = "take what is nearest with" if stays else "leave it behind with"
            text = f"{verb} {record.why}; take it out, or {way} `{command}`"
            path = by_key.get(record.key, tuple(record.key.split(".")))
            problems.append(Problem(path, text, _shown(record.value)))
    return problems


def _shown(value: object) -> object:
    return NO_VALUE if isinstance(value, (dict, list)) else value


def warning(translation: Translation, document: Document) -> str:
    """One line that says what was read and how to see what became of it."""
    name = document.name or "the mapping"
    gone = sum(record.fate is Fate.DROPPED for record in translation.records)
    said = "".join(f"; {record.key} is {_said(record)}" for record in translation.records if record.aloud)
    how = f"`hpcxpcs config migrate {shlex.quote(document.name) if document.name else 'OLD'}` shows them"
    return (
        f"{name} is a configuration of {translation.dialect}, read with {translation.changes} changes "
        f"({gone} keys are not needed){said}; {how}"
    )


def _said(record: Record) -> str:
    """What became of a key that is named whenever its file is read."""
    known = {Fate.UNKNOWN: "", Fate.DROPPED: "dropped: "}
    return f"{known.get(record.fate, 'not given: ')}{record.why}"
