"""The sign of life of a task: its claim is renewed while it makes progress, and a hang ends the process."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from hpcxpcs.errors import ClaimLost, OutputError
from hpcxpcs.runtime.claims import LEASE, Claim
from hpcxpcs.runtime.events import append
from hpcxpcs.runtime.failures import record_failure
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.tasks import Task

EVENT_SECONDS = 5.0
"""At most one event of progress per task in this time: events.jsonl is read whole by `status`."""

RENEWALS_PER_LEASE = 4
HANG_EXIT = 1

LAST_WORDS_SECONDS = 0.5
"""Before a hanging process ends itself: a launcher that loses a rank drops what it has not read by then."""


class Stop(Protocol):
    """What tells a process to stop, such as preemption.StopRequest."""

    def should_stop(self, next_block_seconds: float = 0.0) -> str | None: ...


@dataclass(frozen=True)
class Patience:
    """Seconds: a claim without a sign of life is void after `lease`, a task without a beat hangs after `hang_after`."""

    lease: float = LEASE
    hang_after: float = 1800.0


USUAL_PATIENCE = Patience()
"""Half an hour without a beat: reading, compiling and one block of draws take minutes on a crowded node."""


class Pulse:
    """What a task function is given: it says how far it is (`beat`) and asks whether to go on (`stop_reason`).

    Inside `with`, a thread renews the claim through long silent steps such as compilation, until the silence has
    lasted for `hang_after`: then `on_hang` is called, which by default ends the process.
    """

    def __init__(
        self,
        run: Run,
        task: Task,
        claim: Claim,
        stop: Stop,
        patience: Patience,
        on_hang: Callable[[Pulse], None] | None = None,
    ) -> None:
        self.run = run
        self.task = task
        self.claim = claim
        self.patience = patience
        self._stop = stop
        self._on_hang = on_hang or end_process
        self._last_beat = time.monotonic()
        self._last_event = -EVENT_SECONDS
        self._lost = False
        self._over = threading.Event()
        self._worker = threading.get_ident()
        self._keeper = threading.Thread(target=self._keep, name=f"pulse of {task.name}", daemon=True)

    def __enter__(self) -> Self:
        self._arm()
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._keeper.join()
        faulthandler.cancel_dump_traceback_later()

    def beat(self, progress: Mapping[str, Any]) -> None:
        """Say that a block is over; `progress` holds "done" and "total", in draws. ClaimLost ends the task."""
        self._last_beat = time.monotonic()
        self._arm()
        if self._lost or not self.claim.renew():
            raise ClaimLost(f"{self.run.folder}: {self.task.name} was taken over by another process")
        if self._last_beat - self._last_event >= EVENT_SECONDS:
            self._last_event = self._last_beat
            append(self.run, "progress", task=self.task.name, **progress)

    def stop_reason(self, next_block_seconds: float = 0.0) -> str | None:
        """Return in words why to stop before a block of about this many seconds; None to go on."""
        return self._stop.should_stop(next_block_seconds)

    def may_publish(self) -> bool:
        """Whether the task is still this process's own."""
        return not self._lost and self.claim.still_mine()

    @property
    def silence(self) -> float:
        """Seconds since the last beat, or since the task began."""
        return time.monotonic() - self._last_beat

    def stack(self) -> str:
        """Where the thread that does the task is right now."""
        frame = sys._current_frames().get(self._worker)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def _arm(self) -> None:
        """End the process from outside Python when a hang lets no thread run, not even the one that watches."""
        if sys.__stderr__ is not None:
            late = self.patience.hang_after + self.patience.lease
            faulthandler.dump_traceback_later(late, exit=True, file=sys.__stderr__)

    def _keep(self) -> None:
        interval = min(self.patience.lease, self.patience.hang_after) / RENEWALS_PER_LEASE
        while not self._over.wait(interval):
            if self.silence > self.patience.hang_after:
                self._on_hang(self)
                return
            try:
                self._lost = self._lost or not self.claim.renew()
            except OutputError:
                continue  # a disk that recovers before the lease is over has done no harm


def end_process(pulse: Pulse) -> None:
    """Record a task that hangs, with the place where it hangs, and end this process: nothing else frees it."""
    cause = f"no progress for {pulse.silence:.0f} s"
    try:
        record_failure(pulse.run, pulse.task, cause, owner=pulse.claim.owner.token, details=pulse.stack())
        append(pulse.run, "hung", task=pulse.task.name, cause=cause)
        text = f"hpcxpcs: error: {pulse.task.name} hangs ({cause}); process {os.getpid()} ends itself\n{pulse.stack()}"
        os.write(sys.stderr.fileno(), text.encode(errors="replace"))
        time.sleep(LAST_WORDS_SECONDS)
    finally:
        os._exit(HANG_EXIT)
