"""Arrays that come from Python: whatever is wrong with one is told under the name of its argument."""

import numpy as np
import pytest

import hpcxpcs
from hpcxpcs.data.twotime import from_arrays
from hpcxpcs.errors import ConfigError, DataError
from hpcxpcs.pipeline.settings import configured
from tests.data.stacks import matrix

N = 12


def given(**changes):
    arguments = {"c2": [matrix(0), matrix(1)], "phi": [0.0, 45.0], "q": 0.005, "dt": 0.1} | changes
    return from_arrays(**arguments)


def test_given_lists_arrays_and_numbers_of_any_real_type_then_they_are_taken():
    whole = given(c2=np.ones((2, N, N), dtype=np.int16), phi=(0, 45), q=np.float32(0.005), dt=np.array(0.1))
    assert (whole.n_phi, whole.n_frames, whole.q, whole.dt) == (2, N, pytest.approx(0.005), 0.1)
    assert given(dead_frames=np.array([3, 4])).screening.dead_frames == (3, 4)
    assert given(dead_frames=[]).screening.dead_frames == ()
    assert given(c2=[matrix(0)], phi=0.0).n_phi == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"c2": "c2.npy"}, "c2: is a value of type str"),
        ({"c2": 3.0}, "c2: is a value of type float"),
        ({"c2": matrix(0)}, r"c2\[0\]: has shape \(12,\)"),
        ({"c2": [matrix(0), matrix(1)[:10]]}, r"c2\[1\]: has shape \(10, 12\)"),
        ({"c2": [matrix(0), matrix(1, 10)]}, r"c2\[1\]: has shape \(10, 10\), but c2\[0\] has \(12, 12\)"),
        ({"c2": [matrix(0) + 0j, matrix(1)]}, r"c2\[0\]: holds values of type complex128"),
        ({"c2": [[[1, 2], [3]], matrix(1)]}, r"c2\[0\]: is no array"),
        ({"c2": []}, "phi: .* 0 matrices"),
        ({"phi": [0.0]}, r"phi: has shape \(1,\) for 2 matrices"),
        ({"phi": [0.0, np.nan]}, r"phi\[1\]: is no finite number"),
        ({"phi": ["0", "45"]}, "phi: holds values of type"),
        ({"q": -0.005}, "q: is -0.005; it must be positive"),
        ({"q": [0.005, 0.01]}, r"q: has shape \(2,\)"),
        ({"q": None}, "q: holds values of type object"),
        ({"dt": 0}, "dt: is 0; it must be positive"),
        ({"dt": np.inf}, "dt: is inf"),
        ({"dt": "0.1"}, "dt: holds values of type"),
        ({"t": np.arange(5)}, r"t: has shape \(5,\); a time \(s\) for each of 12 frames"),
        ({"sigma": np.ones((3, 3))}, r"sigma has shape \(3, 3\)"),
        ({"sigma": "auto"}, "sigma: holds values of type"),
        ({"dead_frames": "some"}, "dead_frames: is 'some'"),
        ({"dead_frames": [0]}, "dead_frames: must be whole numbers from 1 to 12"),
        ({"dead_frames": [13]}, "from 1 to 12"),
        ({"dead_frames": [1.5]}, "whole numbers"),
        ({"dead_frames": 3}, "dead_frames: is a value of type int"),
        ({"non_finite": "ignore"}, "non_finite: is 'ignore'; refuse or mask"),
        ({"repair": "gentle"}, "repair: is 'gentle'"),
    ],
)
def test_given_an_argument_that_cannot_be_one_then_it_is_named(changes, words):
    with pytest.raises(DataError, match=words):
        given(**changes)


@pytest.mark.parametrize("source", [None, 42, ["a.yaml"], np.ones(3)])
def test_given_what_is_no_configuration_then_it_is_said_what_is_needed(source):
    with pytest.raises(ConfigError, match=r"source: is a value of type .*; a Config, the path of a file or a mapping"):
        hpcxpcs.load(source)


MAPPING = {
    "analysis_mode": "static",
    "experimental_data": {"file_path": "a.h5"},
    "analyzer_parameters": {"scattering": {"wavevector_q": 0.005}},
}


def test_given_overrides_of_a_mapping_then_they_hold():
    assert configured(MAPPING, ["scaling.mode=averaged"]).scaling.mode == "averaged"


def test_given_one_text_as_overrides_then_a_list_is_asked_for():
    with pytest.raises(ConfigError, match="overrides: is one text; a list"):
        configured(MAPPING, "scaling.mode=averaged")
