"""File layouts with two-time matrices: recognised by content, read lazily, and written.

`write(name, path, stack)` writes a Stack in one of the FORMATS; `open_file(path)` reads them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from hpcxpcs.data.formats import cube, legacy, nexus, nxxpcs, viewer
from hpcxpcs.data.formats.layout import AbsentBin, BinInfo, Layout, Stack, read_matrix
from hpcxpcs.data.formats.source import Source, named, opened, top_of_tree
from hpcxpcs.data.formats.truth import has_truth, read_truth
from hpcxpcs.errors import FormatError

FORMATS: dict[str, ModuleType] = {module.NAME: module for module in (nexus, legacy, cube, nxxpcs, viewer)}

__all__ = [
    "FORMATS",
    "AbsentBin",
    "BinInfo",
    "Layout",
    "Stack",
    "detect",
    "has_truth",
    "open_file",
    "open_layout",
    "read_matrix",
    "read_truth",
    "write",
]

UNFINISHED = ".temp"
"""How the name of a result ends while the correlator writes it."""
G2_RESULTS = ("xpcs/multitau/normalized_g2", "exchange/norm-0-g2", "xpcs/g2/g2", "entry/data/g2")
"""Where the layouts keep g2; a file may hold it without two-time matrices."""


def _module(name: str) -> ModuleType:
    if name not in FORMATS:
        raise FormatError(f"experimental_data.format: {name!r} is not a known format; known: {', '.join(FORMATS)}")
    return FORMATS[name]


def _unknown(source: Source) -> FormatError:
    looked_for = "\n".join(f"  {name}: {module.LOOKS_FOR}" for name, module in FORMATS.items())
    tree = "\n".join(f"  {line}" for line in top_of_tree(source)) or "  nothing at all"
    hint = ""
    if any(path in source for path in G2_RESULTS):
        hint = "\nThis is a multi-tau (g2) result: it holds no two-time matrices."
    return FormatError(f"no known two-time layout. Looked for\n{looked_for}\nThe file has\n{tree}{hint}")


def _detect_in(source: Source) -> str:
    for name, module in FORMATS.items():
        if module.detect(source):
            return name
    raise _unknown(source)


def detect(path: Path) -> str:
    """Return the name of the format a file is in, decided by its contents alone."""
    with named(path), opened(path) as source:
        return _detect_in(source)


def open_layout(source: Source, name: str = "auto") -> Layout:
    """Describe an open file; "auto" recognises the format."""
    if name == "auto":
        name = _detect_in(source)
    elif not _module(name).detect(source):
        raise FormatError(f"experimental_data.format is {name}, but the file has no {_module(name).LOOKS_FOR}")
    layout: Layout = _module(name).open_layout(source)
    return layout


@contextmanager
def open_file(path: Path, name: str = "auto") -> Iterator[Layout]:
    """Open a file and describe it; matrices can be read (`layout.read(bin)`) until the block ends."""
    with named(path), opened(path) as source:
        layout = open_layout(source, name)
        if path.suffix == UNFINISHED:
            layout = replace(layout, notes=(*layout.notes, f"warning: {path.name} may still be being written"))
        yield layout


def write(name: str, path: Path, stack: Stack) -> None:
    """Write a stack of matrices as one file in one of the FORMATS.

    A cube whose path ends in .npz is written as NPZ. The file appears under its name when it is complete.
    """
    module = _module(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.temp{path.suffix}")
    try:
        module.write(unfinished, stack)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
