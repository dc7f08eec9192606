"""g2(τ) of one file as a fit gets it: delays in seconds, what is missing marked, every value with an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpcxpcs.arrays import Flags, Floats, Integers
from hpcxpcs.errors import FormatError


@dataclass(frozen=True)
class Correlation:
    """g2 (n, B) and its standard error at delays tau (n,) in s, NaN where a bin has no value; bins count from 1.

    q (B,) in 1/Å and phi (B,) in degrees are NaN where the file does not say. `partial` (K, n, B) is g2 of K blocks of
    time. `layout` names where in the file it was found, `simulated` is the truth of a simulated file.
    """

    tau: Floats
    g2: Floats
    error: Floats
    q: Floats
    phi: Floats
    labels: Integers
    layout: str
    file: str = ""
    partial: Floats | None = None
    notes: tuple[str, ...] = ()
    simulated: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def there(self) -> Flags:
        """Where there is a value (n, B)."""
        return np.isfinite(self.g2)


@dataclass(frozen=True)
class Stored:
    """g2 (n, B) as a file has it; error None where it has none."""

    tau: Floats
    g2: Floats
    error: Floats | None
    q: Floats
    phi: Floats
    labels: Integers
    layout: str
    partial: Floats | None = None
    notes: tuple[str, ...] = ()


def cleaned(stored: Stored, file: str = "", simulated: Mapping[str, Any] | None = None) -> Correlation:
    """What a fit can use of stored values: no 0/0, no lag 0, no error of 0; what was done is in the notes.

    g2 = 0 with error 0 says that no pair of photons was there, not that g2 is 0. A value without a positive error gets
    that of its neighbours in delay, since errors follow the number of pairs, which changes slowly with delay; a bin
    without any gets the scatter of its second differences, the same at all delays.
    """
    tau, g2 = np.asarray(stored.tau, float), np.array(stored.g2, float)
    _require_shapes(stored, tau, g2)
    error = np.full_like(g2, np.nan) if stored.error is None else np.array(stored.error, float)
    notes = list(stored.notes)
    order = np.argsort(tau, kind="stable")
    order = order[tau[order] > 0]
    if len(order) < len(tau):
        notes.append(f"{len(tau) - len(order)} delays of 0 left out: they hold shot noise")
    if len(order) == 0:
        raise FormatError(f"{stored.layout}: no delay is above 0")
    tau, g2, error = tau[order], g2[order], error[order]
    empty = (g2 == 0) & ((error == 0) | np.isnan(error))
    if empty.any():
        notes.append(f"{empty.sum()} of {g2.size} entries are 0 with error 0 (no pair of photons): left out")
    g2[empty | ~np.isfinite(g2)] = np.nan
    error, told = _completed(tau, g2, error)
    g2[np.isnan(error)] = np.nan
    notes += told
    return Correlation(
        tau=tau,
        g2=g2,
        error=error,
        q=np.asarray(stored.q, float),
        phi=np.asarray(stored.phi, float),
        labels=np.asarray(stored.labels, np.int64),
        layout=stored.layout,
        file=file,
        partial=None if stored.partial is None else _blocks(np.asarray(stored.partial, float)[:, order], g2),
        notes=tuple(notes),
        simulated=simulated,
    )


def _require_shapes(stored: Stored, tau: Floats, g2: Floats) -> None:
    """Refuse arrays that do not belong together, with the shapes that would."""
    place = stored.layout
    if g2.ndim != 2 or tau.ndim != 1 or g2.shape[0] != len(tau):
        hint = "; it has one column per delay: store its transpose" if g2.ndim == 2 and g2.shape[1] == len(tau) else ""
        raise FormatError(f"{place}: g2 has shape {g2.shape} for {len(tau)} delays; (delays, bins) is needed{hint}")
    if not np.all(np.isfinite(tau)) or np.any(tau < 0) or len(set(tau.tolist())) < len(tau):
        raise FormatError(f"{place}: delays must be different numbers of seconds, none below 0")
    if stored.error is not None and np.shape(stored.error) != g2.shape:
        raise FormatError(f"{place}: errors have shape {np.shape(stored.error)}, g2 {g2.shape}; they must be the same")
    if stored.partial is not None and np.shape(stored.partial)[1:] != g2.shape:
        shape = np.shape(stored.partial)
        raise FormatError(f"{place}: g2 of blocks has shape {shape}; (blocks, {g2.shape[0]}, {g2.shape[1]}) is needed")
    for name, values in (("q", stored.q), ("phi", stored.phi), ("labels", stored.labels)):
        if np.shape(values) != (g2.shape[1],):
            raise FormatError(f"{place}: {name} has shape {np.shape(values)} for {g2.shape[1]} bins")


def _completed(tau: Floats, g2: Floats, error: Floats) -> tuple[Floats, list[str]]:
    """Errors (n, B), positive where there is a value and NaN elsewhere, and what had to be done for it."""
    there = np.isfinite(g2)
    good = there & np.isfinite(error) & (error > 0)
    lacking, bare = there & ~good, there.any(axis=0) & ~good.any(axis=0)
    found = np.where(good, error, np.nan)
    for k in np.flatnonzero(lacking.any(axis=0) & ~bare):
        known = good[:, k]
        filled = np.exp(np.interp(np.log(tau), np.log(tau[known]), np.log(error[known, k])))
        found[lacking[:, k], k] = filled[lacking[:, k]]
    for k in np.flatnonzero(bare):
        found[there[:, k], k] = _scatter(g2[there[:, k], k])
    notes = []
    count = int(lacking[:, ~bare].sum())
    if count:
        notes.append(f"{count} values have error 0 or none: given that of the neighbouring delays")
    if bare.any():
        notes.append(f"{bare.sum()} bins have no errors: taken from the scatter of g2, the same at all delays")
    return found, notes


def _scatter(values: Floats) -> float:
    """Deviation of noise on a smooth curve (n,): median of its second differences, whose variance is six times that."""
    if len(values) < 4:
        return np.nan
    return float(max(np.median(np.abs(np.diff(values, 2))) / (0.6745 * np.sqrt(6.0)), np.finfo(float).tiny))


def _blocks(partial: Floats, g2: Floats) -> Floats | None:
    """g2 of blocks, NaN where block or whole have no value; None for less than two blocks, which tell nothing."""
    if len(partial) < 2:
        return None
    return np.where((partial == 0) | ~np.isfinite(partial) | ~np.isfinite(g2), np.nan, partial)


def within(data: Correlation, limits: Sequence[float] | None) -> Correlation:
    """The delays from one to another (s), both used; all of them for None."""
    if limits is None:
        return data
    kept = (data.tau >= limits[0]) & (data.tau <= limits[1])
    if not kept.any():
        raise FormatError(
            f"{data.file}: no delay lies between {limits[0]:g} and {limits[1]:g} s; the file has "
            f"{data.tau[0]:g} to {data.tau[-1]:g} s"
        )
    return Correlation(
        **{
            **vars(data),
            "tau": data.tau[kept],
            "g2": data.g2[kept],
            "error": data.error[kept],
            "partial": None if data.partial is None else data.partial[:, kept],
        }
    )
