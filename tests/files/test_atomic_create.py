"""Files that one of many processes creates, and names that content keeps."""

import errno
import os

import pytest

from hpcxpcs.errors import OutputError
from hpcxpcs.files import atomic
from hpcxpcs.files.atomic import atomic_create_bytes, atomic_open, keep_previous


@pytest.fixture(params=[True, False], ids=["hard links", "no hard links"])
def links(request, monkeypatch):
    """Both kinds of file system."""
    if not request.param:

        def refuse(*_):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        monkeypatch.setattr(os, "link", refuse)
    return request.param


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_given_a_free_name_then_the_file_is_created_and_the_next_one_loses(tmp_path, links):
    path = tmp_path / "a.json"
    assert atomic_create_bytes(path, b"first") is True
    assert atomic_create_bytes(path, b"second") is False
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["a.json"]


def test_given_a_rival_that_is_faster_by_a_moment_then_its_file_stays(tmp_path, links, monkeypatch):
    path = tmp_path / "a.json"

    def rival(step):
        if step.startswith("synced"):
            path.write_bytes(b"rival")

    monkeypatch.setattr(atomic, "reached", rival)
    assert atomic_create_bytes(path, b"mine") is False
    assert path.read_bytes() == b"rival"


def test_given_a_network_that_repeats_the_call_then_the_winner_still_knows_that_it_won(tmp_path, monkeypatch):
    real = os.link

    def twice(source, target):
        real(source, target)
        real(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert atomic_create_bytes(tmp_path / "a.json", b"mine") is True


def test_given_a_full_disk_then_nothing_is_created_and_the_error_is_clear(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.json.*disk is full"):
        atomic_create_bytes(tmp_path / "a.json", b"mine")
    assert names(tmp_path) == []


def test_given_a_file_then_its_content_gets_a_second_name_and_replaces_what_had_it(tmp_path, links):
    path, previous = tmp_path / "a.h5", tmp_path / "a.prev.h5"
    path.write_bytes(b"new")
    previous.write_bytes(b"old")
    keep_previous(path, previous)
    assert previous.read_bytes() == b"new"
    assert path.exists() == links
    assert [name for name in names(tmp_path) if name.startswith(".")] == []


def test_given_content_that_has_both_names_already_then_both_stay(tmp_path):
    path, previous = tmp_path / "a.h5", tmp_path / "a.prev.h5"
    path.write_bytes(b"new")
    os.link(path, previous)
    keep_previous(path, previous)
    assert names(tmp_path) == ["a.h5", "a.prev.h5"]


def test_given_no_file_then_the_previous_one_stays(tmp_path):
    (tmp_path / "a.prev.h5").write_bytes(b"old")
    keep_previous(tmp_path / "a.h5", tmp_path / "a.prev.h5")
    assert names(tmp_path) == ["a.prev.h5"]


def test_given_content_that_does_not_verify_then_the_old_file_stays(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    seen = []

    def refuse(temporary):
        seen.append(temporary.read_bytes())
        raise OutputError("not good")

    with pytest.raises(OutputError, match="not good"), atomic_open(path, verify=refuse) as stream:
        stream.write(b"new")
    assert (seen, path.read_bytes(), names(tmp_path)) == ([b"new"], b"old", ["a.bin"])


def test_given_a_small_write_that_the_disk_refuses_then_the_error_names_the_file(tmp_path, monkeypatch):
    class Full:
        """A stream that keeps what it is given, and fails when that should reach the disk."""

        def write(self, content):
            return len(content)

        def flush(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        close = flush

    monkeypatch.setattr("pathlib.Path.open", lambda *_: Full())
    with pytest.raises(OutputError, match=r"a\.bin.*disk is full"), atomic_open(tmp_path / "a.bin") as stream:
        stream.write(b"new")
