"""Claims: who works on a task. A live claim keeps others away; one whose owner is gone is taken over.

A claim saves work, it does not guard the result: two owners for a moment do no harm, because tasks give the
same bits wherever they run and appear by rename. Clocks of different nodes are never compared.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from hpcxpcs.files.atomic import atomic_create_bytes, atomic_write_bytes, reading, writing
from hpcxpcs.files.json_safe import dumps, utc_now

LEASE = 120.0
"""Seconds without a sign of life after which a claim may be taken over."""

_PROC = Path("/proc")
_START_TIME = 19  # of the fields of /proc/PID/stat that follow the command name: clock ticks after boot


@dataclass(frozen=True)
class Owner:
    """A claim as written: the process, and the `lease` in seconds that it promises to renew it within."""

    token: str
    host: str = ""
    pid: int = 0
    machine: str = ""
    process_start: int | None = None
    started: str = ""
    lease: float = LEASE

    def __str__(self) -> str:
        """Where to find it."""
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Holding:
    """A claim as found: its owner and its `age` in seconds, by the file system's own clock."""

    owner: Owner
    age: float

    @property
    def live(self) -> bool:
        """Whether the owner may still be at work."""
        return self.age <= self.owner.lease and not _known_dead(self.owner)


@dataclass(frozen=True)
class Claim:
    """A claim that this process has made, to be renewed more often than every `lease` seconds."""

    path: Path
    owner: Owner

    def renew(self) -> bool:
        """Give a sign of life; False when another process has taken over."""
        if not self.still_mine():
            return False
        with writing(self.path):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                return False
        return True

    def still_mine(self) -> bool:
        """Whether this process may publish."""
        found = _read(self.path)
        return found is not None and found[0].token == self.owner.token

    def release(self) -> None:
        """Give the task back, unless another process has taken over."""
        if not self.still_mine():
            return
        with writing(self.path):
            self.path.unlink(missing_ok=True)
            for ticket in self.path.parent.glob(f".{self.path.name}.after-*"):
                ticket.unlink(missing_ok=True)


def take(folder: Path, name: str, *, lease: float = LEASE) -> Claim | None:
    """Claim the task `name` in the folder of claims; None while a live owner has it."""
    claim = Claim(folder / name, _this_process(lease))
    before = _read(claim.path)
    if before is None:
        return claim if atomic_create_bytes(claim.path, _text(claim.owner)) else None
    return _take_over(claim, before[0].token)


def holding(folder: Path, name: str) -> Holding | None:
    """Who has claimed the task `name`, alive or not; None when nobody has."""
    return _holding(folder / name)


def live_holdings(folder: Path) -> dict[str, Holding]:
    """Who works on which task at this moment, by task name."""
    names = sorted(entry.name for entry in folder.glob("[!.]*"))
    found = {name: holding(folder, name) for name in names}
    return {name: held for name, held in found.items() if held is not None and held.live}


def _take_over(claim: Claim, ended: str) -> Claim | None:
    """Replace a claim with the token `ended` if it is stale; of many that try, one gets its ticket.

    A ticket bears the token of the claim it ends, so that who saw an older claim cannot end a newer one.
    A ticket whose owner died before using it is ended by the next ticket.
    """
    last = claim.path
    while (found := _holding(last)) is not None and not found.live:
        last = claim.path.with_name(f".{claim.path.name}.after-{found.owner.token}")
        if atomic_create_bytes(last, _text(claim.owner)):
            return _use_ticket(claim, last, ended)
    return None


def _use_ticket(claim: Claim, ticket: Path, ended: str) -> Claim | None:
    """Put the claim in the place of the stale one, unless that has gone meanwhile."""
    found = _read(claim.path)
    if found is None or found[0].token != ended:
        with writing(ticket):
            ticket.unlink(missing_ok=True)
        return None
    atomic_write_bytes(claim.path, _text(claim.owner))
    return claim if claim.still_mine() else None


def _holding(path: Path) -> Holding | None:
    found = _read(path)
    return None if found is None else Holding(found[0], _now(path.parent) - found[1])


def _read(path: Path) -> tuple[Owner, float] | None:
    """Owner and time of last renewal in a claim or ticket; None when there is no such file.

    The file is opened before its time is asked for: network file systems may remember an older one else.
    """
    with reading(path):
        try:
            with path.open("rb") as stream:
                text, status = stream.read(), os.fstat(stream.fileno())
        except FileNotFoundError:
            return None
    try:
        owner = Owner(**json.loads(text))
    except (ValueError, TypeError):  # left half made where the file system knows no hard links
        owner = Owner(f"unreadable-{status.st_ino}-{status.st_mtime_ns}")
    return owner, status.st_mtime


def _now(folder: Path) -> float:
    """Seconds since the epoch by the clock that gives the files of a folder their times."""
    probe = folder / f".now.{socket.gethostname()}-{os.getuid()}"
    try:
        descriptor = os.open(probe, os.O_CREAT | os.O_WRONLY, 0o666)
    except OSError:
        return time.time()  # a reader without write permission
    try:
        os.utime(descriptor)
        return os.fstat(descriptor).st_mtime
    except OSError:
        return time.time()
    finally:
        os.close(descriptor)


def _text(owner: Owner) -> bytes:
    return dumps(owner).encode()


def _this_process(lease: float) -> Owner:
    return Owner(
        token=secrets.token_hex(16),
        host=socket.gethostname(),
        pid=os.getpid(),
        machine=_machine(),
        process_start=process_start(os.getpid()) if _machine() else None,
        started=utc_now(),
        lease=lease,
    )


def _machine() -> str:
    """One boot of one machine and one space of process ids; "" when unknown."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _known_dead(owner: Owner) -> bool:
    """Whether the owner ran here and has ended; another process may have its id by now."""
    if not owner.machine or owner.machine != _machine() or owner.process_start is None:
        return False
    try:
        return process_start(owner.pid) != owner.process_start
    except OSError:
        return False


def process_start(pid: int) -> int | None:
    """When a process was started, in clock ticks after boot; None when it has ended, reaped or not."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[_START_TIME])
