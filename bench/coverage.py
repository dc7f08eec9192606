"""Print how often the intervals of simulated fits hold the truth: noise of pairs, of frames, and of speckles.

usage: coverage.py [SETS [PART [SEED [posterior]]]]   (default: 100 simulated sets of every experiment, from seed 0 on;
PART: only those with it in their name, "gain" fits speckles for independent noise as well; "posterior" samples that of
every set as `--method importance` does, with as many draws, moved to the robust errors, and counts its intervals, too)
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hpcxpcs import load
from hpcxpcs.answer.fit import PointFit, PointSettings
from hpcxpcs.config import config_from_mapping, resolved_parameters
from hpcxpcs.data.simulate import NoiseSpec, bins_of, scaling_of
from hpcxpcs.inference.diagnostics import find_modes
from hpcxpcs.inference.draws import physical_draws, widened
from hpcxpcs.inference.importance import weighed_draws
from hpcxpcs.inference.measurement import measure
from hpcxpcs.inference.point import fit_in_stages
from hpcxpcs.inference.prepared import prepare_full, prepare_shards
from hpcxpcs.inference.stages import Fitted
from hpcxpcs.physics.model import build_model
from hpcxpcs.pipeline.plan import scale_of
from hpcxpcs.pipeline.simulate import SimulationSpec, simulate, simulate_twotime, true_parameters

Q = 0.0054
LEVELS = (0.5, 0.68, 0.95)
DRAWS = 4000
"""Draws of a posterior."""

ROOMY = 1 << 30
"""Bytes of matrices that may be held: more than any of these sets has."""


@dataclass(frozen=True)
class Experiment:
    """What is simulated and fitted again and again; values are those of TRUTH unless `parameters` says otherwise.

    The signal is strong (contrast 0.5), so that every parameter is well determined and the posterior Gaussian:
    what is tested is the error bar, not the curvature of the model.
    """

    model: str
    noise: NoiseSpec
    scaling: str
    frames: int = 60
    angles: int = 4
    parameters: Mapping[str, float] = field(default_factory=dict)
    contrast: float = 0.5
    fixed: Mapping[str, float] = field(default_factory=dict)


SHEAR = {"D0": 2.0e4, "alpha": -0.3, "D_offset": 1.0e3, "gamma_dot_t0": 3.0e-4}

EXPERIMENTS = {
    "static, noise of pairs": Experiment("static", NoiseSpec("iid", sd=0.003), "individual"),
    "laminar_flow, noise of pairs": Experiment(
        "laminar_flow", NoiseSpec("iid", sd=0.003), "auto", angles=3, parameters=SHEAR
    ),
    "static, noise of frames": Experiment(
        "static", NoiseSpec("frame", sd=0.002, frame_sd=0.003), "individual", frames=100
    ),
    "laminar_flow, noise of frames": Experiment(
        "laminar_flow", NoiseSpec("frame", sd=0.001, frame_sd=0.001), "auto", angles=3, parameters=SHEAR
    ),
}

BROWNIAN = {"D0": 4.0e3, "alpha": 0.0, "D_offset": 0.0}
"""A decay to 1/e over 86 of 150 frames of 0.1 s."""


def speckle(photons: float, size: float, drift: float = 0.0) -> Experiment:
    """Light on 2000 pixels at each of five angles; the constant part is held, which photons do not determine."""
    noise = NoiseSpec("photon", photons=photons, pixels=2000, speckle_size=size, photon_drift=drift)
    shape = {"frames": 150, "angles": 5, "contrast": 0.15}
    return Experiment("static", noise, "individual", parameters=BROWNIAN, fixed={"D_offset": 0.0}, **shape)


STEADY_SHEAR = {**BROWNIAN, "gamma_dot_t0": 1.5e-4, "beta": 0.0, "gamma_dot_t_offset": 0.0, "phi0": 10.0}
"""A steady flow across which speckles decorrelate within as many frames."""


def sheared_speckle(photons: float, size: float) -> Experiment:
    """A steady flow seen at six angles, of which the rate, its direction and the diffusion are fitted."""
    noise = NoiseSpec("photon", photons=photons, pixels=2000, speckle_size=size)
    fixed = {"D_offset": 0.0, "beta": 0.0, "gamma_dot_t_offset": 0.0}
    shape = {"frames": 100, "angles": 6, "contrast": 0.15}
    return Experiment("laminar_flow", noise, "individual", parameters=STEADY_SHEAR, fixed=fixed, **shape)


SPECKLES = {
    f"{model}, {photons:g} photons per pixel and frame, {words}": made(photons, size)
    for model, made in (("static", speckle), ("laminar_flow", sheared_speckle))
    for size, words in ((0.0, "white pixels"), (2.0, "speckles of 2 pixels"))
    for photons in (0.05, 0.5, 5.0, 50.0)
} | {
    f"static, {photons:g} photons per pixel and frame, from 0.2 to 1.8 times as many": speckle(photons, 0.0, 1.6)
    for photons in (0.5, 5.0)
}
"""The cells of the table in docs/noise.md."""


@dataclass(frozen=True)
class Outcome:
    """Deviations from the truth and standard errors of every set: (sets, physics + contrasts + offsets).

    Medians of photons and pixels as the noise has them, the share of fits that weighed pairs by their speckles, and the
    sets left out because they did not converge, or did not determine what the others did. `places` are the shares of a
    posterior's draws that are below the truth, and `scores` (mean − truth)/sd of the draws, of the same columns;
    `mistrusted` posteriors have draws whose weights say that chains are needed.
    """

    names: tuple[str, ...]
    deviation: NDArray[np.float64]
    model_based: NDArray[np.float64]
    robust: NDArray[np.float64]
    statuses: tuple[str, ...]
    photons: float = np.nan
    pixels: float = np.nan
    speckle: float = 0.0
    left_out: int = 0
    places: NDArray[np.float64] | None = None
    scores: NDArray[np.float64] | None = None
    mistrusted: int = 0

    def columns(self, group: str) -> list[int]:
        """The columns of a parameter, or of all angles of contrast or offset."""
        return [k for k, name in enumerate(self.names) if name.split("[")[0] == group]

    @property
    def groups(self) -> tuple[str, ...]:
        """Parameters, then contrast and offset with their angles pooled."""
        return tuple(dict.fromkeys(name.split("[")[0] for name in self.names))

    def covered(self, group: str, level: float, errors: NDArray[np.float64]) -> tuple[float, float]:
        """Share of intervals that hold the truth, and its standard error at the nominal level.

        Angles of one set are not independent of each other: their error comes from the scatter between sets.
        """
        chosen = self.columns(group)
        return self._share(
            np.abs(self.deviation[:, chosen]) < stats.norm.ppf(0.5 + level / 2.0) * errors[:, chosen], level
        )

    def covered_by_draws(self, group: str, level: float) -> tuple[float, float]:
        """The same of central intervals of a posterior's draws."""
        assert self.places is not None
        return self._share(np.abs(self.places[:, self.columns(group)] - 0.5) < level / 2.0, level)

    def _share(self, inside: NDArray[np.bool_], level: float) -> tuple[float, float]:
        per_set, sets = inside.mean(axis=1), len(inside)
        spread = np.sqrt(level * (1.0 - level)) if inside.shape[1] == 1 else float(np.std(per_set))
        return float(per_set.mean()), spread / np.sqrt(sets)


def run(
    experiment: Experiment, sets: int, first_seed: int = 0, noise_model: str = "auto", *, posterior: bool = False
) -> Outcome:
    """Simulate and fit `sets` times; contrasts and offsets differ between sets as between angles."""
    truth = np.array(list(true_parameters(experiment.model, experiment.parameters).values()))
    fits, deviations, sampled = [], [], []
    for seed in range(first_seed, first_seed + sets):
        spec = SimulationSpec(
            experiment.model,
            parameters=experiment.parameters,
            angles=experiment.angles,
            frames=experiment.frames,
            contrast=experiment.contrast,
            noise=experiment.noise,
            seed=seed,
            q=Q,
            offset_spread=0.0 if experiment.noise.model == "photon" else None,
        )
        fit, stages = fitted(spec, experiment.scaling, experiment.fixed, noise_model)
        found = np.concatenate([fit.values[fit.free], fit.scaling.contrast, fit.scaling.offset])
        fits.append(fit)
        true = np.concatenate([truth[fit.free], *true_scaling(spec)])
        deviations.append(found - true)
        if posterior:
            draws, trusted = drawn(fit, stages, seed)
            sampled.append(((draws < true).mean(axis=0), (draws.mean(axis=0) - true) / draws.std(axis=0), trusted))
    usual = Counter(fit.covariance_names for fit in fits).most_common(1)[0][0]
    kept = [k for k, fit in enumerate(fits) if fit.covariance_names == usual and fit.robust_covariance is not None]
    fits, deviations = [fits[k] for k in kept], [deviations[k] for k in kept]
    places, scores, trust = (np.array([sampled[k][n] for k in kept]) if posterior else None for n in range(3))
    noise = [fit.noise for fit in fits if fit.noise is not None]
    return Outcome(
        usual,
        np.array(deviations),
        np.array([np.sqrt(np.diag(fit.covariance)) for fit in fits]),
        np.array([np.sqrt(np.diag(fit.robust_covariance)) for fit in fits]),
        tuple(fit.status for fit in fits),
        float(np.median([np.median(parts.photons) for parts in noise])) if noise else np.nan,
        float(np.median([np.median(parts.pixels) for parts in noise])) if noise else np.nan,
        float(np.mean([parts.model == "speckle" for parts in noise])) if noise else 0.0,
        sets - len(kept),
        places,
        scores,
        0 if trust is None else int(np.count_nonzero(~trust)),
    )


def drawn(point: PointFit, fitted: Fitted, seed: int) -> tuple[NDArray[np.float64], bool]:
    """Draws (n, m) of free parameters, contrasts and offsets from the posterior, as wide as a run has them.

    And whether their weights can be trusted: where they cannot, a run samples by chains.
    """
    prepared = prepare_shards(prepare_full(point, fitted, True, seed), (), 1, anchored=True)
    certificate = weighed_draws(prepared, draws=DRAWS, limit=None, seed=seed)
    found = physical_draws(prepared.space, prepared.full, certificate.draws, (seed, 4))
    if find_modes(certificate.draws, seed=seed).count == 1:
        found = widened(prepared.space, prepared.full, found, point)
    size = len(prepared.space.support.coordinates.free)
    return np.concatenate([found.values[:, :size], found.contrast, found.offset], axis=1), certificate.valid


def fitted(
    spec: SimulationSpec, scaling: str, fixed: Mapping[str, float], noise_model: str = "auto"
) -> tuple[PointFit, Fitted]:
    """The point fit of a simulated measurement with one start, which strong signals do not need more of."""
    config = config_from_mapping(
        {
            "analysis_mode": spec.model,
            "experimental_data": {"file_path": "simulated.hdf"},
            "analyzer_parameters": {"scattering": {"wavevector_q": spec.q}},
            "initial_parameters": {"fixed_parameters": dict(fixed)},
        }
    )
    if spec.noise.photon_drift:
        # Only a file tells how bright each frame was.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.hdf"
            simulate(replace(spec, output=path, config=path.with_suffix(".yaml")))
            data = load(path.with_suffix(".yaml"))
            measurement = measure(data, ROOMY)
    else:
        data = simulate_twotime(spec)
        measurement = measure(data, ROOMY)
    parameters = resolved_parameters(config, scale_of(config, data))
    model = build_model(spec.model, q=spec.q, gap=spec.gap)
    settings = PointSettings(scaling=scaling, multi_start=1, noise_model=noise_model)
    return fit_in_stages(measurement, model, parameters, settings)


def true_scaling(spec: SimulationSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Contrast and offset (n_phi,) that a simulated measurement has."""
    bins = bins_of(spec.q, spec.angles_sorted, 0, ())
    contrast, offset = zip(*(scaling_of(spec.recipe, item) for item in bins), strict=True)
    return np.array(contrast), np.array(offset)


def table(name: str, outcome: Outcome) -> str:
    """One line per parameter: coverage of model-based and robust intervals, and robust over model-based error."""
    heads = "".join(f"{100.0 * level:6.0f} %" for level in LEVELS) + f"{'sd(z)':>8s}"
    lines = [
        f"{name}: {len(outcome.deviation)} sets, {outcome.left_out} left out, {outcome.speckle:.0%} by speckles, "
        f"{outcome.photons:.3g} photons, {outcome.pixels:.4g} pixels",
        f"  {'':14s} {'model-based':^32s} {'robust':^32s}   robust/model  scatter",
        f"  {'':14s} {heads} {heads}",
    ]
    for group in outcome.groups:
        chosen = outcome.columns(group)
        shares = []
        for errors in (outcome.model_based, outcome.robust):
            shares += [f"{100.0 * outcome.covered(group, level, errors)[0]:8.1f}" for level in LEVELS]
            shares.append(f"{np.std(outcome.deviation[:, chosen] / errors[:, chosen]):8.2f} ")
        ratio = np.median(outcome.robust[:, chosen] / outcome.model_based[:, chosen])
        scatter = np.std(outcome.deviation[:, chosen])
        lines.append(f"  {group:14s} {''.join(shares)}   {ratio:10.2f}  {scatter:9.3g}")
    return "\n".join(lines)


def posterior_table(outcome: Outcome) -> str:
    """One line per parameter: coverage of a posterior's central intervals, sd(z) and how well it is known, mean(z)."""
    assert outcome.scores is not None
    heads = "".join(f"{100.0 * level:6.0f} %" for level in LEVELS)
    lines = [f"  {'posterior':14s} {heads}   sd(z)      ±   mean(z), {outcome.mistrusted} to be sampled by chains"]
    for group in outcome.groups:
        z = outcome.scores[:, outcome.columns(group)]
        shares = "".join(f"{100.0 * outcome.covered_by_draws(group, level)[0]:8.1f}" for level in LEVELS)
        spread = np.std(z)
        lines.append(f"  {group:14s} {shares}{spread:8.2f}{spread / np.sqrt(2 * len(z)):7.2f}{np.mean(z):10.2f}")
    return "\n".join(lines)


def main() -> None:
    """Run every experiment and print its table."""
    sets = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    part = sys.argv[2] if len(sys.argv) > 2 else ""
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    posterior = sys.argv[4:] == ["posterior"]
    models = ("independent", "auto") if part == "gain" else ("auto",)
    for name, experiment in (SPECKLES if part == "gain" else EXPERIMENTS | SPECKLES).items():
        if part != "gain" and part not in name:
            continue
        for model in models:
            begun = time.perf_counter()
            outcome = run(experiment, sets, seed, model, posterior=posterior)
            print(table(f"{name}, noise.model {model}", outcome))
            if posterior:
                print(posterior_table(outcome))
            print(f"  {(time.perf_counter() - begun) / sets:.2f} s per set", flush=True)


if __name__ == "__main__":
    main()
