"""`hpcxpcs inspect`: what it prints, writes and returns."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from hpcxpcs.cli import main
from hpcxpcs.data.formats import write
from hpcxpcs.results import drawing
from tests.data.stacks import Q, edited, matrix, stack_of


@pytest.fixture
def path(tmp_path):
    """Two q, three angles; a blank and a quote in the name; frame 4 of the first matrix is dead."""
    path = tmp_path / "it's one.h5"
    q, phi = [0.005, 0.005, 0.01], [0.0, 90.0, 90.0]
    write("nexus", path, stack_of(q, phi, n=20, truth={"D0": 1.0}, unprocessed=[(0.01, 45.0)]))
    with edited(path) as file:
        stored = file["xpcs/twotime/correlation_map/c2_00001"]
        stored[3, :] = stored[:, 3] = 0
    return path


def run(capsys, *arguments):
    code = main(["inspect", *map(str, arguments)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_given_a_file_then_the_table_tells_layout_bins_time_step_and_state(path, capsys):
    code, out, err = run(capsys, path)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for expected in (
        "format nexus, simulated (truth is in the file)",
        "matrices 3 of 20 x 20 frames",
        "stored as upper halves, float32, compression lzf",
        "time step 0.1 s (frame_time 0.1 s x stride 1 x average 1)",
        "units q in Å⁻¹ (stated); phi in deg (stated); time in s (that of the layout)",
        "bins 3 with a matrix, 3 missing (2 not populated, 1 not processed)",
        "0.005 2 0 90",
        "0.01 1 90",
        "missing, not processed: 45",
        "missing, not populated: 0",
        "selected nothing yet: choose one of 2 q with --q",
        "frames 1 to 20 of 20, time step 0.1 s",
        "state phi = 0: 1 dead frames: 4",
    ):
        assert expected in lines


def test_given_matrices_that_are_odd_then_the_table_says_what_a_fit_would_make_of_them(path, capsys):
    with edited(path) as file:
        matrices = file["xpcs/twotime/correlation_map"]
        matrices["c2_00001"][...] = np.nan
        matrices["c2_00002"][2, 5:8] = np.nan
        matrices["c2_00003"][...] -= np.triu(np.ones((20, 20), np.float32))
        matrices["c2_00003"][0, 1] = -0.5
    _, out, _ = run(capsys, path, "--q", "0.005")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "stored as upper halves, float32, compression lzf" in lines
    for expected in (
        "state phi = 0: 20 dead frames: 1…20",
        "state a fit would refuse phi = 0: no pair of the 20 frames holds a number other than 0; "
        "leave this angle out with data_filtering.phi_ranges",
        "state phi = 90: 3 pairs of other frames without a finite value",
        "state a fit would refuse phi = 90: 3 pairs of frames hold no finite number, the first is (3, 6); "
        "set data_filtering.non_finite: mask to leave them out",
    ):
        assert expected in lines
    _, out, _ = run(capsys, path, "--q", "0.01")
    assert "negative values, which a fit takes for noise: if long lags are at 0, not at 1, add 1" in out


def test_given_q_and_angles_then_the_table_tells_what_would_be_selected(path, capsys):
    code, out, _ = run(capsys, path, "--q", "0.0051", "--phi-range", "80", "-170", "--format", "nexus")
    assert code == 0
    assert "q = 0.005 1/Å (asked for 0.0051, 1.96% off), 1 angles: 90" in out


CONFIG = """\
analysis_mode: static
experimental_data: {{file_path: {path}}}
analyzer_parameters: {{start_frame: 3, end_frame: 18, dt: 0.2, scattering: {{wavevector_q: 0.0101}}}}
data_filtering: {{phi_range: {{min: 30, max: 100}}}}
"""


@pytest.fixture
def config(path, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(path=json.dumps(str(path))))
    return config


def test_given_a_configuration_then_the_table_tells_what_it_would_select(config, capsys):
    code, out, err = run(capsys, "--config", config)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for expected in (
        "selected q = 0.01 1/Å (asked for 0.0101, 0.99% off), 1 angles: 90",
        "missing: 45",
        "frames 3 to 18 of 20, time step 0.2 s",
    ):
        assert expected in lines
    assert "warning: analyzer_parameters.dt = 0.2 s is used, but the file says 0.1 s" in out


def test_given_a_configuration_and_a_file_then_it_is_that_file(config, path, tmp_path, capsys):
    other = path.rename(tmp_path / "other.h5")
    assert run(capsys, other, "--config", config)[0] == 0
    code, _, err = run(capsys, "--config", config)
    assert code == 1
    assert "it's one.h5: no such file" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a FILE, or a configuration"),
        (["--config", "c.yaml", "--q", "0.1"], "leave out the options"),
    ],
)
def test_given_options_that_make_no_sense_together_then_the_exit_code_is_two(capsys, arguments, message):
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err


def test_given_json_then_one_object_holds_the_same(path, capsys):
    code, out, _ = run(capsys, path, "--q", "0.005", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["schema_version"] == 1
    assert (told["format"], told["n_frames"], told["selected_phi"]) == ("nexus", 20, [0.0, 90.0])
    assert told["rings"][1]["missing"] == [
        {"phi": 0.0, "reason": "not populated"},
        {"phi": 45.0, "reason": "not processed"},
    ]
    assert told["examined"][0]["dead_frames"] == [4]


def test_given_a_picture_then_a_png_file_is_written(path, tmp_path, capsys):
    code, _, _ = run(capsys, path, "--picture", tmp_path / "c2.png")
    assert code == 0
    assert (tmp_path / "c2.png").read_bytes().startswith(b"\x89PNG")


def test_given_a_configuration_and_a_picture_then_it_shows_what_the_configuration_selects(
    config, tmp_path, capsys, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        "hpcxpcs.results.drawing.selected_data",
        lambda data, unit, draw=drawing.selected_data: seen.append((data, unit)) or draw(data, unit),
    )
    config.write_text(config.read_text() + "preprocessing: {normalization: mean}\n")
    code, _, _ = run(capsys, "--config", config, "--picture", tmp_path / "c2.png")
    ((data, unit),) = seen
    assert (code, unit, data.frames, data.phi.tolist(), data.dt) == (0, "s", (3, 18), [90.0], 0.2)
    assert data.processing.normalization == "mean"
    assert (tmp_path / "c2.png").read_bytes().startswith(b"\x89PNG")


def test_given_no_time_step_anywhere_then_the_picture_is_drawn_all_the_same(path, tmp_path, capsys):
    with edited(path) as file:
        del file["entry"]
    config = tmp_path / "config.yaml"
    config.write_text(
        f"analysis_mode: static\nexperimental_data: {{file_path: {json.dumps(str(path))}}}\n"
        "analyzer_parameters: {scattering: {wavevector_q: 0.005}}\n"
    )
    code, out, _ = run(capsys, "--config", config, "--picture", tmp_path / "c2.png")
    assert code == 0
    assert "time step unknown: set analyzer_parameters.dt" in out
    assert (tmp_path / "c2.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--q", "0.5"], "available: 0.005, 0.01"),
        (["--format", "legacy"], "format is legacy, but the file has no"),
    ],
)
def test_given_something_the_file_does_not_have_then_the_exit_code_is_one(path, capsys, arguments, message):
    code, out, err = run(capsys, path, *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err


def test_given_a_missing_file_then_the_exit_code_is_one(tmp_path, capsys):
    code, _, err = run(capsys, tmp_path / "nowhere.h5")
    assert code == 1
    assert "nowhere.h5: no such file; check its name" in err
    code, _, err = run(capsys, tmp_path / ("long" * 100))
    assert code == 1 and "no such file" in err and "Traceback" not in err


def test_given_a_stack_without_times_then_the_table_says_that_they_are_not_there(tmp_path, capsys):
    c2 = np.array([matrix(k, 20) for k in range(2)])
    for name, array in {"a": c2, "a.q": Q, "a.phi": [0.0, 90.0]}.items():
        np.save(tmp_path / f"{name}.npy", array)
    code, out, _ = run(capsys, tmp_path / "a.npy")
    assert code == 0
    assert "time not in the file" in out and "time step unknown: set analyzer_parameters.dt" in out


def test_given_a_picture_in_a_folder_that_is_missing_then_the_exit_code_is_one(path, tmp_path, capsys):
    code, _, err = run(capsys, path, "--picture", tmp_path / "missing" / "c2.png")
    assert code == 1
    assert "c2.png" in err


def test_given_help_then_nothing_heavy_is_imported():
    script = (
        "import sys; from hpcxpcs.cli import main; main(['inspect', '--help']); "
        "print([name for name in ('h5py', 'numpy', 'matplotlib', 'jax') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--phi-range MIN MAX" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
