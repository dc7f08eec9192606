"""`parameter_space.bounds` of older configurations as ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcxpcs.config.dialects.priors import prior_from_moments
from hpcxpcs.config.dialects.rules import Fate
from hpcxpcs.config.dialects.work import Work
from hpcxpcs.config.numbers import read_number
from hpcxpcs.config.parameters import Parameter, parameter_named, parameters_of
from hpcxpcs.config.problems import KeyPath, dotted

ORIGIN: KeyPath = ("parameter_space", "bounds")
SCALING = ("contrast", "offset")
LABELS = ("unit", "log_space", "description", "type", "prior_mu", "prior_sigma")
OURS = ("name", "min", "max", "prior")
_TRANSPORT = {"D0": (100.0, 1e5), "alpha": (-2.0, 2.0), "D_offset": (-1e5, 1e5)}
_COMPONENT = {"D0": (100.0, 1e6), "alpha": (-5.0, 5.0), "D_offset": (-1e5, 1e5)}
PUBLISHED: Mapping[str, tuple[float, float]] = {
    **_TRANSPORT,
    "gamma_dot_t0": (1e-6, 0.5),
    "beta": (-2.0, 2.0),
    "gamma_dot_t_offset": (-0.1, 0.1),
    "phi0": (-10.0, 10.0),
    **{f"{name}_{part}": limits for part in ("ref", "sample") for name, limits in _COMPONENT.items()},
    "v0": (1e-6, 1e4),
    "v_offset": (-100.0, 100.0),
    "f0": (0.0, 1.0),
    "f1": (-10.0, 10.0),
    "f2": (-1e4, 1e4),
    "f3": (0.0, 1.0),
}
"""Default bounds of the older programs, which a prior without stated moments refers to."""


def translate_bounds(work: Work, model: str) -> list[dict[str, Any]]:
    """The entries for parameters of the model, each of whose values knows where it comes from."""
    entries = work.given(*ORIGIN)
    if entries is None:
        return []
    if not isinstance(entries, list):
        work.refuse(ORIGIN, "must be a list of entries such as {name: D0, min: 100, max: 1.0e5}")
        return []
    found: list[dict[str, Any]] = []
    for index, entry in enumerate(entries):
        place = (*ORIGIN, index)
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            work.refuse(place, "must be an entry with a name, such as {name: D0, min: 100, max: 1.0e5}")
            continue
        if entry["name"] in SCALING:
            why = "contrast and offset follow from the data in closed form, without bounds or priors"
            work.tell(place, Fate.DROPPED, why=why)
        elif is_foreign(entry["name"], model):
            work.tell(place, Fate.DROPPED, why=f"{model} has no parameter {entry['name']}")
        else:
            found.append(_entry(work, entry, place, model))
            note_entry(work, len(found) - 1, place)
    told = "type, prior_mu and prior_sigma become prior; unit and log_space are labels"
    work.tell(ORIGIN, Fate.REPLACED, dotted(ORIGIN), told)
    return found


def note_entry(work: Work, index: int, place: KeyPath) -> None:
    """Remember where an entry of the new list comes from."""
    work.origins[(*ORIGIN, index)] = place


def is_foreign(name: str, model: str) -> bool:
    """Whether a parameter belongs to another two-component model than the reduced one that is fitted."""
    try:
        parameter_named(name, model)
    except ValueError:
        pass
    else:
        return False
    try:
        parameter_named(name, "two_component")
    except ValueError:
        return False
    return model in ("static_ref", "static_both")


def parameter_or_none(name: str, model: str) -> Parameter | None:
    """The parameter of a model with this name or alias."""
    try:
        known = parameter_named(name, model)
    except ValueError:
        return None
    return next(parameter for parameter in parameters_of(model) if parameter.name == known)


def _entry(work: Work, entry: dict[str, Any], place: KeyPath, model: str) -> dict[str, Any]:
    made = {key: entry[key] for key in OURS if entry.get(key) is not None}
    for key in entry:
        if key not in (*OURS, *LABELS):
            why = "unknown in an entry of bounds"
            work.tell((*place, key), Fate.UNKNOWN, why=why, changes_answer=True)
    kind, mu, sigma = (entry.get(key) for key in ("type", "prior_mu", "prior_sigma"))
    if kind is None and mu is None and sigma is None:
        return made
    parameter = parameter_or_none(entry["name"], model)
    if parameter is None:
        return made  # the check of names says what is wrong
    limits = read_limits(made, parameter)
    if limits is None:
        return made
    try:
        made["prior"] = prior_from_moments(kind or "TruncatedNormal", mu, sigma, *limits)
        stretch_over(made, limits)
    except ValueError as error:
        work.refuse((*place, "type") if kind is not None else place, str(error))
    return made


def stretch_over(entry: dict[str, Any], limits: tuple[float, float]) -> None:
    """State the bounds of a prior whose shape is stretched over them."""
    if entry["prior"]["type"] == "beta_scaled":
        entry.setdefault("min", limits[0])
        entry.setdefault("max", limits[1])


def read_limits(entry: dict[str, Any], parameter: Parameter) -> tuple[float, float] | None:
    """Bounds as written, or the published ones; None when they are in error, which their check tells."""
    usual = PUBLISHED[parameter.name]
    try:
        lower = read_number(entry.get("min", usual[0]))
        upper = read_number(entry.get("max", usual[1]))
    except ValueError:
        return None
    return (lower, upper) if lower < upper else None
