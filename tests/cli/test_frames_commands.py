"""`mask build`, `qmap`, `partition`, `correlate`, `saxs`, `stability`, and `inspect` of what they write."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from hpcxpcs.cli import main
from tests.frames.detectors import SHAPE, counts, saved_frames

GEOMETRY = """
shape: [21, 25]
bcx: 12.3
bcy: 9.6
det_dist: 5 m
pix_dim: 0.075 mm
energy: 12.39841984 keV
"""
MASK = """
image: frames.h5
qmap: geometry.yaml
operations:
  - rectangle: {columns: [0, 1], rows: [0, 20]}
  - constraint: {map: q, low: 0.0001, high: 1}
"""
PARTITION = "qmap: geometry.yaml\nmask: mask.h5\nq: {bins: 2, static_bins: 4}\nphi: {bins: 2}\n"
CHAIN = (
    ("mask", "build", "mask.yaml", "-o", "mask.h5"),
    ("qmap", "geometry.yaml", "-o", "qmap.h5", "--mask", "mask.h5"),
    ("partition", "partition.yaml", "-o", "partition.h5"),
    ("correlate", "frames.h5", "--qmap", "partition.h5", "-o", "result.hdf"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Frames and three recipes, in the working folder."""
    monkeypatch.chdir(tmp_path)
    saved_frames(tmp_path / "frames.h5", counts())
    for name, text in (("geometry", GEOMETRY), ("mask", MASK), ("partition", PARTITION)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def chain(folder):
    """The same after all commands of the chain."""
    for arguments in CHAIN:
        assert main(list(arguments)) == 0
    return folder


def told(capsys, *arguments):
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_given_the_chain_then_every_command_tells_what_it_did(folder, capsys):
    mask, qmap, partition, correlate = (told(capsys, *arguments) for arguments in CHAIN)
    assert mask[1:3] == ["rectangle exclusive 42 0 483", "constraint inclusive 4 0 479"]
    assert mask[-1] == "wrote mask.h5: 479 of 525 pixels are used"
    assert qmap[0].startswith("beam at column 12.3, row 9.6, 5000 mm away, pixels of 0.075 mm, wavelength 1 Å")
    assert len([line for line in partition if line[0].isdigit()]) == 4
    assert partition[-1].startswith("wrote partition.h5: 4 of 4 dynamic bins have pixels, 8 static bins")
    assert correlate[0] == "bins 4, 479 pixels, smoothing sqmap"
    assert correlate[1] == "frames 64, dead 0" and correlate[-1] == "wrote result.hdf"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mask.h5", ["holds a mask of 21 x 25 pixels", "mask 479 of 525 pixels are used (91.2%)"]),
        ("qmap.h5", ["holds maps of 21 x 25 pixels: q, phi, alpha, qx, qy, x, y", "phi -178"]),
        ("partition.h5", ["holds a partition of 21 x 25 pixels", "dynamic 4 bins with pixels of 2 q x 2 phi"]),
    ],
)
def test_given_a_file_of_the_chain_then_inspect_says_what_it_is(name, words, chain, capsys):
    shown = "\n".join(told(capsys, "inspect", name))
    assert words[0] in shown and words[1][:24] in shown and "geometry beam at column 12.3" in shown
    assert json.loads("".join(told(capsys, "inspect", name, "--json")))["file"] == name
    assert main(["inspect", name, "--q", "0.01"]) == 2
    assert "--q is about matrices" in capsys.readouterr().err


def test_given_the_result_then_inspect_reads_its_matrices(chain, capsys):
    shown = "\n".join(told(capsys, "inspect", "result.hdf"))
    assert "format nexus" in shown and "matrices 4 of 64 x 64 frames" in shown


def test_given_a_result_then_saxs_and_stability_write_text_hdf5_json_and_pictures(chain, capsys):
    told(capsys, "saxs", "result.hdf", "-o", "out")
    shown = told(capsys, "stability", "result.hdf", "-o", "out")
    assert shown[0].startswith("result.hdf: ") and len(shown) == 5
    with h5py.File("out/result.saxs.h5") as file:
        assert file["saxs/image"].shape == SHAPE and file["saxs/q"].attrs["units"] == "1/angstrom"
        q = file["saxs/q"][()]
    table = np.loadtxt("out/result.saxs.txt")
    np.testing.assert_allclose(table[:, 0], q, rtol=1e-6)
    verdict = json.loads((chain / "out/result.stability.json").read_text())
    assert verdict["schema_version"] == 1 and len(verdict["findings"]) == 3
    names = sorted(path.name for path in (chain / "out").iterdir())
    assert names == [
        "result.saxs.h5", "result.saxs.png", "result.saxs.txt", "result.stability.json", "result.stability.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("mask", "build", "none.yaml", "-o", "new.h5"), 2, "none.yaml: no such file; docs/from-frames.md"),
        (("qmap", "none.yaml", "-o", "new.h5"), 2, "none.yaml: no such file; docs/from-frames.md"),
        (("qmap", "frames.h5", "-o", "new.h5"), 1, "frames.h5: has no geometry at /xpcs/metadata"),
        (("correlate", "none.h5", "--qmap", "partition.h5", "-o", "new.h5"), 1, "none.h5: no such file"),
        (("correlate", "frames.h5", "--qmap", "mask.h5", "-o", "new.h5"), 1, "mask.h5: has no partition"),
        (
            ("correlate", "frames.h5", "--qmap", "partition.h5", "-o", "./frames.h5"),
            1,
            "is what the result is made from",
        ),
        (("mask", "build", "mask.yaml", "-o", "frames.h5"), 1, "is what the result is made from"),
        (("qmap", "qmap.h5", "-o", "qmap.h5"), 1, "is what the result is made from"),
        (("partition", "partition.yaml", "-o", "mask.h5"), 1, "is what the result is made from"),
        (("saxs", "partition.h5", "-o", "out"), 1, "partition.h5: has no mean intensities"),
        (("saxs", "a/result.hdf", "b/result.hdf", "-o", "out"), 2, "under one name"),
        (("partition", "partition.yaml", "-o", "frames.h5/new.h5"), 1, "new.h5: cannot be written"),
        (("simulate", "static", "-o", "new.h5", "--format", "frames"), 2, "--noise-model photon"),
        (("simulate", "static", "-o", "new.h5", "--format", "frames", "--full"), 2, "--half is about matrices"),
    ],
)
def test_given_what_cannot_be_then_one_line_says_so_and_nothing_is_left(arguments, code, words, chain, capsys):
    before = sorted(path.name for path in chain.iterdir())
    assert main(list(arguments)) == code
    shown = capsys.readouterr().err
    assert words in shown, shown
    assert "Traceback" not in shown
    assert sorted(path.name for path in chain.iterdir()) == before


def test_given_an_old_result_then_one_that_cannot_be_made_leaves_it_as_it_is(chain):
    old = (chain / "result.hdf").read_bytes()
    frames = counts().astype(float)
    frames[60] = np.nan
    saved_frames(chain / "frames.h5", frames)
    assert main(list(CHAIN[3])) == 1
    assert (chain / "result.hdf").read_bytes() == old
