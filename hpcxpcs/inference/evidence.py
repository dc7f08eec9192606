"""The evidence of a model: the probability of the data, averaged over all that the prior allows of its parameters.

Z = ∫ L(d | θ, c, s) p(θ) p(c) p(s) dθ dc ds, with parameters θ, contrasts and offsets c, and noise scale s. A
certificate has ln ∫ exp(log density) dz with it: the mean weight of draws from a normalised proposal (Gelman & Meng,
Stat. Sci. 13, 163, 1998; weights smoothed as in Vehtari et al., JMLR 25:72, 2024), of relative variance 1/ESS − 1/S.
Against ln Z that lacks, or has too much of, what does not depend on z:

* z are whitened coordinates, x = origin + T z, and the density is one of x: + ln |det T|.
* Priors of θ are sampled without their normalisation on their bounds, C_k = ∫ p_k: − Σ ln C_k.
* Sets in which a rate is negative, or components stand in the wrong order, are left out: with M the prior mass of the
  others, the prior that was sampled is p(θ)/M: − ln M.
* The direction of a flow has a period of 180°, of which draws see one turn: + ln of the priors at all its copies inside
  the bounds over that at the draw, on average. Draws all over the range see every copy, and none is added.
* Pairs have a normalised normal distribution, −½ Σ ln 2π(sσ)², and c is integrated out with the determinant of its
  information and of its prior: nothing is missing. Where c has a flat prior its density is 1 per unit, and so is that
  of ln s: only models with the same flat directions, the same σ and the same pairs can be compared, in which these
  constants are the same. Errors of single pairs from a file lack −Σ ln σ_i, which is the same for every model.
* Compressed and raw likelihood differ by a constant too: + ln ⟨exp(raw − compressed)⟩ over the m draws of the raw
  check, known to the compression error over √m.

There is none where shards count less than others (L is no probability of the data then), and where pairs are weighed by
speckles: that noise is measured on what each model leaves over, so that every model would have other data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import betaln, log_ndtr, logsumexp
from scipy.stats import qmc

from hpcxpcs.arrays import Floats
from hpcxpcs.config.prior import Prior
from hpcxpcs.config.scale import PERIOD
from hpcxpcs.inference.coordinates import lowest_rate
from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.target import PriorTerm, Space, Target, parameters_at
from hpcxpcs.physics.heterodyne import sample_lead

PRIOR_SETS = 14
"""Binary logarithm of the number of sets that the prior mass of possible rates is counted with: to 1 % for a half."""

ALL_OVER = 135.0
"""Spread of a direction (degrees, between the 0.5 and 99.5 % quantiles) from which draws see every copy of it: mirror
images of one turn are up to 90 apart."""


def log_constant(prepared: Prepared, z: Floats) -> tuple[float, float]:
    """What is added to ln ∫ exp(log density) dz for the evidence, its error (nats); z (n, d) are posterior draws."""
    space, full = prepared.space, prepared.full
    mass, error = _log_mass(space)
    volume = float(np.linalg.slogdet(np.asarray(full.transform))[1])
    normalisation = sum(_log_normalisation(term) for term in space.prior.terms)
    return volume - normalisation - mass + _log_copies(space, full, z), error


def _log_normalisation(term: PriorTerm) -> float:
    """ln of the integral over its bounds of a prior as it is sampled."""
    return _LOG_NORMALISATIONS[term.kind](term.values, float(term.lower), float(term.upper))


Values = Mapping[str, float]


def _uniform(values: Values, lower: float, upper: float) -> float:
    return math.log(upper - lower)


def _normal(values: Values, lower: float, upper: float) -> float:
    return _cut_normal(values["mu"], values["sigma"], lower, upper)


def _lognormal(values: Values, lower: float, upper: float) -> float:
    lowest = math.log(lower) if lower > 0.0 else -math.inf
    return _cut_normal(math.log(values["median"]), values["sigma"], lowest, math.log(upper))


def _half_normal(values: Values, lower: float, upper: float) -> float:
    return _cut_normal(0.0, values["sigma"], lower, upper)


def _exponential(values: Values, lower: float, upper: float) -> float:
    rate = values["rate"]
    return -rate * lower + math.log(-math.expm1(-rate * (upper - lower)) / rate)


def _beta_scaled(values: Values, lower: float, upper: float) -> float:
    return float(betaln(values["a"], values["b"])) + math.log(upper - lower)


def _cut_normal(mu: float, sigma: float, lower: float, upper: float) -> float:
    """ln ∫ exp(−½ ((x − mu)/sigma)²) dx between bounds, accurate in both tails."""
    low, high = (lower - mu) / sigma, (upper - mu) / sigma
    low, high = (-high, -low) if low > 0.0 else (low, high)
    mass = logsumexp([log_ndtr(high), log_ndtr(low)], b=[1.0, -1.0])
    return float(mass) + math.log(sigma) + 0.5 * math.log(2.0 * math.pi)


_LOG_NORMALISATIONS: Mapping[str, Callable[[Values, float, float], float]] = {
    "uniform": _uniform,
    "normal": _normal,
    "truncated_normal": _normal,
    "lognormal": _lognormal,
    "half_normal": _half_normal,
    "exponential": _exponential,
    "beta_scaled": _beta_scaled,
}


def _log_mass(space: Space) -> tuple[float, float]:
    """ln of the prior mass of parameters that are possible, and its error."""
    terms, support = space.prior.terms, space.support
    if not terms:
        return 0.0, 0.0
    places = qmc.Sobol(len(terms), scramble=False).random_base2(PRIOR_SETS) + 0.5 ** (PRIOR_SETS + 1)
    theta = np.zeros((len(places), len(support.coordinates.model.parameter_names)))
    for index, value in support.coordinates.fixed:
        theta[:, index] = value
    for term, place in zip(terms, places.T, strict=True):
        prior = Prior(term.kind, tuple(term.values.items()))
        theta[:, term.index] = prior.quantile(place, float(term.lower), float(term.upper))
    share = float(np.mean(np.asarray(_possible(space, jnp.asarray(theta)))))
    if share == 0.0:
        return -np.inf, np.inf
    return math.log(share), math.sqrt((1.0 - share) / (share * len(places)))


@jax.jit
def _possible(space: Space, thetas: jax.Array) -> jax.Array:
    """Whether no rate is negative and the components stand in their order, for parameter sets thetas (n, p)."""
    support = space.support
    coordinates = support.coordinates

    def one(theta: jax.Array) -> jax.Array:
        fine = lowest_rate(coordinates.model, theta, support.first, support.last) >= 0.0
        if support.lead != 0:
            fine &= support.lead * sample_lead(theta, coordinates.t_ref) >= 0.0
        return fine

    return jax.vmap(one)(thetas)


def _log_copies(space: Space, full: Target, z: Floats) -> float:
    """ln of how often, by the prior, the direction of the flow at draws z (n, d) is inside its bounds."""
    names = space.support.coordinates.model.parameter_names
    term = next((term for term in space.prior.terms if names[term.index] == "phi0"), None)
    if term is None:
        return 0.0
    phi0 = np.asarray(parameters_at(space, full, jnp.asarray(z))[0])[:, term.index]
    low, high = np.quantile(phi0, (0.005, 0.995))
    if high - low > ALL_OVER:
        return 0.0
    reach = math.ceil((float(term.upper) - float(term.lower)) / PERIOD)
    turns = phi0[:, None] + PERIOD * np.arange(-reach, reach + 1)
    inside = (turns >= float(term.lower)) & (turns <= float(term.upper))
    heights = np.where(inside, term.log_density(jnp.asarray(turns)), -np.inf)
    return float(np.log(np.mean(np.exp(logsumexp(heights, axis=1) - term.log_density(jnp.asarray(phi0))))))
