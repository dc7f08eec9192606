"""The persistent cache of compiled code: private, and separate for every jaxlib and kind of processor."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hpcxpcs.errors import OutputError
from hpcxpcs.pipeline.cache_entries import check_entries, zstd_decompress
from hpcxpcs.runtime.machine import cache_folder

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
    """Counts the use of the compile cache by this process inside a `with` block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = 0
        self._hits = 0
        self._spans: list[tuple[float, float]] = []

    @property
    def use(self) -> CacheUse:
        """Use so far; a torn entry is a miss."""
        with self._lock:
            seconds = sum(end - begin for begin, end in self._spans)
            return CacheUse(self._hits, self._requests - self._hits, seconds)

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
            warn(
                f"{len(dropped)} torn or altered entries of compiled code removed from {folder}: compiling anew"
            )
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
        raise OutputError(
            f"compiled code: there is no home folder to keep it in ({error}); {REMEDY}"
        ) from error
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
