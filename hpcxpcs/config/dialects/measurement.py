"""What an older configuration says about the measurement: file, frames, angles, filters."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from hpcxpcs.config.dialects.angles import numbers, translate_angles
from hpcxpcs.config.dialects.rules import Fate
from hpcxpcs.config.dialects.work import NOT_THERE, Work
from hpcxpcs.config.numbers import read_number, read_whole
from hpcxpcs.config.problems import KeyPath, dotted
from hpcxpcs.config.sections import DataFiltering

ALL_FRAMES = 100_000
"""A last frame from here on meant "all" to the heterodyne program when the first frame was 1."""
_LOADER = "data_filtering"
_FILTERS = ("phi_range", "q_range", "quality_threshold")
_DATA = "experimental_data"
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
            work.tell(
                (_DATA, key), Fate.DROPPED, why=_ENOUGH if by_pair else "file_path is given, and decides"
            )
        section = {key: value for key, value in section.items() if key not in losers}
    elif not path and "file_path" in section:
        work.tell((_DATA, "file_path"), Fate.DROPPED, why="is empty")
    for key in ("file_path", "data_folder_path"):
        if section.get(key):
            _place(work, (_DATA, key), (_DATA, key), section[key], str(section.get("data_file_name") or ""))
    flat: KeyPath = ("data_file",)
    if work.dialect != "homodyne" or work.at(*flat) is NOT_THERE:
        return
    if path or pair or not work.given(*flat):
        work.tell(flat, Fate.DROPPED, why=f"{_DATA} names the file" if path or pair else "is empty")
    else:
        _place(work, (_DATA, "file_path"), flat, work.given(*flat), "")


def _place(work: Work, target: KeyPath, origin: KeyPath, value: Any, name: str) -> None:
    """A path that starts at the folder of this file, or else at the working directory, as it did."""
    moved = _from_here(value, name if target[-1] == "data_folder_path" else "", work.base)
    work.put(target, value if moved is None else moved, origin)
    if moved is not None:
        work.tell(origin, Fate.REPLACED, dotted(target), "the file is where the working directory leads to")
    elif target == origin:
        work.tell(origin, Fate.KEPT, why="a relative path starts at the folder of the configuration")
    else:
        why = "a relative path starts at the folder of the configuration"
        work.tell(origin, Fate.RENAMED, dotted(target), why)


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
        work.tell(origin, Fate.DROPPED, why=why, changes_answer=True)


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


def _filters(work: Work) -> None:
    """homodyne's filters of the loader; unless it was said, its document has them on and its code had them off."""
    section = work.section(_LOADER) if work.dialect == "homodyne" else {}
    given = [key for key in _FILTERS if section.get(key) is not None]
    if not given:
        return
    switch: KeyPath = (_LOADER, "enabled")
    if not work.switch(switch, True):
        for key in given:
            work.tell(
                (_LOADER, key), Fate.DROPPED, why="data_filtering.enabled is false: nothing is filtered"
            )
        return
    if section.get("enabled") is None:
        why = "its document filters unless told otherwise, its code did not; enabled: false leaves the filters out"
        work.tell_absent(dotted(switch), _LOADER, why, aloud="phi_range" in given)
    if str(section.get("combine_criteria")).lower() == "or" and len(given) > 1:
        why = f"what is in any of {' and '.join(given)} has no counterpart; keep one of them, or AND"
        work.tell((_LOADER, "combine_criteria"), Fate.DROPPED, why=why, changes_answer=True)
    if "q_range" in given:
        _range_of_q(work, (_LOADER, "q_range"), section["q_range"])
    if "quality_threshold" in given:
        why = "no matrix is left out by a score; leave its angle out in phi_ranges"
        work.tell((_LOADER, "quality_threshold"), Fate.DROPPED, why=why, changes_answer=True)


def _range_of_q(work: Work, origin: KeyPath, value: Any) -> None:
    """A range of q: one q is fitted here, and it has to be in it."""
    if not isinstance(value, dict) or set(value) - {"min", "max"}:
        work.refuse(origin, "must be a range such as {min: 0.01, max: 0.05}, in 1/Å")
        return
    keys = {key: (*origin, key) for key in value if value[key] is not None}
    limits = dict(zip(keys, numbers(work, value, keys, "a number in 1/Å"), strict=False))
    asked, share = _wavevector(work), work.given("q_tolerance_fraction")
    try:
        share = DataFiltering().q_tolerance if share is None else read_number(share)
    except ValueError:
        asked = None  # the check of the key says what is wrong with it
    if asked is None or len(limits) != len(keys):
        work.tell(origin, Fate.DROPPED, why="one q is fitted: the bin nearest to wavevector_q")
        return
    room = min(asked - limits.get("min", 0.0), limits.get("max", math.inf) - asked) / asked
    target: KeyPath = ("data_filtering", "q_tolerance")
    if room >= share:
        why = f"one q is fitted, the bin nearest to wavevector_q; within q_tolerance ({share:g}) all are in the range"
        work.tell(origin, Fate.DROPPED, why=why)
    elif room > 0:
        work.put(target, room, origin, rank=1)
        why = "one q is fitted, the bin nearest to wavevector_q; one outside the range is refused"
        work.tell(origin, Fate.REPLACED, f"{dotted(target)}: {room:.3g}", why)
    else:
        why = f"one q is fitted, the bin nearest to wavevector_q ({asked:g}), which is not in the range"
        work.tell(origin, Fate.DROPPED, why=why, changes_answer=True)


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
