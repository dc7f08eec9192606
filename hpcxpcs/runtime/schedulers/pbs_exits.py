"""How a PBS job ended: the numbers of Exit_status and substate in words."""

from __future__ import annotations

import signal

from hpcxpcs.runtime.schedulers.jobs import QueueState

SIGNALLED = 256
"""Exit_status is this plus the signal of which the job's top shell died."""

ENDED_WELL, FAILED, TERMINATED = 92, 93, 91
"""Substates of jobs that have ended."""

OVER_WALLTIME = -29
LOST_NODE = -20
BY_PBS = {
    -1: "PBS could not start it: a file was missing on the node, or could not be copied there",
    -2: "PBS could not start it: something failed on the node before its first command",
    LOST_NODE: "its node was lost, and it was submitted as not to be run again (-r n)",
    -24: "ended by PBS: more cores in use than asked for",
    -25: "ended by PBS: more cores in use on average than asked for",
    -26: "ended by PBS: more virtual memory than asked for",
    -27: "ended by PBS: more memory than asked for",
    -28: "ended by PBS: more CPU time than asked for",
    OVER_WALLTIME: "ended by PBS: walltime exceeded",
}
"""-20 and -29 were observed, the others are from the documentation of PBS Professional."""


SENT_BY = {"TERM": ", as qdel does", "KILL": ", as PBS does some seconds after TERM"}


def exit_words(status: int) -> str:
    """Say what an Exit_status means."""
    if status < 0:
        return BY_PBS.get(status, f"PBS could not start it or ended it (its code {status})")
    if status >= SIGNALLED:
        name = _signal_name(status - SIGNALLED)
        return f"ended by the signal {name}{SENT_BY.get(name, '')}"
    if status > 128:
        return f"exit code {status}: a process in it died of the signal {_signal_name(status - 128)}"
    return f"exit code {status}" if status else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def ended_state(status: int | None, substate: int | None) -> QueueState:
    """Return how a job ended. One that is deleted while it waits gets the exit status 1, or none at all."""
    if substate == TERMINATED or status == SIGNALLED + signal.SIGTERM:
        return "cancelled"
    if status is None:
        return {ENDED_WELL: "done", FAILED: "failed"}.get(substate or 0, "cancelled")  # type: ignore[return-value]
    return "failed" if status else "done"
