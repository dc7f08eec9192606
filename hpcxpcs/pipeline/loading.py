"""The data of a configuration, with a place for prepared matrices where that spares work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hpcxpcs.config import Config
from hpcxpcs.data.kept import KeptMatrices
from hpcxpcs.data.select import load
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import ConfigError
from hpcxpcs.files.array_store import ArrayStore
from hpcxpcs.pipeline.choices import memory_budget

HELD_SHARE = 0.25
"""Share of the memory budget that matrices may occupy between passes; larger data are read again instead."""

RUN_CACHE = Path("data") / "cache"
"""Where in RUN prepared matrices are kept when they are too large for the memory."""


def held_bytes(config: Config) -> int:
    """Bytes of matrices that a process keeps in memory between passes over the data."""
    return int(HELD_SHARE * memory_budget(config))


def loaded(config: Config, folder: Path, tell: Callable[[str], None], *, alone: bool = True) -> TwoTime:
    """The data that a configuration selects, for the run in a folder; matrices are read when asked for.

    Prepared matrices are kept in the folder that runtime.data_cache names, or, when it is auto and they do not fit
    into memory, in the run's own. `tell` hears when they do not fit there either. A process that is not `alone` follows
    the one that has prepared the run: it does not ask the scheduler for the memory of the job.
    """
    data = load(config)
    place, limit = cache_place(config, folder, data, alone=alone), config.runtime.data_cache_limit
    if place is None:
        return data
    if data.nbytes > limit:
        tell(
            f"{data.nbytes / 1e9:.1f} GB of prepared matrices are more than runtime.data_cache_limit, "
            f"{limit / 1e9:.1f} GB: they are made anew in every pass over the data"
        )
        return data
    return replace(data, kept=KeptMatrices(ArrayStore(place, limit), tell))


def cache_place(config: Config, folder: Path, data: TwoTime, *, alone: bool = True) -> Path | None:
    """The folder of prepared matrices; None when they are not kept on disk."""
    place = named_cache(config, folder)
    if place is None or config.runtime.data_cache != "auto":
        return place
    needed = place.is_dir() or (alone and data.nbytes > held_bytes(config))
    return place if needed else None


def named_cache(config: Config, folder: Path) -> Path | None:
    """The folder that runtime.data_cache names, needed or not, for the run in a folder; None when it is null."""
    chosen = config.runtime.data_cache
    if chosen is None or chosen == "auto":
        return folder / RUN_CACHE if chosen else None
    place = Path(chosen).expanduser()
    there = next((one for one in (place, *place.parents) if one.exists()), place)
    if there.exists() and not there.is_dir():
        raise ConfigError(
            f"runtime.data_cache: {there} is a file; name a folder, in which prepared matrices are kept"
        )
    return place
