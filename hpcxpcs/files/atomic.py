"""Files and folders that appear whole or not at all, whatever kills the process or fills the disk."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hpcxpcs.errors import OutputError, StoreError
from hpcxpcs.files.places import refuse_foreign, refuse_link

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space, or choose another place with output.directory",
    errno.EDQUOT: "your quota is used up: free some space, or choose another place with output.directory",
    errno.EROFS: "the file system is mounted read-only: choose another place with output.directory",
    errno.EACCES: "no permission to write there: change the permissions, or choose another output.directory",
    errno.EPERM: "no permission to write there: change the permissions, or choose another output.directory",
    errno.ENOTDIR: "a part of this path is a file, not a folder: choose another output.directory",
    errno.EEXIST: "a file is in the way: remove it, or choose another output.directory",
    errno.ENAMETOOLONG: "the path is too long: choose a shorter output.directory",
    errno.EIO: "the disk reports an error: choose another place with output.directory, and report it",
}
NO_LINK = "results replace a whole folder, and never through a link: remove it, or make the run folder the link"
RESULT_FILES = ("provenance.json", "summary.json")
"""Files of which a folder of results has one at least."""
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def reached(step: str) -> None:
    """Another step of writing is over; a test puts a function in this place to end the process there."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failing write into an OutputError that names `path` and what to do."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        remedy = _REMEDIES.get(error.errno or 0, "check the path and the disk, then run again")
        raise OutputError(f"{path}: cannot be written ({reason}): {remedy}") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn a failing read of a file of ours into a StoreError that names `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"{path}: cannot be read ({reason}): check permissions and disk") from error


def append_line(descriptor: int, line: bytes) -> None:
    """Append in one write; a line that another process left without its end is ended first.

    One that is just being written looks the same, and gives an empty line at most.
    """
    size = os.fstat(descriptor).st_size
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    content = b"\n" + line if torn else line
    if os.write(descriptor, content) < len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_tail(path: Path, most_bytes: int | None) -> tuple[bytes, bool]:
    """The last bytes of a file, or with None all, and whether that is all of it."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        begin = 0 if most_bytes is None else max(0, size - most_bytes)
        stream.seek(begin)
        return stream.read(), begin == 0


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    with atomic_open(path) as stream, writing(path):
        stream.write(content)


def atomic_write_text(path: Path, content: str) -> None:
    """Write a UTF-8 text file so that a reader sees the old content or the new one, never a part."""
    atomic_write_bytes(path, content.encode())


def atomic_create_bytes(path: Path, content: bytes) -> bool:
    """Create a file with its whole content, or return False because it exists: one of many processes wins.

    Where the file system knows no hard links, an empty file may be seen for a moment, or be left by a kill.
    """
    temporary = _sibling(path, "tmp")
    try:
        with writing(path):
            with temporary.open("xb") as stream:
                reached(f"opened {path.name}")
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            reached(f"synced {path.name}")
            created = _link_new(temporary, path)
            reached(f"linked {path.name}")
            if created:
                sync_folder(path.parent)
        return created
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _link_new(temporary: Path, path: Path) -> bool:
    """Give a complete file its name unless that name is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return temporary.stat().st_nlink > 1  # a network file system may have answered our first call twice
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        temporary.replace(path)
    return True


def keep_previous(path: Path, previous: Path) -> None:
    """Give the content of `path`, if it exists, the name `previous` too, without a moment in which it is missing.

    Where the file system knows no hard links the content only changes its name.
    """
    second = _sibling(previous, "tmp")
    with suppress(FileNotFoundError):  # none yet, or another writer was faster
        try:
            os.link(path, second)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            path.replace(previous)
            return
        try:
            second.replace(previous)
        finally:
            second.unlink(missing_ok=True)  # both names may have been the same file already
    reached(f"kept {previous.name}")


@contextmanager
def atomic_open(path: Path, *, verify: Callable[[Path], None] | None = None) -> Iterator[BinaryIO]:
    """A binary stream whose content takes the place of `path` when the block ends without an error.

    `verify` is called with the complete file under its temporary name; when it raises, `path` stays as it is.
    """
    temporary = _sibling(path, "tmp")
    try:
        with writing(path):
            stream = temporary.open("xb")
        try:
            reached(f"opened {path.name}")
            yield stream
            reached(f"written {path.name}")
            with writing(path):
                stream.flush()
                os.fsync(stream.fileno())
                stream.close()
        finally:
            with suppress(OSError):  # closing tries once more to write what could not be written
                stream.close()
        reached(f"synced {path.name}")
        if verify is not None:
            verify(temporary)
        with writing(path):
            temporary.replace(path)
            reached(f"renamed {path.name}")
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """A name for a new file that takes the place of `path` when the block ends without an error; for writers that
    open files by name.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(path, f"tmp{path.suffix}")
    try:
        with writing(path):
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new empty folder that takes the place of `path` when the block ends without an error.

    The old and the new content never mix. One process at a time may replace a given folder.
    """
    refuse_link(path, NO_LINK)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(path)
        fresh = _sibling(path, "new")
        fresh.mkdir()
    try:
        reached(f"started {path.name}")
        yield fresh
        with writing(path):
            for folder, _, _ in fresh.walk():
                sync_folder(folder)
            reached(f"built {path.name}")
            _take_place(fresh, path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def require_place(path: Path) -> None:
    """Refuse, before any work is done, a folder `path` that could not be written; nothing is created."""
    nearest = next(part for part in (path, *path.parents) if os.path.lexists(part))
    with writing(path):
        if not nearest.is_dir():
            raise OSError(errno.EEXIST if nearest == path else errno.ENOTDIR, "")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, "")
    refuse_link(path, NO_LINK)
    refuse_foreign(path, RESULT_FILES)


def recover_folder(path: Path) -> None:
    """Undo what a killed replacement of `path` left behind: restore the old folder, drop unfinished ones."""
    siblings = [entry for entry in path.parent.iterdir() if entry.name.startswith(f".{path.name}.")]
    folders = [entry for entry in siblings if entry.is_dir() and not entry.is_symlink()]
    retired = sorted(entry for entry in folders if entry.suffix == ".old")
    if retired and not path.exists():
        retired.pop().rename(path)
    for left_over in (*retired, *(entry for entry in folders if entry.suffix == ".new")):
        shutil.rmtree(left_over)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)


def _take_place(fresh: Path, path: Path) -> None:
    """Swap in one step where the file system can; else in two, which recover_folder completes."""
    if not path.exists():
        fresh.rename(path)
    elif not exchange(fresh, path):
        retired = fresh.with_suffix(".old")
        path.rename(retired)
        reached(f"retired {path.name}")
        fresh.rename(path)
        fresh = retired
    reached(f"swapped {path.name}")
    sync_folder(path.parent)
    shutil.rmtree(fresh, ignore_errors=True)


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one atomic step; False where kernel, C library or file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    at_cwd, rename_exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of linux/fcntl.h and linux/fs.h
    failed: int = renameat2(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), rename_exchange)
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(second))


def _sibling(path: Path, purpose: str) -> Path:
    """A hidden unused name beside `path`; created with the user's own umask, unlike those of tempfile."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.{purpose}")
