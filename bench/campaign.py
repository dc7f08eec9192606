"""Print what a campaign does: files × 3 q × 4 windows × 2 models, killed five times at random, on ranks and on workers.

`python -m bench.campaign [FILES]` (default 20: 480 items) makes files of speckle (steady diffusion, 5 photons per pixel
and frame), fits them under `mpiexec -n 4` and with two worker processes, each killed on the way, and prints whether the
tables are the same, how often intervals hold the truth, what an item costs in a warm process, and the page's size.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PROGRAM = (sys.executable, "-m", "hpcxpcs")
MPIEXEC = Path(sys.prefix) / "bin" / "mpiexec"
FRAMES, WINDOW, ANGLES, RINGS = 160, 40, 3, 3
KILLS = 5
NORMAL = {0.5: 0.6745, 0.8: 1.2816, 0.95: 1.96}

CONFIG = f"""\
campaign:
  files: "A_T{{temperature:g}}K_r{{repeat:d}}.hdf"
  q: all
  windows: {{frames: {WINDOW}}}
  models: [static, laminar_flow]
  group_by: [temperature]
analyzer_parameters: {{time_origin: file}}
initial_parameters: {{fixed_parameters: {{alpha: 0.0, beta: 0.0, D_offset: 0.0, gamma_dot_t_offset: 0.0}}}}
optimization: {{method: nlsq}}
runtime: {{workers: 2, ranks_per_machine: 4}}
"""


def simulate(folder: Path, files: int) -> None:
    """Write the files, two repeats at each temperature, and the configuration.

    Of three files and more the last one is no HDF5 file, and the one before has no signal.
    """
    for k in range(files):
        name = folder / f"A_T{280 + 5 * (k // 2)}K_r{k % 2 + 1}.hdf"
        size = ("--frames", FRAMES, "--angles", ANGLES, "--extra-q", RINGS - 1, "--seed", 900 + k)
        noise = ("--noise-model", "photon", "--photons", 5, "--pixels", 2000)
        if files > 2 and k == files - 2:
            noise = ("--contrast", 1e-4)
        truth = ("--set", f"D0={30000 + 1000 * (k // 2)}", "--set", "alpha=0", "--set", "D_offset=0")
        command = (*PROGRAM, "simulate", "static", "-o", name, *size, *noise, *truth)
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        if files > 2 and k == files - 1:
            name.write_bytes(b"not a file of matrices" * 1000)
    (folder / "campaign.yaml").write_text(CONFIG)


def finished(run: Path) -> int:
    """Items that are done."""
    return sum(path.name.count(".") == 1 for path in run.glob("items/*/*.h5"))


def fit(folder: Path, run: Path, before: Sequence[object], items: int, seed: int) -> float:
    """Fit the campaign with five kills on the way; seconds in all."""
    command = [str(part) for part in (*before, *PROGRAM, "fit", folder / "campaign.yaml", "--run", run)]
    points = sorted(random.Random(seed).sample(range(1, items), min(KILLS, items - 1)))
    begun = time.perf_counter()
    for point in [*points, None]:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while process.poll() is None and (point is None or finished(run) < point):
            time.sleep(0.05)
        if point is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return time.perf_counter() - begun


def table(run: Path) -> list[dict[str, str]]:
    """The table without its seconds."""
    with (run / "results" / "campaign.csv").open(newline="") as stream:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]


def coverage(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    """How often intervals of D0 hold the truth, of items fitted with the model they were made by."""
    right = [row for row in rows if row["model"] == "static" and row["parameter"] == "D0" and row["error"]]
    for quality in ("good", "acceptable", "poor"):
        away = [
            (float(row["value"]) - float(row["truth"])) / float(row["error"])
            for row in right
            if row["quality"] == quality
        ]
        if not away:
            continue
        shares = ", ".join(f"{sum(abs(z) < w for z in away) / len(away):.0%} in {p:.0%}" for p, w in NORMAL.items())
        spread = (sum(z * z for z in away) / len(away)) ** 0.5
        yield f"D0 of {len(away)} items of quality {quality}: {shares}; scatter over error {spread:.2f}"


def warm_seconds(run: Path) -> Iterator[str]:
    """CPU seconds of an item in a process that has done some before, as its log has them."""
    found: list[float] = []
    for log in sorted(run.glob("logs/*.jsonl")):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        tasks = [line["cpu_seconds"] for line in lines if line.get("event") == "task" and "cpu_seconds" in line]
        found += tasks[4:]
    if found:
        found.sort()
        yield f"an item in a warm process: median {found[len(found) // 2]:.2f} CPU s of {len(found)}"


def main() -> None:
    """Make, fit in both ways, compare."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    readable = files - (files > 2)
    items = readable * RINGS * (FRAMES // WINDOW) * 2 + 2 * (files > 2)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        simulate(folder, files)
        ranks = (MPIEXEC, "-launcher", "fork", "-iface", "lo", "-n", 4)
        for name, before, seed in (("ranks", ranks, 1), ("workers", (), 2)):
            seconds = fit(folder, folder / name, before, items, seed)
            done = finished(folder / name)
            print(f"{name}: {done} of {items} items, killed {KILLS} times, {seconds:.0f} s", flush=True)
            print("\n".join(warm_seconds(folder / name)), flush=True)
        first, second = table(folder / "ranks"), table(folder / "workers")
        print(f"both tables have {len(first)} rows and are {'the same' if first == second else 'DIFFERENT'}")
        print("\n".join(coverage(first)))
        print("\n".join(sorted({f"failed: {row['reason']}" for row in first if row["state"] == "failed"})))
        print(f"campaign.html has {(folder / 'ranks/results/campaign.html').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
