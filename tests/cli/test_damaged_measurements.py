"""Every way of spoiling a measurement, as a file: `inspect --quality` finds it, names it and says what to do."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hpcxpcs.cli import main
from hpcxpcs.data.formats import Stack, write
from hpcxpcs.data.quality.deductions import CHECKS
from hpcxpcs.data.quality.survey import LEVELS, covers
from tests.data.quality.damage import DAMAGES, damaged

Q = 0.005


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Where the file of a damage is; it is written when it is first asked for."""
    folder = tmp_path_factory.mktemp("damaged")

    def path_of(name):
        path = folder / f"{list(DAMAGES).index(name)}.h5"
        if not path.exists():
            it = damaged(name)
            stack = Stack(it.stack, np.full(len(it.phi), Q), it.phi, 0.1, half=False, dtype="float64")
            write("cube", path, stack)
        return path

    return path_of


def judged(capsys, path, *options):
    """The quality report of a file, as printed."""
    assert main(["inspect", str(path), "--quality", "--shear", "--json", *options]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return json.loads(shown.out)["quality"]


@pytest.mark.parametrize("level", LEVELS[1:])
@pytest.mark.parametrize("name", DAMAGES)
def test_given_a_damaged_file_when_inspected_then_its_damage_is_named_from_its_level_on(files, capsys, name, level):
    check = DAMAGES[name][1]
    found = {item["check"]: item for item in judged(capsys, files(name), "--level", level)["deductions"]}
    if name == "hardly a usable pair":
        check = "non_finite"  # that they may be left out is in no file
    assert (check in found) == covers(level, CHECKS[check].level)
    if check in found:
        assert found[check]["points"] > 0.0 and found[check]["reason"] and found[check]["remedy"]


@pytest.mark.parametrize("repair", ["conservative", "aggressive"])
@pytest.mark.parametrize("name", DAMAGES)
def test_given_a_damaged_file_when_repaired_then_what_is_masked_is_listed_and_the_file_is_untouched(
    files, capsys, name, repair
):
    path = files(name)
    before = path.read_bytes()
    told = judged(capsys, path, "--level", "standard", "--repair", repair)
    assert all(item["action"] == "masked" and item["frames"] + item["runs"] for item in told["repairs"])
    assert path.read_bytes() == before
    assert told["score"] >= judged(capsys, path, "--level", "standard")["score"]
