"""Damaged data files: every seed makes one, the same each time, from small files of every layout."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcxpcs.data.formats import FORMATS, nxxpcs, write
from tests.data.packed import FILTERS, pack
from tests.data.stacks import stack_of

Q = 0.005
SIGNATURES = (
    b"TREE",
    b"SNOD",
    b"HEAP",
    b"GCOL",
    b"OHDR",
    b"OCHK",
    b"FRHP",
    b"FHDB",
    b"BTHD",
    b"BTLF",
    b"\x89HDF",
)
"""How the parts of an HDF5 file that describe the others begin."""


@cache
def originals() -> tuple[bytes, ...]:
    """Whole files: each layout, compressed, packed and not, with the first and with the latest form of HDF5."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole.h5"
        for compression in ("none", "lzf", "gzip"):
            for put in _writers():
                truth = {"D0": 1.0, "model": "static", "q": Q}
                put(path, stack_of([Q, Q, 0.01], [0.0, 90.0, 0.0], 14, compression=compression, truth=truth))
                made.append(path.read_bytes())
                if compression == "lzf":
                    made.append(_in_latest_form(path))
                path.unlink()
        return (*made, *_packed(path))


def _packed(path: Path) -> Iterator[bytes]:
    """Files with every filter that hdf5plugin has to undo, twice: what is damaged in them is mostly packed values."""
    for options in FILTERS.values():
        for name in ("nexus", "cube"):
            write(name, path, stack_of([Q, Q, 0.01], [0.0, 90.0, 0.0], 40))
            pack(path, options)
            yield path.read_bytes()
            path.unlink()


def _writers() -> list[Callable[[Path, Any], None]]:
    plain = [lambda path, stack, name=name: write(name, path, stack) for name in FORMATS]
    keys = [
        lambda path, stack, storage=storage: nxxpcs.write(path, stack, storage=storage)
        for storage in ("data_exchange_keys", "one_array_q_last")
    ]
    return [*plain, *keys]


def _in_latest_form(path: Path) -> bytes:
    other = path.with_name("latest.h5")
    with h5py.File(path) as old, h5py.File(other, "w", libver="latest") as new:
        for name in old:
            old.copy(name, new)
    content = other.read_bytes()
    other.unlink()
    return content


def mutate(seed: int, path: Path) -> None:
    """Write the damaged file of a seed."""
    draw = random.Random(f"file {seed}")
    content = draw.choice(originals())
    how = draw.choices((bits, described, texts, cut, stretched, rebuilt), (22, 22, 6, 10, 5, 35))[0]
    path.unlink(missing_ok=True)
    if how is rebuilt:
        path.write_bytes(content)
        with suppress(KeyError, OSError, RuntimeError, TypeError, ValueError):  # what h5py refuses to write
            for _ in range(draw.choice((1, 1, 2, 4))):
                rebuilt(path, draw)
    else:
        path.write_bytes(how(bytearray(content), draw))


def bits(content: bytearray, draw: random.Random) -> bytes:
    """Bits turned over anywhere."""
    for _ in range(draw.choice((1, 2, 8, 64))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def described(content: bytearray, draw: random.Random) -> bytes:
    """Bytes changed where the file describes itself."""
    starts = [at for mark in SIGNATURES for at in _all(content, mark)]
    for _ in range(draw.choice((1, 1, 2, 6))):
        at = min(draw.choice(starts) + draw.choice((4, 8, 16, 40, 120, 400)) + draw.randrange(64), len(content) - 8)
        size = draw.choice((1, 1, 2, 8))
        value = draw.choice(
            (bytes(size), b"\xff" * size, draw.randbytes(size), bytes(content[:size]), b"\x01" + bytes(7))
        )
        content[at : at + size] = value[:size]
    return bytes(content)


def texts(content: bytearray, draw: random.Random) -> bytes:
    """Blocks of texts of variable length with lengths that cannot be, or what a disk leaves of them: zeros."""
    starts = _all(content, b"GCOL")
    if not starts:
        return bits(content, draw)
    start = draw.choice(starts)
    places = [start + 16, start + 24, start + 40, start + 8, start - 16]
    places += [at - 4 for at in _all(content, start.to_bytes(8, "little"))]
    at = draw.choice(places)
    length = draw.choice((4, 8, 16, 200))
    filling = draw.choice((bytes(length), b"\xff" * length, (b"\xf0" + b"\xff" * 7) * 25, draw.randbytes(length)))
    content[at : at + length] = filling[:length]
    return bytes(content)


def _all(content: bytearray, mark: bytes) -> list[int]:
    found, at = [], content.find(mark)
    while at >= 0:
        found.append(at)
        at = content.find(mark, at + 1)
    return found


def cut(content: bytearray, draw: random.Random) -> bytes:
    """The end, or a piece of the middle, is missing."""
    at, length = draw.randrange(len(content)), draw.choice((1, 8, 512, 4096))
    return bytes(
        draw.choice((content[:at], content[:at] + content[at + length :], content[:at] + bytes(len(content) - at)))
    )


def stretched(content: bytearray, draw: random.Random) -> bytes:
    """Pieces that are put elsewhere, or that do not belong there."""
    at, other, length = (
        draw.randrange(len(content)),
        draw.randrange(len(content)),
        draw.choice((8, 64, 512, 2048)),
    )
    return bytes(
        draw.choice(
            (
                content + draw.randbytes(length),
                content[:at] + draw.randbytes(length) + content[at:],
                content[:at] + content[other : other + length] + content[at + length :],
                bytes(512) + content,
                draw.randbytes(8) + content[8:],
            )
        )
    )


def rebuilt(path: Path, draw: random.Random) -> None:
    """Something else in the place of an object or an attribute, in a file that HDF5 finds in order."""
    with h5py.File(path, "r+", locking=False) as file:
        names: list[str] = []
        file.visit(names.append)
        if not names:
            return
        name = draw.choice(names)
        draw.choice((_replaced, _replaced, _reshaped, _attributed, _attributed, _linked, _renamed, _filled))(
            file, name, draw
        )


def _replaced(file: h5py.File, name: str, draw: random.Random) -> None:
    del file[name]
    value = draw.choice(REPLACEMENTS)
    if value is None:
        return
    if isinstance(value, dict):
        file.create_dataset(name, **value)
    elif isinstance(value, str) and value == "group":
        file.create_group(name)
    else:
        file[name] = value


def _reshaped(file: h5py.File, name: str, draw: random.Random) -> None:
    item = file.get(name)
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiu" or not 0 < item.size < 100_000:
        return
    value = item[()]
    del file[name]
    file[name] = draw.choice(
        (
            lambda: np.asarray(value).astype(draw.choice(("i1", "f2", "f4", "c8", "S4", "u8", ">f8", "?"))),
            lambda: np.asarray(value)[None],
            lambda: np.asarray(value).reshape(-1),
            lambda: np.asarray(value).reshape(-1)[: draw.randrange(3)],
            lambda: np.concatenate([np.atleast_1d(value)] * 3),
            lambda: np.asarray(value) * draw.choice((np.nan, np.inf, -1.0, 0.0, 1e300, 1e-300, 1e30)),
            lambda: np.asarray(value).T,
        )
    )()


def _attributed(file: h5py.File, name: str, draw: random.Random) -> None:
    attributes = file[name].attrs
    key = draw.choice([*attributes, "units", "storage_mode", "baseline_reference", "json", "NX_class"])
    attributes[key] = draw.choice(ATTRIBUTES)


def _linked(file: h5py.File, name: str, draw: random.Random) -> None:
    del file[name]
    file[name] = draw.choice(
        (
            h5py.SoftLink("/"),
            h5py.SoftLink("/nowhere"),
            h5py.SoftLink(f"/{name}"),
            h5py.ExternalLink("/dev/zero", "/a"),
            h5py.ExternalLink("nowhere.h5", "/a"),
            h5py.ExternalLink("mutated.h5", f"/{name}"),
            file,
        )
    )


def _renamed(file: h5py.File, name: str, draw: random.Random) -> None:
    file.move(name, f"{name}{draw.choice(('1', 'x', '/y', '_00009', ' ', 'é'))}")


def _filled(file: h5py.File, name: str, draw: random.Random) -> None:
    item = file.get(name)
    if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and 0 < item.size < 100_000:
        item[...] = draw.choice((np.nan, np.inf, 0.0, -1.0, 1e38, 1e-38, 1.0))


def _virtual() -> dict[str, Any]:
    return {"shape": (14, 14), "dtype": "f4", "external": [("/dev/zero", 0, 14 * 14 * 4)]}


REPLACEMENTS: tuple[Any, ...] = (
    None,
    "group",
    "text",
    b"\xff\xfe\x00",
    3.5,
    np.nan,
    -1,
    2**63 - 1,
    np.zeros(0),
    np.zeros((0, 14, 14)),
    np.ones((2, 3, 4, 5, 6)),
    np.array([b"a", b"b"], dtype=object),
    np.array(["x" * 70_000] * 2, dtype=object),
    np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]),
    np.arange(5000.0),
    h5py.Empty("f8"),
    {"shape": (10**6, 10**6), "dtype": "f4", "chunks": (1000, 1000)},
    {"shape": (10**12,), "dtype": "f8", "chunks": (1000,)},
    {"shape": (3, 40_000, 40_000), "dtype": "f4", "chunks": (1, 1000, 1000)},
    {"shape": (14, 14), "dtype": "f4", "chunks": (7, 7), "fletcher32": True},
    {"shape": (2,), "dtype": h5py.vlen_dtype(np.float64)},
    {"shape": (14, 14), "dtype": h5py.enum_dtype({"a": 1, "b": 2})},
    {"shape": (3,), "dtype": h5py.ref_dtype},
    {"shape": (14, 14), "dtype": "V7"},
    _virtual(),
)
ATTRIBUTES: tuple[Any, ...] = (
    *("", "x" * 60_000, b"\xff\xfe", "nm-1", "furlongs", "a\nb", 0, -1, 3.5, np.nan, 2**62, h5py.Empty("f8")),
    *(
        np.arange(7000.0),
        np.array([b"a", b"b"], dtype=object),
        np.zeros(2, dtype=[("a", "f8")]),
        True,
        "\x1b[31mred",
    ),
)
