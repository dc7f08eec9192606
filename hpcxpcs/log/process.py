"""What this process says, from its first to its last word: which loggers go where, and how loud."""

from __future__ import annotations

import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from hpcxpcs import __version__
from hpcxpcs.errors import AlreadyComplete, HpcxpcsError, Stopped
from hpcxpcs.files.process_memory import peak_memory, resident_memory
from hpcxpcs.log.levels import (
    LEFT_ALONE,
    LEVEL_VARIABLE,
    LIBRARIES,
    LIBRARIES_IN_DEBUG,
    OURS,
    USUAL,
    asked_level,
    log_context,
    note,
    number_of,
)
from hpcxpcs.log.lines import FILE_ONLY, MEGABYTE, TOLD, LogFile
from hpcxpcs.log.reading import Tally
from hpcxpcs.runs.job import batch_job
from hpcxpcs.runs.run import Run

_log = logging.getLogger(__name__)
_MIB = 1 << 20


@dataclass(frozen=True)
class Usage:
    """Seconds on the clock and of all threads, bytes resident at the end, and the most this process ever had.

    That peak is of the phase when it was reached in it; of the process, when the phase stayed below an earlier one.
    Linux could reset the peak, but then whoever watches this process (a scheduler, a parent) would see it too small.
    """

    seconds: float
    cpu_seconds: float
    memory_bytes: int | None
    peak_memory_bytes: int
    peak_of: Literal["phase", "process"]

    def words(self) -> str:
        """One line for people."""
        resident = "" if self.memory_bytes is None else f", memory {self.memory_bytes / _MIB:.0f} MiB"
        return (
            f"{self.seconds:.2f} s (processor {self.cpu_seconds:.2f} s{resident}, peak of the {self.peak_of} "
            f"{self.peak_memory_bytes / _MIB:.0f} MiB)"
        )


class Stopwatch:
    """Measures from the moment it is made."""

    def __init__(self) -> None:
        self._clock = time.perf_counter()
        self._processor = time.process_time()
        self._peak = peak_memory()

    def read(self) -> Usage:
        """What was used since the start."""
        peak = peak_memory()
        return Usage(
            seconds=round(time.perf_counter() - self._clock, 4),
            cpu_seconds=round(time.process_time() - self._processor, 4),
            memory_bytes=resident_memory(),
            peak_memory_bytes=peak,
            peak_of="phase" if peak > self._peak else "process",
        )


def usage_fields(what: str, used: Usage, kind: str = "phase") -> dict[str, Any]:
    """A finished phase as fields of a line of the log; `kind` is phase, task or process."""
    return {"event": kind, "of": what, **asdict(used), "process_cpu_seconds": round(time.process_time(), 4)}


@contextmanager
def timed(what: str, kind: str = "phase", logger: logging.Logger = _log) -> Iterator[None]:
    """Log what the block has taken when it ends, however it ends."""
    watch = Stopwatch()
    try:
        yield
    finally:
        used = watch.read()
        logger.info("%s: %s", what, used.words(), extra=usage_fields(what, used, kind))


NUMBER_VARIABLE = "HPCXPCS_WORKER"
"""Environment variable in which a leader tells a worker process its number."""


class LogSettings(Protocol):
    """What a configuration says about the log."""

    @property
    def level(self) -> str: ...
    @property
    def max_size_mb(self) -> float: ...
    @property
    def backup_count(self) -> int: ...


class Console(logging.Handler):
    """What people see of the log."""

    def follow(self, level: str) -> None:
        """Show what belongs to a level from now on."""
        self.setLevel(number_of(level))


class ProcessLog:
    """The log of this process while it lasts: its role, its level, its file, and what it has said so far."""

    def __init__(self, role: str, asked: str | None, console: Console | None) -> None:
        self.role = role
        self.asked = asked
        self.level = asked or USUAL
        self.tally = Tally()
        self.followed = False
        self.console = console
        self.file = LogFile(_complain, self.tally.add)
        self._apply()

    def follow(self, settings: LogSettings) -> None:
        """Take over what the configuration says, as far as the command line and the environment say nothing."""
        self.resize(settings.max_size_mb, settings.backup_count)
        self.default_to(settings.level)
        self.followed = True

    def default_to(self, level: str) -> None:
        """The level unless the command line or the environment has said one."""
        self.level = self.asked or level
        self._apply()

    def resize(self, megabytes: float, keep: int) -> None:
        """Largest size of the file, and how many full ones are kept."""
        self.file.most_bytes, self.file.keep = int(megabytes * MEGABYTE), keep

    def open_in(self, folder: Path, run: str) -> None:
        """Write to a file in `folder` (RUN/logs) from here on, in which every line has the id of the run."""
        note(run=run)
        self.file.open_in(folder, self.role, run)

    def _apply(self) -> None:
        self.file.level_name = self.level
        if self.console is not None:
            self.console.follow(self.level)
        logging.getLogger(OURS).setLevel(logging.DEBUG if self.level == "debug" else logging.INFO)
        for name, quiet in LIBRARIES.items():
            if name in LEFT_ALONE:
                continue
            logging.getLogger(name).setLevel(LIBRARIES_IN_DEBUG if self.level == "debug" else quiet)


class _Active:
    """The log of this process; None outside of process_log."""

    log: ProcessLog | None = None


def active_log() -> ProcessLog | None:
    """The log of this process, if it keeps one."""
    return _Active.log


def name_process(role: str, **fields: Any) -> None:
    """Give this process's log, if it keeps one, another role (and fields such as the rank) before it has a file."""
    if _Active.log is not None:
        _Active.log.role = role
        note(role=role, **fields)


def log_into(run: Run) -> None:
    """Let the log of this process, if it keeps one, go to RUN/logs, with the run's settings if it has no others."""
    log = _Active.log
    if log is None:
        return
    if not log.followed:
        settings = run.plan.extra.get("config", {}).get("logging")
        if settings:
            log.resize(float(settings["max_size_mb"]), int(settings["backup_count"]))
            log.default_to(str(settings["level"]))
        log.followed = True
    log.open_in(run.logs, run.plan.run_id)


def child_variables(number: int) -> dict[str, str]:
    """Variables that give worker process `number` this process's level."""
    level = {} if _Active.log is None else {LEVEL_VARIABLE: _Active.log.level}
    return {NUMBER_VARIABLE: str(number), **level}


@contextmanager
def process_log(role: str, level: str | None = None, console: Console | None = None) -> Iterator[ProcessLog]:
    """Keep a log inside this block, at `level`, or that of the environment, or what `follow` is told.

    `console` shows it to people. Inside another such block, that one's log goes on.
    """
    if _Active.log is not None:
        yield _Active.log
        return
    number = os.environ.get(NUMBER_VARIABLE, "") if role == "worker" else ""
    fields = {"role": role, "rank": int(number) if number.isdigit() else None, "job": batch_job().get("job")}
    with log_context(**fields), _loggers_restored():
        log = ProcessLog(role, asked_level(level), console)
        _attach(log)
        _Active.log = log
        try:
            with _spoken(log):
                yield log
        finally:
            _Active.log = None
            log.file.close()


@contextmanager
def _spoken(log: ProcessLog) -> Iterator[None]:
    """First and last words: what was started, and how it ended."""
    watch = Stopwatch()
    words = " ".join(sys.argv[1:]) if log.console is not None else "a Python program"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    uname = os.uname()
    system = f"{uname.sysname} {uname.release} {uname.machine}"
    machine = {"python": platform.python_version(), "system": system, "cores": cores}
    _log.info("hpcxpcs %s begins: %s", __version__, words, extra={"event": "begin", **machine, **batch_job()})
    try:
        yield
    except (Stopped, AlreadyComplete) as ended:
        _log.info("%s", ended, extra=TOLD)
        raise
    except HpcxpcsError as error:
        _log.error("%s", error, extra={**TOLD, "error": type(error).__name__})
        raise
    except KeyboardInterrupt:
        _log.warning("interrupted", extra=FILE_ONLY)
        raise
    except Exception as error:
        if not hasattr(error, "exit_code"):  # click's ways to end a command
            _log.exception("%s: %s", type(error).__name__, error, extra=FILE_ONLY)
        raise
    finally:
        used = watch.read()
        _log.info("the process ends: %s", used.words(), extra=usage_fields(log.role, used, "process"))


def _attach(log: ProcessLog) -> None:
    """Our loggers and the root get the file and the console; other handlers of the root hear us as they would else."""
    ours, root = logging.getLogger(OURS), logging.getLogger()
    own: list[logging.Handler] = [log.file] if log.console is None else [log.file, log.console]
    ours.propagate = False
    ours.handlers = [*own, _Onward(own)]
    if log.console is None and not root.handlers and logging.lastResort is not None:
        root.addHandler(logging.lastResort)
    for handler in own:
        root.addHandler(handler)
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        where = f"{place[0]}:{place[1]}" if len(place) > 1 else ""
        extra = {**FILE_ONLY, "category": category.__name__, "where": where}
        logging.getLogger("py.warnings").warning("%s", message, extra=extra)
        if log.level != "error":
            usual(message, category, *place, **more)

    warnings.showwarning = show


class _Onward(logging.Handler):
    """Hands our records on to handlers that are not ours: a program that uses this one may listen."""

    def __init__(self, own: Sequence[logging.Handler]) -> None:
        super().__init__()
        self._own = own

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on what the root would let pass; nobody in particular hears what is for the file or was said already."""
        root = logging.getLogger()
        aside = getattr(record, "told", False) or getattr(record, "file_only", False)
        for handler in root.handlers:
            theirs = handler not in self._own and not (aside and handler is logging.lastResort)
            if theirs and record.levelno >= max(root.level, handler.level):
                handler.handle(record)


@contextmanager
def _loggers_restored() -> Iterator[None]:
    """Leave loggers and warnings as they were found."""
    names = (OURS, *LIBRARIES)
    loggers = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    ours, root = logging.getLogger(OURS), logging.getLogger()
    handlers, propagate, others = list(ours.handlers), ours.propagate, list(root.handlers)
    show = warnings.showwarning
    try:
        yield
    finally:
        warnings.showwarning = show
        ours.handlers, ours.propagate = handlers, propagate
        root.handlers = others
        for logger, level in loggers:
            logger.setLevel(level)


def _complain(text: str) -> None:
    """Say on stderr that there is no log, unless warnings are hidden; where stderr is full, too, nothing is said."""
    if _Active.log is not None and _Active.log.level == "error":
        return
    with suppress(OSError, ValueError):
        sys.stderr.write(f"hpcxpcs: warning: {text}\n")
        sys.stderr.flush()
