"""Small simulated files with their configuration, and the command run in this process."""

import json
from dataclasses import dataclass
from pathlib import Path

import hpcxpcs
from hpcxpcs.cli import main

QUICK = ("output.plots=false", "output.report=false", "output.fitted_data=false")


@dataclass(frozen=True)
class Outcome:
    """Exit code, and what went to stdout and stderr."""

    code: int
    out: str
    err: str


def simulated(folder, model="static", name="flow", **settings):
    """Write name.hdf and name.yaml (method nlsq) into `folder` and return the configuration's path."""
    spec = {"angles": 3, "frames": 40, "contrast": 0.3, "seed": 3, **settings}
    config = Path(folder) / f"{name}.yaml"
    hpcxpcs.simulate(
        hpcxpcs.SimulationSpec(model, output=config.with_suffix(".hdf"), config=config, force=True, **spec)
    )
    with config.open("a") as stream:
        stream.write("optimization: {method: nlsq}\n")
    return config


def fit(capture, config, run, *overrides, options=()):
    """`hpcxpcs fit CONFIG --run RUN --set ...`; `capture` is pytest's capfd."""
    settings = [part for override in overrides for part in ("--set", override)]
    capture.readouterr()
    code = main(["fit", str(config), "--run", str(run), *settings, *options])
    return Outcome(code, *capture.readouterr())


def read_json(path):
    """Parse JSON that a strict parser accepts: no NaN, no Infinity, no duplicate keys."""

    def refuse(constant):
        raise AssertionError(f"{path}: {constant} is not JSON")

    def unique(pairs):
        assert len({key for key, _ in pairs}) == len(pairs), f"{path}: duplicate keys"
        return dict(pairs)

    return json.loads(path.read_text("utf-8"), parse_constant=refuse, object_pairs_hook=unique)


def content(folder):
    """Every file below `folder` with its bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def parameters(run):
    """The physical parameters of a finished run."""
    return read_json(Path(run) / "results" / "nlsq" / "parameters.json")["parameters"]
