"""campaign.csv and campaign.nc: every item has its place, every bit its way back."""

from __future__ import annotations

import csv
import io
import math
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcxpcs.errors import OutputError
from hpcxpcs.results.campaign import COLUMNS, campaign_arrays, campaign_csv, write_campaign
from tests.results.sample_campaign import item, parameter, sample_table, table

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ['a,b', 'said "no"', "two\nlines", "a\r\nb", "\r", " padded ", "φ=−12°", "=1+1", "'", "", "\0", "NaN", "007"]
)  # fmt: skip
NUMBERS = st.floats(allow_nan=False) | st.sampled_from([5e-324, 0.1 + 0.2, -0.0, math.inf])
LABELS = TEXTS | NUMBERS | st.integers()


def lines_of(written) -> list[dict[str, str]]:
    """The lines of a CSV file as the standard library reads them."""
    return list(csv.DictReader(io.StringIO(campaign_csv(written), newline="")))


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def reread(written, tmp_path) -> xarray.Dataset:
    with xarray.open_dataset(write_campaign(tmp_path, written)[1], engine="h5netcdf") as arrays:
        return arrays.load()


def test_given_a_campaign_then_three_files_are_written_and_nothing_else(tmp_path):
    paths = write_campaign(tmp_path / "results", sample_table(4))
    assert [path.name for path in paths] == ["campaign.csv", "campaign.nc", "campaign.html"]
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == sorted(path.name for path in paths)


def test_given_a_folder_that_cannot_be_made_then_the_error_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/results"):
        write_campaign(tmp_path / "file" / "results", table())


def test_given_the_same_table_twice_then_csv_and_page_have_the_same_bytes(tmp_path):
    first, second = (write_campaign(tmp_path / name, sample_table(6)) for name in ("one", "two"))
    for k in (0, 2):
        assert first[k].read_bytes() == second[k].read_bytes()


def test_given_items_then_there_is_a_line_for_every_item_and_parameter_in_order():
    written = sample_table(20)
    expected = [(row.index, one.name) for row in written.rows for one in row.parameters or (parameter("", 0.0),)]
    assert [(int(line["index"]), line["parameter"]) for line in lines_of(written)] == expected


def test_given_the_columns_then_they_are_those_of_the_documentation_with_labels_behind_the_item():
    written = table(item(0, labels={"temperature": 300.0, "q": 0.1}))
    header = campaign_csv(written).splitlines()[0].split(",")
    assert header == [*COLUMNS[:2], "temperature", "label_q", *COLUMNS[2:]]


def test_given_the_documentation_then_it_explains_every_column():
    documented = (Path(__file__).parents[2] / "docs" / "outputs.md").read_text().split("## Files of a campaign")[1]
    assert [name for name in COLUMNS if f"`{name}`" not in documented] == []


@pytest.mark.parametrize("state", ["failed", "waiting", "running"])
def test_given_an_item_without_an_answer_then_it_has_one_line_with_empty_parameter_columns(state):
    (line,) = lines_of(table(item(3, labels={"T": 1}, state=state, reason="no, the file\nis gone")))
    assert line["state"] == state
    assert line["reason"] == "no, the file\nis gone"
    assert {line[name] for name in ("parameter", "value", "error", "free", "truth", "q")} == {""}
    assert (line["index"], line["item"], line["T"]) == ("3", "item-0003", "1")


def test_given_a_held_parameter_then_its_error_is_empty_and_free_is_false():
    held = parameter("alpha", 0.0, np.nan, free=False, low=np.nan, high=np.nan)
    (line,) = lines_of(table(item(0, parameters=(held,))))
    assert (line["value"], line["error"], line["low"], line["free"], line["truth"]) == ("0.0", "", "", "false", "")


@given(st.dictionaries(TEXTS, LABELS, max_size=4), TEXTS, TEXTS)
def test_given_any_labels_and_texts_then_the_csv_gives_them_back(labels, name, reason):
    written = table(item(0, name=name, labels=labels, reason=reason), item(1))
    first, second = list(csv.reader(io.StringIO(campaign_csv(written), newline="")))[1:]
    shown = [repr(value) if isinstance(value, float) else str(value) for value in labels.values()]
    assert first[1 : 2 + len(labels)] == [name, *shown]
    assert first[COLUMNS.index("reason") + len(labels)] == reason
    assert second[2 : 2 + len(labels)] == [""] * len(labels)


@given(st.lists(st.sampled_from(["q", "label_q", "item", "label_item", "label_q_2", "x"]), unique=True))
def test_given_labels_named_as_columns_then_no_column_is_there_twice(names):
    written = table(item(0, labels={name: k for k, name in enumerate(names)}))
    header = campaign_csv(written).splitlines()[0].split(",")
    assert len(header) == len(set(header)) == len(COLUMNS) + len(names)


@given(st.lists(NUMBERS, min_size=5, max_size=5))
def test_given_any_numbers_then_the_csv_gives_back_every_bit(numbers):
    value, error, low, high, q = numbers
    written = table(item(0, q=q, parameters=(parameter("D0", value, error, low=low, high=high),)))
    (line,) = lines_of(written)
    for name, number in zip(("value", "error", "low", "high", "q"), numbers, strict=True):
        assert bits(float(line[name])) == bits(number)


def test_given_bytes_of_a_name_that_are_no_text_then_the_files_can_still_be_read(tmp_path):
    odd = b"run\xff.hdf".decode("utf-8", "surrogateescape")
    written = table(item(0, name=odd, file=odd, labels={odd: odd, "zero": "a\0b"}), name=odd, settings={odd: odd})
    as_csv, _, page = write_campaign(tmp_path, written)
    assert "run\ufffd.hdf" in as_csv.read_text(encoding="utf-8")
    assert "run\ufffd.hdf" in page.read_text(encoding="utf-8")
    assert reread(written, tmp_path).item.values.tolist() == ["run\ufffd.hdf"]


def test_given_a_campaign_then_the_arrays_hold_values_by_item_and_parameter(tmp_path):
    written = sample_table(20)
    arrays = reread(written, tmp_path)
    names = ["D0", "alpha", "D_offset", "gamma_dot_t0", "phi0"]
    assert arrays.parameter.values.tolist() == names
    assert arrays.unit.values.tolist() == ["Å²/s^(1+alpha)", "", "Å²/s", "1/s^(1+beta)", "degree"]
    for name in ("value", "error", "low", "high", "probability", "free", "bound"):
        for row in written.rows:
            for one in row.parameters:
                there = arrays[name].sel(item=row.name, parameter=one.name).item()
                assert there == getattr(one, name) or (math.isnan(there) and math.isnan(getattr(one, name)))
    for name in ("quality", "state", "file", "reason", "noise_model", "index"):
        assert arrays[name].values.tolist() == [getattr(row, name) for row in written.rows]
    for name in ("chi_squared", "q", "seconds"):
        np.testing.assert_array_equal(arrays[name].values, [getattr(row, name) for row in written.rows])
    assert np.all(np.isnan(arrays.log_evidence))
    assert arrays.attrs["run_id"] == written.run_id


def test_given_labels_then_they_are_coordinates_of_their_own_kind(tmp_path):
    kinds = {"T": 290.5, "repeat": 2, "window": "1-1000", "a/b": 1, "q": 0.01, "flag": True, "mixed": 1}
    odd = {**dict.fromkeys(kinds, None), "T": 1.5, "repeat": 3, "window": "", "a/b": 2, "mixed": "one"}
    rows = (item(0, labels=kinds), item(1, labels={name: value for name, value in odd.items() if value is not None}))
    arrays = reread(table(*rows), tmp_path)
    assert arrays["T"].values.tolist() == [290.5, 1.5]
    assert arrays["repeat"].values.dtype == np.int64
    assert arrays["window"].values.tolist() == ["1-1000", ""]
    assert arrays["a_b"].attrs["long_name"] == "a/b"
    np.testing.assert_array_equal(arrays["label_q"].values, [0.01, np.nan])
    assert arrays["flag"].values.tolist() == ["true", ""]
    assert arrays["mixed"].values.tolist() == ["1", "one"]
    chosen = arrays.set_xindex("repeat").sel(repeat=3)
    assert chosen.item.item() == "item-0001"


@pytest.mark.parametrize("count", [0, 1])
def test_given_nothing_that_is_done_then_all_files_are_there(tmp_path, count):
    rows = [item(k, state="failed", reason="gone") for k in range(count)]
    arrays = reread(table(*rows), tmp_path)
    assert arrays.sizes == {"item": count, "parameter": 0}
    assert len(lines_of(table(*rows))) == count


@settings(max_examples=12)
@given(st.dictionaries(TEXTS, LABELS, max_size=3), TEXTS)
def test_given_any_labels_then_the_arrays_can_be_read(labels, name):
    written = table(item(0, name=name, labels=labels), item(1, labels=labels))
    content = bytes(campaign_arrays(written).to_netcdf(engine="h5netcdf"))
    with xarray.open_dataset(io.BytesIO(content), engine="h5netcdf") as arrays:
        arrays.load()
    assert arrays.item.values[0] == name.replace("\0", "\ufffd")
    names = {coordinate.attrs["long_name"] for coordinate in arrays.coords.values() if "long_name" in coordinate.attrs}
    assert names == {label.replace("\0", "\ufffd") for label in labels}


def test_given_models_with_other_parameters_then_what_an_item_lacks_is_nan_and_not_free(tmp_path):
    rows = (item(0, parameters=(parameter("D0", 1.0),)), item(1, parameters=(parameter("v0", 2.0, free=True),)))
    arrays = reread(table(*rows), tmp_path)
    np.testing.assert_array_equal(arrays.value.values, [[1.0, np.nan], [np.nan, 2.0]])
    np.testing.assert_array_equal(arrays.free.values, [[True, False], [False, True]])


def test_given_evidence_then_both_files_have_it(tmp_path):
    written = table(item(0, log_evidence=-12.5, log_evidence_error=0.25), item(1))
    arrays = reread(written, tmp_path)
    np.testing.assert_array_equal(arrays.log_evidence.values, [-12.5, np.nan])
    assert [line["log_evidence"] for line in lines_of(written)] == ["-12.5", ""]
    assert [line["log_evidence_error"] for line in lines_of(written)] == ["0.25", ""]


def test_given_labels_that_only_a_row_knows_then_they_are_not_lost():
    written = replace(table(item(0, labels={"T": 1}), item(1, labels={"T": 2, "late": "x"})), labels=("T",))
    assert [line["late"] for line in lines_of(written)] == ["", "x"]
    assert list(campaign_arrays(written)["late"].values) == ["", "x"]
