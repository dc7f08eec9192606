"""What an older configuration says about the measurement: file, frames, angles, filters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hpcxpcs.config.dialects.rules import Fate
from hpcxpcs.config.dialects.work import Work
from hpcxpcs.config.numbers import read_number, read_whole
from hpcxpcs.config.problems import KeyPath, dotted

ALL_FRAMES = 100_000
"""A last frame from here on meant "all" to the heterodyne program when the first frame was 1."""
ANGLE_WIDTH = 0.05
"""Half the width in degrees of the range that selects one angle."""
_DATA = "experimental_data"
_ENOUGH = "folder and name are given, and they decide"


def translate_measurement(work: Work) -> None:
    """File, frames and angles; everything else is left to the table."""
    _file(work)
    _last_frame(work)
    _temporal(work)
    _angles(work)
    _filters(work)
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
            work.tell(
                (_DATA, key), Fate.DROPPED, why=_ENOUGH if by_pair else "file_path is given, and decides"
            )
        section = {key: value for key, value in section.items() if key not in losers}
    elif not path and "file_path" in section:
        work.tell((_DATA, "file_path"), Fate.DROPPED, why="is empty")
    for key in ("file_path", "data_folder_path"):
        if section.get(key):
            _place(work, key, section[key], str(section.get("data_file_name") or ""))


def _place(work: Work, key: str, value: Any, name: str) -> None:
    """A path that starts at the folder of this file, or else at the working directory, as it did."""
    origin = (_DATA, key)
    moved = _from_here(value, name if key == "data_folder_path" else "", work.base)
    if moved is None:
        work.put(origin, value, origin)
        work.tell(origin, Fate.KEPT, why="a relative path starts at the folder of the configuration")
    else:
        work.put(origin, moved, origin)
        work.tell(origin, Fate.REPLACED, f"{_DATA}.{key}", "the file is where the working directory leads to")


def _from_here(value: Any, name: str, base: Path | None) -> str | None:
    """The absolute path when only the working directory leads to the file, else None."""
    if not isinstance(value, str) or base is None or os.path.isabs(os.path.expanduser(value)):  # noqa: PTH111, PTH117
        return None
    # unlike Path's methods these answer False to names that no file can have
    if os.path.exists(base / value / name) or not os.path.exists(Path.cwd() / value / name):  # noqa: PTH110
        return None
    return str(Path(value).absolute())


def _last_frame(work: Work) -> None:
    origin: KeyPath = ("analyzer_parameters", "end_frame")
    value = work.at(*origin)
    try:
        last, first = read_whole(value), read_whole(work.given("analyzer_parameters", "start_frame") or 1)
    except ValueError:
        return  # the check of the key says what is wrong with it
    everything = work.dialect == "heterodyne" and first <= 1 and last >= ALL_FRAMES
    if last < -1 or everything:
        work.put(origin, -1, origin)
        work.tell(origin, Fate.REPLACED, dotted(origin), "-1 is the last frame of the file")
    else:
        work.put(origin, value, origin)
        work.tell(origin, Fate.KEPT)


def _temporal(work: Work) -> None:
    """The older heterodyne section: t_start counts from 0, time_length is a number of frames."""
    section = work.section("temporal") if work.dialect == "heterodyne" else {}
    start: KeyPath = ("temporal", "t_start")
    length: KeyPath = ("temporal", "time_length")
    first = 1
    if section.get("t_start") is not None:
        try:
            first = read_whole(section["t_start"]) + 1
        except ValueError as error:
            work.refuse(start, str(error))
        work.put(("analyzer_parameters", "start_frame"), first, start, rank=-1)
        work.tell(start, Fate.RENAMED, "analyzer_parameters.start_frame", "counted from 0 there, from 1 here")
    if section.get("time_length") is not None:
        try:
            last = first + read_whole(section["time_length"]) - 1
        except ValueError as error:
            work.refuse(length, str(error))
            return
        if work.put(("analyzer_parameters", "end_frame"), last, length, rank=-1):
            work.tell(length, Fate.REPLACED, "analyzer_parameters.end_frame", "the number of frames")
        else:
            work.tell(length, Fate.DROPPED, why="analyzer_parameters.end_frame wins")


def _angles(work: Work) -> None:
    """Explicit angles before ranges; ranges only when the filter was on."""
    target: KeyPath = ("data_filtering", "phi_ranges")
    chosen: KeyPath | None = None
    for origin in (("analyzer_parameters", "scattering", "phi_angles"), ("scattering", "phi_angles")):
        angles = work.given(*origin) if work.dialect == "heterodyne" else None
        if angles == []:
            work.tell(origin, Fate.DROPPED, why="is empty: all angles are used")
        elif angles is not None:
            work.put(target, _around(work, origin, angles), origin)
            work.tell(origin, Fate.REPLACED, dotted(target), f"each angle within {ANGLE_WIDTH} degrees")
            chosen = origin
    section = work.section("phi_filtering")
    origin = ("phi_filtering", "target_ranges")
    ranges = section.get("target_ranges")
    if ranges is None:
        return
    if ranges == []:
        work.tell(origin, Fate.DROPPED, why="is empty: all angles are used")
        return
    on_by_default = work.dialect == "heterodyne"
    if section.get("enabled", on_by_default) is not True:
        work.tell(origin, Fate.DROPPED, why="phi_filtering.enabled is not true: all angles are used")
    elif chosen:
        work.tell(origin, Fate.DROPPED, why=f"{dotted(chosen)} wins")
    else:
        found = _ranges(work, origin, ranges)
        work.put(target, found, origin)
        whole = any(abs(one["max"] - one["min"]) >= 360 for one in found)
        why = "a full range takes every angle; there it left one" if whole else "min > max wraps"
        work.tell(origin, Fate.REPLACED, dotted(target), why)


def _around(work: Work, origin: KeyPath, angles: Any) -> list[dict[str, float]]:
    values = []
    for index, angle in enumerate(angles if isinstance(angles, list) else [angles]):
        place = (*origin, index) if isinstance(angles, list) else origin
        values += _numbers(work, {"angle": angle}, {"angle": place})
    return [{"min": value - ANGLE_WIDTH, "max": value + ANGLE_WIDTH} for value in values]


def _ranges(work: Work, origin: KeyPath, ranges: Any) -> list[dict[str, float]]:
    """Ranges of {min_angle, max_angle} as {min, max}; what is no range is refused."""
    if not isinstance(ranges, list):
        work.refuse(origin, "must be a list of ranges such as {min_angle: -10, max_angle: 10}")
        return []
    found = []
    for index, one in enumerate(ranges):
        place = (*origin, index)
        if not isinstance(one, dict) or "min_angle" not in one or "max_angle" not in one:
            work.refuse(place, "must be a range such as {min_angle: -10, max_angle: 10}")
            continue
        keys = {key: (*place, key) for key in ("min_angle", "max_angle")}
        limits = _numbers(work, one, keys)
        if len(limits) == len(keys):
            found.append({"min": limits[0], "max": limits[1]})
        for key in one:
            if key not in (*keys, "description"):
                work.tell((*place, key), Fate.UNKNOWN, why="unknown in a range")
    return found


def _numbers(work: Work, values: dict[str, Any], keys: dict[str, KeyPath]) -> list[float]:
    """The numbers at some keys, without those that are none, which are refused."""
    found = []
    for key, place in keys.items():
        try:
            found.append(read_number(values[key]))
        except ValueError as error:
            work.refuse(place, f"{error}; give an angle in degrees")
    return found


def _filters(work: Work) -> None:
    """homodyne's filter of the loader, which counts only when it was on."""
    if work.dialect != "homodyne":
        return
    section = work.section("data_filtering")
    enabled = section.get("enabled") is True
    for key, value in section.items():
        origin = ("data_filtering", key)
        if key == "enabled" or value is None:
            continue
        if not enabled:
            work.tell(origin, Fate.DROPPED, why="data_filtering.enabled is not true: nothing is filtered")
        elif key == "phi_range":
            _one_range(work, origin, value)
        elif key in ("q_range", "quality_threshold"):
            work.tell(origin, Fate.DROPPED, why=_NO_SUCH_FILTER[key], changes_answer=True)


_NO_SUCH_FILTER = {
    "q_range": "one q is fitted, the bin nearest to wavevector_q; there the range could exclude it",
    "quality_threshold": "no matrix is left out by a score; leave its angle out in phi_ranges",
}


def _one_range(work: Work, origin: KeyPath, value: Any) -> None:
    """The range of the loader; together with phi_filtering's it was an intersection, which has no counterpart."""
    target: KeyPath = ("data_filtering", "phi_ranges")
    if target in work.origins:
        why = "both it and phi_filtering selected angles; write their intersection as phi_ranges"
        work.tell(origin, Fate.DROPPED, why=why, changes_answer=True)
        return
    if not isinstance(value, dict) or {"min", "max"} - set(value):
        work.refuse(origin, "must be a range such as {min: -10, max: 10}")
        return
    limits = _numbers(work, value, {"min": (*origin, "min"), "max": (*origin, "max")})
    if len(limits) == 2:
        work.put(target, [{"min": limits[0], "max": limits[1]}], origin)
    work.tell(origin, Fate.REPLACED, dotted(target), "a list of ranges here")


def _unsaid(work: Work) -> None:
    """What heterodyne took for granted about the measurement, and this program takes from the data file."""
    if work.dialect != "heterodyne":
        return
    for key, theirs, ours in (
        ("dt", "0.001 s", "that of the file"),
        ("end_frame", "frame 2000", "the last frame of the file"),
    ):
        if ("analyzer_parameters", key) not in work.origins and work.given(
            "analyzer_parameters", key
        ) is None:
            other = work.given("temporal", key)
            if other is None:
                why = f"is not given: {ours}; heterodyne took {theirs}"
                work.tell_absent(f"analyzer_parameters.{key}", f"analyzer_parameters.{key}", why)
    said = work.is_told(("phi_filtering", "target_ranges"))
    if not said and ("data_filtering", "phi_ranges") not in work.origins:
        why = "no angles are selected: all of the file are used; heterodyne took phi = 0 or its own ranges"
        work.tell_absent("phi_filtering.target_ranges", "data_filtering.phi_ranges", why)
