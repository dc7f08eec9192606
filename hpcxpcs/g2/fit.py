"""From g2(τ) of a file to an answer for each of its bins: model, least squares, chains, and τ against q.

`fit_file` does all of it for one file, `tidy_rows` makes a table of it: one row per bin and parameter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import chdtrc, ndtr

from hpcxpcs.answer.thresholds import MISFIT_SIGNIFICANCE
from hpcxpcs.arrays import Flags, Floats
from hpcxpcs.config.g2 import G2
from hpcxpcs.errors import DataError
from hpcxpcs.g2 import nuts
from hpcxpcs.g2.evidence import CANDIDATES, Choice, chosen, log_evidence
from hpcxpcs.g2.least_squares import Bins, Minimum, Prior, flat_chi_squared, from_grid, from_point
from hpcxpcs.g2.models import Scale, Shape, curve, physical, scale_of
from hpcxpcs.g2.noise import Noise, noise_of
from hpcxpcs.g2.reading import Units, read_g2
from hpcxpcs.g2.record import Correlation, within
from hpcxpcs.g2.shared import with_shared_contrast
from hpcxpcs.g2.tau_q import TauLaw, tau_law
from hpcxpcs.g2.verdict import (
    CLOSEST,
    GOOD,
    LIMIT,
    MISFIT,
    NO_DECAY,
    SMALLEST_SHARE,
    USABLE,
    Chains,
    judged,
)

QUANTILES = ndtr([-1.959963984540054, -1.0, 1.0, 1.959963984540054])
"""Ends of the 95 % and the 68 % interval, in order."""


@dataclass(frozen=True)
class Estimates:
    """Numbers (B, p) of all bins: value, standard deviation and the ends (B, p, 4) of intervals: 95, 68, 68, 95 %.

    `log_tau_sd` (B,) is the deviation of ln τ.
    """

    value: Floats
    sd: Floats
    ends: Floats
    log_tau_sd: Floats


@dataclass(frozen=True)
class Quality:
    """How well each bin (B,) is described: χ², degrees of freedom, chance of a larger χ², R², AIC, BIC, widening."""

    chi_squared: Floats
    freedom: Floats
    chance: Floats
    r_squared: Floats
    aic: Floats
    bic: Floats
    widening: Floats


@dataclass(frozen=True)
class FileFit:
    """The answer for one file; a bin without an answer has its word in `status` and NaN everywhere else.

    `covariance` (B, p, p) is that of the point values; `fitted` (n, B) is g2 of the model at the delays; draws are
    (B, C, S, p). `posterior` and what belongs to it are None after least squares alone.
    """

    data: Correlation
    settings: G2
    shape: Shape
    noise: Noise
    status: tuple[str, ...]
    reasons: tuple[str, ...]
    point: Estimates
    covariance: Floats
    quality: Quality
    fitted: Floats
    posterior: Estimates | None = None
    chains: tuple[Chains | None, ...] = ()
    draws: nuts.Draws | None = field(default=None, repr=False)
    choice: Choice | None = None
    law: TauLaw | None = None
    seconds: float = 0.0

    @property
    def usable(self) -> Flags:
        """The bins (B,) that have an answer."""
        return np.array([word in USABLE for word in self.status])

    @property
    def answer(self) -> Estimates:
        """What is quoted: the posterior where there is one, else least squares."""
        return self.point if self.posterior is None else self.posterior

    @property
    def words(self) -> str:
        """How many bins have an answer, and what became of the others."""
        found = {word: self.status.count(word) for word in dict.fromkeys(self.status)}
        return ", ".join(f"{count} {word}" for word, count in found.items())


@dataclass(frozen=True)
class _Problem:
    """What all steps of a fit share."""

    tau: Array
    scale: Scale
    bins: Bins
    points: Floats
    """Values (B,) in each bin."""


def fit_file(path: Path, settings: G2, units: Units | None = None, age: tuple[float, float] | None = None) -> FileFit:
    """Fit every bin of a file as the section `g2` says; `units` and `age` as in `read_g2`."""
    return fit_correlation(read_g2(path, units, age), settings)


def fit_correlation(data: Correlation, settings: G2) -> FileFit:
    """Fit every bin of g2(τ)."""
    started = time.perf_counter()
    data = within(data, settings.delays)
    if not data.there.any():
        raise DataError(f"{data.file}: no bin has a value of g2: nothing can be fitted; correlate the file again")
    noise = noise_of(data, settings.error_floor)
    problem = _problem(data, settings, noise)
    shape, choice = _shape(settings, problem)
    minimum, prior = _minimum(shape, settings, problem)
    quality = _quality(minimum, data, problem, len(shape.coordinates))
    status, reasons = _verdicts(shape, problem, minimum, quality)
    if settings.errors == "scaled":
        wide = np.array([word == MISFIT for word in status])
        factor = np.where(wide, np.sqrt(quality.chi_squared / np.maximum(quality.freedom, 1)), 1.0)
        quality = replace(quality, widening=factor)
    usable = np.array([word in USABLE for word in status])
    point, covariance = _point(shape, problem, minimum, quality.widening, usable)
    found = FileFit(
        data=data,
        settings=settings,
        shape=shape,
        noise=noise,
        status=status,
        reasons=reasons,
        point=point,
        covariance=covariance,
        quality=quality,
        fitted=_fitted(shape, problem, minimum, usable),
        choice=choice,
    )
    if settings.method == "nuts" and usable.any():
        found = _sampled(found, problem, minimum, prior)
    answer = found.answer
    law = tau_law(data.q, answer.value[:, 0], answer.log_tau_sd, found.usable)
    return replace(found, law=law, seconds=time.perf_counter() - started)


def _problem(data: Correlation, settings: G2, noise: Noise) -> _Problem:
    held = settings.baseline if isinstance(settings.baseline, float) else 1.0
    tau = jnp.asarray(data.tau)
    bins = Bins(jnp.asarray(np.nan_to_num(data.g2).T), jnp.asarray(noise.weights))
    return _Problem(tau, scale_of(tau, held), bins, data.there.sum(axis=0).astype(float))


def _named(form: str, settings: G2) -> Shape:
    return Shape(form, settings.baseline if isinstance(settings.baseline, str) else "fixed")


def _shape(settings: G2, problem: _Problem) -> tuple[Shape, Choice | None]:
    """The decay that the settings name, or the one the data speak for.

    Errors that are too small would speak for the richest decay: those of a bin that none describes are widened first.
    """
    if settings.model != "auto":
        return _named(settings.model, settings), None
    shapes = {form: _named(form, settings) for form in CANDIDATES}
    ends = {form: from_grid(shape, problem.scale, problem.tau, problem.bins) for form, shape in shapes.items()}
    enough = problem.points > max(len(shape.coordinates) for shape in shapes.values())
    if not enough.any():
        return shapes["single"], None
    smallest = np.min([np.asarray(end.chi_squared) for end in ends.values()], axis=0)
    freedom = np.maximum(problem.points - len(shapes["double"].coordinates), 1.0)
    doubtful = (chdtrc(freedom, smallest) < MISFIT_SIGNIFICANCE) & (settings.errors == "scaled")
    shrunk = np.where(doubtful, np.sqrt(freedom / np.maximum(smallest, 1e-300)), 1.0)
    bins = _weaker(problem.bins, shrunk)
    evidence, bic = {}, {}
    for form, shape in shapes.items():
        target = _target(shape, problem, bins, ends[form].x, None)
        rows = jax.tree.map(lambda leaf: leaf[enough], target._replace(scale=_each(problem, len(enough))))
        evidence[form] = log_evidence(shape, np.asarray(problem.tau), rows)
        cost = np.asarray(ends[form].chi_squared)[enough] * shrunk[enough] ** 2
        bic[form] = cost + len(shape.coordinates) * np.log(problem.points[enough])
    choice = chosen(evidence, bic)
    return shapes[choice.form], choice


def _each(problem: _Problem, count: int) -> Scale:
    return Scale(*(jnp.broadcast_to(jnp.asarray(value, float), (count,)) for value in problem.scale))


def _weaker(bins: Bins, factor: Floats) -> Bins:
    """The same bins with weights times a factor (B,)."""
    return bins._replace(weights=bins.weights * jnp.asarray(factor).reshape(-1, *(1,) * (bins.weights.ndim - 1)))


def _target(shape: Shape, problem: _Problem, bins: Bins, x: Array, prior: Prior | None) -> nuts.Target:
    """The posterior of all bins, around its highest density near x (B, p)."""
    near = jnp.clip(x, -3.0, 3.0)
    known = Prior(jnp.zeros_like(near), jnp.ones_like(near)) if prior is None else prior
    top = from_point(shape, problem.scale, problem.tau, bins, known, near)
    factor = jnp.linalg.cholesky(jnp.linalg.inv(top.information))
    return nuts.Target(problem.scale, bins, known, top.x, factor)


def _minimum(shape: Shape, settings: G2, problem: _Problem) -> tuple[Minimum, Prior | None]:
    """Least squares of all bins; of a shared contrast also what the others say of it."""
    free = from_grid(shape, problem.scale, problem.tau, problem.bins)
    if settings.contrast == "free":
        return free, None
    flat = flat_chi_squared(shape, problem.scale, problem.bins)
    used = np.asarray(free.converged) & (flat - np.asarray(free.chi_squared) > NO_DECAY)
    used &= problem.points > len(shape.coordinates)
    if not used.any():
        return free, None
    minimum, prior = with_shared_contrast(shape, problem.scale, problem.tau, problem.bins, used, free)
    return minimum, prior


def _quality(minimum: Minimum, data: Correlation, problem: _Problem, parameters: int) -> Quality:
    cost, points = np.asarray(minimum.chi_squared), problem.points
    freedom = points - parameters
    weights = np.where(data.there, 1.0 / data.error**2, 0.0)
    y = np.nan_to_num(data.g2)
    mean = np.sum(weights * y, axis=0) / np.maximum(weights.sum(axis=0), 1e-300)
    total = np.sum(weights * (y - mean) ** 2, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Quality(
            chi_squared=cost,
            freedom=freedom,
            chance=np.where(freedom > 0, chdtrc(np.maximum(freedom, 1.0), cost), np.nan),
            r_squared=1.0 - cost / total,
            aic=cost + 2.0 * parameters,
            bic=cost + parameters * np.log(points),
            widening=np.ones(len(cost)),
        )


def _verdicts(
    shape: Shape, problem: _Problem, minimum: Minimum, quality: Quality
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The word of every bin and the reason for it."""
    flat = flat_chi_squared(shape, problem.scale, problem.bins)
    x, information = np.asarray(minimum.x), np.asarray(minimum.information)
    found = []
    for k in range(len(x)):
        gain = flat[k] - quality.chi_squared[k]
        if problem.points[k] == 0:
            found.append(("empty", "no value"))
        elif quality.freedom[k] < 1:
            found.append(("too few points", f"{problem.points[k]:.0f} values for {x.shape[1]} parameters"))
        elif not gain > NO_DECAY:
            found.append(("no decay", f"χ² falls by {gain:.3g} from a level without decay; {NO_DECAY:g} is asked for"))
        elif not minimum.converged[k]:
            found.append(("not converged", "no start came to a minimum"))
        else:
            found.append(_told(shape, problem.scale, x[k], information[k], float(quality.chance[k])))
    return tuple(word for word, _ in found), tuple(reason for _, reason in found)


def _told(shape: Shape, scale: Scale, x: Floats, information: Floats, chance: float) -> tuple[str, str]:
    """The word of a bin in which there is a decay."""
    at = dict(zip(shape.coordinates, x.tolist(), strict=True))
    values, vectors = np.linalg.eigh(information)
    singular = not np.all(np.isfinite(information)) or values[0] <= 1e-12 * values[-1]
    sd = np.full(len(x), np.inf) if singular else np.sqrt(np.diag((vectors / values) @ vectors.T))
    error = dict(zip(shape.coordinates, sd.tolist(), strict=True))
    if "ratio" in at:
        span = float(scale.high - scale.low)
        low = np.exp(span * ndtr(at["ratio"] - 1.96 * error["ratio"])) if np.isfinite(error["ratio"]) else 1.0
        shares = ndtr([at["fraction"] - 1.96 * error["fraction"], at["fraction"] + 1.96 * error["fraction"]])
        if low < CLOSEST:
            return "not separable", f"the relaxation times may be as close as a factor {low:.3g}"
        if shares[0] < SMALLEST_SHARE or shares[1] > 1.0 - SMALLEST_SHARE:
            return "not separable", f"the share of the faster decay may be {shares[0]:.2g} to {shares[1]:.2g}"
    limited = [name for name in shape.inner if abs(at[name]) > LIMIT and name != "fraction"]
    if limited or singular:
        return (
            "at a limit",
            f"{', '.join(limited) or 'the combination of parameters'} is not determined by these delays",
        )
    if chance < MISFIT_SIGNIFICANCE:
        return MISFIT, f"chance of such a χ² {chance:.2g}"
    return GOOD, ""


@partial(jax.jit, static_argnums=0)
def _physical(shape: Shape, scale: Scale, x: Array) -> tuple[Array, Array]:
    """Parameters (B, p) and their slopes (B, p, p) at coordinates (B, p)."""

    def of_one(one: Array) -> Array:
        return physical(shape, scale, one)

    return jax.vmap(of_one)(x), jax.vmap(jax.jacfwd(of_one))(x)


def _point(
    shape: Shape, problem: _Problem, minimum: Minimum, widening: Floats, usable: Flags
) -> tuple[Estimates, Floats]:
    """Values with errors by linear propagation; interval ends are taken in the coordinates and then transformed."""
    size = len(shape.coordinates)
    values, slopes = (np.asarray(leaf) for leaf in _physical(shape, problem.scale, minimum.x))
    values, inverse = values.copy(), np.full((len(values), size, size), np.nan)
    inverse[usable] = np.linalg.inv(np.asarray(minimum.information)[usable]) * widening[usable, None, None] ** 2
    covariance = np.einsum("bij,bjk,blk->bil", slopes, inverse, slopes)
    values[~usable], covariance[~usable] = np.nan, np.nan
    sd = np.sqrt(np.einsum("bii->bi", covariance))
    ends = np.full((*values.shape, 4), np.nan)
    for k, far in enumerate((-1.959963984540054, -1.0, 1.0, 1.959963984540054)):
        moved = np.asarray(minimum.x) + far * np.sqrt(np.einsum("bii->bi", inverse))
        ends[..., k] = np.asarray(_physical(shape, problem.scale, jnp.asarray(moved))[0])
    if "tau_slow" in shape.parameters:  # it depends on two coordinates: its interval is that of its logarithm
        slow = shape.parameters.index("tau_slow")
        steps = np.exp(np.outer(sd[:, slow] / values[:, slow], (-1.959963984540054, -1.0, 1.0, 1.959963984540054)))
        ends[:, slow] = values[:, slow, None] * steps
    return Estimates(values, sd, ends, sd[:, 0] / values[:, 0]), covariance


def _fitted(shape: Shape, problem: _Problem, minimum: Minimum, usable: Flags) -> Floats:
    values = _physical(shape, problem.scale, minimum.x)[0]
    lines = np.asarray(jax.vmap(lambda one: curve(shape, problem.scale, one, problem.tau))(values)).T.copy()
    lines[:, ~usable] = np.nan
    return lines


def _sampled(found: FileFit, problem: _Problem, minimum: Minimum, prior: Prior | None) -> FileFit:
    """The fit with chains of every bin that least squares describe; those refused get a second attempt."""
    rows = np.flatnonzero(found.usable)
    bins = _weaker(problem.bins, 1.0 / found.quality.widening)
    target = _target(found.shape, problem, bins, minimum.x, prior)
    target = jax.tree.map(lambda leaf: leaf[rows], target._replace(scale=_each(problem, len(found.status))))
    tau, settings = np.asarray(problem.tau), found.settings
    draws = nuts.sample(found.shape, tau, target, rows.tolist(), (settings.seed, 0), settings.draws)
    told = [judged(*one) for one in zip(draws.values, draws.energy, draws.diverging, strict=True)]
    again = np.array([k for k, chains in enumerate(told) if not chains.accepted], dtype=int)
    if again.size:
        some = jax.tree.map(lambda leaf: leaf[again], target)
        second = nuts.sample(found.shape, tau, some, rows[again].tolist(), (settings.seed, 1), settings.draws)
        for place, k in enumerate(again):
            told[k] = judged(second.values[place], second.energy[place], second.diverging[place])
        for name in ("values", "energy", "diverging"):
            getattr(draws, name)[again] = getattr(second, name)
    return _with_posterior(found, rows, draws, told)


def _with_posterior(found: FileFit, rows: np.ndarray, draws: nuts.Draws, told: list[Chains]) -> FileFit:
    """The fit with what the accepted chains say; the others' numbers are NaN."""
    count, size = len(found.status), len(found.shape.parameters)
    value, sd = np.full((2, count, size), np.nan)
    ends, log_sd = np.full((count, size, 4), np.nan), np.full(count, np.nan)
    chains: list[Chains | None] = [None] * count
    status, reasons = list(found.status), list(found.reasons)
    for k, row in enumerate(rows):
        chains[row] = told[k]
        if not told[k].accepted:
            status[row], reasons[row] = "not accepted", "; ".join(told[k].refused)
            continue
        flat = draws.values[k].reshape(-1, size)
        value[row], sd[row] = flat.mean(axis=0), flat.std(axis=0, ddof=1)
        ends[row] = np.quantile(flat, QUANTILES, axis=0).T
        log_sd[row] = np.log(flat[:, 0]).std(ddof=1)
    whole = _spread(draws, rows, count)
    return replace(
        found,
        posterior=Estimates(value, sd, ends, log_sd),
        chains=tuple(chains),
        draws=whole,
        status=tuple(status),
        reasons=tuple(reasons),
    )


def _spread(draws: nuts.Draws, rows: np.ndarray, count: int) -> nuts.Draws:
    """Draws of some bins among those of all, NaN in the others."""
    values = np.full((count, *draws.values.shape[1:]), np.nan)
    energy = np.full((count, *draws.energy.shape[1:]), np.nan)
    diverging = np.zeros((count, *draws.diverging.shape[1:]), dtype=bool)
    values[rows], energy[rows], diverging[rows] = draws.values, draws.energy, draws.diverging
    return nuts.Draws(values, energy, diverging)


def tidy_rows(fit: FileFit) -> Iterator[dict[str, Any]]:
    """A row per bin and parameter of one file; `value` and the interval are those of the posterior if there is one."""
    answer, quality = fit.answer, fit.quality
    for k, label in enumerate(fit.data.labels.tolist()):
        for j, (name, unit) in enumerate(zip(fit.shape.parameters, fit.shape.units, strict=True)):
            low95, low68, high68, high95 = answer.ends[k, j].tolist()
            yield {
                "file": fit.data.file,
                "bin": label,
                "q": float(fit.data.q[k]),
                "phi": float(fit.data.phi[k]),
                "model": fit.shape.form,
                "status": fit.status[k],
                "reason": fit.reasons[k],
                "parameter": name,
                "unit": unit,
                "value": float(answer.value[k, j]),
                "error": float(answer.sd[k, j]),
                "low68": low68,
                "high68": high68,
                "low95": low95,
                "high95": high95,
                "least_squares": float(fit.point.value[k, j]),
                "least_squares_error": float(fit.point.sd[k, j]),
                "chi_squared": float(quality.chi_squared[k]),
                "freedom": float(quality.freedom[k]),
                "r_squared": float(quality.r_squared[k]),
                "aic": float(quality.aic[k]),
                "bic": float(quality.bic[k]),
            }
