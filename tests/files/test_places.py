"""Paths that come from people and from files: what is used, what is refused, and that nothing else is touched."""

import os
import socket
from pathlib import Path

import pytest

from hpcxpcs.errors import OutputError
from hpcxpcs.files.atomic import recover_folder, replacing_folder, require_place
from hpcxpcs.files.places import folder_name, not_a_file, output_file, path_problem


@pytest.mark.parametrize(
    "text",
    ["runs", "/scratch/me/runs", "~/runs", "$SCRATCH/x", "données/Ünï", "a b/c", "-odd", ".hidden", ".."],
)
def test_given_a_usual_path_then_nothing_is_wrong_with_it(text):
    assert path_problem(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\nb", r"\n"),
        ("a\x00b", r"\x00"),
        ("\x1b[31m", r"\x1b"),
        ("\ud800", r"\ud800"),
        ("é" * 128, "too long"),
        ("a/" * 2100, "too long"),
        ("~nobody-of-this-name/x", "~nobody-of-this-name"),
    ],
)
def test_given_a_text_that_is_no_path_then_it_is_said_why(text, words):
    assert words in path_problem(text)


@pytest.mark.parametrize("name", ["rheo_0042", "two words", "Ünïcode", "a.b", "x-1", "config (2)"])
def test_given_the_name_of_a_configuration_then_its_run_has_the_same_name(name):
    assert folder_name(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [(".", "_"), ("..", "__"), ("", "_"), ("-rf", "_rf"), ("a/b", "a_b"), ("a\nb\x1b", "a_b_")],
)
def test_given_a_name_that_means_something_else_then_it_is_made_harmless(name, safe):
    assert folder_name(name) == safe


def test_given_a_name_of_any_length_then_its_folder_can_be_made(tmp_path):
    name = folder_name("é" * 300)
    (tmp_path / f".{name}.1234-abcdef01.new").mkdir()
    assert name == "é" * 100


def test_given_what_is_no_file_then_it_is_told_what_it_is_without_reading_it(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(str(tmp_path / "socket"))
        found = {name: not_a_file(tmp_path / name) for name in ("file", "folder", "pipe", "socket", "missing")}
    assert found == {
        "file": None,
        "folder": "a folder",
        "pipe": "a named pipe",
        "socket": "a socket",
        "missing": None,
    }
    assert not_a_file(Path("/dev/zero")) == "a device"
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    assert not_a_file(tmp_path / "link") == "a named pipe"


def test_given_a_link_then_the_file_that_it_leads_to_is_written(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert output_file(tmp_path / "link") == tmp_path / "there"
    assert output_file(tmp_path / "new") == tmp_path / "new"


@pytest.mark.parametrize("path", ["/dev/null", "/tmp"])
def test_given_a_device_or_a_folder_then_no_file_takes_its_place(path):
    with pytest.raises(OutputError, match=f"{path}: is a .*another output file"):
        output_file(Path(path))


def precious(folder):
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    return folder


def untouched(folder):
    assert [(entry.name, entry.read_text()) for entry in folder.iterdir()] == [("thesis.tex", "years of work")]


def test_given_a_link_in_the_place_of_results_then_nothing_is_replaced_through_it(tmp_path):
    elsewhere = precious(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results").symlink_to(elsewhere)
    with pytest.raises(OutputError, match=r"is a link to .*elsewhere"):
        require_place(tmp_path / "run" / "results")
    with pytest.raises(OutputError, match="is a link"), replacing_folder(tmp_path / "run" / "results"):
        pass
    untouched(elsewhere)


def test_given_a_run_folder_that_is_a_link_then_results_are_written_where_it_leads(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "scratch")
    for content in ("first", "second"):
        require_place(tmp_path / "run" / "results")
        with replacing_folder(tmp_path / "run" / "results") as fresh:
            (fresh / "summary.json").write_text(content)
    assert (tmp_path / "scratch" / "results" / "summary.json").read_text() == "second"
    assert [entry.name for entry in (tmp_path / "scratch").iterdir()] == ["results"]


def test_given_a_folder_of_somebodys_files_then_results_do_not_take_its_place(tmp_path):
    folder = precious(tmp_path / "results")
    with pytest.raises(OutputError, match=r"thesis\.tex.*--run"):
        require_place(folder)
    untouched(folder)


@pytest.mark.parametrize("ending", ["old", "new"])
def test_given_a_link_among_what_a_killed_replacement_left_then_it_is_not_followed(ending, tmp_path):
    elsewhere = precious(tmp_path / "elsewhere")
    run = tmp_path / "run"
    run.mkdir()
    (run / f".results.1-a.{ending}").symlink_to(elsewhere)
    recover_folder(run / "results")
    untouched(elsewhere)
    assert not (run / "results").exists()
