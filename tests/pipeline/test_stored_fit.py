"""A point fit outlives the process that made it, to the bit."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.pipeline.prepare import pack, unpack
from tests.inference.fitting import fit, simulated


def same(one: object, other: object) -> bool:
    """Whether two values are equal to the bit, with NaN equal to itself."""
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one)
        )
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)
    if isinstance(one, tuple):
        return isinstance(other, tuple) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return isinstance(other, float) and (one == other or (np.isnan(one) and np.isnan(other)))
    return one == other


@pytest.fixture(scope="module")
def point() -> PointFit:
    """A fit with everything in it: a fixed parameter (NaN errors), starts, notes."""
    return fit(simulated("static", fixed={"alpha": -0.4}))


def test_given_a_point_fit_when_stored_as_json_and_arrays_then_every_field_returns(point: PointFit) -> None:
    arrays, values = pack(point)
    again = unpack(PointFit, arrays, json.loads(json.dumps(values)))
    for field in dataclasses.fields(PointFit):
        assert same(getattr(point, field.name), getattr(again, field.name)), field.name


def test_given_a_fit_without_robust_errors_and_starts_when_stored_then_none_and_empty_return(point: PointFit) -> None:
    bare = dataclasses.replace(point, robust_covariance=None, robust_uncertainty=None, starts=(), flags=())
    arrays, values = pack(bare)
    assert same(bare, unpack(PointFit, arrays, json.loads(json.dumps(values))))


def test_given_a_stored_fit_without_a_field_then_it_is_missed(point: PointFit) -> None:
    arrays, values = pack(point)
    del arrays["covariance"]
    with pytest.raises(KeyError, match="covariance"):
        unpack(PointFit, arrays, values)
