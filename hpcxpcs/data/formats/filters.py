"""How datasets are packed: names of the compression filters, and those that HDF5 has to be given before it can read."""

from __future__ import annotations

from functools import cache
from typing import Any

import h5py
from h5py import h5z

from hpcxpcs.errors import FormatError

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
