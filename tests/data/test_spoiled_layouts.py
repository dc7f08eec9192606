"""Whatever stands where a dataset, a group or an attribute is expected, the answer is data or one DataError."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from hpcxpcs.data.formats import FORMATS, nxxpcs, write
from hpcxpcs.data.inspect import describe
from hpcxpcs.data.select import load
from hpcxpcs.errors import DataError
from tests.data.stacks import config_for, edited, stack_of

STANDS_INSTEAD = {
    "nothing": None,
    "a group": {},
    "a text": "text",
    "texts": np.array([b"a", b"b"], dtype=object),
    "no values": np.zeros(0),
    "no matrices": np.zeros((0, 12, 12)),
    "a number": 3.5,
    "a NaN": np.nan,
    "a negative list": -np.ones(2),
    "complex numbers": np.ones((2, 12, 12), dtype=complex),
    "a huge number": np.array([2**62, 2**62]),
    "too many axes": np.ones((1, 2, 1, 3, 1)),
    "a compound": np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]),
    "an empty dataset": h5py.Empty("f8"),
}


def writers():
    plain = {name: (lambda path, stack, name=name: write(name, path, stack)) for name in FORMATS}
    keys = {"nxxpcs keys": lambda path, stack: nxxpcs.write(path, stack, storage="data_exchange_keys")}
    return plain | keys


def objects(path):
    names = []
    with h5py.File(path) as file:
        file.visit(names.append)
    return names


def spoiled(path, name, value):
    with edited(path) as file:
        del file[name]
        if isinstance(value, dict):
            file.create_group(name)
        elif value is not None:
            file[name] = value


def looked_at(path):
    """Read everything that an inspection and a fit read; True when it worked, False when it was refused."""
    worked = []
    for look in (describe, lambda path: load(config_for(path)).angle(0)):
        try:
            look(path)
            worked.append(True)
        except DataError as error:
            assert str(path) in str(error)
            worked.append(False)
    return all(worked)


@pytest.mark.parametrize("what", STANDS_INSTEAD)
@pytest.mark.parametrize("name", writers())
def test_given_anything_in_the_place_of_an_object_then_it_is_read_or_refused(tmp_path, name, what):
    whole, path = tmp_path / "whole.h5", tmp_path / "a.h5"
    writers()[name](whole, stack_of([0.005, 0.005], [0.0, 90.0], truth={"D0": 1.0}))
    refused = 0
    for item in objects(whole):
        shutil.copy(whole, path)
        spoiled(path, item, STANDS_INSTEAD[what])
        refused += not looked_at(path)
    assert refused >= 3


@pytest.mark.parametrize("value", [h5py.Empty("f8"), 3.5, np.arange(5), b"\xff\xfe", "x" * 50_000, ""])
@pytest.mark.parametrize("name", writers())
def test_given_any_value_of_an_attribute_then_it_is_read_or_refused(tmp_path, name, value):
    path = tmp_path / "a.h5"
    writers()[name](path, stack_of([0.005, 0.005], [0.0, 90.0], truth={"D0": 1.0}))
    with h5py.File(path) as file:
        places = [(item, key) for item in objects_in(file) for key in file[item].attrs]
    for item, key in places:
        with edited(path) as file:
            before = file[item].attrs[key]
            file[item].attrs[key] = value
        looked_at(path)
        with edited(path) as file:
            file[item].attrs[key] = before


def objects_in(file):
    names = []
    file.visit(names.append)
    return names


@pytest.mark.parametrize("times", [[np.inf] * 12, [0.0, np.inf] * 6, [-1e308, 1e308] * 6, [np.nan] * 12])
@pytest.mark.parametrize(("name", "place"), [("viewer", "xpcs/twotime/times"), ("cube", "exchange/t")])
def test_given_times_that_are_no_numbers_then_the_file_is_refused_without_a_word_of_numpy(tmp_path, name, place, times):
    path = tmp_path / "a.h5"
    write(name, path, stack_of([0.005], [0.0]))
    with edited(path) as file:
        file[place][...] = times
    with pytest.raises(DataError, match="not equally spaced"):
        describe(path)


def test_given_signalling_nan_then_the_file_is_looked_at_without_a_word_of_numpy(tmp_path):
    path = tmp_path / "a.h5"
    nxxpcs.write(path, stack_of([0.005], [0.0]), origin="lower_left")
    with edited(path) as file:
        matrix = file["entry/twotime/two_time_corr_func"]
        signalling = np.full(matrix.shape, 0x7F800001, dtype=np.uint32).view(np.float32)
        matrix[...] = signalling
    looked_at(path)
