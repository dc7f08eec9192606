"""Entries of the compile cache: JAX writes them in place and never repairs a torn one, so they are checked here."""

from __future__ import annotations

import hashlib
import importlib
import json
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpcxpcs.errors import OutputError
from hpcxpcs.files.json_safe import write_json

INDEX_NAME = "index.json"
INDEX_VERSION = 1
ENTRY_PATTERN = "*-cache"
SECOND_LOOK_SECONDS = 0.2  # an entry that another process is just writing grows or is complete by then
ZSTD_START = b"\x28\xb5\x2f\xfd"

Digests = Mapping[str, str]


@dataclass(frozen=True)
class CacheCheck:
    """What a check of the cache found: how many entries are whole, and the names of those that it removed."""

    whole: int
    dropped: tuple[str, ...]


def check_entries(folder: Path) -> CacheCheck:
    """Remove entries of a cache folder that are torn or altered, and note the SHA-256 of all others in its index.

    An entry in the index must have that digest; a new one must decompress. Run it before JAX reads the cache, and
    again when everything is compiled. Processes may do so at the same time: at worst one compiles once more.
    """
    known = _index(folder)
    digests: dict[str, str] = {}
    suspects: dict[str, bytes] = {}
    for path in sorted(folder.glob(ENTRY_PATTERN)):
        content = _content(path)
        if content is not None:
            if (digest := _digest_of_whole(content, known.get(path.name))) is None:
                suspects[path.name] = content
            else:
                digests[path.name] = digest
    dropped = []
    if suspects:
        time.sleep(SECOND_LOOK_SECONDS)
        dropped = [name for name, content in suspects.items() if _removed(folder / name, content)]
    if digests != known:
        with suppress(OutputError):
            write_json(folder / INDEX_NAME, {"schema_version": INDEX_VERSION, "sha256": digests})
    return CacheCheck(len(digests), tuple(dropped))


def zstd_decompress() -> Callable[[bytes], bytes] | None:
    """Find the decompression of zstd that JAX uses where there is one; None where it uses zlib."""
    with suppress(ImportError):
        decompress: Callable[[bytes], bytes] = importlib.import_module("compression.zstd").decompress
        return decompress
    with suppress(ImportError):
        decompress = importlib.import_module("zstandard").ZstdDecompressor().decompress
        return decompress
    return None


def _index(folder: Path) -> Digests:
    """Digests by name; empty when the index is absent, unreadable or of another version."""
    try:
        document = json.loads((folder / INDEX_NAME).read_bytes())
        if document["schema_version"] == INDEX_VERSION:
            return {str(name): str(digest) for name, digest in document["sha256"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return {}


def _digest_of_whole(content: bytes, expected: str | None) -> str | None:
    """SHA-256 of a whole entry, None for one that differs from the index or does not decompress."""
    digest = hashlib.sha256(content).hexdigest()
    whole = _decompresses(content) if expected is None else digest == expected
    return digest if whole else None


def _decompresses(content: bytes) -> bool:
    if content.startswith(ZSTD_START):
        decompress = zstd_decompress()
        try:
            return decompress is not None and bool(decompress(content))
        except Exception:  # each of the two packages has an error class of its own
            return False
    stream = zlib.decompressobj()
    try:
        stream.decompress(content)
    except zlib.error:
        return False
    return stream.eof and not stream.unused_data


def _removed(path: Path, seen: bytes) -> bool:
    """Remove an entry unless it has changed since it was seen: then somebody is writing it."""
    if _content(path) != seen:
        return False
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
