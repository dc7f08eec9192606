"""The likelihood made ready for sampling: condensed around the posterior, cut into shards, anchored; storable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.inference.coordinates import Coordinates, reference_time
from hpcxpcs.inference.exchange import lead_of
from hpcxpcs.inference.laplace import Anchor, anchor, find_mode
from hpcxpcs.inference.prior_density import PriorTerms, supported
from hpcxpcs.inference.records import PointFit
from hpcxpcs.inference.stages import Fitted
from hpcxpcs.inference.support import Support
from hpcxpcs.inference.target import Space, Target, position
from hpcxpcs.inference.trust_region import whitening
from hpcxpcs.likelihood.condense import Condensation, condensation, from_arrays, to_arrays
from hpcxpcs.likelihood.interpolation import Floats
from hpcxpcs.likelihood.moments import MomentArrays, Moments
from hpcxpcs.likelihood.scaling import Scaling

CLOUD = (1.0, 2.0, 3.0)
"""Widths, in standard deviations, of the clouds of parameters that the condensed points must represent."""

CLOUD_SETS = 12
"""Sets per sampling coordinate and width."""

MOVED = 0.5
"""A mode this many standard deviations from where the points were chosen has them chosen again."""

SMALLEST_SCALE = 1.0e-6
"""Noise scale from which sampling starts when data and model agree to rounding."""

_OWN = ("pairs", "tempering", "precision", "shift", "transform")
"""What a shard's target does not share with the full one, besides its moments."""

_SHARED = ("sigma", "origin", "softness")
"""What it does share."""

_SCALING = ("contrast_basis", "offset_basis", "precision", "contrast_base", "offset_base")


@dataclass(frozen=True)
class Prepared:
    """Everything sampling needs: the space, the full target, one target per shard, the anchor (None without).

    `points` per angle stand for the nodes; `condensing_error` is the largest norm (sd) that they lose of a shape.
    """

    space: Space
    full: Target
    shards: tuple[Target, ...]
    anchor: Anchor | None
    points: int
    condensing_error: float


def space_of(
    model_coordinates: Coordinates,
    parameters: Sequence[ResolvedParameter],
    time_range: tuple[float, float],
    samples_noise: bool,
    lead: int = 0,
) -> Space:
    """The sampling space of a model's parameters on a time range (s); the softness of its support is the target's.

    `lead` is the order of two components, as Support takes it.
    """
    lower, upper = zip(*(supported(parameter) for parameter in parameters), strict=True)
    unused = (1.0,) * len(model_coordinates.free)
    support = Support(model_coordinates, lower, upper, *time_range, unused, lead)
    return Space(support, PriorTerms.of(parameters), samples_noise)


def prepare_full(
    point: PointFit,
    fitted: Fitted,
    parameters: Sequence[ResolvedParameter],
    samples_noise: bool,
    seed: int,
    width: float = 1.0,
) -> tuple[Space, Target, Condensation]:
    """The full posterior, condensed and whitened at its mode; clouds are `width` times wider than CLOUD."""
    objective, moments = fitted.settled.objective, fitted.represented.moments
    limits, model = objective.limits, objective.coordinates.model
    fixed = tuple((k, p.fixed) for k, p in enumerate(parameters) if p.fixed is not None)
    time_range = (limits.first, limits.last)
    coordinates = Coordinates(model, reference_time(*time_range), fixed)
    u = coordinates.from_physical(point.values)
    scale = max(point.noise_scale, SMALLEST_SCALE)
    transform = whitening(replace(objective, coordinates=coordinates).expand(u)) * scale
    spread = np.sqrt((transform**2).sum(axis=1))
    space = space_of(coordinates, parameters, time_range, samples_noise, lead_of(point, coordinates.t_ref))
    support = space.support.softened(u, spread)
    origin = support.from_coordinates(u)
    if samples_noise:
        origin = np.append(origin, np.log(scale))
        transform = _with_corner(transform, 1.0 / np.sqrt(2.0 * point.pairs.sum()))
    nothing = np.zeros(space.size + objective.scaling.precision.size)
    target = Target(
        arrays=moments.arrays,
        scaling=objective.scaling,
        sigma=objective.sigma,
        pairs=jnp.asarray(moments.pairs),
        tempering=jnp.ones(()),
        precision=jnp.asarray(np.outer(nothing, nothing)),
        shift=jnp.asarray(nothing),
        origin=jnp.asarray(origin),
        transform=jnp.asarray(transform),
        softness=jnp.asarray(support.softness),
    )
    strength = (point.scaling.contrast / (point.sigma * scale)) ** 2
    return _at_mode(space, target, moments, strength, seed, width)


def _at_mode(
    space: Space, target: Target, moments: Moments, strength: Floats, seed: int, width: float
) -> tuple[Space, Target, Condensation]:
    """Condense, climb to the mode, and condense again if it was far."""
    model = space.support.coordinates.model
    for _ in range(2):
        chosen = condensation(moments, model, _cloud(space, target, seed, width), strength)
        condensed = replace(target, arrays=chosen.apply(moments))
        mode = find_mode(space, condensed)
        there = replace(condensed, origin=jnp.asarray(mode.x), transform=jnp.asarray(mode.transform))
        step = np.linalg.solve(np.asarray(target.transform), mode.x - np.asarray(target.origin))
        stretch = np.linalg.solve(np.asarray(target.transform), mode.transform)
        if np.abs(step).max() < MOVED and np.linalg.norm(stretch, 2) < 1.0 + MOVED:
            break
        target = replace(there, arrays=moments.arrays)
    return space, there, chosen


def _cloud(space: Space, target: Target, seed: int, width: float) -> Floats:
    """Parameter sets (s, p) around a target's origin, of several widths."""
    rng = np.random.default_rng([seed, 1])
    count = CLOUD_SETS * space.size
    z = np.concatenate([width * size * rng.standard_normal((count, space.size)) for size in CLOUD])
    found = np.asarray(_parameters(space, target, jnp.asarray(z)))
    return found[np.all(np.isfinite(found), axis=1)]


@partial(jax.jit, static_argnums=0)
def _parameters(space: Space, target: Target, z: jax.Array) -> jax.Array:
    def one(its: jax.Array) -> jax.Array:
        return space.parameters(position(target, its), target.softness)[0]

    return jax.vmap(one)(z)


def prepare_shards(
    space: Space, full: Target, chosen: Condensation, parts: Iterable[Moments], count: int, anchored: bool
) -> Prepared:
    """Targets of `count` shards from their moments; the full target becomes their exact sum."""
    if count == 1:
        return Prepared(space, full, (full,), None, chosen.points, chosen.error)
    condensed = [(chosen.apply(part), jnp.asarray(part.pairs)) for part in parts]
    share = jnp.asarray(1.0 / count)
    wider = full.transform * np.sqrt(count)
    shards = [
        replace(full, arrays=arrays, pairs=pairs, tempering=share, transform=wider)
        for arrays, pairs in condensed
    ]
    found = None
    if anchored:
        shards = [replace(shard, tempering=jnp.zeros(()), transform=full.transform) for shard in shards]
        found = anchor(space, full, shards)
        shards = [
            replace(shard, precision=jnp.asarray(precision), shift=jnp.asarray(shift))
            for shard, (precision, shift) in zip(shards, found.cavities, strict=True)
        ]
    return Prepared(space, full, tuple(shards), found, chosen.points, chosen.error)


def stored(prepared: Prepared) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and JSON values from which `restored` makes the same targets."""
    full, anchored = prepared.full, prepared.anchor
    arrays = {f"full/{name}": array for name, array in to_arrays(full.arrays).items()}
    arrays |= {f"scaling/{name}": np.asarray(getattr(full.scaling, name)) for name in _SCALING}
    arrays |= {name: np.asarray(getattr(full, name)) for name in (*_SHARED, "pairs", "transform")}
    arrays["time_range"] = np.array([prepared.space.support.first, prepared.space.support.last])
    shards = prepared.shards if len(prepared.shards) > 1 else ()
    for index, shard in enumerate(shards):
        arrays |= {f"shards/{index}/{name}": array for name, array in to_arrays(shard.arrays).items()}
        for name in _OWN:
            arrays[f"shards/{index}/{name}"] = np.asarray(getattr(shard, name))
    if anchored is not None:
        for name in ("mean", "covariance", "estimates", "covariances"):
            arrays[f"anchor/{name}"] = getattr(anchored, name)
    arrays["condensing_error"] = np.asarray(prepared.condensing_error)
    values = {
        "scaling_mode": full.scaling.mode,
        "samples_noise": prepared.space.samples_noise,
        "shards": len(prepared.shards),
        "points": prepared.points,
        "lead": prepared.space.support.lead,
    }
    return arrays, values


def restored(
    arrays: Mapping[str, np.ndarray],
    values: Mapping[str, Any],
    coordinates: Coordinates,
    parameters: Sequence[ResolvedParameter],
) -> Prepared:
    """What `stored` kept, for the model and the parameters it was made with."""
    first, last = map(float, arrays["time_range"])
    space = space_of(coordinates, parameters, (first, last), values["samples_noise"], values["lead"])
    scaling = Scaling(values["scaling_mode"], *(jnp.asarray(arrays[f"scaling/{name}"]) for name in _SCALING))
    nothing = jnp.zeros(space.size + scaling.precision.size)
    full = Target(
        arrays=_moment_arrays(arrays, "full/"),
        scaling=scaling,
        pairs=jnp.asarray(arrays["pairs"]),
        tempering=jnp.ones(()),
        precision=jnp.outer(nothing, nothing),
        shift=nothing,
        transform=jnp.asarray(arrays["transform"]),
        **{name: jnp.asarray(arrays[name]) for name in _SHARED},
    )
    shards = [full]
    if values["shards"] > 1:
        shards = [_shard_of(full, arrays, f"shards/{index}/") for index in range(values["shards"])]
    return Prepared(
        space,
        full,
        tuple(shards),
        _anchor_of(arrays),
        values["points"],
        float(arrays["condensing_error"]),
    )


def _shard_of(full: Target, arrays: Mapping[str, np.ndarray], prefix: str) -> Target:
    own: dict[str, Any] = {name: jnp.asarray(arrays[prefix + name]) for name in _OWN}
    return replace(full, arrays=_moment_arrays(arrays, prefix), **own)


def _moment_arrays(arrays: Mapping[str, np.ndarray], prefix: str) -> MomentArrays:
    return from_arrays(
        {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
    )


def _anchor_of(arrays: Mapping[str, np.ndarray]) -> Anchor | None:
    if "anchor/mean" not in arrays:
        return None
    kept = {name: arrays[f"anchor/{name}"] for name in ("mean", "covariance", "estimates", "covariances")}
    return Anchor(cavities=(), **kept)


def _with_corner(matrix: Floats, corner: float) -> Floats:
    """A matrix (n, n) bordered by zeros and one more diagonal element."""
    size = matrix.shape[0]
    found = np.zeros((size + 1, size + 1))
    found[:size, :size] = matrix
    found[size, size] = corner
    return found
