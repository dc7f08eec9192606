"""`hpcxpcs g2`, `simulate --kind g2` and `inspect` of multi-tau files: exit codes, files, messages, and the page."""

from __future__ import annotations

import csv
import json

import h5py
import numpy as np
import pytest
import xarray

from hpcxpcs.cli import main
from hpcxpcs.g2.reading import read_g2
from hpcxpcs.g2.writing import FITS, NAMES
from tests.browser.chromium import Chromium, browser_program
from tests.installed import skip_or_fail


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a multi-tau file and its posterior."""
    place = tmp_path_factory.mktemp("g2")
    data = place / "multi.hdf"
    arguments = ["--bins", "6", "--noise", "0.03", "--set", "exponent=1.4", "--format", "nexus"]
    assert main(["simulate", "stretched", "--kind", "g2", "-o", str(data), *arguments]) == 0
    assert main(["g2", "fit", str(data)]) == 0
    return place


def test_given_a_fit_then_all_files_are_there_and_agree(folder):
    results = folder / "multi_g2"
    assert sorted(path.name for path in results.iterdir()) == sorted(NAMES)
    record = json.loads((results / "g2.json").read_text())
    rows = list(csv.DictReader((results / "g2.csv").read_text().splitlines()))
    assert len(rows) == 6 * 4 and {row["status"] for row in rows} == {"good"}
    first = record["bins"][0]
    assert float(rows[0]["value"]) == first["posterior"]["tau"]["value"]
    assert first["chains"]["refused"] == [] and max(first["chains"]["r_hat"]) < 1.01
    assert first["truth"]["exponent"] == 1.4
    tree = xarray.open_datatree(results / "g2.nc", engine="h5netcdf")
    assert tree["posterior"]["tau"].mean(("chain", "draw"))[0] == pytest.approx(first["posterior"]["tau"]["value"])
    with h5py.File(results / "g2.hdf") as file:
        assert file[f"{FITS}/values"][0, 0] == pytest.approx(first["posterior"]["tau"]["value"])
    assert read_g2(results / "g2.hdf").g2 == pytest.approx(read_g2(folder / "multi.hdf").g2)
    with h5py.File(folder / "multi.hdf") as file:
        assert "fits" not in file


def test_given_a_wish_then_fits_are_put_into_the_file_itself(folder, capsys):
    copy = folder / "copy.hdf"
    copy.write_bytes((folder / "multi.hdf").read_bytes())
    arguments = ["--method", "nlsq", "--into-file", "-o", str(folder / "copied")]
    for _ in range(2):
        assert main(["g2", "fit", str(copy), *arguments]) == 0
    with h5py.File(copy) as file:
        assert file[f"{FITS}/values"].shape == (6, 4) and "xpcs/multitau" in file
    assert "g2.nc" not in {path.name for path in (folder / "copied").iterdir()}
    told = capsys.readouterr().out
    assert "6 good" in told and "n = " in told


def test_given_a_bin_without_an_answer_then_the_exit_code_is_3(folder):
    spoiled = folder / "spoiled.hdf"
    spoiled.write_bytes((folder / "multi.hdf").read_bytes())
    with h5py.File(spoiled, "r+") as file:
        file["xpcs/multitau/normalized_g2"][:, 2] = np.nan
    assert main(["g2", "fit", str(spoiled), "--method", "nlsq", "-o", str(folder / "spoiled")]) == 3
    rows = list(csv.DictReader((folder / "spoiled" / "g2.csv").read_text().splitlines()))
    assert [row["value"] for row in rows if row["status"] == "empty"] == [""] * 4


def test_given_a_configuration_then_its_section_counts_and_options_go_first(folder):
    config = folder / "config.yaml"
    config.write_text(
        "analysis_mode: static\nexperimental_data: {file_path: multi.hdf}\n"
        "analyzer_parameters: {dt: 0.1, scattering: {wavevector_q: 0.01}}\n"
        "g2: {model: single, method: nlsq, baseline: 1.0}\n"
    )
    assert main(["g2", "fit", str(config), "-o", str(folder / "configured"), "--set", "errors=stated"]) in (0, 3)
    settings = json.loads((folder / "configured" / "g2.json").read_text())["settings"]
    assert (settings["model"], settings["baseline"], settings["errors"]) == ("single", 1.0, "stated")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fit", "{multi}", "--model", "tripel"], 2, "must be one of auto, single"),
        (["fit", "{multi}", "--set", "colour=red"], 2, "not a known key"),
        (["fit", "{multi}", "--set", "delays=[2, 1]"], 2, "the longer one last"),
        (["fit", "{multi}", "--set", "baseline=-1"], 2, "greater than 0"),
        (["fit", "{multi}", "--set", "model"], 2, "KEY=VALUE"),
        (["fit", "{multi}", "--set", "error_floor=2"], 2, "at most 1"),
        (["fit", "{multi}", "--set", "delays=[100, 200]"], 1, "no delay lies between 100 and 200 s"),
        (["fit", "{multi}", "--age", "0", "1"], 1, "g2 alone"),
        (["fit", "{folder}/none.hdf"], 1, "no such file"),
        (["average", "{multi}", "-o", "{multi}"], 2, "exists already"),
        (["average", "{multi}", "-o", "{folder}/a.hdf", "--baseline", "2", "1"], 2, "lower limit comes first"),
        (["average", "{multi}", "-o", "{folder}/a.hdf", "--baseline", "2", "3"], 1, "no file passes"),
    ],
)
def test_given_a_mistake_then_one_message_says_which(folder, capsys, arguments, code, words):
    places = {"multi": str(folder / "multi.hdf"), "folder": str(folder)}
    assert main(["g2", *(text.format(**places) for text in arguments)]) == code
    told = capsys.readouterr().err
    assert words in told and told.count("hpcxpcs: error") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["single", "--kind", "g2", "--frames", "10"], "--frames has no meaning with --kind g2"),
        (["static", "--bins", "3"], "--bins has no meaning without --kind g2"),
        (["static", "--kind", "g2"], "no decay of g2"),
        (["single", "--kind", "g2", "--set", "D0=1"], "parameters: D0 unknown"),
        (["single", "--kind", "g2", "--format", "cube"], "no place for g2"),
        (["single", "--kind", "g2", "--format", "legacy", "--blocks", "3"], "no place for g2 of blocks"),
        (["single", "--kind", "g2", "--noise", "0"], "greater than 0"),
    ],
)
def test_given_a_simulation_that_cannot_be_then_it_is_refused(tmp_path, capsys, arguments, words):
    assert main(["simulate", *arguments, "-o", str(tmp_path / "x.hdf")]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_given_repeats_then_the_average_can_be_fitted_and_inspected(folder, capsys):
    paths = []
    for seed in range(3):
        paths.append(str(folder / f"run{seed}.hdf"))
        main(["simulate", "single", "--kind", "g2", "-o", paths[-1], "--bins", "4", "--seed", str(seed)])
    mean = folder / "mean.hdf"
    assert main(["g2", "average", *paths, "-o", str(mean)]) == 0
    assert "3 of 3 files" in capsys.readouterr().out
    assert main(["inspect", str(mean)]) == 0
    told = capsys.readouterr().out
    assert "3 of time" in told and "4 bins of 60 delays" in told
    assert main(["inspect", str(mean), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "g2"


def test_given_the_page_then_a_browser_shows_all_bins_and_pictures_and_asks_for_nothing_else(folder, tmp_path):
    program = browser_program()
    if program is None:
        skip_or_fail("Chromium is not installed: run tests/browser/install.sh as root")
    path = folder / "multi_g2" / "g2.html"
    with Chromium(program, tmp_path / "profile") as page:
        page.open(path)
        assert page.texts("h1") == ["6 of 6 bins have an answer"]
        assert len(page.texts("#bins tbody tr")) == 6
        assert page.run("['tau', 'g2'].map((id) => document.getElementById(id).naturalWidth > 300)") == [True, True]
        assert page.errors == []
        others = [address for address in page.requests if not address.startswith("data:")]
        assert others == [path.resolve().as_uri()]


def test_given_a_campaign_of_g2_then_every_file_is_a_row_with_its_bins_and_the_law(folder, tmp_path, capsys):
    for number in (1, 2):
        (tmp_path / f"S_r{number}.hdf").write_bytes((folder / "multi.hdf").read_bytes())
    (tmp_path / "S_r3.hdf").write_text("spoiled")
    config = tmp_path / "campaign.yaml"
    config.write_text(
        'campaign: {files: "S_r{repeat:d}.hdf", analysis: g2}\ng2: {method: nlsq}\nruntime: {workers: 1}\n'
        "output: {items: full}\n"
    )
    run = tmp_path / "run"
    assert main(["fit", str(config), "--run", str(run)]) == 3
    rows = list(csv.DictReader((run / "results/campaign.csv").read_text().splitlines()))
    names = {row["item"]: row for row in rows}
    assert names["S_r3"]["state"] == "failed" and "neither an HDF5 nor an NPZ file" in names["S_r3"]["reason"]
    record = json.loads((run / "results/items/S_r1/g2.json").read_text())
    found = {row["parameter"]: row for row in rows if row["item"] == "S_r1"}
    first = record["bins"][0]["least_squares"]["tau"]
    (name,) = [name for name in found if name.startswith("tau [bin 1,")]
    assert float(found[name]["value"]) == pytest.approx(first["value"]) and found["n"]["method"] == "nlsq"
    assert len(found) == 6 * 4 + 1 + ("D" in found)
    config.write_text(config.read_text().replace("analysis: g2", "analysis: g2, q: all"))
    assert main(["fit", str(config), "--run", str(run)]) == 2
    assert "campaign.yaml:1: campaign.q: has no meaning with analysis: g2" in capsys.readouterr().err
