"""Partitions: every pixel in one bin or none, static inside dynamic, symmetry, and all schemas there and back."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcxpcs.data.formats import qmap
from hpcxpcs.data.formats.qmap import LEVELS
from hpcxpcs.errors import ConfigError, DataError, FormatError, HpcxpcsError
from hpcxpcs.frames.geometry import Geometry, maps_of
from hpcxpcs.frames.partition import partition_of, q_edges
from hpcxpcs.frames.recipes import build_partition, read_maps
from hpcxpcs.frames.schemas import (
    QMap,
    exported,
    from_exported,
    new_file,
    read_partition,
    read_qmap,
    write_mask,
    write_partition,
    write_qmap,
)
from tests.frames.detectors import GEOMETRY, SHAPE, maps, masks, partition, partition_recipes, recipe, saved_partition


def levels(made):
    return made.dynamic, made.static


@settings(max_examples=80, deadline=None)
@given(partition_recipes(), masks)
def test_given_any_recipe_then_pixels_are_in_one_bin_or_none_and_static_bins_inside_dynamic_ones(asked, mask):
    made = partition_of(asked, maps(), mask)
    for bins in levels(made):
        assert bins.labels.shape == SHAPE and not bins.labels[~mask].any()
        np.testing.assert_array_equal(bins.labels > 0, made.mask)
        assert set(np.unique(bins.labels[made.mask])) == set(range(1, bins.count + 1))
        assert bins.pixels.sum() == made.mask.sum() and bins.pixels.min() > 0
        assert np.all(np.diff(bins.natural) > 0)
        assert bins.natural.max() < len(bins.axes[0].values) * len(bins.axes[1].values)
    parents = made.parents()
    totals = np.bincount(parents, weights=made.static.pixels, minlength=made.dynamic.count + 1)[1:]
    np.testing.assert_array_equal(totals, made.dynamic.pixels)


@settings(max_examples=60, deadline=None)
@given(partition_recipes())
def test_given_a_bin_then_its_pixels_are_near_its_centre(asked):
    made = partition_of(asked, maps(), None)
    q, phi = maps().maps["q"].values, maps().maps["phi"].values
    for level, bins in zip(LEVELS, levels(made), strict=True):
        of = bins.labels[made.mask] - 1
        count = asked.phi.bins * (asked.phi.factor if level == "static" else 1)
        sector = 360.0 / asked.phi.symmetry
        away = np.mod(phi[made.mask] - bins.centres("phi")[of] + sector / 2, sector) - sector / 2
        assert np.abs(away).max() <= sector / count / 2 * (1 + 1e-6)
        edges = q_edges(asked.q, q)[:: 1 if level == "static" else asked.q.factor]
        place = np.searchsorted(edges, bins.centres("q")[of]) - 1
        slack = 1e-8 * edges[-1]
        assert np.all((q[made.mask] >= edges[place] - slack) & (q[made.mask] <= edges[place + 1] + slack))


def centred(size: int, mask=None) -> QMap:
    middle = size // 2
    geometry = Geometry(middle, middle, 5000.0, 0.075, 1.0, (size, size))
    used = np.ones((size, size), dtype=bool) if mask is None else mask
    return QMap(maps_of(geometry), used, geometry)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([(1, 4), (2, 2), (3, 4), (2, 4), (1, 2)]), st.integers(-180, 180), st.integers(1, 4))
def test_given_a_symmetry_then_rotation_by_it_maps_every_bin_onto_itself(phi, offset, rings):
    bins, symmetry = phi
    asked = recipe(
        q={"bins": rings, "min": 2e-4, "max": 1.5e-3},
        phi={"bins": bins, "symmetry": symmetry, "offset": f"{offset} deg"},
    )
    made = partition_of(asked, centred(21), None)
    for one in levels(made):
        np.testing.assert_array_equal(np.rot90(one.labels, 4 // symmetry), one.labels)


def test_given_no_symmetry_then_rotation_by_a_bin_maps_bins_onto_others():
    asked = recipe(q={"bins": 2, "min": 2e-4, "max": 1.5e-3}, phi={"bins": 4, "offset": "45 deg"})
    labels = partition_of(asked, centred(21), None).dynamic.labels
    pairs = {(int(a), int(b)) for a, b in zip(labels.ravel(), np.rot90(labels).ravel(), strict=True)}
    assert len(pairs) == 9 and len({a for a, _ in pairs}) == len({b for _, b in pairs}) == 9


@settings(max_examples=25, deadline=None)
@given(partition_recipes(), masks)
def test_given_any_partition_then_every_schema_gives_it_back(tmp_path_factory, asked, mask):
    made = partition_of(asked, maps(), mask)
    path = tmp_path_factory.mktemp("p") / "partition.h5"
    write_partition(path, made, maps(), asked.q.spacing)
    back = read_partition(path)
    np.testing.assert_array_equal(back.mask, made.mask)
    for one, other in zip(levels(back), levels(made), strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.natural, other.natural)
        for name in ("q", "phi"):
            np.testing.assert_array_equal(one.centres(name), other.centres(name))
    assert back.geometry == pytest.approx(made.geometry)
    with h5py.File(path, "r+") as file:
        group = file["qmap"]
        assert len(group.attrs["hash"]) == 64 and group.attrs["version"]
        assert file["xpcs/qmap/partition_map"].dtype == file["xpcs/qmap/mask"].dtype == np.int32
        del file["qmap"]
    seed = read_partition(path)
    np.testing.assert_array_equal(seed.dynamic.labels, made.dynamic.labels)
    for name in ("q", "phi"):
        np.testing.assert_array_equal(seed.dynamic.centres(name), made.dynamic.centres(name))


def test_given_the_exported_dictionary_then_it_has_the_four_entries_and_leads_back():
    made = partition(phi={"bins": 1})
    told = exported(made)
    assert set(told) == {"partition_map", "num_pts", "val_list", "num_list"}
    assert told["partition_map"].dtype == np.int32 and told["partition_map"].shape == SHAPE
    assert told["num_pts"] == len(told["val_list"]) == len(told["num_list"]) == 2
    back = from_exported(told)
    np.testing.assert_array_equal(back.dynamic.labels, made.dynamic.labels)
    np.testing.assert_array_equal(back.dynamic.centres("q"), told["val_list"])


def test_given_the_same_partition_then_the_hash_is_the_same_and_of_another_it_is_not(tmp_path):
    hashes = []
    for bins in (2, 2, 3):
        with new_file(tmp_path / "a.h5") as file:
            qmap.write_partition(file, "qmap", partition(q={"bins": bins}))
            hashes.append(file["qmap"].attrs["hash"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_given_maps_then_they_come_back_with_geometry_and_mask(tmp_path):
    mask = np.random.default_rng(1).random(SHAPE) > 0.5
    write_qmap(tmp_path / "qmap.h5", replace(GEOMETRY, formula="sin"), maps().maps, mask)
    back = read_qmap(tmp_path / "qmap.h5")
    assert back.geometry == replace(GEOMETRY, formula="sin")
    np.testing.assert_array_equal(back.mask, mask)
    assert set(back.maps) == set(maps().maps)
    for name, (values, unit) in maps().maps.items():
        np.testing.assert_array_equal(back.maps[name].values, values)
        assert back.maps[name].unit == unit


def test_given_maps_in_other_units_then_they_are_converted(tmp_path):
    write_qmap(tmp_path / "qmap.h5", GEOMETRY, maps().maps)
    with h5py.File(tmp_path / "qmap.h5", "r+") as file:
        file["xpcs/qmap/sqmap"][...] *= 10.0
        file["xpcs/qmap/sqmap"].attrs["units"] = "nm^-1"
        file["xpcs/qmap/phis"][...] *= np.pi / 180
        file["xpcs/qmap/phis"].attrs["units"] = "rad"
    back = read_qmap(tmp_path / "qmap.h5")
    for name in ("q", "phi"):
        np.testing.assert_allclose(back.maps[name].values, maps().maps[name].values, rtol=1e-12)


def written(tmp_path, **changes):
    write_qmap(tmp_path / "qmap.h5", GEOMETRY, maps().maps)
    path = tmp_path / "partition.yaml"
    path.write_text(yaml.safe_dump({"qmap": "qmap.h5", "q": {"bins": 2}} | changes))
    return path


def test_given_a_geometry_or_its_maps_then_the_partition_is_the_same(tmp_path):
    write_qmap(tmp_path / "qmap.h5", GEOMETRY, maps().maps)
    with new_file(tmp_path / "geometry.h5") as file:
        file.create_group("xpcs/metadata").attrs.update(
            {"bcx": 12.3, "bcy": 9.6, "det_dist": 5000.0, "pix_dim": 0.075, "lambda_": 1.0, "shape": SHAPE}
        )
    first, second = (partition_of(recipe(), read_maps(tmp_path / f"{name}.h5"), None) for name in ("qmap", "geometry"))
    np.testing.assert_array_equal(first.static.labels, second.static.labels)


WRONG = {
    "too few static bins": ({"q": {"bins": 4, "static_bins": 6}}, ConfigError, ["q: ", "6 static bins for 4"]),
    "log from 0": ({"q": {"bins": 2, "spacing": "log", "min": 0}}, ConfigError, ["partition.yaml", "q.min"]),
    "wrong way": ({"q": {"bins": 2, "min": 1, "max": 0.5}}, ConfigError, ["q: min 1 must be below max 0.5"]),
    "far away": ({"q": {"bins": 2, "min": 1, "max": 2}}, DataError, ["no pixel", "q from 1 to 2"]),
    "an offset without unit": ({"phi": {"offset": 10}}, ConfigError, ["phi.offset", "10 deg"]),
    "a wrong spacing": ({"q": {"bins": 2, "spacing": "lin"}}, ConfigError, ["q.spacing", "linear"]),
    "a mask of another detector": ({"mask": "other.h5"}, DataError, ["(4, 4)", str(SHAPE)]),
    "no mask": ({"mask": "none.h5"}, DataError, ["none.h5: no such file"]),
    "no geometry": ({"qmap": "none.yaml"}, ConfigError, ["none.yaml: no such file", "from-frames"]),
    "a mask for a map": ({"qmap": "other.h5"}, FormatError, ["other.h5", "no map of q", "hpcxpcs qmap"]),
}


@pytest.mark.parametrize(("changes", "kind", "words"), WRONG.values(), ids=WRONG)
def test_given_a_wrong_recipe_then_one_error_says_where_and_nothing_is_written(changes, kind, words, tmp_path):
    write_mask(tmp_path / "other.h5", np.ones((4, 4), dtype=bool), None, "", "")
    with pytest.raises(HpcxpcsError) as error:
        build_partition(written(tmp_path, **changes), tmp_path / "new.h5", str)
    assert isinstance(error.value, kind), error.value
    assert all(word in str(error.value) for word in words), str(error.value)
    assert not list(tmp_path.glob("*new.h5*"))


def spoil(path, name, values=None):
    with h5py.File(path, "r+") as file:
        del file[name]
        if values is not None:
            file[name] = values


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("qmap/dynamic_index_mapping", None, ["index_mapping is missing", "not guessed"]),
        ("qmap/dynamic_index_mapping", [0, 99], ["index 99 is outside"]),
        ("qmap/dynamic_roi_map", np.zeros(4, dtype=int), ["dynamic_roi_map", "(4,)"]),
        ("qmap/dynamic_roi_map", np.full(SHAPE, 2), ["different pixels"]),
        ("qmap/static_roi_map", np.full((3, 4), 2), ["not maps of one detector"]),
        ("qmap/dynamic_v_list_dim0", None, ["dynamic_v_list_dim0 is missing"]),
        ("qmap/map_names", [b"x", b"y"], ["over x and y"]),
    ],
)
def test_given_a_spoiled_partition_then_it_is_refused_by_name(name, values, words, tmp_path):
    corner = np.zeros(SHAPE, dtype=bool)
    corner[:, :12] = True
    path = saved_partition(tmp_path, partition_of(recipe(phi={"bins": 6}), maps(), corner))
    spoil(path, name, values)
    with pytest.raises(DataError) as error:
        read_partition(path)
    assert all(word in str(error.value) for word in [path.name, *words]), str(error.value)


def test_given_maps_without_units_then_they_are_refused(tmp_path):
    write_qmap(tmp_path / "qmap.h5", GEOMETRY, maps().maps)
    with h5py.File(tmp_path / "qmap.h5", "r+") as file:
        del file["xpcs/qmap/sqmap"].attrs["units"]
    with pytest.raises(FormatError, match="no attribute units"):
        read_qmap(tmp_path / "qmap.h5")


def test_given_a_result_instead_of_maps_then_labels_are_not_taken_for_q(tmp_path):
    with new_file(tmp_path / "labels.h5") as file:
        file["xpcs/qmap/sqmap"] = np.ones(SHAPE, dtype=np.int32)
    with pytest.raises(FormatError, match="labels of bins"):
        read_qmap(tmp_path / "labels.h5")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("det_dist", -1.0, "det_dist: -1.0 must be"),
        ("det_dist", "far", "cannot be used"),
        ("shape", [3], "cannot be used"),
        ("bcx", None, "has no bcx"),
    ],
)
def test_given_a_spoiled_geometry_in_a_file_then_it_is_refused_by_name(name, value, words, tmp_path):
    write_qmap(tmp_path / "qmap.h5", GEOMETRY, maps().maps)
    with h5py.File(tmp_path / "qmap.h5", "r+") as file:
        del file["xpcs/metadata"].attrs[name]
        if value is not None:
            file["xpcs/metadata"].attrs[name] = value
    with pytest.raises(FormatError, match=words) as error:
        read_qmap(tmp_path / "qmap.h5")
    assert "qmap.h5" in str(error.value)


def test_given_numbers_of_the_geometry_as_datasets_then_they_are_read(tmp_path):
    write_qmap(tmp_path / "qmap.h5", GEOMETRY, maps().maps)
    with h5py.File(tmp_path / "qmap.h5", "r+") as file:
        for name in ("bcx", "bcy", "det_dist", "pix_dim", "lambda_"):
            file[f"xpcs/metadata/{name}"] = file["xpcs/metadata"].attrs[name]
            del file["xpcs/metadata"].attrs[name]
    assert read_qmap(tmp_path / "qmap.h5").geometry == GEOMETRY
