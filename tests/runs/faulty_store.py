"""Ends, or fails, a writer of the run folder at every possible point, and looks at what is left.

A program of its own, because it forks: faulty_store.py SCENARIO FAULT FOLDER. Prints the number of points and the
states that were found; ends with an error when a state is neither the old nor the new one, or when doing the same
again does not lead to the new one.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcxpcs.errors import HpcxpcsError, StoreError
from hpcxpcs.files import atomic
from hpcxpcs.runs import claims, events, sealed
from hpcxpcs.runs.run import Run, discard, read_failures, record_failure, state_of
from tests.runs.store import TASK, age, sample_plan, sample_sealed

PLAN = sample_plan()
LINKS = True
STORE_FILES = (
    "atomic.py",
    "sealed.py",
    "claims.py",
    "run.py",
    "events.py",
    Path(__file__).name,
)
FULL_DISK_BYTES = 400
MOST_POINTS = 2000
NO_LINKS = "no links, "


@dataclass(frozen=True)
class Scenario:
    """How to get ready, what to do with faults, and what is there afterwards, in one word."""

    prepare: Callable[[Path], Any]
    act: Callable[[Path], Any]
    observe: Callable[[Path], str]
    old: str
    new: str


def sealed_file(folder):
    return folder / "00003.h5"


def write_generation(number):
    return lambda folder: sealed.write_sealed(sealed_file(folder), sample_sealed(number))


def prepare_generations(*numbers):
    def prepare(folder):
        folder.mkdir()
        for number in numbers:
            write_generation(number)(folder)

    return prepare


def tear_the_newest(folder):
    """Two generations, the newer one damaged: a new write must not push the good one out."""
    prepare_generations(1, 2)(folder)
    with sealed_file(folder).open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last[0] ^ 1]))


def newest_generation(folder):
    warnings = []
    found = sealed.newest_good(sealed_file(folder), kind="shard", run_id=PLAN.run_id, warn=warnings.append)
    number = 0 if found is None else found.progress["generation"]
    if found is not None:
        assert (found.arrays["draws/z"] == number).all()
    assert sealed.peek(sealed_file(folder)) is not None or number == 0 or not LINKS
    return f"generation {number}"


def in_place(folder):
    """What nobody should do; shows that this program would notice."""
    content = b"".join(sealed_file(folder).read_bytes().partition(b"running"))
    with sealed_file(folder).open("wb", buffering=0) as stream:
        stream.write(content[:3000])
        atomic.reached("half written")
        stream.write(content[3000:])


def begin(folder):
    Run.create(folder, PLAN)


def begun(folder):
    try:
        return "begun" if Run.open(folder).plan == PLAN else "another"
    except StoreError as error:
        if "holds no run" in str(error):
            return "nothing"
        raise


def claim(folder):
    held = claims.take(folder / "claims", TASK.name)
    assert held is not None
    held.renew()


def claim_from_elsewhere(folder):
    """A claim of a machine that has not been heard of for an hour."""
    begin(folder)
    old = json.dumps({"token": "old", "host": "elsewhere", "pid": 1, "machine": "another", "lease": 60})
    (folder / "claims" / TASK.name).write_text(old)
    age(folder / "claims" / TASK.name, 3600)


def claimed(folder):
    """Who has the claim: here nobody is alive any more, so that the task can be taken at once."""
    held = claims.holding(folder / "claims", TASK.name)
    assert state_of(Run.open(folder), TASK) == "waiting" or held.owner.pid == os.getpid()
    return "free" if held is None else "old" if held.owner.token == "old" else "taken"


def release(folder):
    held = claims.take(folder / "claims", TASK.name)
    assert held is not None
    held.release()


def fail(folder):
    record_failure(Run.open(folder), TASK, "it broke", owner="token")


def failed(folder):
    found = read_failures(Run.open(folder), TASK)
    assert all(failure["cause"] == "it broke" for failure in found)
    return f"{len(found)} failures"


def log(folder):
    if not events.append(Run.open(folder), "block", text="x" * 1000):
        raise StoreError(f"{folder}: the event is not there")


def logged(folder):
    """An interrupted line is passed over; lines before and after it are not."""
    found = events.read_events(folder / "events.jsonl")
    assert all(event["text"] == "x" * 1000 for event in found)
    return "logged" if found else "silent"


def prepare_work(folder):
    begin(folder)
    run = Run.open(folder)
    sealed.write_sealed(run.task_file(TASK), sample_sealed(1))


def start_afresh(folder):
    discard(folder)


def remaining(folder):
    if begun(folder) == "nothing":
        assert not (folder / "shards").exists()
        return "nothing"
    return "begun"


SCENARIOS = {
    "first file": Scenario(
        prepare_generations(), write_generation(1), newest_generation, "generation 0", "generation 1"
    ),
    "second generation": Scenario(
        prepare_generations(1), write_generation(2), newest_generation, "generation 1", "generation 2"
    ),
    "third generation": Scenario(
        prepare_generations(1, 2), write_generation(3), newest_generation, "generation 2", "generation 3"
    ),
    "after damage": Scenario(tear_the_newest, write_generation(3), newest_generation, "generation 1", "generation 3"),
    "new run": Scenario(Path.mkdir, begin, begun, "nothing", "begun"),
    "claim": Scenario(begin, claim, claimed, "free", "taken"),
    "takeover": Scenario(claim_from_elsewhere, claim, claimed, "old", "taken"),
    "release": Scenario(begin, release, claimed, "taken", "free"),
    "failure": Scenario(begin, fail, failed, "0 failures", "1 failures"),
    "event": Scenario(begin, log, logged, "silent", "logged"),
    "fresh start": Scenario(prepare_work, start_afresh, remaining, "begun", "nothing"),
    "in place": Scenario(prepare_generations(1), in_place, newest_generation, "generation 1", "generation 1"),
}


def at_point(number, strike):
    """Call `strike` when this has been called so many times; how often it was is in `seen`."""

    def reached(*_):
        reached.seen += 1
        if reached.seen == number:
            strike()

    reached.seen = 0
    return reached


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def leave():
    os._exit(7)


def at_every_line(reached):
    """Strike before any line of the store."""

    def trace(frame, event, argument):
        if Path(frame.f_code.co_filename).name not in STORE_FILES:
            return None
        if event == "line":
            reached()
        return trace

    sys.settrace(trace)


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "shutil.rmtree")


def at_every_call(number, code, folder, *, lasting):
    """Let the n-th call that changes the folder fail, and with `lasting` all that follow."""
    calls = 0

    def failing():
        nonlocal calls
        calls += 1
        if calls == number or (lasting and calls > number):
            raise OSError(code, os.strerror(code))

    def watch(event, arguments):
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if (event in CHANGES or opened) and str(folder) in str(arguments[0]):
            failing()

    real = os.fsync

    def sync(descriptor):
        failing()
        real(descriptor)

    os.fsync = sync
    sys.addaudithook(watch)
    return lambda: calls >= number


def child(scenario, fault, number, folder):
    """Act with one fault; the exit code is 0 when the fault did not come up, 3 when it led to a clear error."""
    came_up = bool
    if fault == "kill at line":
        at_every_line(at_point(number, kill))
    elif fault == "leave at step":
        atomic.reached = at_point(number, leave)
    elif fault == "kill at step":
        atomic.reached = at_point(number, kill)
    elif fault == "file size":
        resource.setrlimit(resource.RLIMIT_FSIZE, ((number - 1) * FULL_DISK_BYTES, resource.RLIM_INFINITY))
    else:
        name, _, lasting = fault.partition(" ")
        came_up = at_every_call(number, getattr(errno, name), folder, lasting=lasting == "lasting")
    try:
        scenario.act(folder)
    except HpcxpcsError as error:
        assert str(folder) in str(error)
        return 3
    return 4 if came_up() else 0


def in_a_process(work):
    """Run `work` in a copy of this process; its exit code, negative for a signal."""
    number = os.fork()
    if number == 0:
        code = 99
        try:
            code = work()
        except BaseException as error:
            sys.settrace(None)
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            sys.settrace(None)
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def without_hard_links():
    """Make this process see a file system that has none."""
    global LINKS
    LINKS = False

    def refuse(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    os.link = refuse


def main(name, fault, base):
    if fault.startswith(NO_LINKS):
        without_hard_links()
    fault = fault.removeprefix(NO_LINKS)
    scenario, states, codes = SCENARIOS[name], [], []
    for number in range(1, MOST_POINTS):
        folder = Path(base) / str(number)
        scenario.prepare(folder)
        code = in_a_process(lambda n=number, where=folder: child(scenario, fault, n, where))
        assert code != 99, f"point {number}: not a clear error"
        states.append(scenario.observe(folder))
        codes.append(code)
        assert states[-1] in (scenario.old, scenario.new), f"point {number}: {states[-1]}"
        if code == 0:
            break
        scenario.act(folder)
        again = scenario.observe(folder)
        assert again == scenario.new, f"point {number}: {again} when done again"
    assert codes[-1] == 0, "no end of points"
    left_over = sorted(str(path) for path in folder.rglob(".*.tmp"))
    print(json.dumps({"points": len(states) - 1, "states": states, "codes": codes, "left_over": left_over}))


if __name__ == "__main__":
    main(*sys.argv[1:])
