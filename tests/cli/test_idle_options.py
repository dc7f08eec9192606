"""An option that cannot have an effect is refused with the reason, and nothing is done."""

import os

import pytest

from hpcxpcs.cli import main
from hpcxpcs.pipeline.settings import configured, fit_threads
from hpcxpcs.runs.claims import take
from hpcxpcs.runs.run import PLAN_FILE
from tests.cli.fitting import QUICK, fit
from tests.workers import toy

FIT, SUBMIT = (("fit", "CONFIG", "--run", "RUN"), ("submit", "CONFIG", "--run", "RUN"))
CASES = {
    "shards of a point fit": ((*FIT, "--method", "nlsq", "--shards", "4"), "--shards", "cmc"),
    "shards of exact": ((*FIT, "--method", "exact", "--shards", "4"), "--shards", "cmc"),
    "shards of importance": ((*FIT, "--method", "importance", "--shards", "4"), "--shards", "cmc"),
    "submit: tasks of importance": (
        (*SUBMIT, "--method", "importance", "--scheduler", "slurm", "--tasks", "4", "--dry-run"),
        "--tasks",
        "no tasks",
    ),
    "submit: shards of exact": ((*SUBMIT, "--method", "exact", "--shards", "4"), "--shards", "cmc"),
    "submit: a point fit": (SUBMIT, "optimization.method is nlsq", "hpcxpcs fit"),
    "submit: wait for nothing": ((*SUBMIT, "--method", "cmc", "--dry-run", "--wait"), "--wait", "--dry-run"),
    "submit: wait for scripts": ((*SUBMIT, "--method", "cmc", "--write-only", "--wait"), "--wait", "--write-only"),
    "submit: write and do not": ((*SUBMIT, "--method", "cmc", "--write-only", "--dry-run"), "--dry-run", "nothing"),
    "submit: more of what is discarded": ((*SUBMIT, "--method", "cmc", "--fresh", "--more"), "--more", "--fresh"),
    "submit: discard and show": ((*SUBMIT, "--method", "cmc", "--fresh", "--dry-run"), "--dry-run", "--fresh"),
    "submit: a queue where there is none": (
        (*SUBMIT, "--method", "cmc", "--scheduler", "local", "--tasks", "4", "--dry-run"),
        "--tasks",
        "no queue",
    ),
    "work: workers for one task": (("work", "RUN", "--shard", "0", "--workers", "2"), "--shard", "--workers"),
    "inspect: a level without a judge": (("inspect", "FILE", "--level", "basic"), "--level", "--quality"),
    "inspect: repair without a judge": (("inspect", "FILE", "--repair", "aggressive"), "--repair", "--quality"),
    "inspect: shear without a judge": (("inspect", "FILE", "--shear"), "--shear", "--quality"),
    "simulate: two ways to say angles": (
        ("simulate", "static", "-o", "RUN.hdf", "--angles", "3", "--phi", "0,45"),
        "--angles",
        "--phi",
    ),
    "simulate: flow of two components": (
        ("simulate", "two_component", "-o", "RUN.hdf", "--shear-law", "couette"),
        "--shear-law",
        "laminar_flow",
    ),
    "simulate: components of a flow": (
        ("simulate", "laminar_flow", "-o", "RUN.hdf", "--heterodyne", "physical"),
        "--heterodyne",
        "two_component",
    ),
    "config new: replace what is not written": (("config", "new", "static", "--force"), "--force", "-o"),
    "config migrate: replace what is not written": (("config", "migrate", "CONFIG", "--force"), "--force", "-o"),
    "config migrate: rules and a file": (("config", "migrate", "CONFIG", "--keys", "homodyne"), "--keys", "leave"),
}


@pytest.mark.parametrize("name", CASES)
def test_given_an_option_without_effect_then_it_is_refused_in_words(name, config, tmp_path, capfd):
    arguments, *words = CASES[name]
    places = {"CONFIG": config, "FILE": config.with_suffix(".hdf")}
    places |= {"RUN": tmp_path / "run", "RUN.hdf": tmp_path / "run.hdf"}
    assert main([str(places.get(argument, argument)) for argument in arguments]) == 2
    told = capfd.readouterr().err
    assert all(word in told for word in words), told
    assert not list(tmp_path.iterdir())


def test_given_the_run_of_a_posterior_then_a_point_fit_needs_fresh_to_replace_it(config, tmp_path, capfd):
    run = toy.toy_run(tmp_path / "run")
    refused = fit(capfd, config, run.folder, *QUICK)
    assert refused.code == 2
    assert "a run with method cmc" in refused.err
    assert "--fresh" in refused.err
    assert (run.folder / PLAN_FILE).exists()
    done = fit(capfd, config, run.folder, *QUICK, options=("--fresh",))
    assert done.code == 0, done.err
    assert not (run.folder / PLAN_FILE).exists()
    assert (run.folder / "results" / "nlsq").is_dir()


@pytest.fixture(scope="module")
def fitted(config, tmp_path_factory):
    """The folder of a finished point fit."""
    run = tmp_path_factory.mktemp("fitted") / "run"
    settings = [part for setting in QUICK for part in ("--set", setting)]
    assert main(["fit", str(config), "--run", str(run), *settings]) == 0
    return run


@pytest.mark.parametrize("command", ["status", "work", "gather", "resume", "cancel"])
def test_given_a_point_fit_then_commands_on_tasks_say_what_it_is(command, fitted, capfd):
    capfd.readouterr()
    assert main([command, str(fitted)]) == 1
    told = capfd.readouterr().err
    assert "holds a point fit" in told
    assert "no tasks to show, share out, continue or gather" in told


def test_given_a_process_that_fits_into_a_folder_then_another_one_is_refused(config, fitted, capfd):
    mine = take(fitted / "claims", "results")
    assert mine is not None
    before = (fitted / "results" / "summary.json").read_bytes()
    outcome = fit(capfd, config, fitted, *QUICK)
    assert outcome.code == 1
    assert f"another process ({os.getpid()} on " in outcome.err
    assert (fitted / "results" / "summary.json").read_bytes() == before
    assert main(["status", str(fitted)]) == 1
    assert f"process {os.getpid()}" in capfd.readouterr().err
    mine.release()
    assert fit(capfd, config, fitted, *QUICK).code == 0


@pytest.mark.parametrize(("setting", "threads"), [("runtime.workers=1", 1), ("runtime.workers=1000", None)])
def test_given_workers_then_a_point_fit_has_as_many_threads_but_one_per_core(config, setting, threads, monkeypatch):
    monkeypatch.setattr("hpcxpcs.pipeline.settings.usable_cores", lambda: 8)
    assert fit_threads(configured(config, (setting,))) == (threads or 8)
    assert fit_threads(configured(config)) == 8
    assert fit_threads(configured(config, ("runtime.cores_per_worker=4",))) == 2
