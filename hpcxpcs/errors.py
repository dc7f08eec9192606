"""The error tree: every failure a user can meet, each with the exit code the command line returns."""

from __future__ import annotations

LONGEST_LINE = 2000
"""Characters of one line of a message; a file can hold a text of any length in the place of a unit."""


FINISHED_BUT_DOUBTFUL = 3
"""Exit code of what was finished and written, but has answers that must not be quoted as they are."""


class HpcxpcsError(Exception):
    """Base of all errors whose message is meant for the user (file, key, value, remedy)."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message as a terminal may show it, whatever the files it quotes from hold."""
        return readable(super().__str__())


def readable(text: str) -> str:
    """Return text without what controls a terminal (written as \\x1b), its lines cut to a length that is read."""
    shown = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    lines = (
        line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE // 2]} … {line[-LONGEST_LINE // 2 :]}"
        for line in shown.split("\n")
    )
    return "\n".join(lines)


class ConfigError(HpcxpcsError):
    """The configuration or the command line asks for something impossible or misspelt."""

    exit_code = 2


class OldConfigurationWarning(UserWarning):
    """A configuration of the homodyne or heterodyne program has been read as one of ours."""


class DataError(HpcxpcsError):
    """The data file cannot be used as it is."""


class FormatError(DataError):
    """The file is not readable HDF5, or not in any known layout."""


class SelectionError(DataError):
    """The file is fine, but what was asked for (q, angles, frames) is not in it."""


class PosteriorError(HpcxpcsError):
    """The draws cannot be turned into a posterior."""


class Stopped(HpcxpcsError):
    """The run stopped on purpose with everything saved; the same command goes on (a point fit begins anew)."""

    exit_code = 75


class AlreadyComplete(HpcxpcsError):
    """The run has been finished before; not a failure, and its exit code is the one it ended with."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class OutputError(HpcxpcsError):
    """Results could not be written."""


class EnvironmentProblem(HpcxpcsError):
    """Something that the machine should provide is missing or broken."""


class SchedulerProblem(EnvironmentProblem):
    """A batch scheduler is missing, refused a request or gave an answer that makes no sense."""


class PlanMismatch(ConfigError):
    """The run folder was started with another configuration, other data or other drawing code."""


class StoreError(HpcxpcsError):
    """A file of a run folder cannot be used."""


class TornFile(StoreError):
    """The file does not have the length and the hash it was given: incomplete or altered; `what` says how."""

    def __init__(self, text: str, what: str = "") -> None:
        super().__init__(text)
        self.what = what or text


class ForeignFile(StoreError):
    """The file is whole, but belongs to another run or is of another kind."""


class FutureFile(StoreError):
    """The file was written by a newer version of the program."""


class ClaimLost(StoreError):
    """Another process has taken over the task, because this one gave no sign of life for too long."""
