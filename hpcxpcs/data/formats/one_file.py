"""HDF5 files that stay within themselves: no name leads to another file, and no damaged text ends in a loop."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5l
from numpy.typing import NDArray

from hpcxpcs.errors import FormatError

MOST_HOPS = 16
"""Links that are followed on the way to one object."""
MOST_VALUES = 50_000_000
"""Values in the longest list (a map of the pixels of a detector) that is read at once; matrices are read in part."""
LARGEST_ATTRIBUTE = 1_000_000
"""Bytes of the largest attribute that is read."""
HEAP = b"GCOL\x01\x00\x00\x00"
"""How HDF5 begins the blocks in which it keeps texts of variable length."""
HEAP_HEADER = ENTRY_HEADER = 16
REFERENCE = 16
"""Bytes in which a dataset keeps the length (4) and the place of a text of variable length."""
ATTRIBUTE_FORMS = ((1, 8, 8), (2, 8, 1), (3, 9, 1))
"""Versions of how HDF5 writes an attribute: bytes in front of its name, and to what its parts are rounded up."""
VARIABLE_LENGTH = 9
"""Class of the types of variable length."""
LARGEST_HEAP_READ = 1 << 20
"""Bytes beyond which a read is one of numbers."""
ONE_FILE = (
    "hpcxpcs reads one file and nothing that it points to; put all of it into one file (h5repack, h5copy)"
)


class OneFile(h5py.File):  # type: ignore[misc]
    """An HDF5 file, opened for reading, in which names that lead to another file are refused."""

    def __contains__(self, name: Any) -> bool:
        refuse_elsewhere(self, name)
        return bool(super().__contains__(name))

    def __getitem__(self, name: Any) -> Any:
        refuse_elsewhere(self, name)
        return super().__getitem__(name)


def refuse_elsewhere(group: h5py.Group, path: Any, hops: int = 0) -> None:
    """Refuse a path, from a group, on which there is a link to another file, device or pipe; it is not followed."""
    if not isinstance(path, str):
        return
    place = "/" if path.startswith("/") else ""
    for part in filter(None, path.split("/")):
        place += part
        target = _link(group, place)
        if isinstance(target, tuple):
            file, inside = (name.decode("utf-8", "replace") for name in target)
            raise FormatError(f"/{place.strip('/')} is a link to another file ({file}, {inside}); {ONE_FILE}")
        if isinstance(target, bytes) and hops < MOST_HOPS:
            above = place[: -len(part)]
            named = target.decode("utf-8", "surrogateescape")
            refuse_elsewhere(group, named if named.startswith("/") else above + named, hops + 1)
        place += "/"


def _link(group: h5py.Group, path: str) -> tuple[bytes, bytes] | bytes | None:
    """Where a link leads: to a file and a path in it, to a path in this one, None for what is here or is not."""
    links, name = group.id.links, path.encode("utf-8", "surrogateescape")
    try:
        if links.get_info(name).type in (h5l.TYPE_EXTERNAL, h5l.TYPE_SOFT):
            target: tuple[bytes, bytes] | bytes = links.get_val(name)
            return target
    except (KeyError, RuntimeError, ValueError):
        pass  # whoever asks for the object itself is told what is wrong
    return None


def refuse_outside(item: Any, path: str) -> None:
    """Refuse a dataset whose values are in another file."""
    if not isinstance(item, h5py.Dataset):
        return
    made = item.id.get_create_plist()
    files = [made.get_external(k)[0] for k in range(made.get_external_count())]
    if made.get_layout() == h5d.VIRTUAL:
        files += [made.get_virtual_filename(k) for k in range(made.get_virtual_count())]
    outside = [os.fsdecode(name) for name in files if os.fsdecode(name) != "."]
    if outside:
        raise FormatError(f"/{path} has its values in another file ({outside[0]}); {ONE_FILE}")


def values_of(item: Any, path: str) -> NDArray[Any]:
    """Return all values of a list or a number that a file holds; texts of variable length only if they are sound."""
    if np.prod(item.shape, dtype=float) > MOST_VALUES:
        raise FormatError(f"/{path} has shape {tuple(item.shape)}: too many values for a list")
    if isinstance(item, h5py.Dataset) and item.dtype.hasobject:
        _require_texts(item.dtype, f"/{path}")
        _require_short(item, path)
        with SoundHeaps(Path(item.file.filename)) as stream, h5py.File(stream, "r") as file:
            return np.asarray(file[item.name][()])
    return np.asarray(item[()])


def attribute(item: Any, name: str) -> Any:
    """Return an attribute of an object, None when it has none of this name."""
    attributes: Any = getattr(item, "attrs", {})
    if name not in attributes:
        return None
    stored, words = attributes.get_id(name), f"{item.name}: attribute {name}"
    if stored.get_storage_size() > LARGEST_ATTRIBUTE:
        raise FormatError(f"{words} has {stored.get_storage_size()} bytes; a text or a number is needed")
    if not stored.dtype.hasobject:
        return attributes[name]
    _require_texts(stored.dtype, words)
    with SoundHeaps(Path(item.file.filename)) as stream, h5py.File(stream, "r") as file:
        found = file[item.name]
        found.attrs.get_id(name)
        if stream.longest_text(name) > LARGEST_ATTRIBUTE:
            raise FormatError(f"{words} is a text of impossible length; copy or write the file again")
        return found.attrs[name]


def _require_texts(dtype: np.dtype[Any], words: str) -> None:
    if h5py.check_string_dtype(dtype) is None:
        raise FormatError(f"{words} holds values of type {dtype}; texts or numbers are needed")


def _require_short(item: h5py.Dataset, path: str) -> None:
    """Refuse texts with a length that a damaged file only claims: HDF5 asks for that much memory first."""
    place = item.id.get_offset()
    if place is None:
        return
    with Path(item.file.filename).open("rb") as stream:
        stream.seek(place)
        references = np.frombuffer(
            stream.read(item.size * REFERENCE).ljust(item.size * REFERENCE, b"\0"), "<u4"
        )
    if references[:: REFERENCE // 4].max(initial=0) > LARGEST_ATTRIBUTE:
        raise FormatError(f"/{path} holds texts of impossible length; copy or write the file again")


class SoundHeaps(io.RawIOBase):
    """The bytes of a file for HDF5, which never returns from a block of texts with an entry of no length."""

    def __init__(self, path: Path) -> None:
        self.stream = path.open("rb", buffering=0)
        self.place = 0
        self.blocks: list[bytes] = []

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, counted from the start or the end of the file."""
        self.place = offset if whence == os.SEEK_SET else os.fstat(self.stream.fileno()).st_size + offset
        return self.place

    def tell(self) -> int:
        """Return the place of the next read."""
        return self.place

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, and refuse it when a block of texts that is not sound begins in it."""
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view):
            count = os.preadv(self.stream.fileno(), [view[done:]], self.place + done)
            if count == 0:
                raise OSError(f"the file ends at byte {self.place + done}")
            done += count
        if done <= LARGEST_HEAP_READ:
            self.blocks.append(bytes(view))
            self._require_sound(self.blocks[-1])
        self.place += done
        return done

    def _require_sound(self, block: bytes) -> None:
        at = block.find(HEAP)
        while at >= 0:
            self._require_sound_heap(self.place + at)
            at = block.find(HEAP, at + 1)

    def _require_sound_heap(self, place: int) -> None:
        """Go through the entries of a block of texts: each has a length, and they end where the block does."""
        (size,) = struct.unpack("<Q", os.pread(self.stream.fileno(), HEAP_HEADER, place)[8:].ljust(8, b"\0"))
        heap = os.pread(self.stream.fileno(), min(size, 1 << 28), place)
        at = HEAP_HEADER
        while at + ENTRY_HEADER <= len(heap):
            number, length = struct.unpack_from("<H6xQ", heap, at)
            step = ENTRY_HEADER + -(-length // 8) * 8 if number else length
            if step < ENTRY_HEADER or at + step > size:
                raise FormatError(
                    f"the texts of the file are damaged (the block at byte {place}); copy or write the file again"
                )
            at += step

    def longest_text(self, name: str) -> int:
        """Return the length that an attribute of this name claims to have, as far as it has been read: HDF5 would
        ask for that much memory before it looks further."""
        wanted = name.encode() + b"\0"
        return max((_claimed(block, wanted) for block in self.blocks), default=0)

    def close(self) -> None:
        """Close the file."""
        self.stream.close()
        super().close()


def _claimed(block: bytes, name: bytes) -> int:
    """Return the largest length of a text among the attributes of a name in a block of a file."""
    largest, at = 0, block.find(name)
    while at >= 0:
        for version, head, step in ATTRIBUTE_FORMS:
            if at < head or block[at - head] != version:
                continue
            sizes = struct.unpack_from("<HHH", block, at - head + 2)
            kind, place = (
                at + -(-sizes[0] // step) * step,
                at + sum(-(-size // step) * step for size in sizes),
            )
            if sizes[0] == len(name) and place + 4 <= len(block) and block[kind] & 0x0F == VARIABLE_LENGTH:
                largest = max(largest, *struct.unpack_from("<I", block, place))
        at = block.find(name, at + 1)
    return largest
