"""What items of a campaign have in common: columns of labels, who competes with whom, which differ in q alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from hpcxpcs.answer.campaign import CampaignTable, ItemParameter, ItemRow, Label
from hpcxpcs.errors import ConfigError
from hpcxpcs.results.ranking import Ranked, compare

STANDINGS = ("failed", "poor", "acceptable", "done", "good", "running", "waiting")
"""What becomes of items, the worst first: the quality of an answer, "done" where nobody judged it, or the state."""

SAME_Q = 1e-6
"""Relative difference up to which a label is the wavevector of its item: files store q in single precision."""

Others = tuple[tuple[str, Label], ...]


@dataclass(frozen=True)
class EvidenceRank:
    """Place of an item among `of` items that differ from it in the model alone; 1 is the most probable.

    `below` is the natural logarithm (nats) of how much more probable the best one is, and `error` that of `below`.
    """

    rank: int
    of: int
    below: float
    error: float


@dataclass(frozen=True)
class QSeries:
    """A parameter of items that differ in q (1/Å) alone: places in the table's rows, and what the others share."""

    parameter: str
    unit: str
    model: str
    shared: Others
    places: tuple[int, ...]
    q: tuple[float, ...]
    estimates: tuple[ItemParameter, ...]


def standing(row: ItemRow) -> str:
    """One of STANDINGS."""
    return (row.quality or "done") if row.state == "done" else row.state


def label_names(table: CampaignTable) -> tuple[str, ...]:
    """The labels of the table, then those that only rows know, in the order of the rows."""
    return tuple(dict.fromkeys((*table.labels, *(name for row in table.rows for name in row.labels))))


def parameter_units(table: CampaignTable) -> dict[str, str]:
    """Every parameter of any item with its unit, in the order of the rows; units that differ stand side by side."""
    found: dict[str, dict[str, None]] = {}
    for row in table.rows:
        for parameter in row.parameters:
            found.setdefault(parameter.name, {})[parameter.unit] = None
    return {name: " | ".join(units) for name, units in found.items()}


def column_names(labels: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """A column of its own for every label: its name, with `label_` in front where the file has such a column."""
    used, columns = set(taken), {}
    for label in labels:
        name = label if label not in used else f"label_{label}"
        if name in used:
            name = next(longer for number in count(2) if (longer := f"{name}_{number}") not in used)
        used.add(name)
        columns[label] = name
    return columns


def evidence_ranks(table: CampaignTable) -> dict[int, EvidenceRank]:
    """Ranks by place in the rows, of items that have a log-evidence and a competitor of another model."""
    contests: dict[tuple[object, ...], list[int]] = {}
    for place, row in enumerate(table.rows):
        if row.log_evidence is not None and math.isfinite(row.log_evidence) and row.evidence_basis:
            others = tuple((name, value) for name, value in row.labels.items() if value != row.model)
            contests.setdefault((row.file, row.method, repr(float(row.q)), others), []).append(place)
    ranks: dict[int, EvidenceRank] = {}
    for places in contests.values():
        if len({table.rows[place].model for place in places}) > 1:
            ranks |= dict(_ranked(table, places))
    return ranks


def _ranked(table: CampaignTable, places: list[int]) -> Iterator[tuple[int, EvidenceRank]]:
    """The ranks of items that differ in their model; none where their evidence cannot be compared."""
    try:
        ranking = compare([_contestant(table.rows[place]) for place in places])
    except ConfigError:
        return
    where = {table.rows[place].name: place for place in places}
    best = ranking.runs[0].compared
    for number, (one, error) in enumerate(zip(ranking.runs, ranking.errors, strict=True), start=1):
        apart = math.nan if number == 1 else error
        yield where[one.run.name], EvidenceRank(number, len(places), best - one.compared, apart)


def _contestant(row: ItemRow) -> Ranked:
    free: dict[str, dict[str, object]] = {one.name: {} for one in row.parameters if one.free}
    return Ranked(
        run=Path(row.name),
        model=row.model,
        method=row.method,
        log_evidence=row.log_evidence or 0.0,
        error=row.log_evidence_error or 0.0,
        chi_squared=row.chi_squared,
        verdict=row.verdict,
        priors=free,
        basis=row.evidence_basis,
        widening=float(row.evidence_basis.get("widening", 1.0)),
    )


def q_series(table: CampaignTable, fewest: int) -> Iterator[QSeries]:
    """Every parameter of items that differ in q alone, with at least so many different q at which it is determined.

    Determined is what is free, does not lie at a bound, and has an error bar.
    """
    aliases = _labels_of_q(table)
    groups: dict[tuple[str, str, Others], list[int]] = {}
    for place, row in enumerate(table.rows):
        if row.state == "done" and row.q > 0 and math.isfinite(row.q):
            shared = tuple((name, value) for name, value in row.labels.items() if name not in aliases)
            groups.setdefault((row.model, row.method, shared), []).append(place)
    for (model, _, shared), places in groups.items():
        yield from _series_of(table, model, shared, sorted(places, key=lambda place: table.rows[place].q), fewest)


def _series_of(table: CampaignTable, model: str, shared: Others, places: list[int], fewest: int) -> Iterator[QSeries]:
    found: dict[str, list[tuple[int, ItemParameter]]] = {}
    for place in places:
        for parameter in table.rows[place].parameters:
            if determined(parameter):
                found.setdefault(parameter.name, []).append((place, parameter))
    for name, estimates in found.items():
        q = tuple(table.rows[place].q for place, _ in estimates)
        if len(set(q)) >= fewest:
            where, which = zip(*estimates, strict=True)
            yield QSeries(name, which[0].unit, model, shared, where, q, which)


def determined(parameter: ItemParameter) -> bool:
    """A value with an error bar that means something."""
    usable = parameter.free and not parameter.bound and math.isfinite(parameter.value)
    return usable and math.isfinite(parameter.error) and parameter.error > 0


def _labels_of_q(table: CampaignTable) -> set[str]:
    """Labels that say the same as q: of this name, with its value, or with one value for every q."""
    rows = [row for row in table.rows if math.isfinite(row.q)]
    aliases = {"q"}
    for name in label_names(table):
        pairs = {(row.labels.get(name), row.q) for row in rows}
        values, all_q = {value for value, _ in pairs}, {q for _, q in pairs}
        if len(pairs) == len(values) == len(all_q) > 1 or (pairs and all(_is_q(*pair) for pair in pairs)):
            aliases.add(name)
    return aliases


def _is_q(value: Label | None, q: float) -> bool:
    return isinstance(value, int | float) and math.isclose(value, q, rel_tol=SAME_Q)


def counts(rows: Iterable[ItemRow]) -> Mapping[str, int]:
    """How many items stand how, the worst first, without those that do not occur."""
    found = dict.fromkeys(STANDINGS, 0)
    for row in rows:
        found[standing(row)] = found.get(standing(row), 0) + 1
    return {name: number for name, number in found.items() if number}
