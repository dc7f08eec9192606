"""Print time and memory of correlating frames: 1000 frames, 23 bins, 1e5 pixels that are used.

usage: python -m bench.correlate [FRAMES] [PIXELS] [THREADS]

Memory is what the process takes at most beyond what it had before, over frames × used pixels × 4 bytes.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from hpcxpcs.data.formats.nexus import FRAME_TIME
from hpcxpcs.data.formats.qmap import Axis, Bins, Partition
from hpcxpcs.files.process_memory import peak_memory, resident_memory
from hpcxpcs.frames.correlate import CorrelatorSettings, correlate
from hpcxpcs.frames.geometry import Geometry, maps_of
from hpcxpcs.frames.schemas import QMap, write_partition

BINS, STATIC = 23, 10
"""Dynamic bins, and static ones in each."""
PHOTONS = 0.5


def made(folder: Path, frames: int, pixels: int) -> tuple[Path, Path]:
    """Frames of independent photons, with every tenth pixel unused, and a partition of stripes."""
    rows = int(np.sqrt(pixels / 0.9))
    columns = -(-pixels * 10 // (9 * rows))
    rng = np.random.default_rng(0)
    used = np.arange(rows * columns).reshape(rows, columns) % 10 > 0
    place = np.cumsum(used.ravel()).reshape(used.shape) - 1
    static = np.where(used, place * (BINS * STATIC) // int(used.sum()) + 1, 0).astype(np.int32)
    dynamic = np.where(used, (static - 1) // STATIC + 1, 0).astype(np.int32)
    q = 0.005 * np.arange(1, BINS + 1)
    fine = np.linspace(q[0], q[-1], BINS * STATIC)
    phi = Axis("phi", np.zeros(1))
    levels = [
        Bins(labels, (Axis("q", axis), phi), np.arange(len(axis))) for labels, axis in ((dynamic, q), (static, fine))
    ]
    geometry = Geometry(columns / 2, rows / 2, 5000.0, 0.075, 1.0, (rows, columns))
    partition = Partition(used, *levels, geometry.aps())
    write_partition(folder / "partition.h5", partition, QMap(maps_of(geometry), used, geometry), "linear")
    with h5py.File(folder / "frames.h5", "w") as file:
        data = file.create_dataset("entry/data/data", (frames, rows, columns), "u2", chunks=(10, rows, columns))
        for begin in range(0, frames, 100):
            data[begin : begin + 100] = rng.poisson(PHOTONS, (min(100, frames - begin), rows, columns))
        file[FRAME_TIME] = 1e-3
    return folder / "frames.h5", folder / "partition.h5"


def main(frames: int = 1000, pixels: int = 100_000, threads: int = 2) -> None:
    """One line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        maker = multiprocessing.get_context("spawn").Process(target=made, args=(folder, frames, pixels))
        maker.start()
        maker.join()
        before, began, cpu = resident_memory() or 0, time.perf_counter(), time.process_time()
        done = correlate(
            folder / "frames.h5", folder / "partition.h5", folder / "result.hdf", CorrelatorSettings(threads=threads)
        )
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        kept = frames * done.pixels * 4
        print(
            f"{frames} frames x {done.pixels} pixels, {done.bins} bins, {threads} threads of {os.cpu_count()} cores: "
            f"{seconds:.1f} s, {cpu:.1f} CPU s, memory {(peak_memory() - before) / kept:.2f} of the counts "
            f"({kept / 1e6:.0f} MB)"
        )


if __name__ == "__main__":
    main(*(int(one) for one in sys.argv[1:]))
