"""Packed chunks are looked at before HDF5 unpacks them: the filters of hdf5plugin trust the lengths that stand in them.

A wrong length ends in a crash (bitshuffle), or in a chunk that is too short, behind which HDF5 reads on in memory that
is not its own. Other damage is noticed by the filters themselves.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from typing import Any

import h5py

from hpcxpcs.data.formats.filters import FLETCHER, compression, pipeline
from hpcxpcs.errors import FormatError

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
    if not set(packed) & set(CHECKS):
        return item
    if [number for number in packed if number != FLETCHER][-1] not in CHECKS:
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
        known = CHECKS.get(number)
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


CHECKS: dict[int, Callable[[bytes, int, int, tuple[int, ...]], bool]] = {
    32001: _blosc,
    32004: _lz4,
    32008: _bitshuffle,
    32015: _zstandard,
}
"""How the lengths in a chunk are looked at, by the number of the filter."""
