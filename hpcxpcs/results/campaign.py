"""campaign.csv, campaign.nc and campaign.html: what became of every item of a campaign."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcxpcs import __version__
from hpcxpcs.answer.campaign import CampaignTable, ItemParameter, ItemRow, Label
from hpcxpcs.files.atomic import atomic_write_bytes, writing
from hpcxpcs.results.campaign_groups import column_names, label_names, parameter_units
from hpcxpcs.results.pages import readable
from hpcxpcs.results.records import SCHEMA_VERSION

if TYPE_CHECKING:
    import xarray

OF_ITEM = ("file", "model", "method", "state", "reason", "quality", "verdict", "q")
OF_PARAMETER = ("parameter", "unit", "value", "error", "low", "high", "probability", "free", "bound", "truth")
OF_ANSWER = ("chi_squared", "noise_model", "log_evidence", "log_evidence_error", "seconds")
COLUMNS = ("index", "item", *OF_ITEM, *OF_PARAMETER, *OF_ANSWER)
"""Columns of campaign.csv; those of the labels stand behind `item`."""

_TEXTS = ("file", "model", "method", "state", "reason", "quality", "verdict", "noise_model")
_NUMBERS = {
    "q": "1/Å",
    "chi_squared": "1",
    "log_evidence": "nats",
    "log_evidence_error": "nats",
    "seconds": "s",
}
_ESTIMATES = ("value", "error", "low", "high", "probability", "truth")
_VARIABLES = {*COLUMNS, "warnings"}
_SPECIAL = re.compile('[",\r\n]')
_NO_NAME = re.compile(r"[/\s\x00-\x1f\x7f]")


def write_campaign(folder: Path, table: CampaignTable) -> tuple[Path, ...]:
    """Write the three files into a folder, numbers first, each whole or not at all, and return their paths.

    An item is linked to its report where `items/NAME/report.html` is in the folder by then.
    """
    from hpcxpcs.results.campaign_page import campaign_html

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"campaign.{kind}" for kind in ("csv", "nc", "html"))
    as_csv, as_netcdf, page = paths
    atomic_write_bytes(as_csv, campaign_csv(table).encode())
    atomic_write_bytes(as_netcdf, bytes(campaign_arrays(table).to_netcdf(engine="h5netcdf")))
    atomic_write_bytes(page, campaign_html(folder, table).encode())
    return paths


def campaign_csv(table: CampaignTable) -> str:
    """A line per item and parameter, and one for an item that has none; NaN and what is missing are empty.

    Numbers have as many digits as it takes to read the same bits back.
    """
    labels = label_names(table)
    columns = column_names(labels, COLUMNS)
    lines = [_line((*COLUMNS[:2], *columns.values(), *COLUMNS[2:]))]
    for row in table.rows:
        of_item = (row.index, row.name, *(row.labels.get(name) for name in labels), *_fields(row, OF_ITEM))
        for parameter in row.parameters or (None,):
            lines.append(_line((*of_item, *_estimate(parameter), *_fields(row, OF_ANSWER))))
    return "".join(lines)


def _line(values: Iterable[Any]) -> str:
    """Cells in quotes where readers need them; Python's own writer leaves out a lone carriage return."""
    cells = (f'"{cell.replace('"', '""')}"' if _SPECIAL.search(cell) else cell for cell in map(_cell, values))
    return ",".join(cells) + "\n"


def _fields(row: ItemRow, names: Iterable[str]) -> Iterator[Any]:
    return (getattr(row, name) for name in names)


def _estimate(parameter: ItemParameter | None) -> Iterator[Any]:
    if parameter is None:
        return iter([None] * len(OF_PARAMETER))
    return (getattr(parameter, "name" if column == "parameter" else column) for column in OF_PARAMETER)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else repr(float(value))
    return readable(value)


def campaign_arrays(table: CampaignTable) -> xarray.Dataset:
    """Arrays over `item` (labels are coordinates) and over `item` and `parameter`; NaN where there is nothing."""
    import xarray

    units, rows = parameter_units(table), table.rows
    variables: dict[str, Any] = {"index": ("item", np.array([row.index for row in rows], dtype=np.int64))}
    for name in _TEXTS:
        variables[name] = ("item", _texts([getattr(row, name) for row in rows]))
    variables["warnings"] = ("item", _texts(["\n".join(row.warnings) for row in rows]))
    for name, unit in _NUMBERS.items():
        variables[name] = ("item", _floats([getattr(row, name) for row in rows]), {"units": unit})
    variables |= _over_parameters(table, list(units))
    return xarray.Dataset(
        variables,
        coords={
            "item": ("item", _texts([row.name for row in rows])),
            "parameter": ("parameter", _texts(list(units))),
            "unit": ("parameter", _texts(list(units.values()))),
            **_label_coordinates(table),
        },
        attrs={
            "created_by": f"hpcxpcs {__version__}",
            "schema_version": SCHEMA_VERSION,
            "campaign": _text(table.name),
            "run_id": _text(table.run_id),
            "created": _text(table.created),
        },
    )


def _over_parameters(table: CampaignTable, names: list[str]) -> dict[str, Any]:
    """Arrays (items, parameters) of what is known of each parameter."""
    place = {name: k for k, name in enumerate(names)}
    shape = (len(table.rows), len(names))
    numbers = {name: np.full(shape, np.nan) for name in _ESTIMATES}
    free, bound = np.zeros(shape, dtype=np.bool_), np.full(shape, "", dtype="<U5")
    for i, row in enumerate(table.rows):
        for parameter in row.parameters:
            k = place[parameter.name]
            free[i, k], bound[i, k] = parameter.free, parameter.bound
            for name, array in numbers.items():
                known = getattr(parameter, name)
                array[i, k] = np.nan if known is None else known
    over = ("item", "parameter")
    return {name: (over, array) for name, array in {**numbers, "free": free, "bound": bound}.items()}


def _label_coordinates(table: CampaignTable) -> dict[str, Any]:
    labels = label_names(table)
    allowed = {label: _NO_NAME.sub("_", _text(label)).strip(".") or "_" for label in labels}
    columns = column_names(allowed.values(), _VARIABLES) if len({*allowed.values()}) == len(allowed) else {}
    coordinates = {}
    for number, label in enumerate(labels):
        name = columns.get(allowed[label]) or f"label_{number}"
        values = _label_array([row.labels.get(label) for row in table.rows])
        coordinates[name] = ("item", values, {"long_name": _text(label)})
    return coordinates


def _label_array(values: Sequence[Label | None]) -> np.ndarray:
    """Whole numbers where all are, numbers (NaN where there is none) where all that are there are, else text."""
    there = [value for value in values if value is not None]
    plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in there)
    whole = plain and all(isinstance(value, int) and -(2**63) <= value < 2**63 for value in there)
    if whole and len(there) == len(values):
        return np.array(values, dtype=np.int64)
    return _floats(values) if plain and there else _texts([_cell(value) for value in values])


def _floats(values: Sequence[Any]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _texts(values: Sequence[str]) -> np.ndarray:
    return np.array([_text(value) for value in values], dtype=np.str_)


def _text(text: str) -> str:
    """Text that HDF5 can hold, which ends at a zero byte."""
    return readable(text).replace("\0", "\ufffd")
