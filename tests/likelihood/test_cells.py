"""Cells hold every usable pair once, and are fine where the model bends."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcxpcs.likelihood import cells
from hpcxpcs.likelihood.cells import (
    ORDER,
    Cell,
    TimeAxis,
    adapt_cells,
    cell_nodes,
    geometric_cells,
    lagrange_matrix,
)
from tests.likelihood.measured import Case, measured, pairs_of_cell, random_cells, shape_of

axes = st.builds(TimeAxis, st.sampled_from([0.0, 0.1, 5.0]), st.just(0.1), st.integers(3, 70))
boxes = st.builds(
    lambda first, rows, lag, lags: Cell(first, first + rows, lag, lag + lags),
    st.integers(0, 20),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 20),
)


def every_pair(axis: TimeAxis) -> Counter[tuple[int, int]]:
    """Each pair i < j of frames with t > 0, once."""
    first = axis.first_usable
    return Counter((i, j) for i in range(first, axis.count) for j in range(i + 1, axis.count))


def held_by(cells, axis: TimeAxis) -> Counter[tuple[int, int]]:
    """How often each pair is held."""
    return Counter(pair for cell in cells for pair in pairs_of_cell(cell, axis.count))


@given(boxes, st.integers(2, 40))
def test_a_cell_counts_the_pairs_inside_the_window(cell, count):
    assert cell.pair_count(count) == len(pairs_of_cell(cell, count))


@given(boxes, st.integers(2, 40))
def test_clipping_keeps_every_pair_and_leaves_no_empty_row_or_lag(cell, count):
    pairs = pairs_of_cell(cell, count)
    clipped = cell.clipped(count)
    assert (clipped is None) == (not pairs)
    if clipped is not None:
        assert pairs_of_cell(clipped, count) == pairs
        assert {i for i, _ in pairs} == set(range(clipped.first, clipped.stop))
        assert {j - i for i, j in pairs} == set(range(clipped.lag_first, clipped.lag_stop))


def test_given_time_zero_in_the_window_then_its_frame_is_never_used():
    assert TimeAxis(0.0, 0.1, 5).first_usable == 1
    assert TimeAxis(0.1, 0.1, 5).first_usable == 0


@given(axes)
def test_the_root_cell_holds_every_usable_pair_once(axis):
    assert held_by([axis.root()], axis) == every_pair(axis)


@given(axes, st.data(), st.integers(0, 25))
def test_cells_cut_at_random_hold_every_usable_pair_once(axis, data, cuts):
    assert held_by(random_cells(axis, data, cuts), axis) == every_pair(axis)


@given(axes, st.floats(1.0, 10.0))
def test_geometric_cells_hold_every_usable_pair_once_whatever_the_ratio(axis, ratio):
    assert held_by(geometric_cells(axis, ratio), axis) == every_pair(axis)


@given(st.floats(1.2, 4.0))
def test_geometric_cells_span_at_most_the_ratio_in_lag_and_start(ratio):
    for cell in geometric_cells(TimeAxis(0.1, 0.1, 200), ratio):
        assert cell.lag_stop - 1 <= ratio * cell.lag_first or cell.lag_stop - cell.lag_first == 1
        assert cell.stop - 1 <= ratio * max(cell.first, 1) or cell.stop - cell.first <= ORDER


@settings(max_examples=15)
@given(axes, st.sampled_from([0.01, 0.5, 20.0]))
def test_adapted_cells_hold_every_usable_pair_once_whatever_the_error_asked_for(axis, error):
    cells = adapted(STATIC, axis, error).cells
    assert held_by(cells, axis) == every_pair(axis)


def test_nodes_lie_inside_their_cell_and_number_at_most_the_order_per_direction():
    axis = TimeAxis(0.0, 0.1, 300)
    for cell in geometric_cells(axis):
        starts, lags = cell_nodes(cell, axis)
        rows, widths = axis.times(np.arange(cell.first, cell.stop)), cell.lag_stop - cell.lag_first
        assert starts.size == min(ORDER, rows.size) and lags.size == min(ORDER, widths)
        assert rows[0] * 0.999999 <= starts[0] and starts[-1] <= rows[-1] * 1.000001
        assert 0.0999999 * cell.lag_first <= lags[0] and lags[-1] <= 0.1000001 * (cell.lag_stop - 1)


def adapted(case: Case, axis: TimeAxis, error: float, scale: float = 1.0) -> cells.Partition:
    """Cells for a case's truth on another axis."""
    thetas = case.theta[None]
    return adapt_cells(case.model, thetas, case.phi, scale * case.strength, axis, error=error)


def interpolation_norm(case: Case, cells, theta: np.ndarray) -> float:
    """√Σ (contrast·(Pf − f)/σ)² over every pair and angle, pair by pair."""
    axis = case.axis
    total = 0.0
    for cell in cells:
        starts, lags = cell_nodes(cell, axis)
        rows = axis.times(np.arange(cell.first, cell.stop))
        spans = axis.step * np.arange(cell.lag_first, cell.lag_stop)
        held = rows[:, None] + spans[None, :] <= axis.times(axis.count - 1) + 0.5 * axis.step
        for phi, weight in zip(case.phi, case.strength, strict=True):
            f = [
                shape_of(case.model, theta, phi, t[:, None], t[:, None] + d[None, :])
                for t, d in ((starts, lags), (rows, spans))
            ]
            error = lagrange_matrix(rows, starts) @ f[0] @ lagrange_matrix(spans, lags).T - f[1]
            total += weight * float(np.sum(error[held] ** 2))
    return float(np.sqrt(total))


STATIC = measured("static", frames=16)


@pytest.fixture(scope="module")
def flow() -> Case:
    return measured("laminar_flow", frames=120, noise=0.002)


@pytest.mark.parametrize("error", [3.0, 0.3])
def test_the_reported_error_of_adapted_cells_is_the_true_interpolation_error(flow, error):
    partition = adapted(flow, flow.axis, error)
    assert partition.resolved and partition.error <= error
    true = interpolation_norm(flow, partition.cells, flow.theta)
    assert partition.error / 1.7 < true < partition.error * 1.7


def test_a_smaller_error_costs_more_nodes_and_a_weaker_signal_fewer(flow):
    nodes = [adapted(flow, flow.axis, error).nodes for error in (5.0, 0.5, 0.05)]
    assert nodes[0] < nodes[1] < nodes[2]
    assert adapted(flow, flow.axis, 0.5, scale=0.01).nodes == adapted(flow, flow.axis, 5.0).nodes


def test_given_more_frames_in_the_same_time_window_then_the_nodes_grow_far_less_than_the_pairs(flow):
    few = adapted(flow, TimeAxis(0.25, 0.25, 400), 0.5, scale=0.25)
    many = adapted(flow, TimeAxis(0.0625, 0.0625, 1600), 0.5, scale=0.25 / 16)
    assert many.nodes < 1.7 * few.nodes


def test_given_a_partition_to_start_from_then_its_cells_are_only_cut_further(flow):
    coarse = adapted(flow, flow.axis, 5.0)
    fine = adapt_cells(flow.model, flow.theta[None], flow.phi, flow.strength, flow.axis, error=0.5, start=coarse.cells)
    assert fine.error <= 0.5
    assert held_by(fine.cells, flow.axis) == every_pair(flow.axis)
    for cell in fine.cells:
        assert any(
            c.first <= cell.first
            and cell.stop <= c.stop
            and c.lag_first <= cell.lag_first
            and cell.lag_stop <= c.lag_stop
            for c in coarse.cells
        )


def test_given_two_parameter_sets_then_the_cells_serve_the_harder_one(flow):
    harder = flow.theta * np.where(np.arange(7) == 3, 4.0, 1.0)
    both = adapt_cells(flow.model, np.stack([flow.theta, harder]), flow.phi, flow.strength, flow.axis, error=0.2).cells
    assert interpolation_norm(flow, both, harder) < 0.3
    assert interpolation_norm(flow, both, flow.theta) < 0.3
    assert interpolation_norm(flow, adapted(flow, flow.axis, 0.2).cells, harder) > 0.5


def test_given_too_few_nodes_to_reach_the_error_then_the_partition_says_so(flow, monkeypatch):
    monkeypatch.setattr(cells, "MOST_NODES", 100)
    partition = adapted(flow, flow.axis, 0.1)
    assert not partition.resolved and partition.error > 0.1
    assert held_by(partition.cells, flow.axis) == every_pair(flow.axis)
