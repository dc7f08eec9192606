"""Which azimuthal angles an older configuration selects: the keys that had a say in it, as one list of ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpcxpcs.config.dialects.work import Fate, Work
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
"""First and last angle in degrees; a range whose first is greater wraps through 180."""
_CIRCLE: tuple[Arc, ...] = ((-180.0, 180.0),)


@dataclass(frozen=True)
class _Choice:
    """Angles as one key selects them: where it is, its ranges, and what there is to say about it."""

    origin: KeyPath
    ranges: list[Arc]
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
        work.put(_TARGET, [{"min": low, "max": high} for low, high in ranges], choices[0].origin)
    elif selecting or left_out is not None:
        others = " and ".join(dotted(one.origin) for one in choices[:-1])
        work.refuse(choices[-1].origin, f"leaves no angle{' together with ' if others else ''}{others}")
    together = "" if len(choices) == 1 else "all keys about angles together"
    for one in choices:
        work.tell(one.origin, Fate.REPLACED, dotted(_TARGET), "; ".join(filter(None, (one.why, together))))


def _named(work: Work) -> _Choice | None:
    """heterodyne's explicit angles, which went before ranges."""
    winner: _Choice | None = None
    for origin in NAMED_ANGLES if work.dialect == "heterodyne" else ():
        angles = work.given(*origin)
        if angles is None:
            continue
        if angles == []:
            work.drop(origin, _ALL_ANGLES)
        elif winner is not None:
            work.drop(origin, f"{dotted(winner.origin)} wins")
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
            work.drop(origin, _ALL_ANGLES)
        elif not on:
            unsaid = work.given(_FILTER, "enabled") is None
            work.drop(origin, _OFF, aloud=unsaid)
        elif earlier is not None and origin == angles:
            why = f"both it and {dotted(earlier.origin)} select angles; keep one of the two"
            work.drop(origin, why, changes_answer=True)
        elif earlier is not None:
            work.drop(origin, f"{dotted(earlier.origin)} wins")
        elif origin == ranges:
            limits = _ranges(work, origin, value)
            whole = any(abs(high - low) >= 360 for low, high in limits)
            why = "a full range takes every angle; there it left one" if whole else "min > max wraps"
            found = _Choice(origin, limits, why)
        else:
            found = _Choice(origin, _around(work, origin, value, width), f"each angle within {width:g} degrees")
    return found


def _left_out(work: Work, on: bool, width: float) -> _Choice | None:
    """The angles that phi_filtering.exclude_angles leaves out, each with the tolerance around it."""
    origin = (_FILTER, "exclude_angles")
    angles = work.given(*origin)
    if angles is None:
        return None
    if angles == [] or not on:
        work.drop(origin, _OFF if angles else "is empty: none is left out")
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
        work.drop(origin, "belongs to include_angles and exclude_angles; ranges need none")
        return ANGLE_WIDTH
    why = "the width of the ranges around include_angles and exclude_angles"
    work.tell(origin, Fate.REPLACED, dotted(_TARGET), why)
    found = work.number(origin, "degrees")
    if found is not None and not 0.0 <= found < 180.0:
        work.refuse(origin, "must be at least 0 and less than 180 degrees")
    return ANGLE_WIDTH if found is None else found


def _around(work: Work, origin: KeyPath, angles: Any, width: float) -> list[Arc]:
    places = [(*origin, index) for index in range(len(angles))] if isinstance(angles, list) else [origin]
    found = []
    for place in places:
        value = work.number(place, "an angle in degrees")
        if value is not None:
            value = value if abs(value) <= 180.0 else value - 360.0 * round(value / 360.0)
            found.append((value - width, value + width))
    return found


def _ranges(work: Work, origin: KeyPath, ranges: Any) -> list[Arc]:
    """Ranges of {min_angle, max_angle}; what is no range is refused."""
    if not isinstance(ranges, list):
        work.refuse(origin, "must be a list of ranges such as {min_angle: -10, max_angle: 10}")
        return []
    keys = ("min_angle", "max_angle")
    return [arc for index in range(len(ranges)) for arc in _range(work, (*origin, index), keys, ("description",))]


def _of_the_loader(work: Work) -> _Choice | None:
    """homodyne's data_filtering.phi_range, which its loader took for itself."""
    origin = ("data_filtering", "phi_range")
    value = work.given(*origin) if work.dialect == "homodyne" else None
    if value is None or work.is_told(origin):
        return None
    found = _range(work, origin, ("min", "max"))
    why = "min > max wraps; angles a full turn apart are one"
    return _Choice(origin, found, why) if isinstance(value, dict) and {"min", "max"} <= set(value) else None


def _range(work: Work, place: KeyPath, keys: tuple[str, str], labels: tuple[str, ...] = ()) -> list[Arc]:
    """The one range at a place; none, and refused, when it is no range."""
    one = work.at(*place)
    if not isinstance(one, dict) or not set(keys) <= set(one):
        work.refuse(place, f"must be a range such as {{{keys[0]}: -10, {keys[1]}: 10}}")
        return []
    low, high = (work.number((*place, key), "an angle in degrees") for key in keys)
    for key in one:
        if key not in (*keys, *labels):
            work.disown((*place, key), "unknown in a range")
    return [] if low is None or high is None else [(low, high)]


def _combined(choices: Sequence[_Choice], left_out: _Choice | None) -> list[Arc]:
    """The ranges of angles that are in every choice and not left out."""
    kept = list(_CIRCLE)
    for one in choices:
        kept = _common(kept, _arcs(one.ranges))
    if left_out is not None:
        widened = [(low - _BESIDE, high + _BESIDE) for low, high in left_out.ranges]
        kept = _common(kept, _gaps(_arcs(widened)))
    return _joined(kept)


def _arcs(ranges: Sequence[Arc]) -> list[Arc]:
    """Ranges as arcs between -180 and 180 degrees, in order and apart from each other."""
    found: list[Arc] = []
    for low, high in ranges:
        width = high - low if high >= low else (high - low) % 360.0
        if width >= 360.0:
            return list(_CIRCLE)
        start = (low + 180.0) % 360.0 - 180.0
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


def _joined(arcs: list[Arc]) -> list[Arc]:
    """Rounded arcs; the two that meet at 180 degrees become one whose first end is greater than its second."""
    if len(arcs) > 1 and arcs[0][0] == -180.0 and arcs[-1][1] == 180.0:
        arcs = [*arcs[1:-1], (arcs[-1][0], arcs[0][1])]
    return [(round(start, 6), round(end, 6)) for start, end in arcs]
