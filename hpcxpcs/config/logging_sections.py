"""The section of a configuration that concerns the log of a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hpcxpcs.config.field_types import Number, Section, Whole


class Logging(Section):
    """What the processes of a run write to RUN/logs, and how much the terminal shows; never changes the answer."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="how much the terminal shows: debug adds every line of the log, warning leaves out phases where "
        "there is no screen, error leaves out warnings too; files have info in any case, and debug with debug. What "
        "the command line or the variable HPCXPCS_LOG_LEVEL says goes first",
    )
    max_size_mb: Number = Field(
        default=10,
        ge=0.01,
        le=10000,
        description="size in MB at which the log of a process begins a new file",
    )
    backup_count: Whole = Field(
        default=5, ge=0, le=100, description="number of full files that are kept for each process"
    )
