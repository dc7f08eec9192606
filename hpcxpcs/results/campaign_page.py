"""campaign.html: one page that needs no network, to see what a campaign says and which items not to believe."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from hpcxpcs.answer.campaign import CampaignTable, ItemParameter, ItemRow, Label
from hpcxpcs.arrays import Floats
from hpcxpcs.files.json_safe import dumps
from hpcxpcs.results.campaign_groups import (
    STANDINGS,
    EvidenceRank,
    QSeries,
    counts,
    evidence_ranks,
    label_names,
    parameter_units,
    q_series,
    standing,
)
from hpcxpcs.results.pages import page_template, readable, template_text
from hpcxpcs.results.power_law import FEWEST_Q, PowerLaw, power_law
from hpcxpcs.results.table import ABSENT, as_shown, beside_truth, measurement, number, powered

SCRIPTS = ("campaign_table.js", "campaign_item.js", "campaign_plots.js")
THUMBNAIL_BYTES = 12_000_000
"""Most bytes of all thumbnails together; of many items they are smaller."""
THUMBNAIL_SIDES = (8, 32)
"""Fewest and most points along a side of a thumbnail."""
MISSING = 255
"""Byte of a point of a thumbnail that has no value."""
NOISE_LIMIT = 3.0
"""Error bars at which the colours of a residual end at least, so that pure noise looks pale."""
MOST_REASONS = 12
"""Reasons for failures that the head of the page lists."""
LARGEST_EXACT = 2**53
"""Whole numbers from here on are text in the page: a browser would round them."""
BEST_FIRST = ("good", "acceptable", "poor", "failed", "running", "waiting")
SAME_FOR_ALL: Mapping[str, str] = {"file": "file", "model": "model", "method": "method", "noise_model": "noise"}
STANDING_WORDS: Mapping[str, str] = {"done": "done, not judged"}


def campaign_html(folder: Path, table: CampaignTable) -> str:
    """The page; links go to the reports of items that are in `folder` now. Nothing in it is run but its own script."""
    script = "\n".join(map(template_text, SCRIPTS))
    same = dict(_same_for_all(table))
    page = page_template("campaign.html.j2").render(
        table=table,
        **_headline(table),
        reasons=_reasons(table),
        same=same,
        groups=_group_table(table),
        standings={name: STANDING_WORDS.get(name, name) for name in counts(table.rows)},
        settings=dumps(table.settings) if table.settings else "",
        data=_embedded(_data(folder, table, same)),
        script=f"\n{script}",
        script_hash=base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode(),
    )
    return readable(page)


def _embedded(record: Mapping[str, Any]) -> str:
    """JSON inside a script element, which no text in it can end."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _number(value: float | None) -> float | str | None:
    """A number as JSON has it: what is none is null, and infinity a word."""
    if value is None or math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _headline(table: CampaignTable) -> dict[str, Any]:
    found, total = counts(table.rows), len(table.rows)
    done = [row for row in table.rows if row.state == "done"]
    seconds = [row.seconds for row in table.rows if math.isfinite(row.seconds)]
    judged = ", ".join(f"{found[name]} {name}" for name in BEST_FIRST if name in found)
    tone = "caution" if done else "bad" if "failed" in found else ""
    if total and found == {"good": total}:
        tone = "good"
    items = "item is" if total == 1 else "items are"
    return {
        "headline": f"{len(done)} of {total} {items} done" if total else "This campaign has no items yet",
        "judged": judged,
        "tone": tone,
        "cost": f"{_duration(sum(seconds))} of fitting, {_duration(statistics.median(seconds))} per item (median)"
        if seconds
        else "",
    }


def _duration(seconds: float) -> str:
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _reasons(table: CampaignTable) -> dict[str, Any]:
    found = Counter(_cause(row) or "no reason is known" for row in table.rows if row.state == "failed")
    return {"shown": found.most_common(MOST_REASONS), "more": max(0, len(found) - MOST_REASONS)}


def _cause(row: ItemRow) -> str:
    """Why an item failed, without the name of its file in front, so that the same cause reads the same."""
    return row.reason.removeprefix(f"{row.file}: ")


def _same_for_all(table: CampaignTable) -> Iterator[tuple[str, str]]:
    """Labels that tell no items apart, and what else they share, with its words; of one item all is worth a column."""
    if len(table.rows) < 2:
        return
    labels = label_names(table)
    for name in labels:
        values = {row.labels.get(name) for row in table.rows}
        if len(values) == 1:
            yield name, _text(values.pop())
    for field, words in SAME_FOR_ALL.items():
        shared = {getattr(row, field) for row in table.rows} - {""}
        if len(shared) == 1 and words not in labels:
            yield words, shared.pop()


def _text(value: Label | None) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.8g}"
    return ABSENT if value is None else str(_label(value))


def _label(value: Label | None) -> Label | None:
    """A label as the page has it: numbers that a browser would change are text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) >= LARGEST_EXACT else int(value)
    return _number(value) if isinstance(value, float) else value


def _groups(table: CampaignTable) -> dict[tuple[Label | None, ...], list[ItemRow]]:
    groups: dict[tuple[Label | None, ...], list[ItemRow]] = {}
    for row in table.rows:
        groups.setdefault(tuple(row.labels.get(name) for name in table.group_by), []).append(row)
    return groups if table.group_by else {}


def _group_table(table: CampaignTable) -> list[dict[str, Any]]:
    there = counts(table.rows)
    lines: list[dict[str, Any]] = []
    for values, rows in _groups(table).items():
        found = counts(rows)
        seconds = [row.seconds for row in rows if math.isfinite(row.seconds)]
        lines.append(
            {
                "number": len(lines),
                "values": list(map(_text, values)),
                "counts": [(name, found.get(name, 0)) for name in there],
                "items": len(rows),
                "seconds": _duration(statistics.median(seconds)) if seconds else ABSENT,
            }
        )
    return lines


def _data(folder: Path, table: CampaignTable, same: Mapping[str, str]) -> dict[str, Any]:
    """What the script knows: everything that it shows, as numbers and as text rounded by the house's rule."""
    labels = [name for name in label_names(table) if name not in same]
    ranks, group_of = evidence_ranks(table), {values: k for k, values in enumerate(_groups(table))}
    there = {path.parent.name for path in (folder / "items").glob("*/report.html")}
    pictures = sum(row.thumbnail.size > 0 for row in table.rows)
    side = int(np.clip(math.isqrt(THUMBNAIL_BYTES // (4 * max(1, pictures))), *THUMBNAIL_SIDES))
    free = {parameter.name for row in table.rows for parameter in row.parameters if parameter.free}
    return {
        "standings": [*STANDINGS],
        "words": STANDING_WORDS,
        "labels": labels,
        "group_by": list(table.group_by),
        "parameters": [
            {"name": name, "unit": unit, "free": name in free} for name, unit in parameter_units(table).items()
        ],
        "missing": MISSING,
        "items": [
            {
                **_item(row, labels),
                "group": group_of.get(tuple(row.labels.get(name) for name in table.group_by)),
                "evidence": _evidence(row, ranks.get(place)),
                "report": f"items/{quote(row.name)}/report.html" if row.name in there else None,
                "picture": _packed(row.thumbnail, side),
            }
            for place, row in enumerate(table.rows)
        ],
        "laws": sorted(_laws(table, same), key=lambda law: bool(law["holds"])),
    }


def _item(row: ItemRow, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "index": row.index,
        "name": row.name,
        "file": row.file,
        "model": row.model,
        "method": row.method,
        "standing": standing(row),
        "reason": row.reason,
        "cause": _cause(row),
        "verdict": row.verdict,
        "labels": [_label(row.labels.get(name)) for name in labels],
        "q": _number(row.q),
        "chi": _number(row.chi_squared),
        "noise": row.noise_model,
        "seconds": _number(row.seconds),
        "parameters": {parameter.name: _parameter(parameter) for parameter in row.parameters},
        "warnings": list(row.warnings),
    }


def _parameter(found: ItemParameter) -> dict[str, Any]:
    """What there is to say about a parameter; the rest is left out, which is most of it times 10⁴ items."""
    shown = measurement(found.value, found.error)
    edges = [as_shown(edge, shown) for edge in (found.low, found.high)]
    known = math.isfinite(found.low) and math.isfinite(found.high)
    truth, off_by = beside_truth(found.value, found.truth, found.error, "σ")
    fields = {
        "value": _number(found.value),
        "error": _number(found.error),
        "low": _number(found.low),
        "high": _number(found.high),
        "probability": _number(found.probability),
        "shown": str(shown),
        "interval": powered(" to ".join(edges), shown) if known else None,
        "held": None if found.free else True,
        "bound": found.bound or None,
        "truth": _number(found.truth),
        "beside": None if found.truth is None else truth,
        "off": None if found.truth is None else off_by,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _evidence(row: ItemRow, place: EvidenceRank | None) -> dict[str, Any] | None:
    """The logarithm of the evidence, and where it puts the item among its competitors."""
    if row.log_evidence is None:
        return None
    words = ""
    if place is not None and place.rank == 1:
        words = f"best of {place.of}"
    elif place is not None:
        words = f"{place.rank} of {place.of}: {measurement(-place.below, place.error)}"
    error = math.nan if row.log_evidence_error is None else row.log_evidence_error
    return {
        "value": _number(row.log_evidence),
        "shown": str(measurement(row.log_evidence, error)),
        "rank": None if place is None else place.rank,
        "words": words,
    }


def _packed(thumbnail: Floats, side: int) -> dict[str, Any] | None:
    """Data, fit and residual as bytes 0 to 254 of their colour ranges, row by row, in base64."""
    if not thumbnail.size:
        return None
    panels = _coarser(np.asarray(thumbnail, dtype=float), side)
    there = np.isfinite(panels)
    low, high = np.percentile(panels[:2][there[:2]], [1, 99]) if there[:2].any() else (0.0, 1.0)
    limit = max(NOISE_LIMIT, float(np.percentile(np.abs(panels[2][there[2]]), 98)) if there[2].any() else 0.0)
    start, width = np.array([low, low, -limit]), np.array([high - low, high - low, 2 * limit])
    place = (np.where(there, panels, 0.0) - start[:, None, None]) / np.maximum(width, 1e-300)[:, None, None]
    levels = np.where(there, np.rint(np.clip(place, 0.0, 1.0) * (MISSING - 1)), MISSING).astype(np.uint8)
    return {
        "side": panels.shape[1],
        "low": float(low),
        "high": float(high),
        "limit": limit,
        "shown": [number(low, 3), number(high, 3), number(limit, 2)],
        "bytes": base64.b64encode(levels.tobytes()).decode(),
    }


def _coarser(panels: Floats, side: int) -> Floats:
    """Means over squares of points (of those that are finite), as large as it takes for `side` along each edge."""
    size = panels.shape[1]
    width = -(-size // side)
    if width == 1:
        return panels
    cells = -(-size // width)
    padded = np.full((len(panels), cells * width, cells * width), np.nan)
    padded[:, :size, :size] = np.where(np.isfinite(panels), panels, np.nan)
    blocks = padded.reshape(-1, cells, width, cells, width)
    known = np.isfinite(blocks).sum(axis=(2, 4))
    return np.where(known, np.nansum(blocks, axis=(2, 4)) / np.maximum(known, 1), np.nan)


def _laws(table: CampaignTable, same: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for series in q_series(table, FEWEST_Q):
        law = _power_law(series, range(len(series.q)))
        if law is not None:
            yield _law(table, series, law, same)


def _power_law(series: QSeries, which: Sequence[int]) -> PowerLaw | None:
    """The law through some points of a series."""
    estimates = [series.estimates[k] for k in which]
    return power_law([series.q[k] for k in which], [one.value for one in estimates], [one.error for one in estimates])


def _law(table: CampaignTable, series: QSeries, law: PowerLaw, same: Mapping[str, str]) -> dict[str, Any]:
    better = [k for k, place in enumerate(series.places) if standing(table.rows[place]) != "poor"]
    poor = len(series.places) - len(better)
    without = _power_law(series, better) if poor else None
    names = ", ".join(f"{name} {_text(value)}" for name, value in series.shared if name not in same)
    told = "model" not in same and series.model not in dict(series.shared).values()
    return {
        "parameter": series.parameter,
        "unit": series.unit,
        "of": f"{names}, {series.model}" if names and told else names or series.model,
        "points": list(zip(series.places, series.q, strict=True)),
        "amplitude": law.amplitude,
        "middle": law.q_middle,
        "exponent": law.exponent,
        "shown": str(measurement(law.exponent, law.error)),
        "interval": law.interval,
        "chi": law.chi_squared,
        "freedom": law.freedom,
        "chance": law.chance,
        "holds": law.holds,
        "poor": poor,
        "without": None if without is None else without.words,
        "meaning": law.meaning,
        "words": law.words,
    }
