"""Print what a posterior costs: 23 angles × 1001² (laminar_flow, lzf, noise 0.01), from the file to the verdict.

`answer` is the time from the start of the process to the numbers on disk; pictures and report would come after it.
CPU seconds are of all processes. `min ESS` is the smallest effective sample size of any parameter (of the weighted
draws where shards were combined, of the chains where all data were sampled), and `gradients` counts those of all
chains, warm-up included. `compile` is the share of CPU that went into tracing, lowering, compiling and loading code.
`largest` is the most memory that one process occupied, `together` the most that all did, shared pages counted once.

First with an empty compile cache (cold) and with a filled one (warm), then on one core and on two, for several
numbers of shards and for the chains on all data (exact); then what follows for more cores. --quick takes a small file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from bench.point_fit import ANGLES, FRAMES, PROGRAM, simulate
from bench.processes import Usage, watched

WANTED_ESS = 1000
SHARDS = (1, 4, 16, 64)
EXACT = "exact"
CORES = (1, 2)
MOST_CORES = 1024
WORTH = 1.05
"""Times as fast from which a difference counts."""

QUIET = ("output.plots=false", "output.report=false", "output.fitted_data=false")
QUICK = ("optimization.cmc.per_shard_mcmc.num_warmup=100", "optimization.cmc.per_shard_mcmc.num_samples=300")


@dataclass(frozen=True)
class Case:
    """One way to compute a posterior: `way` is a number of shards or EXACT."""

    way: int | str
    cores: int

    @property
    def name(self) -> str:
        """What the tables call the way."""
        return self.way if isinstance(self.way, str) else f"K = {self.way}"

    @property
    def arguments(self) -> tuple[str, ...]:
        """Options of `hpcxpcs fit`."""
        chosen = ("--method", EXACT) if self.way == EXACT else ("--method", "cmc", "--shards", str(self.way))
        return (*chosen, "--workers", str(self.cores))


@dataclass(frozen=True)
class Cost:
    """What one posterior took: seconds to the numbers, the processes' usage, and how good it is.

    `compile_seconds` is the sum over processes; `tasks` are the seconds of each shard, or chain on all data, and
    `sampling` those from the start of the first worker to the end of the last task.
    """

    case: Case
    answer: float
    usage: Usage
    route: str
    verdict: str
    ess: float
    gradients: int
    compile_seconds: float
    tasks: tuple[float, ...]
    sampling: float

    @property
    def fixed(self) -> float:
        """Seconds before and after the tasks, which share the cores (of the answer)."""
        return max(0.0, self.answer - sum(self.tasks) / min(self.case.cores, len(self.tasks)))


def posterior(config: Path, cache: Path, case: Case, settings: Sequence[str] = ()) -> Cost:
    """Run `hpcxpcs fit` once on the first cores of this machine, and account for it."""
    run = config.parent / "run"
    shutil.rmtree(run, ignore_errors=True)
    chosen = [part for setting in (*QUIET, *settings) for part in ("--set", setting)]
    cores = sorted(os.sched_getaffinity(0))[: case.cores]
    pinned = ("taskset", "-c", ",".join(map(str, cores)))
    log = config.parent / "log.txt"
    usage = watched(
        (*pinned, *PROGRAM, "fit", str(config), *case.arguments, "--run", str(run), *chosen),
        {"HPCXPCS_CACHE_DIR": str(cache)},
        log,
    )
    if usage.code not in (0, 3):
        raise SystemExit(f"hpcxpcs fit ended with exit code {usage.code}:\n{log.read_text()}")
    return account(run, case, usage)


def account(run: Path, case: Case, usage: Usage) -> Cost:
    """Read from a finished run folder how good its posterior is and what it took."""
    results = run / "results" / "cmc"
    told = json.loads((run / "results" / "summary.json").read_text())["posterior"]
    checks = json.loads((results / "diagnostics.json").read_text())["convergence"]["per_parameter_diagnostics"]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    done = [event for event in events if event["event"] == "done"]
    kind = "exact-" if told["route"] == "exact" and any("exact-" in e["task"] for e in done) else "shard-"
    return Cost(
        case=case,
        answer=(results / "parameters.json").stat().st_mtime - usage.begin,
        usage=usage,
        route=told["route"],
        verdict=told["verdict"],
        ess=min(min(check["ess_bulk"], check["ess_tail"]) for check in checks),
        gradients=sum(gradients_in(path) for name in ("shards", "exact") for path in (run / name).glob("*.h5")),
        compile_seconds=sum(event.get("seconds", 0.0) for event in events if event["event"] == "compiled"),
        tasks=tuple(event["seconds"] for event in done if event["task"].startswith(kind)),
        sampling=sampling_seconds(events, kind),
    )


def sampling_seconds(events: Sequence[Mapping[str, Any]], kind: str) -> float:
    """Seconds from the start of the first worker, or of the first task of a kind, to the end of the last task."""
    of_kind = [event for event in events if str(event.get("task", "")).startswith(kind)]
    begun = [event for event in of_kind if event["event"] == "started"]
    begun += [event for event in events if event["event"] == "worker"]
    ended = [event for event in of_kind if event["event"] == "done"]
    return max(map(_seconds, ended)) - min(map(_seconds, begun))


def _seconds(event: Mapping[str, Any]) -> float:
    return datetime.datetime.fromisoformat(event["ts"]).timestamp()


def gradients_in(path: Path) -> int:
    """Gradients that the chains in a run's file took; generations that were replaced do not count."""
    if path.name.endswith(".prev.h5"):
        return 0
    with h5py.File(path) as stored:
        return int(stored["counts"][1])


HEADER = (
    "                   answer     cpu  verdict      min  /cpu s  gradients  gradients  compile   largest  together\n"
    "                        s       s               ESS               1000       /ESS        %        MB        MB"
)


def line(name: str, cost: Cost) -> str:
    """One line of a table."""
    poor = "" if cost.ess >= WANTED_ESS else f"  ESS below {WANTED_ESS}"
    return (
        f"{name:<16} {cost.answer:8.1f} {cost.usage.cpu:7.1f}  {cost.verdict:<10} {cost.ess:5.0f}"
        f" {cost.ess / cost.usage.cpu:7.1f} {cost.gradients / 1e3:10.0f} {cost.gradients / cost.ess:10.1f}"
        f" {100.0 * cost.compile_seconds / cost.usage.cpu:8.0f} {cost.usage.largest:9.0f}"
        f" {cost.usage.together:9.0f}{poor}"
    )


def scaling_line(one: Cost, two: Cost) -> str:
    """One line on what the second core brings to the whole, and to sampling alone."""
    gain, share = one.answer / two.answer, 100.0 / two.case.cores
    faster = one.sampling / two.sampling
    return (
        f"{one.case.name:<16} {one.answer:8.1f} {two.answer:8.1f} {gain:7.2f} {share * gain:8.0f}"
        f" {one.sampling:10.1f} {two.sampling:8.1f} {faster:7.2f} {share * faster:8.0f}"
    )


@dataclass(frozen=True)
class Forecast:
    """Seconds to the answer on any number of cores: what is done once, then tasks of equal length side by side."""

    name: str
    fixed: float
    tasks: int
    each: float

    def answer(self, cores: int) -> float:
        """Seconds on that many cores."""
        return self.fixed + math.ceil(self.tasks / cores) * self.each


def forecast(cost: Cost) -> Forecast:
    """The forecast from a run on one core."""
    return Forecast(cost.case.name, cost.fixed, len(cost.tasks), sum(cost.tasks) / len(cost.tasks))


def when_sharding_pays(exact: Forecast, shards: Sequence[Forecast]) -> str:
    """On how many cores which number of shards is faster than the chains on all data, in a sentence."""
    better = []
    for one in shards:
        gain = [exact.answer(cores) / one.answer(cores) for cores in range(1, MOST_CORES + 1)]
        slower = [cores for cores, times in enumerate(gain, start=1) if times < WORTH]
        first = max(slower, default=0) + 1
        if first <= MOST_CORES:
            better.append(f"{one.name} from {first} cores on (up to {max(gain[first - 1 :]):.1f} times as fast)")
    shard = f"a task of {shards[-1].name} takes {shards[-1].each:.1f} s, a chain on all data {exact.each:.1f} s"
    if not better:
        return (
            f"Sharding does not pay in time on any number of cores up to {MOST_CORES}: {shard}, because a condensed "
            "gradient costs the same for a shard as for all data. It tells whether parts of the data agree."
        )
    return f"Sharding pays in time with {'; '.join(better)}: {shard}."


def compared(config: Path, cache: Path, ways: Sequence[int | str], settings: Sequence[str]) -> None:
    """Measure all ways on one core and on two, and print both tables and what follows."""
    cores = [count for count in CORES if count <= len(os.sched_getaffinity(0))]
    found: dict[Case, Cost] = {}
    print("\nwarm compile cache", HEADER, sep="\n")
    for way in ways:
        for count in cores:
            case = Case(way, count)
            found[case] = posterior(config, cache, case, settings)
            print(line(f"{case.name}, {count} core{'s'[: count - 1]}", found[case]), flush=True)
    if len(cores) > 1:
        print("\nstrong scaling     1 core  2 cores   times  efficient   sampling:  2 cores   times  efficient")
        print("                        s        s                 %          s        s                 %")
        for way in ways:
            print(scaling_line(found[Case(way, 1)], found[Case(way, 2)]))
    shards = [forecast(found[Case(way, 1)]) for way in ways if way != EXACT]
    if EXACT not in ways or not shards:
        return
    print(f"\n{when_sharding_pays(forecast(found[Case(EXACT, 1)]), shards)}")


def main() -> None:
    """Simulate, measure cold and warm, then all ways, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small file, short chains and few shards")
    parser.add_argument("--ways", nargs="+", metavar="K", help="numbers of shards, or exact, instead of all")
    given = parser.parse_args()
    quick = given.quick
    angles, frames = (3, 100) if quick else (ANGLES, FRAMES)
    settings = QUICK if quick else ()
    ways: tuple[int | str, ...] = (1, 2, EXACT) if quick else (*SHARDS, EXACT)
    if given.ways:
        ways = tuple(way if way == EXACT else int(way) for way in given.ways)
    both = min(max(CORES), len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = simulate(folder, angles, frames)
        print(f"{angles} angles × {frames}², {config.with_suffix('.hdf').stat().st_size / 1e6:.0f} MB on disk")
        print("\nempty compile cache, then the same again", HEADER, sep="\n")
        for way in dict.fromkeys((ways[min(1, len(ways) - 1)], EXACT)):
            for state in ("cold", "warm"):
                case = Case(way, both)
                cost = posterior(config, folder / "cache", case, settings)
                print(line(f"{case.name}, {state}", cost), flush=True)
        compared(config, folder / "cache", ways, settings)


if __name__ == "__main__":
    main()
