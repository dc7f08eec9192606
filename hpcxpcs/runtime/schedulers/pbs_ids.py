"""Job ids of PBS: `12.server`, the array `1234[].server` and its task `1234[7].server` (Torque: or `1234-7.server`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hpcxpcs.errors import SchedulerProblem

_ID = re.compile(
    r"(?P<number>\d+)(?:\[(?P<bracketed>\d*)\]|-(?P<dashed>\d+))?(?:\.(?P<server>[A-Za-z0-9_][A-Za-z0-9_.@:-]*))?"
)


@dataclass(frozen=True)
class PbsId:
    """A job, an array as a whole (`array` without `index`), or one task of an array (`index`)."""

    number: int
    server: str = ""
    index: int | None = None
    array: bool = False
    dashed: bool = False  # as older Torques write a task

    def __post_init__(self) -> None:
        if self.index is not None:
            object.__setattr__(self, "array", True)
        if self.index is None and self.dashed:
            raise ValueError("only a task has a dash in its id")

    def __str__(self) -> str:
        index = "" if self.index is None else str(self.index)
        middle = f"-{index}" if self.dashed else f"[{index}]" if self.array else ""
        return f"{self.number}{middle}" + (f".{self.server}" if self.server else "")

    @property
    def whole(self) -> PbsId:
        """The job as it was submitted: the array of a task, otherwise itself."""
        return replace(self, index=None, dashed=False, array=self.array and not self.dashed)

    def task(self, index: int) -> PbsId:
        """Return the id of an array's task; of the older Torques' form when the array's id has no brackets."""
        return replace(self, index=index, array=True, dashed=not self.array)


def parse(text: str) -> PbsId:
    """Read an id as `qsub`, `qstat` or the environment of a job print it."""
    found = _ID.fullmatch(text.strip())
    if found is None:
        raise SchedulerProblem(
            f"{text!r} is no job id of PBS: those look like 12.server, 1234[].server or 1234[7].server"
        )
    index = found["bracketed"] or found["dashed"]
    return PbsId(
        number=int(found["number"]),
        server=found["server"] or "",
        index=None if index is None or index == "" else int(index),
        array=found["bracketed"] is not None,
        dashed=found["dashed"] is not None,
    )


def submitted(answer: str, program: str = "qsub") -> PbsId:
    """Read the id from what `qsub` prints; sites put greetings before it, so the last line counts."""
    lines = [line for line in answer.splitlines() if line.strip()]
    try:
        return parse(lines[-1] if lines else "")
    except SchedulerProblem:
        raise SchedulerProblem(
            f"{program} printed no job id but {answer.strip()[:200]!r}: look with qstat whether the job is there"
        ) from None
