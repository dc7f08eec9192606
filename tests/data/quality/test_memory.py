"""Matrices are read once each, and one at a time; judging one needs little beside the matrix and a copy of it."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from hpcxpcs.config.sections import Preprocessing
from hpcxpcs.data import inspect
from hpcxpcs.data.formats import Stack, write
from hpcxpcs.data.quality.report import examine
from hpcxpcs.data.quality.survey import survey
from tests.data.quality.damage import case, clean_stack

LARGE = 2080
"""Frames of a matrix that slabs and samples (of a million values) are small beside: 17 MB in single precision."""


@dataclass
class Made:
    """Matrices that are made when asked for, counting how often."""

    n: int
    asked: Counter = field(default_factory=Counter)

    def c2(self, k):
        self.asked[k] += 1
        return clean_stack(k, phi=np.array([10.0 * k]), n=self.n)[0]

    def sigma(self, k):
        return None

    def content_hash(self):
        return "made"


@dataclass
class Large:
    """A large matrix in single precision with a dead frame and a block of NaN, in an array of its own each time."""

    matrix: np.ndarray

    def c2(self, k):
        return self.matrix.copy()

    def sigma(self, k):
        return None

    def content_hash(self):
        return "large"


@pytest.fixture(scope="module")
def large():
    frames = np.arange(LARGE, dtype=np.float32)
    matrix = 1.0 + 0.15 * np.exp(-np.abs(frames[:, None] - frames) / np.float32(50.0))
    noise = np.random.default_rng(6).standard_normal((LARGE, LARGE), dtype=np.float32)
    matrix += 0.01 * noise
    matrix[100:120, 300:600] = matrix[300:600, 100:120] = np.nan
    matrix[50, :] = matrix[:, 50] = 0.0
    return matrix


def record(angles, matrices, n, **more):
    phi, t = np.arange(angles) * 10.0, np.arange(n) * 0.1
    return replace(case().record(), phi=phi, t=t, frames=(1, n), matrices=matrices, **more)


def peak_of(work):
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "processing", [Preprocessing(), Preprocessing(normalization="z_score", noise_reduction="gaussian")]
)
def test_given_many_angles_then_each_is_read_once_and_memory_does_not_grow_with_them(processing):
    n, peaks = 240, {}
    for angles in (2, 12):
        matrices = Made(n)
        data = record(angles, matrices, n, processing=processing)
        report, peaks[angles] = peak_of(lambda data=data: examine(data, "comprehensive"))
        assert len(report.surveys) == angles and set(matrices.asked.values()) == {1}
    assert peaks[12] < peaks[2] + 8 * n**2


@pytest.mark.parametrize(
    ("sizes", "repair", "processing"),
    [
        (3, "disabled", Preprocessing()),
        (4, "aggressive", Preprocessing()),
        (4, "disabled", Preprocessing(normalization="z_score")),
        (4, "conservative", Preprocessing(normalization="baseline", noise_reduction="median")),
    ],
)
def test_given_a_large_matrix_then_judging_it_needs_three_of_its_sizes_and_four_to_change_it(
    large, sizes, repair, processing
):
    screening = replace(case().record().screening, non_finite="mask", repair=repair)
    data = record(1, Large(large), LARGE, screening=screening, processing=processing)
    found, peak = peak_of(lambda: survey(data, 0, "comprehensive"))
    assert found.integrity.non_finite == 20 * 300 and found.integrity.dead_frames == (51,)
    assert found.shown.signal.contrast == pytest.approx(0.15, rel=0.1)
    assert peak < sizes * large.nbytes


def test_given_a_large_matrix_then_inspecting_its_file_needs_hardly_more_than_two_of_its_sizes(large, tmp_path):
    path = tmp_path / "large.h5"
    stack = Stack([large], np.array([0.005]), np.zeros(1), 0.1, half=False, compression="none")
    write("nexus", path, stack)
    found, peak = peak_of(lambda: inspect.describe(path).examined[0])
    assert found.non_finite_pairs == 20 * 300 and found.dead_frames == (51,)
    assert found.asymmetry > 0.01 and found.half == "full"
    assert peak < 2.5 * large.nbytes
