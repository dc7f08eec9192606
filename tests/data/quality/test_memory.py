"""Matrices are read once each, and one at a time."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from hpcxpcs.data.preprocess import Processing
from hpcxpcs.data.quality.report import examine
from tests.data.quality.damage import case, clean_stack

COPIES = 14
"""Matrices of double precision that judging one may need at a time, temporary ones included."""


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


def record(angles, n, processing):
    matrices = Made(n)
    base = case().record()
    phi, t = np.arange(angles) * 10.0, np.arange(n) * 0.1
    return replace(base, phi=phi, t=t, frames=(1, n), matrices=matrices, processing=processing), matrices


@pytest.mark.parametrize(
    ("angles", "n", "processing"),
    [
        (12, 240, Processing()),
        (3, 600, Processing(normalization="z_score", noise_reduction="gaussian")),
    ],
)
def test_given_many_angles_then_each_is_read_once_and_memory_does_not_grow_with_them(angles, n, processing):
    data, matrices = record(angles, n, processing)
    tracemalloc.start()
    report = examine(data, "comprehensive")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(report.surveys) == angles and set(matrices.asked.values()) == {1}
    assert peak < COPIES * 8 * n**2
