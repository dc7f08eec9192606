"""The persistent cache of compiled code: private, and separate for every jaxlib and kind of processor."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import logging
import os
import platform
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from hpcxpcs.errors import OutputError
from hpcxpcs.files.json_safe import write_json
from hpcxpcs.runs.events import append
from hpcxpcs.runs.run import Run
from hpcxpcs.workers.machine import cache_folder

INDEX_NAME = "index.json"
INDEX_VERSION = 1
ENTRY_PATTERN = "*-cache"
SECOND_LOOK_SECONDS = 0.2  # an entry that another process is just writing grows or is complete by then
ZSTD_START = b"\x28\xb5\x2f\xfd"

Digests = Mapping[str, str]

_log = logging.getLogger(__name__)


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


REMEDY = "name a folder of yours with runtime.compilation_cache_dir, or null to do without"
REQUEST_EVENT = "/jax/compilation_cache/compile_requests_use_cache"
HIT_EVENT = "/jax/compilation_cache/cache_hits"
COMPILE_DURATIONS = "/jax/core/compile/"
"""What the durations of tracing, lowering, and compiling or loading start with."""


@dataclass(frozen=True)
class CacheUse:
    """How often compiled code was found in the cache, how often it had to be compiled, and seconds (wall) of both.

    The seconds include tracing and lowering, which the cache does not save.
    """

    hits: int
    misses: int
    seconds: float


class CacheRecorder:
    """Counts the use of the compile cache by this process inside a `with` block, and tells it step by step."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = 0
        self._hits = 0
        self._spans: list[tuple[float, float]] = []
        self._told = CacheUse(0, 0, 0.0)

    @property
    def use(self) -> CacheUse:
        """Use so far; a torn entry is a miss."""
        with self._lock:
            seconds = sum(end - begin for begin, end in self._spans)
            return CacheUse(self._hits, self._requests - self._hits, seconds)

    def tell(self, run: Run, during: str) -> None:
        """Append an event "compiled" with hits, misses and seconds since the last one, if there are any.

        Hits and misses count programs asked for; those that this process already had in memory are not asked for
        again.
        """
        use, told = self.use, self._told
        self._told = use
        hits, misses, seconds = (
            use.hits - told.hits,
            use.misses - told.misses,
            round(use.seconds - told.seconds, 3),
        )
        if hits or misses:
            words = ("%d programs from the cache, %d compiled, in %.3g s", hits, misses, seconds)
            _log.info(*words, extra={"event": "compiled", "hits": hits, "misses": misses, "of": during})
            append(run, "compiled", during=during, hits=hits, misses=misses, seconds=seconds)

    def __enter__(self) -> Self:
        from jax import monitoring

        monitoring.register_event_listener(self._listen)
        monitoring.register_event_duration_secs_listener(self._time)
        return self

    def __exit__(self, *_: object) -> None:
        from jax import monitoring

        monitoring.unregister_event_listener(self._listen)
        monitoring.unregister_event_duration_listener(self._time)

    def _listen(self, event: str, **_: object) -> None:
        with self._lock:
            self._requests += event == REQUEST_EVENT
            self._hits += event == HIT_EVENT

    def _time(self, event: str, duration_secs: float, **_: object) -> None:
        """Keep the span of a step that has just ended; spans inside it (traces nest) are part of it."""
        if not event.startswith(COMPILE_DURATIONS):
            return
        with self._lock:
            end = time.monotonic()
            begin = end - duration_secs
            while self._spans and self._spans[-1][1] > begin:
                begin = min(begin, self._spans.pop()[0])
            self._spans.append((begin, end))


def compile_cache(
    setting: str | None, warn: Callable[[str], None] = lambda text: None, *, check: bool = True
) -> Path | None:
    """Point JAX at the cache folder of this machine (created with mode 0700); None switches the cache off.

    `setting` is runtime.compilation_cache_dir: 'auto', a folder, or None. Without a place for the automatic folder
    the run goes on without a cache, and `warn` is told; a folder that was asked for must be there.
    With `check`, torn entries are removed first; processes that follow another one need not look again.
    """
    import jax

    try:
        folder = None if setting is None else _writable_folder(setting)
    except OutputError as error:
        if setting != "auto":
            raise
        warn(f"{error}; this run compiles everything anew")
        folder = None
    _open(None if folder is None else str(folder))
    if folder is not None:
        if check and (dropped := check_entries(folder).dropped):
            warn(f"{len(dropped)} torn or altered entries of compiled code removed from {folder}: compiling anew")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder


def _open(folder: str | None) -> None:
    """Let JAX use a cache; it keeps the first one that it has opened until it is told to forget it."""
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    if folder != jax.config.jax_compilation_cache_dir:
        reset_cache()
        jax.config.update("jax_compilation_cache_dir", folder)


def _writable_folder(setting: str) -> Path:
    try:
        base = cache_folder() / "compiled" if setting == "auto" else Path(setting).expanduser()
        folder = base / machine_key()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except RuntimeError as error:
        raise OutputError(f"compiled code: there is no home folder to keep it in ({error}); {REMEDY}") from error
    except OSError as error:
        raise OutputError(f"compiled code cannot be kept in {folder} ({error.strerror}); {REMEDY}") from error
    return folder


def machine_key(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the cache for this jaxlib and this processor's instruction set: code for one may crash another.

    Whether it is compressed with zstd depends on Python and its packages; JAX does not read what it would not write.
    """
    from jaxlib.version import __version__ as jaxlib_version

    flags = ""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("flags", "Features", "model name")):
                flags += line
                if line.startswith(("flags", "Features")):
                    break
    digest = hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:12]
    return f"jaxlib-{jaxlib_version}-{digest}{'-zstd' if zstd_decompress() else ''}"


@cache
def compile_log() -> CacheRecorder:
    """The recorder of this process; it counts from the first call on."""
    return CacheRecorder().__enter__()
