"""Masks by recipe: every operation, their order, and what is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcxpcs.errors import ConfigError, DataError, FormatError, HpcxpcsError
from hpcxpcs.frames.mask import MaskRecipe, Scene, build
from hpcxpcs.frames.recipes import build_mask
from hpcxpcs.frames.schemas import read_flags
from tests.frames.detectors import GEOMETRY, SHAPE, maps

IMAGE = np.arange(float(np.prod(SHAPE))).reshape(SHAPE)


def operations(*lines):
    recipe = MaskRecipe.model_validate({"operations": list(lines)})
    return [line.operation for line in recipe.operations]


def made(*lines, image=IMAGE):
    return build(operations(*lines), Scene(SHAPE, image=image, maps=maps().maps))


CIRCLE = {"circle": {"centre": [12, 10], "radius": 4}}
CASES = {
    "threshold": ({"threshold": {"low": 10, "high": 20}}, 10),
    "rectangle": ({"rectangle": {"columns": [2, 4], "rows": [0, 20], "mode": "inclusive"}}, 3 * 21),
    "circle": (CIRCLE, 21 * 25 - 49),
    "ellipse": ({"ellipse": {"centre": [12, 10], "radii": [5, 0.5], "mode": "inclusive"}}, 11),
    "turned ellipse": ({"ellipse": {"centre": [12, 10], "radii": [5, 0.5], "turn": 90, "mode": "inclusive"}}, 11),
    "polygon": ({"polygon": {"points": [[1.5, 1.5], [4.5, 1.5], [4.5, 4.5], [1.5, 4.5]], "mode": "inclusive"}}, 9),
    "line": ({"line": {"begin": [0, 5], "end": [9, 5], "width": 1, "mode": "inclusive"}}, 10),
    "constraint": ({"constraint": {"map": "x", "low": 3, "high": 5}}, 3 * 21),
}


@pytest.mark.parametrize(("line", "left"), CASES.values(), ids=CASES)
def test_given_one_operation_then_so_many_pixels_are_left(line, left):
    mask, (step,) = made(line)
    assert mask.sum() == step.left == left
    assert step.removed == mask.size - left


@pytest.mark.parametrize("line", [line for line, _ in CASES.values()], ids=CASES)
def test_given_the_other_mode_then_the_other_pixels_are_left(line):
    ((name, settings),) = line.items()
    inclusive, _ = made({name: settings | {"mode": "inclusive"}})
    exclusive, _ = made({name: settings | {"mode": "exclusive"}})
    np.testing.assert_array_equal(inclusive, ~exclusive)


def test_given_angles_that_run_through_180_then_both_sides_are_kept():
    mask, _ = made({"constraint": {"map": "phi", "low": 150, "high": -150}})
    np.testing.assert_array_equal(mask, np.abs(maps().maps["phi"].values) >= 150)


def test_given_inclusive_shapes_in_a_row_then_what_is_in_any_is_kept_and_counted():
    second = {"circle": {"centre": [4, 4], "radius": 2, "mode": "inclusive"}}
    first = {"circle": CIRCLE["circle"] | {"mode": "inclusive"}}
    mask, steps = made(first, second)
    assert [(step.removed, step.restored, step.left) for step in steps] == [(476, 0, 49), (0, 13, 62)]
    apart, _ = made(first, {"threshold": {}}, second)
    assert not apart.any() and mask.sum() == 62


@pytest.mark.parametrize("method", ["percentile", "sigma", "mad"])
def test_given_a_pixel_unlike_its_ring_then_it_is_an_outlier_and_alike_ones_are_not(method):
    image = 10.0 + np.random.default_rng(0).random(SHAPE)
    image[10, 3] = 500.0
    line = {"outliers": {"method": method, "rings": 5, "limit": 6, "limits": [1, 99]}}
    mask, _ = made(line, image=image)
    assert not mask[10, 3] and mask.mean() > 0.9
    flat, _ = made(line, image=np.ones(SHAPE))
    assert flat.all()


def written(tmp_path, *lines, **settings):
    np.save(tmp_path / "image.npy", IMAGE)
    path = tmp_path / "mask.yaml"
    path.write_text(yaml.safe_dump({"image": "image.npy", **settings, "operations": list(lines)}))
    return path


def test_given_a_recipe_then_the_file_has_the_schema_and_the_counts_are_told(tmp_path):
    told = []
    build_mask(written(tmp_path, {"threshold": {"low": 25}}, CIRCLE), tmp_path / "mask.h5", told.append)
    with h5py.File(tmp_path / "mask.h5") as file:
        stored = file["simplemask/mask/mask"]
        assert stored.dtype == np.int32 and stored.compression == "gzip" and set(np.unique(stored)) == {0, 1}
        assert file["simplemask/mask"].attrs["version"] == "1.0.0"
        assert "threshold" in file["simplemask/mask/metadata"].attrs["recipe"]
        np.testing.assert_array_equal(read_flags(tmp_path / "mask.h5"), stored[()] > 0)
    assert told[1].split() == ["threshold", "inclusive", "25", "0", "500"]
    assert told[2].split()[:3] == ["circle", "exclusive", "49"]


def test_given_a_blemish_file_then_its_bad_pixels_go_and_those_of_a_mask_beside_it_stay(tmp_path):
    good = np.ones(SHAPE, dtype=bool)
    good[3, 4] = False
    with h5py.File(tmp_path / "aps.h5", "w") as file:
        file["qmap/blemish"], file["qmap/mask"] = good, np.zeros(SHAPE, dtype=bool)
    build_mask(written(tmp_path, {"blemish": {"path": "aps.h5"}}), tmp_path / "mask.h5", str)
    np.testing.assert_array_equal(read_flags(tmp_path / "mask.h5"), good)


def test_given_a_line_deleted_then_its_operation_is_undone(tmp_path):
    build_mask(written(tmp_path, {"threshold": {"low": 25}}, CIRCLE), tmp_path / "both.h5", str)
    build_mask(written(tmp_path, {"threshold": {"low": 25}}), tmp_path / "one.h5", str)
    np.testing.assert_array_equal(read_flags(tmp_path / "one.h5"), IMAGE >= 25)
    assert read_flags(tmp_path / "both.h5").sum() < read_flags(tmp_path / "one.h5").sum()


@pytest.mark.parametrize(
    ("line", "settings", "kind", "words"),
    [
        ({"circl": {}}, {}, ConfigError, ["operations[0].circl", "did you mean 'circle'?"]),
        ({"circle": {"centre": [1, 2]}}, {}, ConfigError, ["operations[0].circle.radius: is missing"]),
        ({**CIRCLE, "threshold": {}}, {}, ConfigError, ["operations[0]", "one operation, not 2"]),
        ({"circle": CIRCLE["circle"] | {"mode": "keep"}}, {}, ConfigError, ["mode", "exclusive, inclusive"]),
        ({"constraint": {"map": "q", "low": 0, "high": 1}}, {}, ConfigError, ["constraint", "qmap"]),
        ({"file": {"path": "none.h5"}}, {}, DataError, ["none.h5: no such file"]),
        ({"file": {"path": "other.npy"}}, {}, DataError, ["other.npy", "(3, 4)", str(SHAPE)]),
        ({"threshold": {"low": 1e9}}, {}, ConfigError, ["remove all 525 pixels"]),
        (CIRCLE, {"shape": [3, 4]}, ConfigError, ["not of one detector", "shape [3, 4]"]),
        (CIRCLE, {"image": "cube.h5"}, FormatError, ["cube.h5", "no frames"]),
    ],
)
def test_given_a_wrong_recipe_then_one_error_says_where_and_nothing_is_written(line, settings, kind, words, tmp_path):
    np.save(tmp_path / "other.npy", np.ones((3, 4)))
    h5py.File(tmp_path / "cube.h5", "w").close()
    with pytest.raises(HpcxpcsError) as error:
        build_mask(written(tmp_path, line, **settings), tmp_path / "mask.h5", str)
    assert isinstance(error.value, kind)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert not list(tmp_path.glob("*mask.h5*"))


number = st.integers(-5, 30)
pair = st.lists(number, min_size=2, max_size=2)
lines = st.one_of(
    st.builds(lambda a, b, m: {"rectangle": {"columns": a, "rows": b, "mode": m}}, pair, pair, st.sampled_from(
        ["exclusive", "inclusive"])),
    st.builds(lambda c, r, m: {"circle": {"centre": c, "radius": r, "mode": m}}, pair, st.integers(1, 20),
              st.sampled_from(["exclusive", "inclusive"])),
    st.builds(lambda low, high: {"threshold": {"low": low, "high": high}}, st.integers(0, 200), st.integers(200, 525)),
    st.builds(lambda a, b: {"line": {"begin": a, "end": b, "width": 2}}, pair, pair),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(lines, max_size=6))
def test_given_any_recipe_then_the_counts_of_its_steps_add_up(recipe):
    mask, steps = made(*recipe)
    left = mask.size
    for step in steps:
        left += step.restored - step.removed
        assert step.left == left
    assert mask.sum() == left and mask.shape == GEOMETRY.shape
