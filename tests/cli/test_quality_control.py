"""quality_control in a fit: what is written, refused and left alone; and `hpcxpcs inspect --quality`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import hpcxpcs
from hpcxpcs import results
from hpcxpcs.cli import main
from hpcxpcs.config import config_from_mapping, load_config
from hpcxpcs.errors import ConfigError
from hpcxpcs.pipeline.plan import plan_for
from tests.cli.fitting import QUICK, fit, parameters, read_json
from tests.data.stacks import edited

FIRST = "xpcs/twotime/correlation_map/c2_00001"
QUIET = ("output.plots=false", "output.fitted_data=false")


def spoil(config, value, where=(4, slice(10, 14))):
    """Put a value into pairs of the first matrix of a configuration's file."""
    with edited(config.with_suffix(".hdf")) as file:
        file[FIRST][where] = value


def test_given_quality_control_then_the_fit_is_the_same_and_report_and_json_tell_the_score(
    copy, reference, tmp_path, capfd
):
    run = tmp_path / "run"
    done = fit(capfd, copy, run, *QUIET, "quality_control.level=comprehensive")
    assert done.code == 0, done.err
    assert parameters(run) == reference
    found = read_json(run / "results" / "quality.json")
    assert found["score"] >= 85 and found["grade"] == "excellent" and found["repairs"] == []
    assert len(found["angles"]) == 3 and found["level"] == "comprehensive"
    page = (run / "results" / "report.html").read_text()
    assert "The quality of the data" in page and "excellent" in page
    assert "quality.json" in json.dumps(read_json(run / "results" / "summary.json")["files"])


def test_given_the_defaults_then_nothing_is_judged(copy, reference, tmp_path):
    assert load_config(copy).quality_control.level == "none"
    run = tmp_path / "run"
    assert hpcxpcs.fit(copy, run=run, overrides=QUICK).exit_code == 0
    assert parameters(run) == reference
    assert not (run / "results" / "quality.json").exists()


def test_given_nan_and_conservative_repair_then_the_fit_leaves_them_out_and_lists_each(copy, tmp_path, capfd):
    spoil(copy, np.nan)
    refused = fit(capfd, copy, tmp_path / "a", *QUICK, "quality_control.level=basic")
    assert refused.code == 1 and "no finite number" in refused.err
    run = tmp_path / "b"
    options = (
        "quality_control.level=basic",
        "quality_control.auto_repair=conservative",
        "output.plots=false",
    )
    assert fit(capfd, copy, run, *options).code == 0
    found = read_json(run / "results" / "quality.json")
    (repair,) = found["repairs"]
    assert repair["runs"] == [[5, 11, 14]] and repair["pairs"] == 4 and repair["frames"] == []
    (deduction,) = [item for item in found["deductions"] if item["check"] == "non_finite"]
    assert deduction["repaired"]
    assert "Left out by repair (conservative)" in (run / "results" / "report.html").read_text()
    notes = read_json(run / "results" / "provenance.json")["data"]["notes"]
    assert any("repair masked 0 frames and 4 pairs: no finite value" in note for note in notes)


def test_given_poor_data_then_they_are_refused_only_if_asked(copy, tmp_path, capfd):
    spoil(copy, 0.02, (slice(None), slice(None)))
    spoil(copy, 0.03, (4, slice(10, 14)))
    # Noise that is estimated from a matrix of one value has no width, and the fit would look for it for a minute.
    told = fit(capfd, copy, tmp_path / "a", *QUICK, "quality_control.level=standard", "noise.sigma=0.01")
    assert told.code in (0, 3) and "are needed" in told.err
    asked = fit(
        capfd,
        copy,
        tmp_path / "b",
        *QUICK,
        "quality_control.level=standard",
        "quality_control.refuse_poor=true",
    )
    assert asked.code == 1
    assert "refuse_poor" in asked.err and "flow.hdf" in asked.err
    assert not (tmp_path / "b" / "results").exists()


def test_given_every_key_of_the_report_then_it_is_documented(copy, capsys):
    spoil(copy, np.nan)
    text = (Path(results.__file__).parent / "OUTPUTS.md").read_text()
    documented = set(re.findall(r"`(\w+)`", text))
    assert main(["inspect", str(copy.with_suffix(".hdf")), "--quality", "--repair", "aggressive", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["quality"]
    keys = {*found, *found["thresholds"], *found["stages"]}
    for part in ("deductions", "angles", "repairs"):
        assert found[part]
        keys |= {key for item in found[part] for key in item}
    assert keys - documented == set()


def test_given_inspect_quality_then_score_deductions_remedies_and_masks_are_printed(copy, capsys):
    spoil(copy, np.nan)
    file = str(copy.with_suffix(".hdf"))
    assert main(["inspect", file, "--quality"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"quality\s+[\d.]+ of 100: poor \(level standard\)", out)
    assert "non_finite: " in out and "auto_repair: conservative" in out
    assert main(["inspect", file, "--quality", "--level", "basic", "--repair", "conservative"]) == 0
    out = capsys.readouterr().out
    assert "(level basic)" in out and "left out of a fit" in out
    assert re.search(r"masked\s+phi = \S+ 0 frames, 4 pairs: no finite value", out)


def inspected(capsys, *arguments):
    """The quality report that `inspect --quality --json` prints."""
    assert main(["inspect", *map(str, arguments), "--quality", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["quality"]


def checks(quality):
    """The names of what a report deducts for."""
    return {item["check"] for item in quality["deductions"]}


def append(config, text):
    """The configuration with more sections."""
    config.write_text(config.read_text() + text)
    return config


def test_given_a_configuration_when_inspected_then_it_is_judged_as_its_fit_judges(copy, tmp_path, capfd):
    spoil(copy, np.nan)
    with edited(copy.with_suffix(".hdf")) as file:
        file[FIRST][30, :] = file[FIRST][:, 30] = 3.0
    append(copy, "data_filtering: {dead_frames: [31]}\npreprocessing: {normalization: mean}\n")
    append(copy, "quality_control: {level: comprehensive, auto_repair: conservative}\n")
    append(copy, "noise: {sigma: auto}\n")
    told = inspected(capfd, "--config", copy)
    run = tmp_path / "run"
    assert fit(capfd, copy, run, *QUICK).code in (0, 3)
    assert told == read_json(run / "results" / "quality.json")
    assert (told["level"], told["auto_repair"]) == ("comprehensive", "conservative")
    assert "non_finite" in checks(told) and "hot_frames" not in checks(told)


def test_given_a_window_of_frames_when_inspected_then_only_those_are_judged(copy, capfd):
    spoil(copy, np.nan)
    text = copy.read_text()
    assert "  dt: 0.1\n" in text
    copy.write_text(text.replace("  dt: 0.1\n", "  dt: 0.1\n  start_frame: 16\n  end_frame: 38\n"))
    told = inspected(capfd, "--config", copy)
    assert told["frames"] == [16, 38] and "non_finite" not in checks(told)
    assert "non_finite" in checks(inspected(capfd, copy.with_suffix(".hdf")))


def test_given_options_and_a_configuration_when_inspected_then_the_options_win(copy, capfd):
    spoil(copy, np.nan)
    append(copy, "quality_control: {level: comprehensive, auto_repair: aggressive}\n")
    told = inspected(capfd, "--config", copy, "--level", "basic", "--repair", "disabled")
    assert (told["level"], told["auto_repair"], told["repairs"]) == ("basic", "disabled", [])


def test_given_a_configuration_that_judges_nothing_when_inspected_then_it_is_judged_as_usual(copy, capfd):
    told = inspected(capfd, "--config", copy)
    assert (told["level"], told["auto_repair"]) == ("standard", "disabled")


def test_given_another_file_beside_a_configuration_when_inspected_then_that_one_is_judged(copy, tmp_path, capfd):
    other = tmp_path / "other.hdf"
    other.write_bytes(copy.with_suffix(".hdf").read_bytes())
    spoil(copy, np.nan)
    told = inspected(capfd, other, "--config", copy)
    assert told["file"] == str(other) and "non_finite" not in checks(told)


def test_given_no_time_step_anywhere_when_inspected_as_configured_then_it_is_asked_for_and_no_bounds_are_shown(
    copy, capfd
):
    with edited(copy.with_suffix(".hdf")) as file:
        del file["entry/instrument/detector_1/frame_time"]
    copy.write_text(copy.read_text().replace("  dt: 0.1\n", "  dt: auto\n"))
    assert main(["inspect", "--config", str(copy), "--quality"]) == 0
    shown = capfd.readouterr().out
    assert "time step unknown: set analyzer_parameters.dt" in shown
    assert "bounds follow from the time step, which is unknown" in shown and "lognormal" not in shown
    assert main(["fit", str(copy), "--run", str(copy.parent / "run")]) == 1
    assert "set analyzer_parameters.dt" in capfd.readouterr().err


def test_given_repair_without_a_level_then_the_configuration_is_refused(copy):
    for key in ("auto_repair=aggressive", "refuse_poor=true"):
        with pytest.raises(ConfigError, match="level"):
            load_config(copy, (f"quality_control.{key}",))


def test_given_levels_then_the_answer_is_the_same_and_with_repair_it_is_another(copy):
    def both(**options):
        settings = {**load_config(copy).to_mapping(), "quality_control": options}
        settings["experimental_data"]["file_path"] = str(copy.with_suffix(".hdf"))
        config = config_from_mapping({**settings, "optimization": {"method": "cmc"}})
        plan = plan_for(config, hpcxpcs.load(config))
        return config.fingerprint(), plan.config_fingerprint, plan.data["fingerprint"]

    plain = both(level="none")
    assert both(level="comprehensive") == plain
    repaired = both(level="basic", auto_repair="conservative")
    assert repaired[0] != plain[0] and repaired[2] != plain[2]
