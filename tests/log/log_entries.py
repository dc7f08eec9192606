"""What processes have written to their logs."""

from __future__ import annotations

import logging
from pathlib import Path

from hpcxpcs.log.lines import LINE_BYTES
from tests.cli.fitting import read_json

OURS = logging.getLogger("hpcxpcs.inference.point")


def entries(folder: Path) -> list[dict]:
    """Every line of all logs in a folder, each of which strict JSON must be."""
    found = []
    for path in sorted(folder.glob("*.jsonl*")):
        for number, line in enumerate(path.read_bytes().splitlines()):
            (folder.parent / "line.json").write_bytes(line)
            found.append(read_json(folder.parent / "line.json"))
            assert len(line) < LINE_BYTES, (path, number)
    return found


def said(folder: Path, logger: str = OURS.name) -> list[dict]:
    """The lines of one logger."""
    return [entry for entry in entries(folder) if entry["logger"] == logger]
