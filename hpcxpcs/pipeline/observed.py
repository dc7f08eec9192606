"""What the processes of a run have seen so far, for the summary beside the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpcxpcs.pipeline.reporter import Recorded
from hpcxpcs.runtime.log_tally import tally_of_others
from hpcxpcs.runtime.process_log import active_log


def observed(logs: Path, run_id: str, reporter: Recorded) -> dict[str, Any]:
    """Phases, processes and messages of all processes of a run, from memory and from the logs in a folder.

    The phase that is going on ends here: nothing but the writing of the record follows.
    """
    reporter.end()
    log = active_log()
    if log is None:
        return {}
    return log.tally.joined(tally_of_others(logs, run_id, log.tally.begun)).record()
