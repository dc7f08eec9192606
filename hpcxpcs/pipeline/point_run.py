"""A point fit from its folder's point of view: alone in it, stopped in time, done from the beginning or not at all."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from hpcxpcs.errors import PlanMismatch, Stopped, StoreError
from hpcxpcs.files.atomic import writing
from hpcxpcs.pipeline.posterior import RESULTS, WRITING_LEASE
from hpcxpcs.runtime.claims import Claim, holding, take
from hpcxpcs.runtime.pulse import Stop
from hpcxpcs.runtime.run import PLAN_FILE, Run

RENEW_SECONDS = 30.0
"""Between two signs of life, which cost a few file operations each."""


def refuse_posterior(folder: Path) -> None:
    """Refuse a folder with the run of a posterior: it would call results its own that are not."""
    if (folder / PLAN_FILE).exists():
        raise PlanMismatch(
            f"{folder}: holds a run with method {Run.open(folder).plan.method}, whose results a point fit would "
            "replace: choose another folder with --run, or discard that run with --fresh"
        )


class PointRun:
    """The claim of one point fit on the results of a folder, and the question whether to go on with it.

    The claim is the one of a posterior's results, so that neither writes while the other does.
    """

    def __init__(self, folder: Path, stop: Stop) -> None:
        self.folder = folder
        self._stop = stop
        self._claim: Claim | None = None
        self._asked = self._renewed = time.monotonic()
        self._last_block = 0.0

    def __enter__(self) -> Self:
        self.still_wanted()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._claim is not None:
            self._claim.release()

    def claim(self) -> None:
        """Keep other processes from the results of the folder; StoreError when one has them."""
        if self._claim is not None:
            return
        claims = self.folder / "claims"
        with writing(claims):
            claims.mkdir(parents=True, exist_ok=True)
        self._claim = take(claims, RESULTS, lease=WRITING_LEASE)
        if self._claim is None:
            found = holding(claims, RESULTS)
            who = f" ({found.owner.pid} on {found.owner.host})" if found is not None else ""
            raise StoreError(
                f"{self.folder}: another process{who} is about to write its results: wait until it has ended, or "
                "choose another folder with --run"
            )

    def still_wanted(self) -> None:
        """Raise Stopped when time is up or a signal has come; give a sign of life else.

        What the next step takes is guessed from the two before: the shorter one, because compiling happens once.
        """
        now = time.monotonic()
        block, self._last_block = min(self._last_block, now - self._asked), now - self._asked
        self._asked = now
        if (reason := self._stop.should_stop(block)) is not None:
            before = self.folder / "results"
            kept = f"{before} is as it was before; " if before.exists() else ""
            raise Stopped(
                f"{self.folder}: the point fit was stopped ({reason}); a point fit saves nothing on its way: {kept}the "
                "same command starts it from the beginning"
            )
        if self._claim is not None and now - self._renewed >= RENEW_SECONDS:
            self._renewed = now
            self.require_claim()

    def require_claim(self) -> None:
        """Renew the claim; StoreError when another process has taken it over."""
        if self._claim is not None and not self._claim.renew():
            raise StoreError(
                f"{self.folder}: another process has taken over, because this one gave no sign of life for "
                f"{WRITING_LEASE:g} s: nothing is written"
            )
