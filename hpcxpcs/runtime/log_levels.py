"""How much is said: the levels, where the wanted one comes from, and how loud libraries may be."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from hpcxpcs.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error")
"""Levels by name, the most talkative first."""

LEVEL_VARIABLE = "HPCXPCS_LOG_LEVEL"
"""Environment variable with the level of processes that are given none."""

USUAL = "info"

OURS = "hpcxpcs"
"""The logger above all of this program's own; silent where nobody keeps a log."""

logging.getLogger(OURS).addHandler(logging.NullHandler())

LIBRARIES: Mapping[str, int] = {
    **dict.fromkeys(
        ("jax", "jaxlib", "absl", "numba", "h5py", "h5netcdf", "arviz", "arviz_stats"), logging.WARNING
    ),
    **dict.fromkeys(
        ("numpyro", "submitit", "filelock", "fsspec", "PIL", "asyncio", "mpi4py"), logging.WARNING
    ),
    "matplotlib": logging.ERROR,  # where its font cache goes is nobody's concern
    "nlsq": logging.ERROR,  # the outcome of a fit is judged here, not there
}
"""From which level on libraries are heard; with debug all are from info on."""

LIBRARIES_IN_DEBUG = logging.INFO
"""Their own debug is megabytes of fonts and programs."""

LEFT_ALONE = frozenset({"jax", "jaxlib", "absl"})
"""Setting the level of these lets them and their C++ parts print by themselves; JAX_LOGGING_LEVEL is for that."""


def asked_level(given: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The level of the command line, else of the environment; None when neither says one."""
    if given is not None:
        return given
    text = environ.get(LEVEL_VARIABLE, "").strip()
    if not text:
        return None
    if text.lower() not in LEVELS:
        raise ConfigError(
            f"{LEVEL_VARIABLE}={text!r} is no level: choose {', '.join(LEVELS[:-1])} or {LEVELS[-1]}"
        )
    return text.lower()


def number_of(level: str) -> int:
    """The number that the logging library has for a level."""
    return int(logging.getLevelNamesMapping()[level.upper()])


def level_name(number: int) -> str:
    """The name of the level that a number belongs to, such as error for a critical record."""
    return next((name for name in reversed(LEVELS) if number >= number_of(name)), LEVELS[0])


def is_ours(logger: str) -> bool:
    """Whether a logger is this program's own."""
    return logger == OURS or logger.startswith(f"{OURS}.")


def heard_from(logger: str, level: str) -> int:
    """The number from which on records of a logger are kept at a level; those of ours always from info on."""
    if is_ours(logger):
        return logging.DEBUG if level == "debug" else logging.INFO
    return (
        LIBRARIES_IN_DEBUG if level == "debug" else LIBRARIES.get(logger.partition(".")[0], logging.WARNING)
    )
