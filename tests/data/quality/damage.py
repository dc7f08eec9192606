"""A good measurement of a sheared sample, and twenty-odd ways in which it can be spoilt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.twotime import TwoTime, from_arrays

N = 80
PHI = np.arange(12) * 30.0 - 165.0
SIGMA = 0.005
CONTRAST = 0.15
TENTH = N // 10

Stack = NDArray[np.float64]


def lag_and_age(n: int = N) -> tuple[Stack, Stack]:
    """Lag and age (n, n) in frames."""
    t = np.arange(n, dtype=float)
    return np.abs(t[:, None] - t[None, :]), (t[:, None] + t[None, :]) / 2


def clean_stack(seed: int = 1, sigma: float = SIGMA, phi: Stack = PHI, n: int = N, contrast: float = CONTRAST) -> Stack:
    """Matrices (angles, n, n): diffusion and shear, symmetric noise, shot noise on the diagonal."""
    rng = np.random.default_rng(seed)
    lag, age = lag_and_age(n)
    stack = []
    for angle in phi:
        decay = np.exp(-lag / 12.0) * np.sinc(0.08 * np.cos(np.deg2rad(angle - 20.0)) * lag * (1 + age / (4 * n))) ** 2
        noise = np.triu(sigma * rng.standard_normal((n, n)), 1)
        stack.append(1.0 + contrast * decay + noise + noise.T + 0.4 * np.eye(n))
    return np.array(stack)


@dataclass
class Case:
    """A measurement that a damage may change in place; `settings` are those of from_arrays."""

    stack: Stack
    phi: NDArray[np.float64]
    settings: dict[str, Any]

    def record(self, **more: Any) -> TwoTime:
        """The record, with settings changed."""
        return from_arrays(self.stack, self.phi, q=0.005, dt=0.1, **{**self.settings, **more})


def case(seed: int = 1, **settings: Any) -> Case:
    """A good measurement."""
    return Case(clean_stack(seed), PHI.copy(), settings)


def both(matrix: Stack, rows: Any, columns: Any, value: Any) -> None:
    """Set a block and its mirror image."""
    matrix[rows, columns] = value
    matrix[columns, rows] = np.transpose(value) if np.ndim(value) == 2 else value


def _nan_block(it: Case) -> None:
    both(it.stack[2], slice(10, 18), slice(40, 52), np.nan)


def _infinities(it: Case) -> None:
    both(it.stack[2], slice(30, 31), slice(50, 54), np.inf)


def _nan_frame(it: Case) -> None:
    it.stack[1, 33, :] = it.stack[1, :, 33] = np.nan


def _dead_frames(it: Case) -> None:
    for frame in (7, 8, 50):
        it.stack[:, frame, :] = it.stack[:, :, frame] = 0.0


def _hot_frames(it: Case) -> None:
    for frame in (21, 60):
        it.stack[4, frame, :] *= 1.3
        it.stack[4, :, frame] *= 1.3


def _asymmetric(it: Case) -> None:
    it.stack[3] += np.tril(0.05 * np.random.default_rng(0).standard_normal((N, N)), -1)


def _constant(it: Case) -> None:
    it.stack[5] = 1.07


def _subtracted_baseline(it: Case) -> None:
    it.stack -= 1.0


def _unnormalised(it: Case) -> None:
    it.stack *= 3.0


def _drifting(it: Case) -> None:
    it.stack[6] += 0.15 * lag_and_age()[1] / N


def _duplicated_angle(it: Case) -> None:
    it.stack[8], it.phi[8] = it.stack[2], it.phi[2]


def _few_angles(it: Case) -> None:
    it.stack, it.phi = it.stack[:2], np.array([-5.0, 5.0])


def _spikes(it: Case) -> None:
    for i, j in ((10, 30), (22, 41), (50, 66)):
        both(it.stack[0], i, j, 4.0)


def _noisy(it: Case) -> None:
    it.stack[:] = clean_stack(1, sigma=4 * CONTRAST)


def _no_signal(it: Case) -> None:
    noise = np.triu(SIGMA * np.random.default_rng(3).standard_normal((N, N)), 1)
    it.stack[7] = 1.0 + noise + noise.T


def _saturated(it: Case) -> None:
    it.stack[9] = np.minimum(it.stack[9], 1.08)


def _time_gap(it: Case) -> None:
    long = clean_stack(1, n=N + 30)
    kept = [*range(40), *range(70, N + 30)]
    it.stack[:] = long[np.ix_(range(len(PHI)), kept, kept)]


def _half_filled(it: Case) -> None:
    both(it.stack[10], slice(0, 20), slice(50, N), 0.0)


def _negative(it: Case) -> None:
    both(it.stack[11], slice(3, 4), slice(20, 26), -2.0)


def _swapped_angles(it: Case) -> None:
    it.stack[[1, 3]] = it.stack[[3, 1]]


def _undecayed(it: Case) -> None:
    lag, _ = lag_and_age()
    it.stack[:] = clean_stack(1, contrast=1e-9) + 0.15 * np.exp(-lag / (4.0 * N))


def _too_fast(it: Case) -> None:
    lag, _ = lag_and_age()
    it.stack[:] = clean_stack(1, contrast=1e-9) + 0.3 * np.exp(-lag / 0.8)


def _shared_noise(it: Case) -> None:
    gain = 1.0 + 0.006 * np.random.default_rng(5).standard_normal((len(PHI), N))
    it.stack *= gain[:, :, None] * gain[:, None, :]


def _mostly_dead(it: Case) -> None:
    it.stack[2, 6:, :] = it.stack[2, :, 6:] = 0.0


def _mostly_missing(it: Case) -> None:
    lost = np.random.default_rng(2).random((N, N)) < 0.7
    lost |= lost.T
    it.stack[2][lost] = np.nan
    it.settings["non_finite"] = "mask"


DAMAGES: dict[str, tuple[Callable[[Case], None], str]] = {
    "a block of NaN": (_nan_block, "non_finite"),
    "infinities": (_infinities, "non_finite"),
    "a frame of NaN": (_nan_frame, "dead_frames"),
    "dead frames": (_dead_frames, "dead_frames"),
    "hot frames": (_hot_frames, "hot_frames"),
    "asymmetry": (_asymmetric, "asymmetry"),
    "a constant angle": (_constant, "constant"),
    "a subtracted baseline": (_subtracted_baseline, "baseline"),
    "no normalisation": (_unnormalised, "baseline"),
    "drift": (_drifting, "drift"),
    "a duplicated angle": (_duplicated_angle, "duplicate_angles"),
    "too few directions": (_few_angles, "angle_coverage"),
    "spikes": (_spikes, "spikes"),
    "low signal to noise": (_noisy, "low_signal_to_noise"),
    "no signal": (_no_signal, "no_signal"),
    "saturated values": (_saturated, "saturated_values"),
    "a time gap": (_time_gap, "time_gap"),
    "half filled": (_half_filled, "empty_pairs"),
    "negative values": (_negative, "negative_values"),
    "swapped angles": (_swapped_angles, "swapped_angles"),
    "a decay that does not end": (_undecayed, "not_decayed"),
    "a decay faster than the frames": (_too_fast, "decay_too_fast"),
    "noise shared by frames": (_shared_noise, "frame_noise"),
    "hardly a live frame": (_mostly_dead, "refused"),
    "hardly a usable pair": (_mostly_missing, "few_pairs"),
}
"""What is done to the data, and the check that must find it."""


def damaged(name: str, **settings: Any) -> Case:
    """A measurement spoilt in one way."""
    it = case(**settings)
    DAMAGES[name][0](it)
    return it
