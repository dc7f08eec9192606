"""Print what a point fit costs: 23 angles × 1001² (laminar_flow, lzf, noise 0.01), from the file to the answer.

The pure read (open, read and decompress every matrix once) is the yardstick. `answer` is the time from the start of
the process to the numbers on disk, first with an empty compile cache (cold), then with a filled one (warm, median);
pictures and report come after it. The target is 3 reads + 5 s with a warm cache, and less than 1 GB.

`point_fit.py speckle` compares fits that weigh pairs by their speckles with fits for independent noise, warm, in turn:
of the same size, static, slow (a decay over 86 frames at 5 photons per pixel and frame) and fast (within 4, at 1).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import h5py

ANGLES, FRAMES, NOISE = 23, 1001, 0.01
READS, WARM_RUNS = 5, 3
ALLOWED_READS, ALLOWED_SECONDS = 3.0, 5.0
PHASES = ("read", "scout", "cells", "compress", "fit", "check", "errors")
PROGRAM = (sys.executable, "-m", "hpcxpcs")


@dataclass(frozen=True)
class Run:
    """One process: seconds to the answer and in all, CPU seconds, peak memory (MB), seconds per phase, fit record."""

    answer: float
    total: float
    cpu: float
    memory: float
    phases: dict[str, float]
    compression: dict[str, float]


def simulate(folder: Path, angles: int = ANGLES, frames: int = FRAMES) -> Path:
    """Write the file and a configuration for it; returns the configuration."""
    config = folder / "shear.yaml"
    size = ("--angles", str(angles), "--frames", str(frames), "--noise", str(NOISE), "--seed", "3")
    arguments = ("simulate", "laminar_flow", "-o", str(folder / "shear.hdf"), *size, "--config", str(config))
    subprocess.run((*PROGRAM, *arguments), check=True, stdout=subprocess.DEVNULL)
    return config


def read_seconds(file: Path) -> float:
    """Median seconds to read and decompress every matrix of the file once."""
    seconds = []
    for _ in range(READS):
        begin = time.perf_counter()
        with h5py.File(file) as opened:
            for matrix in opened["xpcs/twotime/correlation_map"].values():
                matrix[()]
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def fit(config: Path, cache: Path, *settings: str) -> Run:
    """Run `hpcxpcs fit` once, with more settings KEY=VALUE, and account for it."""
    run = config.parent / "run"
    environment = {**os.environ, "HPCXPCS_CACHE_DIR": str(cache)}
    arguments = (
        "fit",
        str(config),
        "--method",
        "nlsq",
        "--run",
        str(run),
        "--set",
        "output.fitted_data=false",
        *(word for setting in settings for word in ("--set", setting)),
    )
    begin = time.time()
    process = subprocess.Popen((*PROGRAM, *arguments), env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    end = time.time()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"hpcxpcs fit ended with exit code {process.returncode}")
    numbers = run / "results" / "nlsq" / "parameters.json"
    summary = json.loads((run / "results" / "summary.json").read_text())
    metrics = json.loads((run / "results" / "nlsq" / "convergence_metrics.json").read_text())
    return Run(
        answer=numbers.stat().st_mtime - begin,
        total=end - begin,
        cpu=usage.ru_utime + usage.ru_stime,
        memory=usage.ru_maxrss / 1024.0,
        phases=summary["timings"],
        compression=metrics["compression"],
    )


def line(name: str, run: Run, read: float) -> str:
    """One line of the table."""
    phases = "  ".join(f"{run.phases[key]:5.2f}" for key in PHASES)
    target = ALLOWED_READS * read + ALLOWED_SECONDS
    return (
        f"{name:<6} {run.answer:7.2f} {run.answer / read:7.1f} {run.answer / target:7.2f}   {phases}   "
        f"{run.total:7.2f} {run.cpu:7.2f} {run.memory:7.0f}"
    )


SPECKLES = {"slow": ("static", "D0=4000", "5"), "fast": ("laminar_flow", "D0=12000", "1")}
"""Model, diffusion (Å²/s) and photons per pixel and frame."""


def compare_speckles() -> None:
    """Print what it costs to weigh pairs by their speckles, for a slow and a fast decay."""
    for name, (model, diffusion, photons) in SPECKLES.items():
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            config = folder / "speckle.yaml"
            size = ("--angles", str(ANGLES), "--frames", str(FRAMES), "--seed", "3", "--set", diffusion)
            noise = ("--noise-model", "photon", "--photons", photons, "--pixels", "2000")
            slow = ("--set", "alpha=0", "--set", "D_offset=0") if name == "slow" else ()
            words = ("simulate", model, "-o", str(config.with_suffix(".hdf")), *size, *noise, *slow)
            subprocess.run((*PROGRAM, *words, "--config", str(config)), check=True, stdout=subprocess.DEVNULL)
            found = []
            for turn in range(1 + WARM_RUNS):
                runs = [fit(config, folder / "cache", f"noise.model={kind}") for kind in ("auto", "independent")]
                found += [runs] if turn else []
            answers = [statistics.median(run.answer for run in kind) for kind in zip(*found, strict=True)]
            cpus = [statistics.median(run.cpu for run in kind) for kind in zip(*found, strict=True)]
            print(
                f"{name}: answer {answers[0]:.1f} s weighed, {answers[1]:.1f} s for independent noise "
                f"({answers[0] / answers[1]:.2f}); CPU {cpus[0]:.1f} and {cpus[1]:.1f} s",
                flush=True,
            )


def main() -> None:
    """Simulate, read, fit cold and warm, print the table."""
    if sys.argv[1:] == ["speckle"]:
        compare_speckles()
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = simulate(folder)
        file = config.with_suffix(".hdf")
        read = read_seconds(file)
        size = file.stat().st_size / 1e6
        print(f"{ANGLES} angles × {FRAMES}², {size:.0f} MB on disk, pure read {read:.2f} s")
        phases = "  ".join(f"{phase[:5]:>5}" for phase in PHASES)
        print(f"         answer   /read /target    {phases}     total     cpu  memory")
        print("              s                    " + "      s" * (len(PHASES) - 1) + "    s         s       s      MB")
        runs = [fit(config, folder / "cache") for _ in range(1 + WARM_RUNS)]
        warm = sorted(runs[1:], key=lambda run: run.answer)[len(runs[1:]) // 2]
        print(line("cold", runs[0], read), line("warm", warm, read), sep="\n")
        report = warm.compression
        print(
            f"{report['nodes']} nodes per angle in {report['cells']} cells for {report['pairs']} pairs; "
            f"log-likelihood error {report['error']:.3f} nats (tolerance {report['tolerance']:g})"
        )


if __name__ == "__main__":
    main()
