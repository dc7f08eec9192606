"""`python -m tests.fuzz KIND SEED`: look at the input of one seed again; KIND is configuration or hdf5."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.data.stacks import stack_of
from tests.fuzz import configurations, layouts, looks

LOOKS = {
    "configuration": looks.configuration,
    "hdf5": looks.hdf5,
    "hanging": looks.hanging,
    "dying": looks.dying,
}
MOST_MEMORY = 6 * 1024**3
"""Bytes of address space: what asks for more gets an error instead of the memory of the machine."""


def prepare(kind: str, folder: Path) -> None:
    """Put what a mutated input may refer to into the folder."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    if kind == "configuration":
        layouts.write("nexus", folder / "tiny.h5", stack_of([layouts.Q] * 2, [0.0, 90.0], 16))
        configurations.originals()
    elif kind == "hdf5":
        layouts.originals()


def work(kind: str, folder: Path) -> None:
    """Answer every seed that is read with a line of JSON; an empty line asks whether there is anyone."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # filters print what they think of damaged values
    prepare(kind, folder)
    for line in sys.stdin:
        if not line.strip():
            answers.write("ready\n")
        else:
            begun = time.perf_counter()
            text = LOOKS[kind](int(line), folder)
            seconds = round(time.perf_counter() - begun, 3)
            answers.write(json.dumps({"seed": int(line), "text": text, "seconds": seconds}) + "\n")
        answers.flush()


def main(arguments: list[str]) -> None:
    """Work for a pool, or look at the seeds that are named and print what comes of each."""
    kind, *rest = arguments
    if rest[0] == "--work":
        work(kind, Path(rest[1]))
        return
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    prepare(kind, folder)
    print(f"files are in {folder}")
    for seed in map(int, rest):
        print(seed, LOOKS[kind](seed, folder), flush=True)


main(sys.argv[1:])
