"""How each process of a run used the compile cache, told in the run's events."""

from __future__ import annotations

import logging
from functools import cache

from hpcxpcs.pipeline.compile_cache import CacheRecorder, CacheUse
from hpcxpcs.runtime.events import append
from hpcxpcs.runtime.run import Run

_log = logging.getLogger(__name__)


class CompileLog:
    """Counts what this process asks of the compiler, and tells it step by step."""

    def __init__(self) -> None:
        self._recorder = CacheRecorder()
        self._recorder.__enter__()
        self._told = CacheUse(0, 0, 0.0)

    def tell(self, run: Run, during: str) -> None:
        """Append an event "compiled" with hits, misses and seconds since the last one, if there are any.

        Hits and misses count programs asked for; those that this process already had in memory are not asked for
        again.
        """
        use = self._recorder.use
        hits, misses = use.hits - self._told.hits, use.misses - self._told.misses
        seconds = round(use.seconds - self._told.seconds, 3)
        self._told = use
        if hits or misses:
            words = ("%d programs from the cache, %d compiled, in %.3g s", hits, misses, seconds)
            _log.info(*words, extra={"event": "compiled", "hits": hits, "misses": misses, "of": during})
            append(run, "compiled", during=during, hits=hits, misses=misses, seconds=seconds)


@cache
def compile_log() -> CompileLog:
    """The log of this process; it counts from the first call on."""
    return CompileLog()
