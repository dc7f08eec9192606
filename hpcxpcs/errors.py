"""The error tree: every failure a user can meet, each with the exit code the command line returns."""

from __future__ import annotations


class HpcxpcsError(Exception):
    """Base of all errors whose message is meant for the user (file, key, value, remedy)."""

    exit_code = 1


class ConfigError(HpcxpcsError):
    """The configuration or the command line asks for something impossible or misspelt."""

    exit_code = 2


class DataError(HpcxpcsError):
    """The data file cannot be used as it is."""


class FormatError(DataError):
    """The file is not readable HDF5, or not in any known layout."""


class SelectionError(DataError):
    """The file is fine, but what was asked for (q, angles, frames) is not in it."""


class OutputError(HpcxpcsError):
    """Results could not be written."""


class EnvironmentProblem(HpcxpcsError):
    """Something that the machine should provide is missing or broken."""
