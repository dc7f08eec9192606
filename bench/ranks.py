"""Print what 64 MPI ranks on this machine cost: 8 angles × 300² (laminar_flow, noise 0.01), from start to verdict.

Few cores and many ranks are the worst case: ranks without a core of their own must neither take time nor memory.
`together` is the most memory that all processes occupied at one moment: the sum of their proportional set sizes, in
which a page that several share counts once, looked at twice a second. `heavy` is how many processes had more than
100 MB of their own at most (those that had imported JAX). CPU seconds are of all processes, the launcher's included.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from bench.point_fit import PROGRAM, simulate
from bench.processes import Usage, watched

RANKS, ANGLES, FRAMES = 64, 8, 300
WAYS = {"default": (), "--shards 64": ("--shards", "64")}
LAUNCHER = (str(Path(sys.prefix) / "bin" / "mpiexec"), "-launcher", "fork", "-iface", "lo")
QUIET = ("--set", "output.plots=false", "--set", "output.report=false", "--set", "output.fitted_data=false")
INTERVAL = 0.5


def ranked(config: Path, cache: Path, ranks: int, options: tuple[str, ...]) -> tuple[Usage, str, int]:
    """Run `mpiexec -n ranks hpcxpcs fit`; its usage, verdict, and how many processes did shards."""
    run = config.parent / f"run-{len(list(config.parent.iterdir()))}"
    log = run.with_suffix(".txt")
    command = (*LAUNCHER, "-n", str(ranks), *PROGRAM, "fit", str(config), "--run", str(run), *options, *QUIET)
    usage = watched(command, {"HPCXPCS_CACHE_DIR": str(cache)}, log, interval=INTERVAL)
    if usage.code not in (0, 3):
        raise SystemExit(f"hpcxpcs fit ended with exit code {usage.code}:\n{log.read_text()[-4000:]}")
    verdict = json.loads((run / "complete.json").read_text())["verdict"]
    events = [json.loads(text) for text in (run / "events.jsonl").read_text().splitlines()]
    at_work = {event["pid"] for event in events if event["event"] == "done" and "shard" in event["task"]}
    return usage, verdict, len(at_work)


def main() -> None:
    """Simulate, run each way, print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=RANKS, help="number of ranks")
    ranks = parser.parse_args().ranks
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = simulate(folder, ANGLES, FRAMES)
        cores = len(os.sched_getaffinity(0))
        print(f"mpiexec -n {ranks}, {cores} cores, {ANGLES} angles × {FRAMES}²")
        print("                        wall     cpu  verdict     together   largest  processes  heavy  at work")
        print("                           s       s                    MB        MB")
        for way, options in WAYS.items():
            for state in ("cold", "warm"):
                cache = folder / f"cache{options}"
                usage, verdict, at_work = ranked(config, cache, ranks, options)
                print(
                    f"{f'{way}, {state}':<20} {usage.wall:7.1f} {usage.cpu:7.1f}  {verdict:<10}"
                    f" {usage.together:9.0f} {usage.largest:9.0f} {usage.processes:10d} {usage.heavy:6d}"
                    f" {at_work:8d}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
