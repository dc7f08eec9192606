"""What an older configuration says about the measurement: file, frames, angles, filters."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcxpcs.config.dialects.angles import translate_angles
from hpcxpcs.config.dialects.work import NOT_THERE, Fate, Work
from hpcxpcs.config.problems import KeyPath, dotted
from hpcxpcs.config.sections import DataFiltering
from hpcxpcs.config.values import read_number, read_whole

ALL_FRAMES = 100_000
"""A last frame from here on meant "all" to the heterodyne program when the first frame was 1."""
_LOADER = "data_filtering"
_FILTERS = ("phi_range", "q_range", "quality_threshold")
_DATA = "experimental_data"
_LAST: KeyPath = ("analyzer_parameters", "end_frame")
_ENOUGH = "folder and name are given, and they decide"


def translate_measurement(work: Work) -> None:
    """File, frames and angles; everything else is left to the table."""
    _file(work)
    _last_frame(work)
    _temporal(work)
    _distance(work)
    _filters(work)
    translate_angles(work)
    _unsaid(work)


def _file(work: Work) -> None:
    """One way to name the file: homodyne took folder and name before file_path, heterodyne the other way round."""
    section = work.section(_DATA)
    path = section.get("file_path") or None
    pair = [key for key in ("data_folder_path", "data_file_name") if section.get(key)]
    if path and pair:
        by_pair = work.dialect == "homodyne" and len(pair) == 2
        losers = ["file_path"] if by_pair else pair
        for key in losers:
            work.drop((_DATA, key), _ENOUGH if by_pair else "file_path is given, and decides")
        section = {key: value for key, value in section.items() if key not in losers}
    elif not path and "file_path" in section:
        work.drop((_DATA, "file_path"), "is empty")
    for key in ("file_path", "data_folder_path"):
        if section.get(key):
            _place(work, (_DATA, key), (_DATA, key), section[key], str(section.get("data_file_name") or ""))
    flat: KeyPath = ("data_file",)
    if work.dialect != "homodyne" or work.at(*flat) is NOT_THERE:
        return
    if path or pair or not work.given(*flat):
        work.drop(flat, f"{_DATA} names the file" if path or pair else "is empty")
    else:
        _place(work, (_DATA, "file_path"), flat, work.given(*flat), "")


def _place(work: Work, target: KeyPath, origin: KeyPath, value: Any, name: str) -> None:
    """A path that starts at the folder of this file, or else at the working directory, as it did."""
    moved = _from_here(value, name if target[-1] == "data_folder_path" else "", work.base)
    relative = "a relative path starts at the folder of the configuration"
    if moved is not None:
        work.put(target, moved, origin)
        work.tell(origin, Fate.REPLACED, dotted(target), "the file is where the working directory leads to")
    elif target == origin:
        work.keep(origin, value, relative)
    else:
        work.rename(origin, target, value, relative)


def _from_here(value: Any, name: str, base: Path | None) -> str | None:
    """The absolute path when only the working directory leads to the file, else None."""
    if not isinstance(value, str) or base is None or os.path.isabs(os.path.expanduser(value)):  # noqa: PTH111, PTH117
        return None
    # unlike Path's methods these answer False to names that no file can have
    if os.path.exists(base / value / name) or not os.path.exists(Path.cwd() / value / name):  # noqa: PTH110
        return None
    return str(Path(value).absolute())


def _last_frame(work: Work) -> None:
    value = work.at(*_LAST)
    try:
        last, first = read_whole(value), read_whole(work.given("analyzer_parameters", "start_frame") or 1)
    except ValueError:
        return  # the check of the key says what is wrong with it
    everything = work.dialect == "heterodyne" and first <= 1 and last >= ALL_FRAMES
    if last < -1 or everything:
        work.put(_LAST, -1, _LAST)
        work.tell(_LAST, Fate.REPLACED, dotted(_LAST), "-1 is the last frame of the file")
    else:
        work.keep(_LAST, value)


def _distance(work: Work) -> None:
    """A distance that homodyne took for the gap of the shear cell when it was given none."""
    origin: KeyPath = (_DATA, "geometry", "sample_detector_distance")
    gaps = [
        (_DATA, "geometry", "stator_rotor_gap"),
        ("analyzer_parameters", "geometry", "stator_rotor_gap"),
        ("analyzer_parameters", "stator_rotor_gap"),
    ]
    sheared = work.dialect == "homodyne" and work.new.get("analysis_mode") == "laminar_flow"
    if sheared and work.given(*origin) is not None and all(work.given(*gap) is None for gap in gaps):
        why = "homodyne took it for the gap, of which there is none; give analyzer_parameters.geometry.stator_rotor_gap"
        work.drop(origin, why, changes_answer=True)


def _temporal(work: Work) -> None:
    """The older heterodyne section: t_start counts from 0, time_length is a number of frames."""
    section = work.section("temporal") if work.dialect == "heterodyne" else {}
    start, length = ("temporal", "t_start"), ("temporal", "time_length")
    first = 1
    if section.get("t_start") is not None:
        try:
            first = read_whole(section["t_start"]) + 1
        except ValueError as error:
            work.refuse(start, str(error))
        why = "counted from 0 there, from 1 here"
        work.rename(start, ("analyzer_parameters", "start_frame"), first, why, rank=-1)
    if section.get("time_length") is not None:
        try:
            last = first + read_whole(section["time_length"]) - 1
        except ValueError as error:
            work.refuse(length, str(error))
            return
        if work.put(_LAST, last, length, rank=-1):
            work.tell(length, Fate.REPLACED, dotted(_LAST), "the number of frames")
        else:
            work.drop(length, f"{dotted(_LAST)} wins")


def _filters(work: Work) -> None:
    """homodyne's filters of the loader; unless it was said, its document has them on and its code had them off."""
    section = work.section(_LOADER) if work.dialect == "homodyne" else {}
    given = [key for key in _FILTERS if section.get(key) is not None]
    if not given:
        return
    switch: KeyPath = (_LOADER, "enabled")
    if not work.switch(switch, True):
        for key in given:
            work.drop((_LOADER, key), "data_filtering.enabled is false: nothing is filtered")
        return
    if section.get("enabled") is None:
        why = "its document filters unless told otherwise, its code did not; enabled: false leaves the filters out"
        work.tell_absent(dotted(switch), _LOADER, why, aloud="phi_range" in given)
    if str(section.get("combine_criteria")).lower() == "or" and len(given) > 1:
        why = f"what is in any of {' and '.join(given)} has no counterpart; keep one of them, or AND"
        work.drop((_LOADER, "combine_criteria"), why, changes_answer=True)
    if "q_range" in given:
        _range_of_q(work, (_LOADER, "q_range"), section["q_range"])
    if "quality_threshold" in given:
        why = "no matrix is left out by a score; leave its angle out in phi_ranges"
        work.drop((_LOADER, "quality_threshold"), why, changes_answer=True)


def _range_of_q(work: Work, origin: KeyPath, value: Any) -> None:
    """A range of q: one q is fitted here, and it has to be in it."""
    if not isinstance(value, dict) or set(value) - {"min", "max"}:
        work.refuse(origin, "must be a range such as {min: 0.01, max: 0.05}, in 1/Å")
        return
    given = [key for key in value if value[key] is not None]
    limits = {key: work.number((*origin, key), "a number in 1/Å") for key in given}
    least, most = limits.get("min", 0.0), limits.get("max", math.inf)
    asked, share = _wavevector(work), work.given("q_tolerance_fraction")
    try:
        share = DataFiltering().q_tolerance if share is None else read_number(share)
    except ValueError:
        asked = None  # the check of the key says what is wrong with it
    if asked is None or least is None or most is None:
        work.drop(origin, "one q is fitted: the bin nearest to wavevector_q")
        return
    room = min(asked - least, most - asked) / asked
    one_q = "one q is fitted, the bin nearest to wavevector_q"
    if room >= share:
        work.drop(origin, f"{one_q}; within q_tolerance ({share:g}) all are in the range")
    elif room > 0:
        work.replace(origin, (_LOADER, "q_tolerance"), room, f"{one_q}; one outside the range is refused", rank=1)
    else:
        work.drop(origin, f"{one_q} ({asked:g}), which is not in the range", changes_answer=True)


def _wavevector(work: Work) -> float | None:
    """The q that is asked for, in 1/Å; None when it is missing or in error, which the check of its key tells."""
    for place in (("scattering", "wavevector_q"), ("wavevector_q",)):
        value = work.given("analyzer_parameters", *place)
        if value is not None:
            try:
                q = read_number(value)
            except ValueError:
                return None
            return q if q > 0 else None
    return None


def _unsaid(work: Work) -> None:
    """What heterodyne took for granted about the measurement, and this program takes from the data file."""
    if work.dialect != "heterodyne":
        return
    for key, theirs, ours in (
        ("dt", "0.001 s", "that of the file"),
        ("end_frame", "frame 2000", "the last frame of the file"),
    ):
        path = ("analyzer_parameters", key)
        if path not in work.origins and work.given(*path) is None and work.given("temporal", key) is None:
            work.tell_absent(dotted(path), dotted(path), f"is not given: {ours}; heterodyne took {theirs}")
    told = work.is_told(("phi_filtering", "target_ranges"))
    if not told and ("data_filtering", "phi_ranges") not in work.origins:
        why = "no angles are selected: all of the file are used; heterodyne took phi = 0 or its own ranges"
        work.tell_absent("phi_filtering.target_ranges", "data_filtering.phi_ranges", why)


_LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "critical": "error",
    "fatal": "error",
}
"""The older programs' levels, the most talkative first, and ours."""

_LEVEL: KeyPath = ("logging", "level")


def translate_logging(work: Work) -> None:
    """The level of the terminal, of the four keys that had a say in it, and files that grew without end."""
    if all(isinstance(work.given(*path), Mapping | None) for path in (("logging",), ("logging", "console"))):
        _level(work)
        for key in ("max_size_mb", "backup_count"):
            path = ("logging", "file", key)
            if _is_zero(work.given(*path)):  # other values are left to the table
                work.drop(path, "0 was one file without end; here logs begin new files at logging.max_size_mb")


def _level(work: Work) -> None:
    silenced = None
    switches: tuple[KeyPath, ...] = (("logging", "enabled"), ("logging", "console", "enabled"))
    for path in switches:
        value = work.given(*path)
        if value is None:
            continue
        if not isinstance(value, bool):
            work.refuse(path, "must be true or false")
        elif value or silenced is not None:
            why = "there is always a log; logging.level says how much of it is shown"
            work.drop(path, f"{dotted(silenced)} is false" if silenced else why)
        else:
            silenced = path
            why = "nothing but errors is shown; a run keeps its log in RUN/logs all the same"
            work.replace(path, _LEVEL, "error", why)
    places = (_LEVEL, ("logging", "console", "level"))
    known = {path: level for path in places if (level := _known_level(work, path)) is not None}
    order = list(dict.fromkeys(_LEVELS.values()))
    winner = max(known, key=lambda path: order.index(known[path]), default=None)
    for path, level in known.items():
        if silenced is not None:
            work.drop(path, f"{dotted(silenced)} is false")
        elif path != winner:
            work.drop(path, f"{dotted(winner or path)} says it: the one that shows less wins")
        else:
            work.replace(path, _LEVEL, level)


def _known_level(work: Work, path: KeyPath) -> str | None:
    """The level of ours that a key of theirs names; None when it is not there, or refused."""
    value = work.given(*path)
    if value is None:
        return None
    level = _LEVELS.get(value.strip().lower()) if isinstance(value, str) else None
    if level is None:
        work.refuse(path, f"is not a level; give one of {', '.join(dict.fromkeys(_LEVELS.values()))}")
    return level


def _is_zero(value: Any) -> bool:
    try:
        return value is not None and read_number(value) == 0
    except ValueError:
        return False  # the check of the key says what is wrong with it
