"""What is possible but hardly meant is told where a user looks, and the run goes on."""

import numpy as np

import hpcxpcs
from hpcxpcs.answer.fit_verdict import quality_warnings
from hpcxpcs.cli import main
from hpcxpcs.data.simulate import NoiseSpec
from tests.cli.fitting import QUICK, fit, read_json, simulated

DOUBT = "initial_parameters.fixed_parameters={alpha: -1.8}"
WORDS = "fixed value of alpha = -1.8: the coefficient changes this steeply only in a transient"


def test_config_check_tells_it_below_the_table(config, capsys):
    assert main(["config", "check", str(config)]) == 0
    assert "warning" not in capsys.readouterr().out
    assert main(["config", "check", str(config), "--set", DOUBT]) == 0
    assert f"warning      {WORDS}" in capsys.readouterr().out


def test_config_check_notes_what_is_only_worth_a_look(config, capsys):
    assert main(["config", "check", str(config), "--set", "initial_parameters.values=[1000, 0, -5]"]) == 0
    assert "note         start value of D_offset = -5" in capsys.readouterr().out


def test_a_fit_warns_once_before_it_reads_and_goes_on(config, tmp_path, capfd):
    outcome = fit(capfd, config, tmp_path / "run", DOUBT, *QUICK)
    assert outcome.code in (0, 3)
    assert outcome.err.count(f"hpcxpcs: warning: {WORDS}") == 1
    assert outcome.err.index(WORDS) < outcome.err.index("reading")


def test_a_fit_of_usual_settings_warns_of_nothing(config, tmp_path, capfd):
    outcome = fit(capfd, config, tmp_path / "run", *QUICK)
    assert outcome.code == 0 and "warning" not in outcome.err


def test_a_fitted_value_far_outside_of_what_is_usual_is_among_the_warnings_of_the_results(tmp_path):
    truth = {"D0": 3e4, "alpha": -1.8, "D_offset": 0.0}
    config = simulated(tmp_path, "static", frames=120, noise=NoiseSpec(sd=0.0005), parameters=truth)
    known = "initial_parameters.fixed_parameters={D_offset: 0}"
    found = hpcxpcs.fit(config, run=tmp_path / "run", overrides=(*QUICK, known))
    assert found.point.ok and abs(found.point.values[1] + 1.8) < 0.1
    [told] = [text for text in quality_warnings(found.point) if text.startswith("alpha = -1.")]
    assert "(usual: -1.5 … 1)" in told
    assert told in read_json(tmp_path / "run" / "results" / "summary.json")["warnings"]
    assert np.isfinite(found.point.uncertainty[1])
