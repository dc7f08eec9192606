"""Models of the same data, compared by their evidence: read from the results of runs, refused where they cannot be.

Under equal prior odds the probability of a model is its evidence over the sum of all. That asks for one likelihood: the
same pairs, the same treatment of their noise and of the scaling. Where each run has estimated σ, ln Z is brought to one
σ: with R_a = χ²_a σ_a² of the best fit on N_a pairs of angle a, it changes as the likelihood with the noise scale at
its best does, −Σ N_a ln σ_a − ½ ΣN_a ln Σ R_a/σ_a² (−½ Σ R_a/σ_a² in the second part if the scale is fixed). What
volume and best fit change by is of the order of the change of ln σ for every number that was fitted: an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hpcxpcs.arrays import Floats
from hpcxpcs.errors import ConfigError, StoreError
from hpcxpcs.files.json_safe import json_object
from hpcxpcs.results.table import number, plain_text

SHARED = {
    "data_fingerprint": "other data, or another selection of them",
    "q": "another q",
    "frames": "other frames",
    "phi": "other angles",
    "pairs": "other pairs of frames",
    "noise_model": "another model of the noise (noise.model)",
    "noise_scale": "the noise scale sampled in one and fixed in the other (noise.scale)",
    "scaling": "another scaling of contrast and offset (scaling.mode)",
}
"""What runs must have in common, and what to call it where they do not."""

WORTHLESS = 0.5
"""Nats that different σ may leave open, or a tenth of the difference if that is more."""

TOLD = 0.005
"""Nats by which different σ change a difference that are worth a word."""

WIDER = 1.2
"""Times that draws of the best model are wider than its likelihood has them, from which differences count too much."""


@dataclass(frozen=True)
class Ranked:
    """One run: ln Z with its error (nats), its χ² per degree of freedom, verdict, and the priors of its parameters.

    `basis` is what the evidence rests on; `widening` the most that draws were widened for noise that pairs share;
    `sigma_shift` and `sigma_error` (nats) are by how much ln Z changes with the σ of the run it is compared with.
    """

    run: Path
    model: str
    method: str
    log_evidence: float
    error: float
    chi_squared: float
    verdict: str
    priors: Mapping[str, Mapping[str, Any]]
    basis: Mapping[str, Any]
    widening: float
    sigma_shift: float = 0.0
    sigma_error: float = 0.0

    @property
    def compared(self) -> float:
        """ln Z for the common σ."""
        return self.log_evidence + self.sigma_shift


@dataclass(frozen=True)
class Ranking:
    """Runs in the order of their evidence, their probabilities, errors of the differences to the best, and cautions."""

    runs: tuple[Ranked, ...]
    probabilities: tuple[float, ...]
    errors: tuple[float, ...]
    cautions: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The table, what the priors allowed, and what to be careful about."""
        best = self.runs[0].compared
        headings = ("run", "model", "method", "ln Z", "to the best", "probability", "χ²", "verdict")
        rows = [
            (
                *(str(one.run), one.model, one.method, f"{one.log_evidence:.2f} ± {one.error:.2f}"),
                "best" if k == 0 else f"{one.compared - best:.2f} ± {self.errors[k]:.2f} nats",
                *(number(self.probabilities[k], 3), number(one.chi_squared, 5), one.verdict),
            )
            for k, one in enumerate(self.runs)
        ]
        lines = [plain_text(headings, rows), ""]
        lines += [f"priors   {one.run}: {_priors_words(one)}" for one in self.runs]
        lines += [f"note     {words}" for words in self.notes]
        lines += [f"careful  {words}" for words in self.cautions]
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """The ranking as JSON values."""
        best = self.runs[0].compared
        return {
            "schema_version": 1,
            "runs": [
                {
                    "run": str(one.run),
                    "model": one.model,
                    "method": one.method,
                    "log_evidence": one.log_evidence,
                    "log_evidence_error": one.error,
                    "difference": one.compared - best,
                    "difference_error": self.errors[k],
                    "probability": self.probabilities[k],
                    "reduced_chi_squared": one.chi_squared,
                    "verdict": one.verdict,
                    "priors": dict(one.priors),
                }
                for k, one in enumerate(self.runs)
            ],
            "notes": list(self.notes),
            "cautions": list(self.cautions),
        }


def ranked(folders: Sequence[Path]) -> Ranking:
    """Compare the runs in folders; ConfigError with the reasons where they cannot be compared."""
    return compare([_read(folder) for folder in folders])


def compare(read: Sequence[Ranked]) -> Ranking:
    """Rank models of the same data; ConfigError with the reasons where they cannot be compared."""
    reasons = [f"{one.run}: {words}" for one in read for words in _differences(read[0], one)]
    if not reasons:
        runs = sorted((_at_sigma_of(read[0], one) for one in read), key=lambda one: -one.compared)
        reasons = [_unsure_words(one, read[0]) for one in runs if _unsure(one, runs[0])]
    if reasons:
        raise ConfigError("these runs cannot be compared by evidence:\n" + "\n".join(reasons))
    best = runs[0]
    shares = np.exp(np.array([one.compared - best.compared for one in runs]))
    errors = tuple(math.hypot(one.error, best.error, one.sigma_error) for one in runs)
    probabilities = tuple(map(float, shares / shares.sum()))
    return Ranking(tuple(runs), probabilities, errors, tuple(_cautions(runs)), tuple(_notes(runs)))


def _unsure(one: Ranked, best: Ranked) -> bool:
    return one.sigma_error > max(WORTHLESS, 0.1 * (best.compared - one.compared))


def _unsure_words(one: Ranked, first: Ranked) -> str:
    return (
        f"{one.run}: its σ differs from that of {first.run}, which leaves {one.sigma_error:.2g} nats open: each model "
        f"has estimated it ({one.basis['sigma_source']}); fit all with --set noise.sigma=NUMBER, such as "
        f"{np.median(_numbers(first, 'sigma')):.4g}"
    )


def _read(folder: Path) -> Ranked:
    """What the results of a run say; StoreError where there are none, or no evidence."""
    results = folder / "results"
    diagnostics = _object(results / "cmc" / "diagnostics.json", folder)
    found = diagnostics.get("evidence")
    if found is None or found["log_evidence"] is None:
        why = "it was written by a version that had none" if found is None else found["words"]
        raise StoreError(f"{folder}: has no evidence ({why}): fit it again with --method importance")
    analysis = _object(results / "cmc" / "analysis_results_cmc.json", folder)
    summary = _object(results / "summary.json", folder)
    return Ranked(
        run=folder,
        model=diagnostics["analysis_mode"],
        method=diagnostics["method"],
        log_evidence=found["log_evidence"],
        error=found["log_evidence_error"],
        chi_squared=float(summary["metrics"]["reduced_chi_squared"]),
        verdict=diagnostics["verdict"],
        priors=analysis["parameter_space"],
        basis=found["basis"],
        widening=max(analysis["sampling_quality"]["widening"].values()),
    )


def _object(path: Path, folder: Path) -> dict[str, Any]:
    try:
        found = json_object(path.read_bytes())
    except OSError:
        found = None
    if found is None:
        raise StoreError(
            f"{folder}: holds no finished posterior ({path.name}): 'hpcxpcs fit CONFIG --run {folder}' makes one"
        )
    return found


def _differences(first: Ranked, other: Ranked) -> list[str]:
    """In words, what of the likelihood is not the same."""
    apart = [key for key in SHARED if first.basis[key] != other.basis[key]]
    if any(key in apart for key in ("q", "frames", "phi")):
        apart = [key for key in apart if key not in ("data_fingerprint", "pairs")]
    return [f"{SHARED[key]} than {first.run}{_shown(first.basis[key], other.basis[key])}" for key in apart]


def _shown(one: Any, other: Any) -> str:
    texts = [str(value) for value in (other, one)]
    return f": {texts[0]} instead of {texts[1]}" if max(map(len, texts)) <= 40 else ""


def _at_sigma_of(first: Ranked, one: Ranked) -> Ranked:
    """A run with ln Z as it would be with the σ of another run, and the error of that."""
    own, other, pairs = _numbers(one, "sigma"), _numbers(first, "sigma"), _numbers(one, "pairs")
    left = _numbers(one, "chi_squared") * own**2
    sampled = one.basis["noise_scale"] == "sampled"

    def height(sigma: Floats) -> float:
        rest = float(np.sum(left / sigma**2))
        return -float(pairs @ np.log(sigma)) - 0.5 * (float(pairs.sum()) * math.log(rest) if sampled else rest)

    apart = np.log(other / own)
    apart = apart - (np.average(apart, weights=pairs) if sampled else 0.0)
    fitted = len(one.priors) + 2 * len(pairs)
    return replace(one, sigma_shift=height(other) - height(own), sigma_error=fitted * float(np.abs(apart).max()))


def _numbers(one: Ranked, key: str) -> Floats:
    return np.asarray(one.basis[key], dtype=float)


def _cautions(runs: Sequence[Ranked]) -> list[str]:
    """Why differences should not be taken at their word."""
    best = runs[0]  # what a model that fits worse leaves over is shared by pairs too
    if best.widening < WIDER:
        return []
    return [
        f"pairs share noise that the likelihood takes for independent (draws of {best.run} were widened by up to "
        f"{best.widening:.2f}): differences in ln Z are too large by about the square of that"
    ]


def _notes(runs: Sequence[Ranked]) -> list[str]:
    """What else a reader should know of the comparison."""
    found = ["the probabilities hold for equal prior odds, among these models alone, with the priors above"]
    names = {
        name for one in runs for name, prior in one.priors.items() if "data" in set((prior.get("from") or {}).values())
    }
    if names:
        found.append(
            f"bounds or priors of {', '.join(sorted(names))} follow from the data; a range k times wider than the data "
            "need costs a model up to ln k"
        )
    moved = [f"{one.run} {one.sigma_shift:+.2f}" for one in runs if abs(one.sigma_shift) > TOLD]
    if moved:
        found.append(f"each run has estimated σ: differences are for that of one of them ({', '.join(moved)} nats)")
    if len({str(one.basis["widths"]) for one in runs}) > 1:
        found.append("each model has learned its own spread of contrast and offset between angles (scaling.mode)")
    return found


def _priors_words(one: Ranked) -> str:
    parts = []
    for name, prior in one.priors.items():
        if prior["bounds"] is None:
            continue
        kind = dict(prior["prior"] or {})
        values = ", ".join(f"{key} {number(float(value), 3)}" for key, value in kind.items() if key != "type")
        low, high = (number(float(end), 3) for end in prior["bounds"])
        parts.append(f"{name} {low} to {high} ({kind.get('type', 'none')}{' ' + values if values else ''})")
    return "; ".join(parts) if parts else "none: no parameter is free"


def doubtful(ranking: Ranking) -> bool:
    """Whether the ranking should not be quoted as it is."""
    return bool(ranking.cautions) or not all(math.isfinite(one.log_evidence) for one in ranking.runs)
