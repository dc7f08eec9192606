"""A small result file, ways to change what is in it, and what a refusal must look like."""

import h5py
import numpy as np

from tests.cli.fitting import read_json

N = 40
FRAME_TIME = "entry/instrument/detector_1/frame_time"
MATRICES = tuple(f"xpcs/twotime/correlation_map/c2_{k:05d}" for k in (1, 2, 3))
SECOND = MATRICES[1:2]


def changed(change, which=MATRICES):
    """A damage: `change` applied to the symmetric matrix (N, N) of each angle in `which`."""

    def damage(path):
        with h5py.File(path, "r+") as file:
            for number, name in enumerate(MATRICES):
                if name in which:
                    upper = np.triu(file[name][()], 1).astype(np.float64)
                    del file[name]
                    file[name] = change(upper + upper.T + np.diag(np.full(N, 1.7)), number)

    return damage


def pairs_at(value, *pairs):
    def change(c2, number):
        for i, j in pairs:
            c2[i, j] = c2[j, i] = value
        return c2

    return change


def with_sigma(value):
    def damage(path):
        with h5py.File(path, "r+") as file:
            file["sigma"] = value

    return damage


def refused(outcome, code, *words):
    """The command ended with `code`, one error on stderr with all `words`, and nothing on stdout."""
    errors = [line for line in outcome.err.splitlines() if not line.startswith("hpcxpcs: [")]
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert errors[0].startswith("hpcxpcs: error: ")
    assert "error:" not in "\n".join(errors[1:])
    assert "Traceback" not in outcome.err
    missing = [word for word in words if word not in "\n".join(errors)]
    assert not missing, f"{missing} not in {errors}"
    return errors


def recorded(run):
    """Exit code, warnings and status of a finished run as its files have them."""
    summary = read_json(run / "results" / "summary.json")
    return summary["exit_code"], " ".join(summary["warnings"]), summary["status"]


def close(found, reference, within):
    """Values agree to within this many of the reference's error bars."""
    return all(
        abs(found[name]["value"] - entry["value"]) < within * entry["uncertainty"] for name, entry in reference.items()
    )
