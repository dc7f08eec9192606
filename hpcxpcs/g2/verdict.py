"""When the fit of a bin is an answer: the words it gets, and what chains must pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpcxpcs.answer.posterior import Mixing
from hpcxpcs.answer.thresholds import DETECTED, FEWEST_EFFECTIVE
from hpcxpcs.arrays import Floats
from hpcxpcs.inference.diagnostics import lowest_bfmi, mixing

LARGEST_R_HAT = 1.01
LOWEST_BFMI = 0.2
"""Limits of the viewer's document: R-hat below, effective draws above, no divergence, energy mixing at least."""

GOOD, MISFIT = "good", "misfit"
USABLE = (GOOD, MISFIT)
MEANING = {
    GOOD: "the model describes the data",
    MISFIT: "χ² is improbable: the model or the errors are wrong; intervals are widened to the scatter",
    "empty": "no value in this bin",
    "too few points": "not more delays than parameters",
    "not converged": "no start came to a minimum",
    "no decay": "a level without decay fits as well",
    "at a limit": "the relaxation time is outside of what the delays can show, or another parameter at its limit",
    "not separable": "the two decays of this bin cannot be told apart",
    "not accepted": "chains did not pass: the reasons are beside it",
}
"""Every word a bin can get; all but the first two come with NaN instead of numbers."""

NO_DECAY = DETECTED**2
"""Fall of χ² from a flat line to the fit, below which there is no decay."""

LIMIT = 2.5
"""Prior deviations from the middle beyond which a coordinate is at its limit: within 0.6 % of the range from its
end."""

CLOSEST = 1.5
"""Smallest ratio of two relaxation times whose lower end of 95 % counts: below it the two decays differ from the best
single one by less than 0.3 % of the contrast at every delay."""

SMALLEST_SHARE = 0.02
"""Share of one of two decays that the 95 % interval must exclude."""


@dataclass(frozen=True)
class Chains:
    """What is known of the chains of one bin: mixing of all parameters, divergences, smallest BFMI, why refused."""

    mixing: Mixing
    divergences: int
    bfmi: float
    refused: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether the draws may be quoted."""
        return not self.refused


def refusals(found: Mixing, divergences: int, bfmi: float) -> tuple[str, ...]:
    """Why chains are not accepted, from unrounded numbers; a NaN passes nothing."""
    told = []
    r_hat, bulk, tail = (np.asarray(values, float) for values in (found.r_hat, found.ess_bulk, found.ess_tail))
    if not np.all(r_hat < LARGEST_R_HAT):
        told.append(f"R-hat {_worst(r_hat, np.max):.6g} is not below {LARGEST_R_HAT}")
    for name, values in (("bulk", bulk), ("tail", tail)):
        if not np.all(values > FEWEST_EFFECTIVE):
            told.append(f"effective draws ({name}) {_worst(values, np.min):.6g} are not above {FEWEST_EFFECTIVE:g}")
    if divergences != 0:
        told.append(f"{divergences} divergences")
    if not bfmi >= LOWEST_BFMI:
        told.append(f"smallest BFMI {bfmi:.6g} is below {LOWEST_BFMI}")
    return tuple(told)


def _worst(values: Floats, which: Callable[[Floats], float]) -> float:
    return float("nan") if np.isnan(values).any() else float(which(values))


def judged(values: Floats, energy: Floats, diverging: np.ndarray) -> Chains:
    """Judge the chains of one bin: parameters (C, S, p), energies (C, S) in nats, divergences (C, S)."""
    found, divergences = mixing(values), int(np.sum(diverging))
    bfmi = lowest_bfmi(energy)
    return Chains(found, divergences, bfmi, refusals(found, divergences, bfmi))
