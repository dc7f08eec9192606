"""Which azimuthal angles an older configuration selects: the keys that had a say in it, as one list of ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpcxpcs.config.dialects.rules import Fate
from hpcxpcs.config.dialects.work import Work
from hpcxpcs.config.numbers import read_number
from hpcxpcs.config.problems import KeyPath, dotted

ANGLE_WIDTH = 0.05
"""Half the width in degrees of the range that selects one angle, when no tolerance is given."""
NAMED_ANGLES: tuple[KeyPath, ...] = (
    ("analyzer_parameters", "scattering", "phi_angles"),
    ("scattering", "phi_angles"),
    ("analysis", "phi_angles"),
    ("phi_angles",),
)
"""Where heterodyne's explicit angles are, the first that is given decides."""
_TARGET: KeyPath = ("data_filtering", "phi_ranges")
_FILTER = "phi_filtering"
_ALL_ANGLES = "is empty: all angles are used"
_OFF = "phi_filtering.enabled is not true: all angles are used"
_BESIDE = 1e-4
"""Degrees that a range stays away from an angle that is left out: ends of ranges belong to them, within 1e-9."""

Arc = tuple[float, float]
_CIRCLE: tuple[Arc, ...] = ((-180.0, 180.0),)


@dataclass(frozen=True)
class _Choice:
    """Angles as one key selects them: where it is, its ranges as {min, max}, and what there is to say about it."""

    origin: KeyPath
    ranges: list[dict[str, float]]
    why: str


def translate_angles(work: Work) -> None:
    """All that selected angles meets, less what is left out."""
    on = work.switch((_FILTER, "enabled"), work.dialect == "heterodyne")
    width = _tolerance(work, on)
    named = _named(work)
    found = [_filtered(work, on, width, named) or named, _of_the_loader(work)]
    choices = [one for one in found if one is not None]
    left_out = _left_out(work, on, width)
    selecting = [one for one in choices if one.ranges]
    ranges = choices[0].ranges if len(choices) == 1 and left_out is None else _combined(selecting, left_out)
    choices += [left_out] if left_out is not None else []
    if ranges and choices:
        work.put(_TARGET, ranges, choices[0].origin)
    elif selecting or left_out is not None:
        others = " and ".join(dotted(one.origin) for one in choices[:-1])
        work.refuse(choices[-1].origin, f"leaves no angle{' together with ' if others else ''}{others}")
    together = "" if len(choices) == 1 else "all keys about angles together"
    for one in choices:
        work.tell(one.origin, Fate.REPLACED, dotted(_TARGET), "; ".join(filter(None, (one.why, together))))


def numbers(work: Work, values: dict[str, Any], keys: dict[str, KeyPath], unit: str) -> list[float]:
    """The numbers at some keys, without those that are none, which are refused."""
    found = []
    for key, place in keys.items():
        try:
            found.append(read_number(values[key]))
        except ValueError as error:
            work.refuse(place, f"{error}; give {unit}")
    return found


def _named(work: Work) -> _Choice | None:
    """heterodyne's explicit angles, which went before ranges."""
    winner: _Choice | None = None
    for origin in NAMED_ANGLES if work.dialect == "heterodyne" else ():
        angles = work.given(*origin)
        if angles is None:
            continue
        if angles == []:
            work.tell(origin, Fate.DROPPED, why=_ALL_ANGLES)
        elif winner is not None:
            work.tell(origin, Fate.DROPPED, why=f"{dotted(winner.origin)} wins")
        else:
            winner = _Choice(
                origin, _around(work, origin, angles, ANGLE_WIDTH), f"each angle within {ANGLE_WIDTH} degrees"
            )
    return winner


def _filtered(work: Work, on: bool, width: float, before: _Choice | None) -> _Choice | None:
    """What phi_filtering selects, when it is on: by ranges, or by angles with a tolerance."""
    ranges, angles = (_FILTER, "target_ranges"), (_FILTER, "include_angles")
    found: _Choice | None = None
    for origin in (ranges, angles):
        value, earlier = work.given(*origin), found or before
        if value is None:
            continue
        if value == []:
            work.tell(origin, Fate.DROPPED, why=_ALL_ANGLES)
        elif not on:
            unsaid = work.given(_FILTER, "enabled") is None
            work.tell(origin, Fate.DROPPED, why=_OFF, aloud=unsaid)
        elif earlier is not None and origin == angles:
            why = f"both it and {dotted(earlier.origin)} select angles; keep one of the two"
            work.tell(origin, Fate.DROPPED, why=why, changes_answer=True)
        elif earlier is not None:
            work.tell(origin, Fate.DROPPED, why=f"{dotted(earlier.origin)} wins")
        elif origin == ranges:
            limits = _ranges(work, origin, value)
            whole = any(abs(one["max"] - one["min"]) >= 360 for one in limits)
            why = "a full range takes every angle; there it left one" if whole else "min > max wraps"
            found = _Choice(origin, limits, why)
        else:
            found = _Choice(
                origin, _around(work, origin, value, width), f"each angle within {width:g} degrees"
            )
    return found


def _left_out(work: Work, on: bool, width: float) -> _Choice | None:
    """The angles that phi_filtering.exclude_angles leaves out, each with the tolerance around it."""
    origin = (_FILTER, "exclude_angles")
    angles = work.given(*origin)
    if angles is None:
        return None
    if angles == [] or not on:
        work.tell(origin, Fate.DROPPED, why=_OFF if angles else "is empty: none is left out")
        return None
    why = f"not these angles, nor what is within {width:g} degrees"
    return _Choice(origin, _around(work, origin, angles, width), why)


def _tolerance(work: Work, on: bool) -> float:
    """Half the width in degrees of the range around an angle of include_angles or exclude_angles."""
    origin = (_FILTER, "tolerance")
    value = work.given(*origin)
    listed = any(work.given(_FILTER, key) for key in ("include_angles", "exclude_angles"))
    if value is None:
        return ANGLE_WIDTH
    if not (on and listed):
        work.tell(origin, Fate.DROPPED, why="belongs to include_angles and exclude_angles; ranges need none")
        return ANGLE_WIDTH
    why = "the width of the ranges around include_angles and exclude_angles"
    work.tell(origin, Fate.REPLACED, dotted(_TARGET), why)
    found = numbers(work, {"tolerance": value}, {"tolerance": origin}, "degrees")
    if found and not 0.0 <= found[0] < 180.0:
        work.refuse(origin, "must be at least 0 and less than 180 degrees")
    return found[0] if found else ANGLE_WIDTH


def _around(work: Work, origin: KeyPath, angles: Any, width: float) -> list[dict[str, float]]:
    values = []
    for index, angle in enumerate(angles if isinstance(angles, list) else [angles]):
        place = (*origin, index) if isinstance(angles, list) else origin
        values += numbers(work, {"angle": angle}, {"angle": place}, "an angle in degrees")
    values = [value if abs(value) <= 180.0 else value - 360.0 * round(value / 360.0) for value in values]
    return [{"min": value - width, "max": value + width} for value in values]


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
        limits = numbers(work, one, keys, "an angle in degrees")
        if len(limits) == len(keys):
            found.append({"min": limits[0], "max": limits[1]})
        for key in one:
            if key not in (*keys, "description"):
                work.tell((*place, key), Fate.UNKNOWN, why="unknown in a range", changes_answer=True)
    return found


def _of_the_loader(work: Work) -> _Choice | None:
    """homodyne's data_filtering.phi_range, which its loader took for itself."""
    origin = ("data_filtering", "phi_range")
    value = work.given(*origin) if work.dialect == "homodyne" else None
    if value is None or work.is_told(origin):
        return None
    if not isinstance(value, dict) or {"min", "max"} - set(value):
        work.refuse(origin, "must be a range such as {min: -10, max: 10}")
        return None
    limits = numbers(work, value, {"min": (*origin, "min"), "max": (*origin, "max")}, "an angle in degrees")
    for key in value:
        if key not in ("min", "max"):
            work.tell((*origin, key), Fate.UNKNOWN, why="unknown in a range", changes_answer=True)
    ranges = [{"min": limits[0], "max": limits[1]}] if len(limits) == 2 else []
    return _Choice(origin, ranges, "min > max wraps; angles a full turn apart are one")


def _combined(choices: Sequence[_Choice], left_out: _Choice | None) -> list[dict[str, float]]:
    """The ranges of angles that are in every choice and not left out."""
    kept = list(_CIRCLE)
    for one in choices:
        kept = _common(kept, _arcs(one.ranges))
    if left_out is not None:
        widened = [{"min": one["min"] - _BESIDE, "max": one["max"] + _BESIDE} for one in left_out.ranges]
        kept = _common(kept, _gaps(_arcs(widened)))
    return _as_ranges(kept)


def _arcs(ranges: Sequence[dict[str, float]]) -> list[Arc]:
    """Ranges as arcs between -180 and 180 degrees, in order and apart from each other."""
    found: list[Arc] = []
    for one in ranges:
        width = one["max"] - one["min"]
        width = width if width >= 0 else width % 360.0
        if width >= 360.0:
            return list(_CIRCLE)
        start = (one["min"] + 180.0) % 360.0 - 180.0
        end = start + width
        found += [(start, end)] if end <= 180.0 else [(start, 180.0), (-180.0, end - 360.0)]
    joined: list[Arc] = []
    for start, end in sorted(found):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _gaps(arcs: Sequence[Arc]) -> list[Arc]:
    """What arcs leave of the circle."""
    edges = [-180.0, *(edge for arc in arcs for edge in arc), 180.0]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]


def _common(some: Sequence[Arc], others: Sequence[Arc]) -> list[Arc]:
    found = [(max(a[0], b[0]), min(a[1], b[1])) for a in some for b in others]
    return sorted((start, end) for start, end in found if start <= end)


def _as_ranges(arcs: list[Arc]) -> list[dict[str, float]]:
    """Arcs as {min, max}; the two that meet at 180 degrees become one whose min is greater than its max."""
    if len(arcs) > 1 and arcs[0][0] == -180.0 and arcs[-1][1] == 180.0:
        arcs = [*arcs[1:-1], (arcs[-1][0], arcs[0][1])]
    return [{"min": round(start, 6), "max": round(end, 6)} for start, end in arcs]
