"""Files and folders that appear whole or not at all."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hpcxpcs.errors import OutputError
from hpcxpcs.files import atomic
from hpcxpcs.files.atomic import (
    atomic_open,
    atomic_write_bytes,
    atomic_write_text,
    recover_folder,
    replacing_file,
    replacing_folder,
    sync_folder,
    writing,
)

OLD, NEW = {"a.json": "old", "b.json": "old"}, {"a.json": "new", "c.json": "new"}
REPLACEMENT = textwrap.dedent(
    """
    import json, os, signal, sys
    from pathlib import Path
    from hpcxpcs.files import atomic

    folder, last, new, in_one_step = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]
    steps = 0

    def fault(step):
        global steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

    if in_one_step == "False":
        atomic.exchange = lambda first, second: False
    atomic.reached = fault
    with atomic.replacing_folder(folder) as fresh:
        for name, text in new.items():
            atomic.atomic_write_text(fresh / name, text)
    print(steps)
    """
)


def replace_in_a_process(folder, *, killed_after=0, in_one_step=True):
    """Replace the folder's content by NEW in a process that SIGKILL ends after so many steps."""
    command = [
        sys.executable,
        "-c",
        REPLACEMENT,
        str(folder),
        str(killed_after),
        json.dumps(NEW),
        str(in_one_step),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def fill(folder, content):
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("in_one_step", [True, False], ids=["one step", "two steps"])
def test_given_a_kill_after_any_step_of_a_replacement_then_old_or_new_is_there_whole(tmp_path, in_one_step):
    untouched = tmp_path / "untouched"
    fill(untouched, OLD)
    steps = int(replace_in_a_process(untouched, in_one_step=in_one_step).stdout)
    assert content(untouched) == NEW
    found = []
    for last in range(1, steps + 1):
        folder = tmp_path / f"results {last}"
        fill(folder, OLD)
        assert replace_in_a_process(folder, killed_after=last, in_one_step=in_one_step).returncode == -signal.SIGKILL
        recover_folder(folder)
        found.append(content(folder))
    assert all(state in (OLD, NEW) for state in found)
    assert found[0] == OLD
    assert found[-1] == NEW
    assert [state == NEW for state in found] == sorted(state == NEW for state in found)


def test_given_a_kill_when_replaced_again_then_nothing_is_left_over(tmp_path):
    folder = tmp_path / "results"
    fill(folder, OLD)
    replace_in_a_process(folder, killed_after=5)
    assert len(list(tmp_path.iterdir())) == 2
    replace_in_a_process(folder)
    assert content(folder) == NEW
    assert list(tmp_path.iterdir()) == [folder]


def test_given_a_neighbour_with_a_longer_name_when_recovering_then_it_is_left_alone(tmp_path):
    fill(tmp_path / "results", OLD)
    fill(tmp_path / ".results2.1-a.new", OLD)
    recover_folder(tmp_path / "results")
    assert (tmp_path / ".results2.1-a.new").exists()


@pytest.mark.parametrize("name", ["plain", "with blank", "[brackets]*", "ünïcode", "it's"])
def test_given_an_odd_name_then_the_folder_is_replaced(tmp_path, name):
    folder = tmp_path / name
    for text in ("first", "second"):
        with replacing_folder(folder) as fresh:
            (fresh / "file").write_text(text)
    assert content(folder) == {"file": "second"}
    assert list(tmp_path.iterdir()) == [folder]


def test_given_no_old_folder_and_no_parent_then_both_are_made(tmp_path):
    with replacing_folder(tmp_path / "a" / "b") as fresh:
        (fresh / "file").write_text("x")
    assert content(tmp_path / "a" / "b") == {"file": "x"}


def test_given_an_error_while_building_then_the_old_folder_stays(tmp_path):
    folder = tmp_path / "results"
    fill(folder, OLD)
    with pytest.raises(ZeroDivisionError), replacing_folder(folder) as fresh:
        (fresh / "a.json").write_text("new")
        raise ZeroDivisionError
    assert content(folder) == OLD
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("last", ["opened", "written", "synced"])
def test_given_an_error_before_the_rename_then_the_old_file_stays_and_no_other(tmp_path, last, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fault(step):
        if step.startswith(last):
            raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "reached", fault)
    with pytest.raises(KeyboardInterrupt):
        atomic_write_text(path, "new")
    assert content(tmp_path) == {"a.txt": "old"}


def test_given_an_error_of_the_writer_then_it_is_not_called_a_disk_error(tmp_path):
    with pytest.raises(OSError, match="the data file"), atomic_open(tmp_path / "a.bin"):
        raise OSError("the data file cannot be read")
    assert list(tmp_path.iterdir()) == []


def test_given_a_restrictive_default_for_temporary_files_then_results_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        with replacing_folder(tmp_path / "results") as fresh:
            atomic_write_text(fresh / "a.txt", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "results").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "results" / "a.txt").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission"),
        (errno.EPROTO, "check the path"),
    ],
)
def test_given_a_failing_disk_then_the_error_names_the_path_and_what_to_do(tmp_path, monkeypatch, code, remedy):
    path = tmp_path / "a.json"
    path.write_text("old")

    def failing(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OutputError, match=remedy) as caught:
        atomic_write_text(path, "new")
    assert str(path) in str(caught.value)
    assert content(tmp_path) == {"a.json": "old"}


def test_given_a_file_size_limit_when_a_write_really_fails_then_the_old_file_stays(tmp_path):
    program = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        from hpcxpcs.errors import OutputError
        from hpcxpcs.files.atomic import atomic_write_bytes

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            atomic_write_bytes(Path(sys.argv[1]), bytes(100000))
        except OutputError as error:
            print(error)
        """
    )
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    child = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert child.stdout.startswith(f"{path}: cannot be written (File too large)")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]
    assert path.read_bytes() == b"old"
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == limits


def test_given_a_file_in_the_way_of_a_folder_then_the_error_says_so(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file"), replacing_folder(tmp_path / "file" / "results"):
        pass


def test_given_a_written_file_then_its_bytes_and_its_name_were_made_durable(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def recording(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    atomic_write_bytes(tmp_path / "a.bin", b"x")
    assert synced[0].name.startswith(".a.bin.")
    assert synced[1:] == [tmp_path]


def test_given_a_file_system_that_cannot_sync_folders_then_writing_goes_on(tmp_path, monkeypatch):
    def refusing(descriptor):
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(os, "fsync", refusing)
    sync_folder(tmp_path)


def test_given_two_folders_when_exchanged_then_each_has_the_others_content(tmp_path):
    fill(tmp_path / "a", OLD)
    fill(tmp_path / "b", NEW)
    if atomic.exchange(tmp_path / "a", tmp_path / "b"):
        assert (content(tmp_path / "a"), content(tmp_path / "b")) == (NEW, OLD)
    else:
        assert (content(tmp_path / "a"), content(tmp_path / "b")) == (OLD, NEW)


def test_given_a_missing_folder_when_exchanged_then_it_is_an_error(tmp_path):
    fill(tmp_path / "a", OLD)
    with pytest.raises(OutputError), writing(tmp_path / "b"):
        atomic.exchange(tmp_path / "a", tmp_path / "b")


def test_given_a_writer_that_opens_by_name_then_the_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.h5"
    with replacing_file(path) as temporary:
        temporary.write_text("old")
        assert not path.exists() and temporary.suffix == ".h5"
    with pytest.raises(ZeroDivisionError), replacing_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and [one.name for one in path.parent.iterdir()] == ["a.h5"]


def test_given_a_file_in_the_place_of_the_folder_then_the_new_file_is_refused_by_name(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), replacing_file(tmp_path / "a" / "b.h5"):
        pass
