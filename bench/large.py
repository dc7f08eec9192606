"""Print what a file costs that is larger than the memory: 23 angles × 8000², 5.9 GB of matrices, one process, 1.5 GB.

The file is simulated matrix by matrix (3 GB on disk). `answer` is the time from the start of the process to the numbers
on disk; the second fit finds the prepared matrices that the first has kept. `overlap` compares a pass that reads one
matrix after the other with one that reads the next while it compresses one. With --speckle the matrices are those of
photons on speckles, so that pairs are weighed by the noise that they share.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from hpcxpcs.batch.launcher import THREAD_VARIABLES
from hpcxpcs.config import load_config
from hpcxpcs.data.matrices import Angles, ReadAhead
from hpcxpcs.data.select import load
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.likelihood.cells import TimeAxis, geometric_cells
from hpcxpcs.likelihood.compress import compress

PROGRAM = (sys.executable, "-m", "hpcxpcs")
TARGET = 1.5e9
"""Bytes that the fitting process may use."""


@dataclass(frozen=True)
class Process:
    """A finished command: seconds, CPU seconds, and the most memory it had (bytes)."""

    seconds: float
    cpu: float
    memory: float


def run(*words: str) -> Process:
    """Run one hpcxpcs command to its end."""
    begin = time.perf_counter()
    process = subprocess.Popen((*PROGRAM, *words), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"hpcxpcs {' '.join(words)} ended with exit code {process.returncode}")
    return Process(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024.0)


def simulated(folder: Path, angles: int, frames: int, photons: float | None) -> Path:
    """Write the file and a configuration for it, which is returned."""
    file, config = folder / "large.hdf", folder / "large.yaml"
    size = ("--angles", str(angles), "--frames", str(frames), "--dt", str(100.0 / frames))
    noise = ("--noise", "0.1", "--seed", "3")
    model = ("laminar_flow",) if photons is None else ("static", "--set", "alpha=0", "--set", "D_offset=0")
    done = run("simulate", *model, "-o", str(file), *size, *noise, "--config", str(config))
    if photons is not None:
        with_speckles(file, 100.0 / frames, photons)
    matrices, stored = 4 * angles * frames**2 / 1e9, file.stat().st_size / 1e9
    print(
        f"{angles} angles × {frames}²: {matrices:.2f} GB of matrices, {stored:.2f} GB on disk, "
        f"simulated in {done.seconds:.0f} s with {done.memory / 1e9:.2f} GB",
        flush=True,
    )
    return config


DECAY, PIXELS, MODES = 10.0, 1000, 7
"""Decay time (s) of the correlation, pixels of an angle, and coherent modes, of which the contrast is one over."""


def with_speckles(file: Path, dt: float, photons: float) -> None:
    """Put matrices of photons on speckles in place of those of a file.

    A field that forgets exponentially is a first-order recursion, which costs no N³ as a root of its correlation does.
    """
    rng = np.random.default_rng(0)
    kept = np.exp(-0.5 * dt / DECAY)
    with h5py.File(file, "r+") as opened:
        matrices = opened["xpcs/twotime/correlation_map"]
        for name in matrices:
            frames = matrices[name].shape[0]
            counts = np.empty((frames, PIXELS), dtype=np.float32)
            field = rng.standard_normal((2 * MODES, PIXELS))
            for frame in range(frames):
                counts[frame] = rng.poisson(photons * np.mean(field**2, axis=0))
                field = kept * field + np.sqrt(1.0 - kept**2) * rng.standard_normal(field.shape)
            counts /= counts.mean(axis=1, keepdims=True)
            found = counts @ counts.T / np.float32(PIXELS)
            lower = matrices[name][1, 0] == 0.0
            matrices[name][...] = np.triu(found) if lower else found


def fitted(name: str, config: Path, memory: float) -> None:
    """Fit once, and print what it took."""
    place = config.parent / "run"
    begin = time.time()
    done = run(
        *("fit", str(config), "--method", "nlsq", "--run", str(place)),
        *("--set", f"runtime.memory={int(memory)}", "--set", "output.fitted_data=false"),
    )
    answer = (place / "results" / "nlsq" / "parameters.json").stat().st_mtime - begin
    timings = json.loads((place / "results" / "summary.json").read_text())["timings"]
    phases = "  ".join(f"{key} {timings[key]:.1f}" for key in ("read", "scout", "compress", "fit", "check", "errors"))
    noise = json.loads((place / "results" / "nlsq" / "parameters.json").read_text())["noise"] or {}
    print(
        f"{name:<7} answer {answer:6.1f} s, report {done.seconds:6.1f} s, CPU {done.cpu:6.1f} s, "
        f"noise {noise.get('model')}, memory {done.memory / 1e9:.2f} GB (target {TARGET / 1e9:.1f})   [{phases}]",
        flush=True,
    )


def overlap(config: Path, count: int) -> None:
    """Print what reading ahead saves in one pass over some matrices, read from the file itself."""
    data = load(load_config(config))
    phi = np.asarray(data.phi, dtype=np.float64)[:count]
    axis = TimeAxis(float(data.t[0]), float(data.dt), data.n_frames)
    cells = geometric_cells(axis)

    def one_pass(angles: Angles) -> float:
        begin = time.perf_counter()
        compress(angles, phi, cells, axis)
        return time.perf_counter() - begin

    data.angle(0)
    one_pass(data.angle)
    reading = _reading(data, count)
    after, ahead = one_pass(ReadAhead(data.angle, at_once=1)), one_pass(ReadAhead(data.angle))
    longer = max(reading, after - reading)
    print(
        f"overlap of {count} matrices: reading {reading:.1f} s, reading then compressing {after:.1f} s, reading ahead "
        f"{ahead:.1f} s: {ahead / after:.2f} of that, {ahead / longer:.2f} of the longer of the two"
    )


def _reading(data: TwoTime, count: int) -> float:
    begin = time.perf_counter()
    for k in range(count):
        data.angle(k)
    return time.perf_counter() - begin


def main() -> None:
    """Simulate, fit twice, show the overlap."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--angles", type=int, default=23)
    arguments.add_argument("--frames", type=int, default=8000)
    arguments.add_argument("--memory", type=float, default=TARGET, help="runtime.memory in bytes")
    arguments.add_argument("--speckle", type=float, metavar="PHOTONS", help="photons per pixel and frame on speckles")
    arguments.add_argument("--folder", help="where the files lie while this runs (12 GB)")
    arguments.add_argument("--overlap", type=Path, metavar="CONFIG", help="only show the overlap, on this file")
    chosen = arguments.parse_args()
    if chosen.overlap is not None:
        overlap(chosen.overlap, min(8, chosen.angles))
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        config = simulated(Path(name), chosen.angles, chosen.frames, chosen.speckle)
        fitted("first", config, chosen.memory)
        fitted("second", config, chosen.memory)
        words = ("-m", "bench.large", "--overlap", str(config), "--angles", str(chosen.angles))
        as_in_a_fit = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}  # before NumPy is loaded
        subprocess.run((sys.executable, *words), env=as_in_a_fit, check=True)


if __name__ == "__main__":
    main()
