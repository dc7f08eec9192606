"""Where the data file of a configuration is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcxpcs.config.sections import ExperimentalData


def data_file_as_written(data: ExperimentalData) -> Path:
    """The path of the data file as the configuration spells it."""
    if data.file_path is not None:
        return Path(data.file_path)
    return Path(data.data_folder_path or "") / (data.data_file_name or "")


def data_file(data: ExperimentalData, base: Path | None) -> Path:
    """The absolute path of the data file; a relative one starts at base, the folder of the configuration."""
    return ((base or Path.cwd()) / data_file_as_written(data).expanduser()).absolute()
