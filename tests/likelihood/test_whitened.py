"""The inner product under the noise of speckles: against generalised least squares over all pairs, and its parts."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.likelihood import whitened as room
from hpcxpcs.likelihood.cells import TimeAxis
from hpcxpcs.likelihood.products import Products, no_tangents
from hpcxpcs.likelihood.shards import STRATEGIES, partition
from hpcxpcs.likelihood.whitened import (
    Averages,
    Neighbourhood,
    Whitened,
    arrays_of_angle,
    condensed,
    freedom_of,
    mean_shape,
    square_means,
    whitened,
)
from hpcxpcs.physics.model import Model, build_model

FRAMES, DEAD = 24, 5
THETA = np.array([3.0e4, 0.1, 0.0])
WHITE = 0.25


class Setting(NamedTuple):
    """One angle of a few frames with noise as data, its weights, and the shape that they follow from."""

    source: Whitened
    model: Model
    shape: np.ndarray
    data: np.ndarray
    alive: np.ndarray


HOLES = np.array([[2, 9], [2, 10], [7, 20], [11, 12]])


def setting(shared: float = 1.3, smooth: float = 1.69, unknown: float = 0.0, holes: np.ndarray = HOLES[:0]) -> Setting:
    rng = np.random.default_rng(0)
    axis = TimeAxis(0.1, 0.1, FRAMES)
    model = build_model("static", q=0.0054, gap=2.0e6)
    times, root = axis.times(np.arange(FRAMES))[None, :, None], np.ones((1, FRAMES))
    root[0, DEAD] = 0.0
    shape = np.array(mean_shape(model, jnp.asarray(THETA), jnp.asarray(times[0]), jnp.asarray(0.0)))
    data = rng.standard_normal((FRAMES, FRAMES))
    data = data + data.T
    np.fill_diagonal(data, unknown)
    data[holes[:, 0], holes[:, 1]] = data[holes[:, 1], holes[:, 0]] = unknown
    data[DEAD] = data[:, DEAD] = 0.0
    averages = Averages(axis, np.zeros(1), 1, times, root, data[None], (holes,))
    parts = (np.array([WHITE * part]) for part in (1.0, shared, smooth))
    source = whitened(averages, [shape], *parts, threads=1)
    return Setting(source, model, shape, data, np.flatnonzero(root[0]))


def products(setting: Setting, source: Whitened | None = None) -> Products:
    return (source or setting.source).products(setting.model, jnp.asarray(THETA), jnp.eye(3)[:, :2])


@pytest.mark.parametrize("holes", [HOLES[:0], HOLES], ids=["all pairs", "pairs are masked"])
@pytest.mark.parametrize("smooth", [1.69, 4.0], ids=["white pixels", "speckles larger than a pixel"])
def test_it_is_generalised_least_squares_with_the_covariance_of_all_pairs(smooth, holes, monkeypatch):
    monkeypatch.setattr(room, "FAINT", 0.0)
    shared = 1.3
    here = setting(shared, smooth, holes=holes)
    f, same = here.shape[np.ix_(here.alive, here.alive)], np.eye(here.alive.size)
    i, j = np.triu_indices(here.alive.size, 1)
    masked = {tuple(hole) for hole in holes}
    used = [(here.alive[a], here.alive[b]) not in masked for a, b in zip(i, j, strict=True)]
    i, j = i[used], j[used]

    def covariance(a, b, c, d):
        half = shared * (same[a, c] * f[b, d] + f[a, c] * same[b, d])
        return same[a, c] * same[b, d] + half + smooth * f[a, c] * f[b, d]

    one, two = (i[:, None], j[:, None]), (i[None], j[None])
    full = WHITE * (covariance(*one, *two) + covariance(*one, two[1], two[0]))
    basis = square_means(
        here.model, jnp.asarray(THETA), jnp.eye(3)[:, :2], here.source.angles[0].times, jnp.asarray(0.0)
    )
    fields = np.concatenate([np.asarray(basis), here.data[None]])[:, here.alive][:, :, here.alive][:, i, j]
    expected = WHITE * fields @ np.linalg.solve(full, fields.T)
    found = products(here)
    np.testing.assert_allclose(found.gram[0], expected[:-1, :-1], rtol=1e-9)
    np.testing.assert_allclose(found.data[0], expected[-1, :-1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.power[0], expected[-1, -1], rtol=1e-9)


def test_eigenvectors_that_are_left_out_change_little():
    few, here = setting(), setting(shared=0.3, smooth=0.09)
    assert few.source.angles[0].modes.shape[1] <= FRAMES
    exact = products(here)
    everything = replace(here.source, angles=(all_kept(here, 0.3, 0.09),))
    np.testing.assert_allclose(exact.gram, products(here, everything).gram, rtol=3.0 * room.FAINT)


def all_kept(here: Setting, shared: float, smooth: float):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "FAINT", 0.0)
        parts = (np.array([WHITE * part]) for part in (1.0, shared, smooth))
        return whitened(here.source.averages, [here.shape], *parts, threads=1).angles[0]


def test_what_the_diagonal_and_masked_pairs_hold_does_not_matter():
    one, other = products(setting(holes=HOLES)), products(setting(unknown=7.0, holes=HOLES))
    for mine, its in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_without_shared_noise_it_is_the_sum_over_pairs():
    here = setting(shared=0.0, smooth=0.0)
    i, j = np.triu_indices(FRAMES, 1)
    used = (i != DEAD) & (j != DEAD)
    fields = np.stack([here.shape, np.ones_like(here.shape), here.data])[:, i[used], j[used]]
    found = products(here)
    np.testing.assert_allclose(found.gram[0, :2, :2], fields[:2] @ fields[:2].T, rtol=1e-9)
    np.testing.assert_allclose(found.data[0, :2], fields[:2] @ fields[2], rtol=1e-9, atol=1e-9)


def near() -> Neighbourhood:
    rng = np.random.default_rng(3)
    thetas = THETA * (1.0 + 0.2 * rng.standard_normal((60, 3)))
    thetas[0] = THETA
    return Neighbourhood(thetas, np.array([100.0]))


def test_condensed_it_is_the_same_within_the_window():
    here, window = setting(), near()
    moments, _ = condensed(here.source, here.model, window)
    theta = jnp.asarray(window.thetas[7])
    for packed, full in zip(
        moments.products(here.model, theta, no_tangents(theta)),
        here.source.products(here.model, theta, no_tangents(theta)),
        strict=True,
    ):
        np.testing.assert_allclose(packed, full, rtol=1e-3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_shards_add_up_to_the_whole(strategy):
    here, window = setting(holes=HOLES), near()
    sets = partition(strategy, 4, FRAMES, 0)
    whole, parts = condensed(here.source, here.model, window, sets)
    theta = jnp.asarray(window.thetas[7])
    total = [part.products(here.model, theta, no_tangents(theta)) for part in parts]
    assert sum(part.pairs for part in parts) == pytest.approx(whole.pairs)
    for leaves, expected in zip(
        zip(*total, strict=True), whole.products(here.model, theta, no_tangents(theta)), strict=True
    ):
        np.testing.assert_allclose(sum(leaves), expected, rtol=1e-9)


@pytest.mark.parametrize("holes", [HOLES[:0], HOLES], ids=["all pairs", "pairs are masked"])
def test_every_pair_counts_once_among_the_blocks(holes):
    alive = FRAMES - 1
    expected = alive * (alive - 1) / 2 - len(holes)
    assert freedom_of(setting(holes=holes).source.angles[0]).sum() == pytest.approx(expected)


def test_squares_are_means_of_their_frames():
    here, width = setting(), 2
    t = here.source.averages.axis.times(np.arange(FRAMES)).reshape(-1, width)
    times = t.mean(axis=1)[:, None] + t.std(axis=1)[:, None] * np.array([[-1.0, 1.0]])
    found = np.asarray(mean_shape(here.model, *map(jnp.asarray, (THETA, times, 0.0))))
    expected = here.shape.reshape(12, width, 12, width).mean(axis=(1, 3))
    above = np.triu_indices(12, 1)
    np.testing.assert_allclose(found[above], expected[above], rtol=1e-9)


def test_stored_and_made_again_it_is_the_same():
    here = setting()
    (angle,) = here.source.angles
    again = type(angle)(**arrays_of_angle(angle))
    for mine, its in zip(products(here), products(here, replace(here.source, angles=(again,))), strict=True):
        np.testing.assert_array_equal(mine, its)
