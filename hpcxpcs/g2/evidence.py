"""Which decay the data of a file speak for: ln of the evidence of each, added over the bins.

The evidence is the mean of likelihood × prior / proposal over draws of a multivariate t around the highest density,
with Pareto-smoothed weights (`inference.psis`). The priors are those of the coordinates, which are normalised; where a
bin has no finite evidence BIC decides instead (Schwarz, Ann. Stat. 6:461, 1978).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.special import gammaln

from hpcxpcs.arrays import Floats
from hpcxpcs.g2.models import Shape
from hpcxpcs.g2.nuts import Target, potential
from hpcxpcs.inference.psis import smooth

CANDIDATES = ("single", "stretched", "double")
DRAWS = 400
"""Draws per bin: the error of ln evidence is then about 0.02 where the posterior is near normal."""

FREEDOM = 5.0
"""Degrees of freedom of the proposal: tails heavier than those of any posterior that data decide."""


@dataclass(frozen=True)
class Choice:
    """The decay that was taken, by what (`evidence` or `BIC`), and every candidate's score above the best other."""

    form: str
    by: str
    scores: dict[str, float]
    errors: dict[str, float]

    @property
    def words(self) -> str:
        """What was compared, and by how much the chosen one leads."""
        best = self.scores[self.form]
        rest = ", ".join(f"{name} {score - best:+.3g}" for name, score in self.scores.items() if name != self.form)
        return f"{self.form} by {self.by} over all bins (ln of the evidence against it: {rest})"


@partial(jax.jit, static_argnums=0)
def _log_ratios(shape: Shape, tau: Array, targets: Target, z: Array, log_proposal: Array) -> Array:
    """ln(likelihood × prior / proposal) (B, S) at z (S, p) of the whitened coordinates of every bin."""

    def of_one(target: Target) -> Array:
        size = jnp.sum(jnp.log(jnp.abs(jnp.diag(target.factor)))) - 0.5 * z.shape[1] * jnp.log(2.0 * jnp.pi)
        return size - jax.vmap(lambda one: potential(shape, tau, target, one))(z) - log_proposal

    return jax.vmap(of_one)(targets)


def log_evidence(shape: Shape, tau: Floats, targets: Target) -> tuple[Floats, Floats]:
    """ln evidence (B,) without the constant that depends on the errors alone, and its standard error (B,)."""
    size = int(targets.centre.shape[1])
    rng = np.random.default_rng(0)
    wide = np.sqrt(rng.chisquare(FREEDOM, DRAWS) / FREEDOM)
    z = rng.standard_normal((DRAWS, size)) / wide[:, None]
    constant = gammaln((FREEDOM + size) / 2) - gammaln(FREEDOM / 2) - 0.5 * size * np.log(FREEDOM * np.pi)
    log_t = constant - 0.5 * (FREEDOM + size) * np.log1p(np.sum(z**2, axis=1) / FREEDOM)
    ratios = np.asarray(_log_ratios(shape, jnp.asarray(tau), targets, jnp.asarray(z), jnp.asarray(log_t)))
    found = np.full((2, len(ratios)), np.nan)
    for k, row in enumerate(ratios):
        if np.isfinite(row).any() and not np.isnan(row).any():
            with np.errstate(over="ignore"):  # a proposal far too narrow has no finite tail
                smoothed = smooth(row)
            found[:, k] = smoothed.log_mean, smoothed.log_mean_error
    return found[0], found[1]


def chosen(evidence: dict[str, tuple[Floats, Floats]], bic: dict[str, Floats]) -> Choice:
    """The best form of evidence and BIC (B,) of all candidates over the bins in which they can be compared."""
    table = np.array([evidence[form][0] for form in evidence])
    if np.all(np.isfinite(table)):
        scores = {form: float(values.sum()) for form, (values, _) in evidence.items()}
        errors = {form: float(np.sqrt(np.sum(error**2))) for form, (_, error) in evidence.items()}
        by = "evidence"
    else:
        scores = {form: float(-0.5 * np.nansum(values)) for form, values in bic.items()}
        errors, by = dict.fromkeys(scores, float("nan")), "BIC"
    return Choice(max(scores, key=scores.__getitem__), by, scores, errors)
