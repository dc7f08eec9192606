"""Maps of q and φ: known numbers, stated units, the old form by name only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.errors import ConfigError
from hpcxpcs.frames.geometry import HC, Geometry, from_aps, maps_of
from hpcxpcs.frames.recipes import read_geometry
from tests.frames.detectors import GEOMETRY

TEXT = {
    "shape": "[256, 256]", "bcx": "143", "bcy": "132", "det_dist": "2230 mm", "pix_dim": "0.108 mm",
    "lambda_": "1.546 Å",
}  # fmt: skip


def written(tmp_path, **changes):
    lines = {name: value for name, value in (TEXT | changes).items() if value is not None}
    path = tmp_path / "geometry.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    return path


def test_given_a_detector_of_8_id_then_a_pixel_is_4e_5_in_q():
    geometry = Geometry(500.0, 400.0, 11_600.0, 0.075, HC / 12.34, (800, 1000))
    q = maps_of(geometry)["q"].values
    assert q[400, 501] - q[400, 500] == pytest.approx(4.04e-5, rel=2e-3)


def test_given_four_sides_of_the_beam_then_phi_turns_counter_clockwise_from_the_columns():
    phi = maps_of(replace(GEOMETRY, bcx=10.0, bcy=10.0))["phi"].values
    assert [phi[10, 20], phi[0, 10], phi[20, 10], phi[10, 0]] == [0.0, 90.0, -90.0, 180.0]


def test_given_wide_angles_then_the_old_form_is_smaller_by_half_the_angle_s_cosine_and_must_be_asked_for():
    wide = replace(GEOMETRY, det_dist=5.0)
    exact, old = maps_of(wide), maps_of(replace(wide, formula="sin"))
    half = np.radians(exact["alpha"].values) / 2
    np.testing.assert_allclose(old["q"].values, exact["q"].values * np.cos(half), rtol=1e-12)
    across = np.hypot(exact["qx"].values, exact["qy"].values)
    np.testing.assert_allclose(old["q"].values, across, rtol=1e-12)


def test_given_reflection_then_the_specular_pixel_has_only_qz():
    geometry = replace(GEOMETRY, incidence=0.14, bcx=12.0, bcy=30.0, det_dist=200.0)
    maps, k0 = maps_of(geometry), 2 * np.pi
    up = 200.0 * np.tan(2 * np.radians(0.14)) / 0.075
    row = round(30 - up)
    assert maps["qz"].values[row, 12] == pytest.approx(2 * k0 * np.sin(np.radians(0.14)), rel=0.03)
    assert abs(maps["qx"].values[row, 12]) < 1e-4 and maps["qy"].values[row, 12] == 0.0
    total = np.hypot(maps["qr"].values, maps["qz"].values)
    np.testing.assert_allclose(maps["q"].values, total, rtol=1e-12)


def test_given_lengths_in_any_unit_then_the_geometry_is_the_same(tmp_path):
    first = read_geometry(written(tmp_path))
    assert first == Geometry(143.0, 132.0, 2230.0, 0.108, 1.546, (256, 256))
    same = {"det_dist": "2.23 m", "pix_dim": "108 um", "lambda_": None, "energy": f"{HC / 1.546!r} keV"}
    assert read_geometry(written(tmp_path, **same)).lambda_ == pytest.approx(1.546)
    assert read_geometry(written(tmp_path, **same)).det_dist == pytest.approx(2230.0)


def test_given_the_units_of_aps_then_the_round_trip_is_exact_to_rounding():
    back = from_aps(GEOMETRY.aps(), GEOMETRY.shape)
    assert back is not None
    for name in ("bcx", "bcy", "det_dist", "pix_dim", "lambda_"):
        assert getattr(back, name) == pytest.approx(getattr(GEOMETRY, name), rel=1e-14)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"det_dist": "2230"}, ["geometry.yaml:4", "det_dist: 2230 has no unit", '"2230 mm"']),
        ({"lambda_": "1.546 furlong"}, ["lambda_", "furlong", "not one of"]),
        ({"energy": "8 keV"}, ["one of lambda_ and energy"]),
        ({"lambda_": None}, ["one of lambda_ and energy"]),
        ({"pix_dim": "-1 mm"}, ["pix_dim", "greater than 0"]),
        ({"bcx": None}, ["bcx: is missing"]),
        ({"det_dst": "1 m"}, ["det_dst: is not a known key", "did you mean 'det_dist'?"]),
        ({"formula": "small"}, ["formula", "exact, sin"]),
        ({"shape": "256"}, ["shape: 256 must be [rows, columns]"]),
    ],
)
def test_given_a_wrong_geometry_then_file_key_value_and_remedy_are_named(changes, words, tmp_path):
    with pytest.raises(ConfigError) as error:
        read_geometry(written(tmp_path, **changes))
    assert all(word in str(error.value) for word in ["geometry.yaml", *words]), str(error.value)
