"""HDF5 files that can do no harm: nothing leads to another file, texts end, and packed chunks are as long as they say.

Filters of hdf5plugin trust the lengths that stand in the chunks. A wrong one ends in a crash (bitshuffle), or in a
chunk that is too short, behind which HDF5 reads on in memory that is not its own; so they are looked at before HDF5
unpacks them. Other damage is noticed by the filters themselves.
"""

from __future__ import annotations

import io
import itertools
import os
import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5l, h5z
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
ONE_FILE = "hpcxpcs reads one file and nothing that it points to; put all of it into one file (h5repack, h5copy)"


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
        references = np.frombuffer(stream.read(item.size * REFERENCE).ljust(item.size * REFERENCE, b"\0"), "<u4")
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


BUILT_IN = {1: "gzip", 4: "szip", 32000: "lzf"}
"""Compressions that HDF5 and h5py come with (szip not everywhere), by their registered number."""
SHUFFLE, FLETCHER = 2, 3
NO_COMPRESSION = (SHUFFLE, FLETCHER)
"""Filters that pack nothing: one orders bytes, one adds a checksum."""
OF_HDF5PLUGIN = {
    307: "bzip2",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32024: "SZ3",
    32026: "Blosc2",
    32028: "SPERR",
    32033: "HTJ2K",
}
"""Compressions that the package hdf5plugin brings, by their registered number."""
NAMES = BUILT_IN | OF_HDF5PLUGIN
LONGEST_NAME = 40
"""Characters of a filter's name as a file gives it; some put an address into it."""


def compression(item: Any) -> str:
    """Return the compression of a dataset by name, "none" for one that is not compressed and for plain arrays."""
    found = [_name(number, stored) for number, _, stored in pipeline(item) if number not in NO_COMPRESSION]
    return " + ".join(found) or "none"


def require_filters(item: Any, path: str) -> None:
    """Refuse a dataset packed with a filter that nobody here can undo; hdf5plugin is imported only if it is needed."""
    for position, (number, _, stored) in enumerate(pipeline(item)):
        if h5z.filter_avail(number):
            continue
        problem = _plugin_problem()
        if h5z.filter_avail(number) or not _in_use(item, position):
            continue
        remedy = (
            f"{problem}; pip install 'hpcxpcs[filters]' brings it"
            if number in OF_HDF5PLUGIN and problem
            else "neither HDF5 nor hdf5plugin has it; where the file was written, unpack it with h5repack -f GZIP=4, "
            "or name the folder of the filter's library in HDF5_PLUGIN_PATH"
        )
        packed = f"/{path} is packed with the HDF5 filter {_name(number, stored)} (number {number})"
        raise FormatError(f"{packed}, which is missing: {remedy}")


def pipeline(item: Any) -> list[tuple[int, tuple[int, ...], str]]:
    """Registered number, options and name (as the file says it) of every filter of a dataset, in their order."""
    if not isinstance(item, h5py.Dataset):
        return []
    made = item.id.get_create_plist()
    found = [made.get_filter(position) for position in range(made.get_nfilters())]
    return [(int(number), options, name.decode("utf-8", "replace")) for number, _, options, name in found]


def _name(number: int, stored: str) -> str:
    if number in NAMES:
        return NAMES[number]
    said = "".join(letter for letter in stored if letter.isprintable())[:LONGEST_NAME]
    return f'"{said}"' if said else "without a name"


def _in_use(item: h5py.Dataset, position: int) -> bool:
    """Tell whether a filter has worked on any chunk; the optional ones may have been left out of all."""
    return bool(item.id.chunk_iter(lambda chunk: True if not chunk.filter_mask >> position & 1 else None))


@cache
def _plugin_problem() -> str:
    """Give HDF5 the filters of hdf5plugin; return why this fails, "" when it does not."""
    try:
        import hdf5plugin  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "hdf5plugin":
            return f"hdf5plugin cannot be loaded ({error})"
        return "hdf5plugin is not installed"
    except (ImportError, OSError, RuntimeError) as error:
        return f"hdf5plugin cannot be loaded ({error})"
    return ""


LZ4_HEADER = struct.Struct(">QI")
"""Bytes of the chunk and of its blocks, as LZ4 and bitshuffle begin; each block then begins with its packed length."""
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BITSHUFFLE_LZ4, BITSHUFFLE_ZSTD = 2, 3


class CheckedDataset(h5py.Dataset):  # type: ignore[misc]
    """A packed dataset, of which only chunks with sound lengths are read."""

    def __getitem__(self, args: Any, new_dtype: Any = None) -> Any:
        for offset in _offsets(self, args):
            _require_sound(self, offset)
        return super().__getitem__(args, new_dtype=new_dtype)


def checked(item: Any, path: str) -> Any:
    """Return a dataset that is safe to read: itself, or one that looks at its chunks first."""
    packed = [number for number, _, _ in pipeline(item)]
    if not set(packed) & set(_SOUND):
        return item
    if [number for number in packed if number != FLETCHER][-1] not in _SOUND:
        raise FormatError(f"/{path} is packed twice; pack it once, with h5repack where it was written")
    if item.dtype.hasobject:
        raise FormatError(f"/{path} holds texts that are packed ({compression(item)}); write them as they are")
    return CheckedDataset(item.id)


def _offsets(item: h5py.Dataset, args: Any) -> Iterator[tuple[int, ...]]:
    """Where the chunks begin that a selection (numbers and slices) can touch."""
    chosen = list(args) if isinstance(args, tuple) else [args]
    if Ellipsis in chosen:
        at = chosen.index(Ellipsis)
        chosen[at : at + 1] = [slice(None)] * (item.ndim - len(chosen) + 1)
    chosen += [slice(None)] * (item.ndim - len(chosen))
    starts = []
    for one, length, chunk in zip(chosen, item.shape, item.chunks, strict=True):
        first, last = one.indices(length)[:2] if isinstance(one, slice) else (int(one), int(one) + 1)
        starts.append(range(first - first % chunk, last, chunk))
    return itertools.product(*starts)


def _require_sound(item: h5py.Dataset, offset: tuple[int, ...]) -> None:
    if not item.id.get_chunk_info_by_coord(offset).size:
        return
    skipped, content = item.id.read_direct_chunk(offset)
    itemsize = item.id.get_type().get_size()
    expected = itemsize
    for length in item.chunks:
        expected *= length
    for position, (number, options, _) in enumerate(pipeline(item)):
        known = _SOUND.get(number)
        if known and not skipped >> position & 1 and not known(content, expected, itemsize, options):
            raise OSError(f"{item.name}: the chunk at {offset} states lengths that cannot be")


def _lz4(content: bytes, expected: int, itemsize: int, options: tuple[int, ...]) -> bool:
    if len(content) < LZ4_HEADER.size:
        return False
    total, block = LZ4_HEADER.unpack_from(content)
    return total == expected and block > 0 and _blocks_fit(content, -(-total // block), 0)


def _bitshuffle(content: bytes, expected: int, itemsize: int, options: tuple[int, ...]) -> bool:
    """Blocks hold a multiple of 8 elements; what is left over at the end stands behind them as it is."""
    if len(options) < 3 or options[2] != itemsize:
        return False
    method = options[4] if len(options) > 4 else 0
    if method not in (BITSHUFFLE_LZ4, BITSHUFFLE_ZSTD):
        return method == 0 and len(content) == expected
    if len(content) < LZ4_HEADER.size:
        return False
    total, block = LZ4_HEADER.unpack_from(content)
    if total != expected or block == 0 or block % (8 * itemsize):
        return False
    full, rest = divmod(total // itemsize, block // itemsize)
    return _blocks_fit(content, full + (rest >= 8), rest % 8 * itemsize)


def _blocks_fit(content: bytes, blocks: int, after: int) -> bool:
    """Tell whether so many blocks, and some bytes after them, are inside a chunk."""
    at = LZ4_HEADER.size
    for _ in range(blocks):
        if at + 4 > len(content):
            return False
        at += 4 + int.from_bytes(content[at : at + 4], "big")
    return at + after <= len(content)


def _zstandard(content: bytes, expected: int, itemsize: int, options: tuple[int, ...]) -> bool:
    """The header of a frame: magic, flags, perhaps a window and a dictionary, and the length of the content."""
    if len(content) < 6 or content[:4] != ZSTD_MAGIC:
        return False
    flags = content[4]
    single = flags >> 5 & 1
    at = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    size = (single, 2, 4, 8)[flags >> 6]
    stated = int.from_bytes(content[at : at + size], "little") + (256 if size == 2 else 0)
    return stated == expected if size else True


def _blosc(content: bytes, expected: int, itemsize: int, options: tuple[int, ...]) -> bool:
    return len(content) >= 16 and int.from_bytes(content[4:8], "little") == expected


_SOUND: dict[int, Callable[[bytes, int, int, tuple[int, ...]], bool]] = {
    32001: _blosc,
    32004: _lz4,
    32008: _bitshuffle,
    32015: _zstandard,
}
"""How the lengths in a chunk are looked at, by the number of the filter."""
