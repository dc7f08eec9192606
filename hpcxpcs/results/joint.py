"""What each data set of a joint fit has of its own: values, their scatter, and the power of q that they follow.

A parameter that is free per data set is known as x (K,) with covariance C, for the amplitude of a rate its logarithm.
Whether the sets share one value is a χ² with K − 1 degrees of freedom, Q = (x − μ)ᵀC⁻¹(x − μ) with μ the weighted mean.
If they do not, they scatter by τ about a mean: x ~ N(μ, C + τ²I), with a flat prior of μ. Integrated over μ,
    p(τ | x) ∝ p(τ) |V|^(−1/2) (1ᵀV⁻¹1)^(−1/2) exp(−Q(V)/2),  V = C + τ²I,
and given τ the values lie, drawn towards each other, at x − C V⁻¹ (x − μ). All is normal in x but τ, which is summed
over a grid (Gelman et al., Bayesian Data Analysis, 3rd ed., 5.4). The prior of τ is half-normal with the width that
the differences between sets have as theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import chdtrc

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.joint import JointSets, OwnValues
from hpcxpcs.answer.posterior import Posterior
from hpcxpcs.answer.thresholds import NORMAL_95
from hpcxpcs.arrays import Floats


def own_values(fit: PointFit, posterior: Posterior | None = None) -> Iterator[OwnValues]:
    """What each data set has of its own, from the draws of a posterior if there is one, else from the point fit."""
    if fit.joint is None or len(fit.joint.labels) < 2:
        return
    for name, how in fit.joint.own:
        others = _others(fit, name)
        relative = others[0].startswith("ln_")
        if posterior is None:
            centre, covariance = _of_fit(fit, name, others, relative)
        else:
            draws = posterior.draws.reshape(-1, len(posterior.names))
            part = draws[:, [posterior.names.index(one) for one in (name, *others)]].copy()
            part[:, 0] = np.log(part[:, 0]) if relative else part[:, 0]
            part[:, 1:] += part[:, :1]
            centre, covariance = part.mean(axis=0), np.cov(part, rowvar=False)
        width = float(fit.priors[others[0]].get("sigma", 1.0))
        unit = fit.units[fit.names.index(name)]
        yield _described(name, unit, centre, covariance, width, fit.joint, relative=relative, drawn=how != "own")


def _others(fit: PointFit, name: str) -> list[str]:
    """The names of the differences of data sets 2, 3, … from the first."""
    assert fit.joint is not None
    start = "ln" if f"ln_{name}_2" in fit.names else "delta"
    return [f"{start}_{name}_{number}" for number in range(2, len(fit.joint.labels) + 1)]


def _of_fit(fit: PointFit, name: str, others: Sequence[str], relative: bool) -> tuple[Floats, Floats]:
    """x (K,) and its covariance from a point fit."""
    found = fit.covariance if fit.robust_covariance is None else fit.robust_covariance
    first = fit.values[fit.names.index(name)]
    centre = np.array([np.log(first) if relative else first, *(fit.values[fit.names.index(one)] for one in others)])
    centre[1:] += centre[0]
    jacobian = np.zeros((centre.size, len(found)))
    for k, one in enumerate((name, *others)):
        if one in fit.free_names:
            place = fit.free_names.index(one)
            jacobian[k if k else slice(None), place] += 1.0 / first if relative and k == 0 else 1.0
    return centre, jacobian @ found @ jacobian.T


GRID = 400
"""Values of τ that are summed over, from 0 to six widths of its prior, closer together towards 0."""


def _described(
    name: str,
    unit: str,
    x: Floats,
    covariance: Floats,
    width: float,
    sets: JointSets,
    *,
    relative: bool,
    drawn: bool,
) -> OwnValues:
    count, one = x.size, np.ones(x.size)
    weights = np.linalg.inv(covariance)
    q_sum = _q_about_mean(x, weights)
    taus = 6.0 * width * np.linspace(0.0, 1.0, GRID) ** 3
    log_p, means, variances = np.empty(GRID), np.empty((GRID, count + 1)), np.empty((GRID, count + 1))
    for k, tau in enumerate(taus):
        inverse = np.linalg.inv(covariance + tau**2 * np.eye(count))
        precision = one @ inverse @ one
        mean = one @ inverse @ x / precision
        log_p[k] = -0.5 * (tau / width) ** 2 + 0.5 * np.linalg.slogdet(inverse)[1] - 0.5 * np.log(precision)
        log_p[k] -= 0.5 * (x - mean) @ inverse @ (x - mean)
        pull = covariance @ inverse
        means[k] = [*(x - pull @ (x - mean)), mean]
        drawn_to_mean = pull @ one
        variances[k, :-1] = np.diag(covariance - pull @ covariance) + drawn_to_mean**2 / precision
        variances[k, -1] = 1.0 / precision
    weight = np.exp(log_p - log_p.max()) * np.gradient(taus)
    weight /= weight.sum()
    tau_at = np.interp([0.025, 0.5, 0.975], np.cumsum(weight), taus)
    middle = weight @ means
    spread = np.sqrt(weight @ variances + weight @ (means - middle) ** 2)
    values, errors = (middle[:-1], spread[:-1]) if drawn else (x, np.sqrt(np.diag(covariance)))
    ends = values[:, None] + NORMAL_95 * errors[:, None] * np.array([-1.0, 1.0])
    if relative:
        values, ends = np.exp(values), np.exp(ends)
        errors = values * errors
    average = float(np.exp(middle[-1])) if relative else float(middle[-1])
    return OwnValues(
        name=name,
        unit=unit,
        values=values,
        errors=errors,
        intervals=ends,
        probability=float(chdtrc(count - 1, q_sum)),
        mean=average,
        mean_error=float(spread[-1]) * (average if relative else 1.0),
        spread=float(tau_at[1]),
        spread_interval=(float(tau_at[0]), float(tau_at[2])),
        relative=relative,
        exponent=_exponent(x, weights, sets.q) if relative else (np.nan, np.nan),
        drawn=drawn,
    )


def _q_about_mean(x: Floats, weights: Floats) -> float:
    mean = weights.sum(axis=0) @ x / weights.sum()
    return float((x - mean) @ weights @ (x - mean))


def _exponent(x: Floats, weights: Floats, q: Floats) -> tuple[float, float]:
    """Slope of x over ln q with its error, by weighted least squares; NaN where all q are the same."""
    log_q = np.log(q)
    if np.ptp(log_q) < 1e-3:
        return np.nan, np.nan
    basis = np.stack([np.ones_like(log_q), log_q - log_q.mean()], axis=1)
    inverse = np.linalg.inv(basis.T @ weights @ basis)
    return float((inverse @ basis.T @ weights @ x)[1]), float(np.sqrt(inverse[1, 1]))
