"""The noise comes from what the cells cannot represent: no model, and no signal mistaken for noise."""

from __future__ import annotations

import numpy as np
import pytest

from hpcxpcs.data.matrices import AngleMatrix
from hpcxpcs.likelihood.cells import TimeAxis, adapt_cells, geometric_cells
from hpcxpcs.likelihood.compress import compress
from hpcxpcs.likelihood.raw import lattices
from tests.likelihood.measured import measured

COUNT = 110
AXIS = TimeAxis(0.1, 0.1, COUNT)
CELLS = geometric_cells(AXIS, 2.5)
PHI = np.array([-70.0, -10.0, 30.0, 85.0])
SIGMA = np.array([0.004, 0.01, 0.02, 0.05])


def signal() -> np.ndarray:
    """A decay and an oscillation, fifty times stronger than the weakest noise."""
    times = AXIS.all_times()
    lag = np.abs(times[None, :] - times[:, None])
    return 1.0 + 0.2 * np.exp(-lag / 3.0) * np.cos(0.3 * lag * np.sqrt(times[:, None])) ** 2


def noisy(seed: int, relative: np.ndarray | None = None, strength: float = 1.0) -> list[AngleMatrix]:
    """One matrix per σ; `relative` multiplies the noise pair by pair and is given as errors per pair."""
    rng = np.random.default_rng(seed)
    found = []
    for sigma in SIGMA:
        level = sigma if relative is None else sigma * relative
        noise = level * rng.standard_normal((COUNT, COUNT))
        own = None if relative is None else level
        found.append(AngleMatrix(strength * signal() + noise, np.ones(COUNT, dtype=bool), None, own))
    return found


def deviations(moments, wanted: np.ndarray) -> np.ndarray:
    """How many standard errors σ/√(2ν) each estimate lies from the truth."""
    found, freedom = moments.noise()
    return (found - wanted) / (wanted / np.sqrt(2.0 * freedom))


def compressed(angles, lattice=None):
    shards = () if lattice is None else (lattice,)
    return compress(angles.__getitem__, PHI, CELLS, AXIS, *shards)


def test_the_noise_of_every_angle_is_found_within_its_standard_error():
    seen = np.concatenate([deviations(compressed(noisy(seed)), SIGMA) for seed in range(6)])
    assert np.abs(seen).max() < 3.5
    assert 0.6 < seen.std() < 1.5
    assert abs(seen.mean()) < 0.7


def test_the_degrees_of_freedom_are_the_pairs_less_what_the_cells_can_represent():
    moments = compressed(noisy(0))
    _, freedom = moments.noise()
    assert np.all(freedom == COUNT * (COUNT - 1) / 2 - moments.node_count)


def test_given_dead_frames_different_at_each_angle_then_the_noise_is_found_from_the_rest():
    angles = noisy(1)
    for k, matrix in enumerate(angles):
        dead = np.random.default_rng(k).choice(COUNT, 10 * k, replace=False)
        matrix.frame_ok[dead] = False
        matrix.c2[dead] = matrix.c2[:, dead] = 0.0
    moments = compressed(angles)
    assert np.abs(deviations(moments, SIGMA)).max() < 3.0
    assert np.all(np.diff(moments.noise()[1]) < 0)


def test_given_errors_per_pair_then_the_noise_per_unit_weight_is_one():
    relative = 0.5 + np.random.default_rng(2).random((COUNT, COUNT))
    assert np.abs(deviations(compressed(noisy(2, relative)), np.ones(4))).max() < 3.0


def test_given_errors_that_are_three_times_too_small_then_the_noise_per_unit_weight_is_three():
    angles = [AngleMatrix(m.c2, m.frame_ok, None, m.sigma / 3.0) for m in noisy(2, np.ones((COUNT, COUNT)))]
    assert np.abs(deviations(compressed(angles), np.full(4, 3.0))).max() < 3.0


def test_a_smooth_signal_of_any_strength_is_not_taken_for_noise():
    with_signal, without = (compressed(noisy(3, strength=s)).noise()[0] for s in (1.0, 0.0))
    assert np.allclose(with_signal, without, rtol=2e-3)
    spread = [np.std(m.c2[np.triu_indices(COUNT, 1)]) for m in noisy(3)]
    assert spread[0] > 5.0 * with_signal[0]


def test_the_sum_of_shards_finds_the_same_noise_as_the_whole():
    angles = noisy(4)
    first, *rest = (compressed(angles, shard) for shard in lattices(2))
    total = sum(rest, start=first)
    assert np.allclose(total.noise(), compressed(angles).noise(), rtol=1e-6)


def test_given_data_without_noise_then_hardly_any_is_found():
    angles = [AngleMatrix(signal(), np.ones(COUNT, dtype=bool)) for _ in PHI]
    assert np.all(compressed(angles).noise()[0] < 1e-3)


@pytest.mark.parametrize("dead", [(), (0, 30, 31, 77)])
def test_given_cells_adapted_to_a_flow_then_the_noise_of_its_simulation_is_found(dead):
    case = measured("laminar_flow", frames=COUNT).masked(dead)
    cells = adapt_cells(case.model, case.theta[None], case.phi, case.strength, case.axis, error=0.5).cells
    moments = compress(case.angles, case.phi, cells, case.axis)
    assert np.abs(deviations(moments, case.sigma)).max() < 3.0
