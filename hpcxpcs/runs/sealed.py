"""Sealed files: HDF5 behind a header that holds a hash, written whole, checked before they are parsed."""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcxpcs.errors import ForeignFile, FutureFile, OutputError, StoreError, TornFile
from hpcxpcs.files.atomic import atomic_open, keep_previous, reading, writing
from hpcxpcs.files.json_safe import json_safe

FORMAT = 1
HEADER_BYTES = 2048
"""HDF5 looks for its own signature here too, so that every HDF5 program opens a sealed file."""

_MAGIC = b"hpcxpcs-sealed "
_ATTRIBUTES = "attributes"
_LEFT_OVER_SECONDS = 3600.0


@dataclass(frozen=True)
class Header:
    """What the first bytes of a sealed file say; `length` and `sha256` are of all bytes after the header."""

    kind: str
    run_id: str
    name: str
    status: str
    progress: Mapping[str, Any]
    length: int
    sha256: str
    format: int = FORMAT


@dataclass(frozen=True, eq=False)
class Sealed:
    """Arrays and JSON attributes of one task or step; array names may hold "/"; `progress` is kept short."""

    kind: str
    run_id: str
    name: str
    status: str
    progress: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def previous_generation(path: Path) -> Path:
    """Return where the file that `path` has replaced last is kept."""
    return path.with_name(f"{path.stem}.prev{path.suffix}")


def write_sealed(path: Path, sealed: Sealed) -> None:
    """Replace `path` in one step, after reading the new file back; the old one stays as NAME.prev.h5."""
    body = _body(sealed)
    digest = hashlib.sha256(body).hexdigest()
    header = _header_block(
        Header(sealed.kind, sealed.run_id, sealed.name, sealed.status, sealed.progress, len(body), digest)
    )

    def verify(temporary: Path) -> None:
        with writing(path):
            _read_back(temporary, path)
            if _is_good(path, sealed):  # a torn file must not take the place of a good previous one
                keep_previous(path, previous_generation(path))

    with atomic_open(path, verify=verify) as stream, writing(path):
        stream.write(header)
        stream.write(body)
    _drop_left_overs(path)


def read_sealed(path: Path, *, kind: str, run_id: str) -> Sealed:
    """Read a sealed file of this run; TornFile, ForeignFile or FutureFile before any HDF5 is parsed."""
    with reading(path):
        try:
            with path.open("rb") as stream:
                header = _checked_header(stream, path)
                _require_ours(header, path, kind, run_id)
                arrays, attributes = _parsed(stream)
        except FileNotFoundError:
            raise StoreError(f"{path}: is missing: run the same command again to compute it") from None
    return Sealed(kind, run_id, header.name, header.status, header.progress, arrays, attributes)


def newest_good(path: Path, *, kind: str, run_id: str, warn: Callable[[str], None]) -> Sealed | None:
    """Read `path`, else its previous generation (saying why), else None; a foreign file is an error."""
    for candidate in (path, previous_generation(path)):
        if not os.path.lexists(candidate):
            continue
        try:
            return read_sealed(candidate, kind=kind, run_id=run_id)
        except TornFile as error:
            warn(str(error))
    return None


def damage(path: Path) -> str | None:
    """Say what is wrong with the content of a sealed file after reading all of it; None when it is whole or gone."""
    with reading(path):
        try:
            with path.open("rb") as stream:
                _checked_header(stream, path)
        except FileNotFoundError:
            return None
        except TornFile as error:
            return error.what
    return None


def peek(path: Path) -> Header | None:
    """Read only the header; None when the file is absent, cut short or has no readable header."""
    try:
        with path.open("rb") as stream:
            header = _read_header(stream, path)
            whole = os.fstat(stream.fileno()).st_size == HEADER_BYTES + header.length
            return header if whole else None
    except (OSError, StoreError):
        return None


def _body(sealed: Sealed) -> bytes:
    """The HDF5 file without its user block; equal content gives equal bytes."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=HEADER_BYTES) as file:
        for name, array in sorted(sealed.arrays.items()):
            _require_storable(name, array)
            file.create_dataset(name, data=array)
        file.create_dataset(_ATTRIBUTES, data=np.bytes_(_json(sealed.attributes)))
    return buffer.getvalue()[HEADER_BYTES:]


def _require_storable(name: str, array: np.ndarray) -> None:
    parts = name.split("/")
    if name == _ATTRIBUTES or "\0" in name or any(part in ("", ".") for part in parts):
        raise ValueError(f"{name!r} cannot name an array of a sealed file")
    if np.asarray(array).dtype.kind not in "biufc":
        raise TypeError(f"array {name!r} of {np.asarray(array).dtype} has no place in a sealed file")


def _parsed(stream: io.BufferedReader) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and attributes of a stream whose hash is right."""
    arrays: dict[str, np.ndarray] = {}

    def collect(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and name != _ATTRIBUTES:
            arrays[name] = np.asarray(item[()], item.dtype)

    with h5py.File(stream, "r") as file:
        file.visititems(collect)
        return arrays, json.loads(file[_ATTRIBUTES][()])


def _json(value: Any) -> str:
    return json.dumps(json_safe(value), separators=(",", ":"), allow_nan=False)


def _header_block(header: Header) -> bytes:
    """Magic, hash of the JSON text, the JSON text, zeros."""
    text = _json(asdict(header)).encode()
    block = _MAGIC + hashlib.sha256(text).hexdigest().encode() + b"\n" + text + b"\n"
    if len(block) > HEADER_BYTES:
        raise ValueError(f"{header.name}: progress is too long for a header of {HEADER_BYTES} bytes")
    return block.ljust(HEADER_BYTES, b"\0")


def _read_header(stream: io.BufferedReader, path: Path) -> Header:
    """The header at the start of a stream; TornFile or FutureFile when this program cannot use it."""
    block = stream.read(HEADER_BYTES)
    if not block:
        raise _torn(path, "is empty")
    if len(block) < HEADER_BYTES:
        raise _torn(path, f"ends after {len(block)} bytes")
    first, _, rest = block.partition(b"\n")
    text, newline, padding = rest.partition(b"\n")
    digest = first.removeprefix(_MAGIC)
    if not first.startswith(_MAGIC) or hashlib.sha256(text).hexdigest().encode() != digest:
        raise _torn(path, "does not begin with the header it was given")
    if not newline or padding.strip(b"\0"):
        raise _torn(path, "has something behind its header")
    fields = json.loads(text)
    if fields["format"] > FORMAT:
        raise FutureFile(
            f"{path}: has format {fields['format']}, this version of hpcxpcs reads up to {FORMAT}: "
            "use the version that wrote it"
        )
    return Header(**fields)


def _checked_header(stream: io.BufferedReader, path: Path) -> Header:
    """The header, after the length and the hash of everything behind it were found right."""
    header = _read_header(stream, path)
    length = os.fstat(stream.fileno()).st_size - HEADER_BYTES
    if length != header.length:
        raise _torn(path, f"holds {length} bytes of content instead of {header.length}")
    if hashlib.file_digest(stream, "sha256").hexdigest() != header.sha256:
        raise _torn(path, "does not have the hash it was given: it was altered or only partly written")
    stream.seek(0)
    return header


def _read_back(temporary: Path, path: Path) -> None:
    """Refuse to give a new file its name before the disk has returned what was written."""
    with temporary.open("rb") as stream:
        _forget_cached(stream)
        try:
            _checked_header(stream, temporary)
        except StoreError as error:
            raise OutputError(
                f"{path}: the disk does not return what was written to it: check the disk; the older file stays"
            ) from error


def _is_good(path: Path, sealed: Sealed) -> bool:
    """Whether `path` is a whole file of the same run and kind."""
    try:
        with path.open("rb") as stream:
            _require_ours(_checked_header(stream, path), path, sealed.kind, sealed.run_id)
    except (OSError, StoreError):
        return False
    return True


def _torn(path: Path, what: str) -> TornFile:
    return TornFile(f"{path}: {what}: remove it and run the same command again, which computes it anew", what)


def _require_ours(header: Header, path: Path, kind: str, run_id: str) -> None:
    if header.kind != kind:
        raise ForeignFile(f"{path}: is a {header.kind!r} file, not {kind!r}: move it out of the run folder")
    if header.run_id != run_id:
        raise ForeignFile(
            f"{path}: belongs to run {header.run_id}, not to {run_id}: "
            "move it out of the run folder, or start again with --fresh"
        )


def _forget_cached(stream: io.BufferedReader) -> None:
    """Let the next read come from the disk rather than from memory, where the system can."""
    with suppress(AttributeError, OSError):
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _drop_left_overs(path: Path) -> None:
    """Remove what writers of `path` that were killed long before this write have left."""
    with suppress(OSError):
        written = path.stat().st_mtime
        for name in (path.name, previous_generation(path).name):
            for left_over in path.parent.glob(f".{glob.escape(name)}.*.tmp"):
                if left_over.stat().st_mtime < written - _LEFT_OVER_SECONDS:
                    left_over.unlink(missing_ok=True)
