"""What may be read from, written to and removed: rules for paths that come from people and from files."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from hpcxpcs.errors import OutputError

LONGEST_NAME = 255
"""Bytes of one part of a path that file systems take."""
LONGEST_PATH = 4095
"""Bytes of a whole path that the kernel takes."""
LONGEST_FOLDER_NAME = 200
"""Bytes of the name of a folder that is made from another name: hidden neighbours add to it."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def path_problem(text: str) -> str | None:
    """Say why a text is no path, as a predicate; None when it can be one."""
    strange = next((c for c in text if not c.isprintable()), None)
    if strange is not None:
        return f"holds a character that does not belong in a path ({ascii(strange)[1:-1]})"
    parts = [os.fsencode(part) for part in text.split("/")]
    if max(map(len, parts)) > LONGEST_NAME or len(os.fsencode(text)) > LONGEST_PATH:
        return f"is too long for a path (parts have at most {LONGEST_NAME} bytes, the whole {LONGEST_PATH})"
    try:
        Path(text).expanduser()
    except RuntimeError:
        return f"begins with the home folder of a user that this machine does not know ({text.split('/')[0]})"
    return None


def not_a_file(path: Path) -> str | None:
    """Say what a path leads to when it is no ordinary file (a pipe or a device would be read without end).

    None for an ordinary file and for what is not there.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return next((words for test, words in _KINDS if test(mode)), None)


def folder_name(text: str) -> str:
    """Return a name for a folder of ours: `text` itself where it is harmless.

    What controls a terminal becomes `_`, as do a leading dash and leading dots; a name that is too long is cut.
    """
    harmless = "".join(c if c.isprintable() and c != "/" else "_" for c in text)
    begin = len(harmless) - len(harmless.lstrip("-."))
    harmless = "_" * begin + harmless[begin:]
    return harmless.encode()[:LONGEST_FOLDER_NAME].decode(errors="ignore") or "_"


def output_file(path: Path) -> Path:
    """Return the file that is written for a path: links are followed; refuse what is there and is no file."""
    kind = not_a_file(path)
    if kind is not None:
        raise OutputError(f"{path}: is {kind}, and a file would take its place: name another output file")
    return path.resolve() if path.is_symlink() else path


def refuse_link(path: Path, remedy: str) -> None:
    """Refuse to replace or remove a folder through a link, which would empty a folder elsewhere."""
    if path.is_symlink():
        raise OutputError(f"{path}: is a link to {path.readlink()}: {remedy}")


def refuse_foreign(folder: Path, marks: Sequence[str]) -> None:
    """Refuse to replace a folder with files in it of which none has the name of one of ours."""
    try:
        found = sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    if found and not set(marks) & set(found):
        raise OutputError(
            f"{folder}: holds files that hpcxpcs has not written ({', '.join(found[:3])}), and results take the place "
            "of the whole folder: move them, or name another run folder with --run"
        )
