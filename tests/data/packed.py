"""Files as beamlines write them: datasets packed again with filters that HDF5 does not come with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from h5py import h5d, h5p, h5s, h5t

FILTERS: dict[str, dict[str, Any]] = {
    "bitshuffle": dict(hdf5plugin.Bitshuffle()),
    "bitshuffle and Zstandard": dict(hdf5plugin.Bitshuffle(cname="zstd")),
    "LZ4": dict(hdf5plugin.LZ4()),
    "Zstandard": dict(hdf5plugin.Zstd()),
    "Blosc": dict(hdf5plugin.Blosc()),
    "Blosc2": dict(hdf5plugin.Blosc2()),
}
NOBODYS = 511
"""A number of the range that HDF5 keeps for tests; no library has it."""


def pack(path: Path, options: dict[str, Any], least: int = 100) -> list[str]:
    """Pack every numeric dataset of a file with at least so many values, and return their names."""
    packed: list[str] = []
    with h5py.File(path, "r+", locking=False) as file:
        file.visititems(lambda name, item: packed.append(name) if _numeric(item, least) else None)
        for name in packed:
            values, attributes = file[name][()], dict(file[name].attrs)
            chunks = file[name].chunks or values.shape
            del file[name]
            file.create_dataset(name, data=values, chunks=chunks, **options).attrs.update(attributes)
    return packed


def _numeric(item: Any, least: int) -> bool:
    return isinstance(item, h5py.Dataset) and item.shape != () and item.dtype.kind in "fiu" and item.size >= least


def pack_as_nobody_can_read(path: Path, name: str, *, skipped: bool = False) -> None:
    """Put in the place of a dataset one with a filter of an unknown number, which its chunk may have skipped."""
    with h5py.File(path, "r+", locking=False) as file:
        values = np.ascontiguousarray(file[name][()])
        del file[name]
        made = h5p.create(h5p.DATASET_CREATE)
        made.set_chunk(values.shape)
        made.set_filter(NOBODYS, 1, ())
        space, kind = h5s.create_simple(values.shape), h5t.py_create(values.dtype)
        dataset = h5d.create(file.id, name.encode(), kind, space, made)
        dataset.write_direct_chunk((0,) * values.ndim, values.tobytes(), filter_mask=int(skipped))
