"""A folder of arrays named by what they were made from: an entry is whole and exact, or it isn't there.

Any number of processes use one folder at once. An entry is a folder with one file per array and a description with
their checksums; it appears by a rename, and is read with its checksums or not at all. What has not been used for
longest is removed when the folder grows beyond its limit.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

DESCRIPTION = "entry.json"
TAG_FILE = "CACHEDIR.TAG"
TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Arrays that hpcxpcs can make again; nothing is lost with them.\n"
"""Backup programs pass over folders that hold this file (bford.info/cachedir)."""

NAME = re.compile("[0-9a-f]{62}")
"""An entry's folder: a key is 64 hexadecimal digits, and the folder above it has the first two."""

UNFINISHED, DISCARDED = "unfinished-", "discarded-"
ABANDONED_SECONDS = 86_400.0
"""Unfinished entries this old belong to processes that were killed."""

ROOM_KEPT = 1 << 30
"""Bytes that stay free on the disk whatever the limit is."""

TOUCH_SECONDS = 30.0
"""Use is noted this often at most."""


@dataclass(frozen=True)
class Entry:
    """One entry: its key, bytes on disk, when it was used last (seconds since 1970), and what it says of itself."""

    key: str
    size: int
    used: float
    values: Mapping[str, Any]


@dataclass(frozen=True)
class ArrayStore:
    """The folder, and the bytes that it may hold."""

    folder: Path
    limit: int

    def get(self, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """Arrays and values of an entry; None when there is none, or not every byte is as it was written."""
        place = self._place(key)
        try:
            text = (place / DESCRIPTION).read_bytes()
        except OSError:
            return None
        try:
            described = json.loads(text)
            arrays = {name: _read(place, name, about) for name, about in described["arrays"].items()}
            values = dict(described["values"])
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            self._remove(place)
            return None
        except OSError:  # of this process or of the disk: the entry may be sound
            return None
        self._note_use(place)
        return arrays, values

    def put(self, key: str, arrays: Arrays, values: Mapping[str, Any]) -> bool:
        """Keep arrays and JSON values under a key; False when the disk or the limit has no room for them."""
        size = sum(array.nbytes for array in arrays.values())
        place = self._place(key)
        if size > self.limit or place.exists():
            return place.exists()
        unfinished = self.folder / f"{UNFINISHED}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            self._begin()
            if shutil.disk_usage(self.folder).free < size + ROOM_KEPT:
                return False
            self._make_room(size)
            unfinished.mkdir()
            about = {name: _write(unfinished / f"{name}.bin", array) for name, array in arrays.items()}
            text = json.dumps({"key": key, "size": size, "arrays": about, "values": dict(values)})
            (unfinished / DESCRIPTION).write_text(text)
            place.parent.mkdir(exist_ok=True)
            with suppress(OSError):  # another process was faster: its entry is as good
                unfinished.rename(place)
        except OSError:
            return False
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return place.exists()

    def entries(self) -> tuple[Entry, ...]:
        """All entries, the one that was used last first."""
        found = (_entry(place) for place in self.folder.glob("??/*") if NAME.fullmatch(place.name))
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.used, reverse=True))

    def clear(self) -> tuple[int, int]:
        """Remove everything that the store has made; how many entries and how many bytes that were."""
        found = self.entries()
        for one in found:
            self._remove(self._place(one.key))
        for left in self._leftovers(0.0):
            shutil.rmtree(left, ignore_errors=True)
        for folder in (*self.folder.glob("??"), self.folder):
            with suppress(OSError):
                (folder / TAG_FILE).unlink(missing_ok=True)
                folder.rmdir()
        return len(found), sum(one.size for one in found)

    def _place(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / TAG_FILE).exists():
            (self.folder / TAG_FILE).write_text(TAG)

    def _make_room(self, size: int) -> None:
        """Remove what has not been used for longest, until `size` bytes more stay below the limit."""
        for left in self._leftovers(ABANDONED_SECONDS):
            shutil.rmtree(left, ignore_errors=True)
        known = self.entries()
        total = sum(one.size for one in known) + size
        for one in reversed(known):
            if total <= self.limit:
                return
            self._remove(self._place(one.key))
            total -= one.size

    def _leftovers(self, age: float) -> Iterator[Path]:
        for left in self.folder.glob(f"{UNFINISHED}*"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime >= age:
                    yield left
        yield from self.folder.glob(f"{DISCARDED}*")

    def _remove(self, place: Path) -> None:
        """Take an entry away at once for everybody, then free its bytes."""
        discarded = self.folder / f"{DISCARDED}{secrets.token_hex(8)}"
        with suppress(OSError):
            place.rename(discarded)
            shutil.rmtree(discarded, ignore_errors=True)

    def _note_use(self, place: Path) -> None:
        description = place / DESCRIPTION
        with suppress(OSError):  # a folder that others own is read all the same
            if time.time() - description.stat().st_mtime > TOUCH_SECONDS:
                os.utime(description)


def _entry(place: Path) -> Entry | None:
    """What is known of an entry; one whose description cannot be read has no values, and was never used."""
    try:
        size = sum(file.stat().st_size for file in place.iterdir())
    except OSError:
        return None
    try:
        used = (place / DESCRIPTION).stat().st_mtime
        values = dict(json.loads((place / DESCRIPTION).read_bytes())["values"])
    except (OSError, ValueError, TypeError, KeyError):
        used, values = 0.0, {}
    return Entry(place.parent.name + place.name, size, used, values)


def _write(path: Path, array: NDArray[Any]) -> dict[str, Any]:
    """Write the bytes of an array and return what is needed to read them."""
    flat = np.ascontiguousarray(array)
    with path.open("xb") as stream:
        stream.write(flat.data)
    return {"dtype": flat.dtype.str, "shape": list(array.shape), "crc": zlib.crc32(flat.data)}


def _read(place: Path, name: str, about: Mapping[str, Any]) -> NDArray[Any]:
    """Read one array; ValueError when it is not what was written."""
    shape = tuple(int(size) for size in about["shape"])
    array = np.empty(shape, dtype=np.dtype(str(about["dtype"])))
    with (place / f"{name}.bin").open("rb", buffering=0) as stream:
        view = memoryview(array.reshape(-1).view(np.uint8))
        read = 0
        while read < len(view) and (more := stream.readinto(view[read:])):
            read += more
        if read < len(view) or stream.read(1):
            raise ValueError(f"{name} does not have the length it was written with")
    if zlib.crc32(array.data) != about["crc"]:
        raise ValueError(f"{name} is not what was written")
    return array
