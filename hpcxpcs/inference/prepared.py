"""The likelihood made ready for sampling: condensed around the posterior, cut into shards, anchored; storable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.thresholds import SIGNIFICANCE
from hpcxpcs.arrays import Floats
from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.inference.consensus import Outlier, heterogeneity, outlying, weights_of
from hpcxpcs.inference.coordinates import Coordinates, reference_time
from hpcxpcs.inference.exchange import lead_of
from hpcxpcs.inference.laplace import Anchor, Mode, anchor, climbed, find_mode, whitening_of
from hpcxpcs.inference.stages import Fitted
from hpcxpcs.inference.support import Support
from hpcxpcs.inference.target import PriorTerms, Space, Target, parameters_at, supported
from hpcxpcs.inference.trust_region import whitening
from hpcxpcs.likelihood.condense import Condensation, condensation, moments_from_arrays, moments_to_arrays
from hpcxpcs.likelihood.moments import MomentArrays, Moments
from hpcxpcs.likelihood.scaling import Scaling

CLOUD = (1.0, 2.0, 3.0)
"""Widths, in standard deviations, of the clouds of parameters that the condensed points must represent."""

CLOUD_SETS = 12
"""Sets per sampling coordinate and width."""

MOVED = 0.5
"""A mode this many standard deviations from where the points were chosen has them chosen again."""

CONDENSINGS = 4
"""How often points are chosen before the mode counts as found; twice is enough but for shards that contradict."""

WEIGHINGS, STEADY = 4, 0.05
"""How often shards are judged at the mode that their weights lead to, and the relative change of a weight that ends it:
one round is exact for normal likelihoods, two were enough wherever it was tried."""

SMALLEST_SCALE = 1.0e-6
"""Noise scale from which sampling starts when data and model agree to rounding."""

_OWN = ("pairs", "tempering", "precision", "shift", "transform")
"""What a shard's target does not share with the full one, besides its moments."""

_SHARED = ("sigma", "origin", "softness")
"""What it does share."""

_PICTURE = ("mean", "covariance", "estimates", "covariances")
"""What is kept of the Gaussian picture: the cavities are in the shards."""

_SCALING = ("contrast_basis", "offset_basis", "precision", "contrast_base", "offset_base")


@dataclass(frozen=True)
class Prepared:
    """Everything sampling needs: the space, the full target, one target per shard, their Gaussian picture.

    `picture` is None for a single shard; `anchored` says whether shards know the others through it. The full target
    and the shards hold the likelihood of shard k to the power `weights`[k] (K,), below 1 for those of the
    `contradictions` if the posterior is robust; `data` is the likelihood of all pairs as they were measured. `points`
    per angle stand for the nodes; `condensing_error` is the largest norm (sd) that they lose of a shape. `peaks` are
    those besides the full target's own, for draws that can come from several.
    """

    space: Space
    full: Target
    data: Target
    shards: tuple[Target, ...]
    picture: Anchor | None
    anchored: bool
    weights: Floats
    contradictions: tuple[Outlier, ...]
    points: int
    condensing_error: float
    peaks: tuple[Mode, ...] = ()


@dataclass(frozen=True)
class Whole:
    """The full posterior at its mode, condensed as `chosen` says, and what it takes to do so again.

    `moments` are of all pairs; `strength` (n_phi,) is (contrast/σ)²; `seed` and `width` are those of the clouds.
    """

    space: Space
    full: Target
    chosen: Condensation
    moments: Moments
    strength: Floats
    seed: int
    width: float

    def of(self, moments: Moments) -> Whole:
        """The same posterior of other moments over the same cells, at its own mode."""
        target = replace(self.full, arrays=moments.arrays, pairs=jnp.asarray(moments.pairs))
        space, full, chosen = _at_mode(self.space, target, moments, self.strength, self.seed, self.width)
        return replace(self, space=space, full=full, chosen=chosen)


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
    support = Support.of(model_coordinates, lower, upper, time_range, lead)
    return Space(support, PriorTerms.of(parameters), samples_noise)


def prepare_full(
    point: PointFit,
    fitted: Fitted,
    samples_noise: bool,
    seed: int,
    width: float = 1.0,
) -> Whole:
    """The full posterior, condensed and whitened at its mode; clouds are `width` times wider than CLOUD."""
    objective, moments = fitted.settled.objective, fitted.represented.moments
    limits, model, parameters = objective.limits, objective.coordinates.model, fitted.sampled
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
        softness=support.softness,
    )
    strength = (point.scaling.contrast / (point.sigma * scale)) ** 2
    space, full, chosen = _at_mode(space, target, moments, strength, seed, width)
    return Whole(space, full, chosen, moments, strength, seed, width)


def _at_mode(
    space: Space, target: Target, moments: Moments, strength: Floats, seed: int, width: float
) -> tuple[Space, Target, Condensation]:
    """Condense, climb to the mode, and condense again if it was far."""
    model = space.support.coordinates.model
    for _ in range(CONDENSINGS):
        chosen = condensation(moments, model, cloud(space, target, seed, width), strength)
        condensed = replace(target, arrays=chosen.apply(moments))
        mode = find_mode(space, condensed)
        there = replace(condensed, origin=jnp.asarray(mode.x), transform=jnp.asarray(mode.transform))
        step = np.linalg.solve(np.asarray(target.transform), mode.x - np.asarray(target.origin))
        stretch = np.linalg.solve(np.asarray(target.transform), mode.transform)
        if np.abs(step).max() < MOVED and np.linalg.norm(stretch, 2) < 1.0 + MOVED:
            break
        target = replace(there, arrays=moments.arrays)
    return space, there, chosen


def cloud(space: Space, target: Target, seed: int, width: float) -> Floats:
    """Parameter sets (s, p) around a target's origin, of several widths."""
    rng = np.random.default_rng([seed, 1])
    count = CLOUD_SETS * space.size
    z = np.concatenate([width * size * rng.standard_normal((count, space.size)) for size in CLOUD])
    found = np.asarray(parameters_at(space, target, jnp.asarray(z))[0])
    return found[np.all(np.isfinite(found), axis=1)]


def prepare_shards(
    whole: Whole, parts: Iterable[Moments], count: int, *, anchored: bool, robust: bool = False
) -> Prepared:
    """Targets of `count` shards from their moments, the full target being their exact sum.

    With `robust`, shards that contradict the others are weighted, which moves the mode, until the weights found there
    are those that led to it; the moments of all shards are held in memory for that, and the points are chosen for
    clouds as wide as a shard's own posterior.
    """
    if count == 1:
        one, full, chosen = np.ones(1), whole.full, whole.chosen
        return Prepared(whole.space, full, full, (full,), None, False, one, (), chosen.points, chosen.error)
    held = list(parts) if robust else parts
    found = _cut(whole, held, np.ones(count), anchored)
    named = judged = _contradicting(found)
    for _ in range(WEIGHINGS if robust else 0):
        weights = weights_of(judged, count)
        if np.allclose(weights, found.weights, rtol=STEADY, atol=0.0):
            break
        named = judged
        weighted = (part.weighted(float(weight)) for part, weight in zip(held, weights, strict=True))
        whole = replace(whole, width=float(np.sqrt(count))).of(reduce(add, weighted))
        found = _cut(whole, held, weights, anchored)
        judged = _contradicting(found)
    return replace(found, contradictions=named)


def _contradicting(prepared: Prepared) -> tuple[Outlier, ...]:
    """The shards that contradict the others at the present mode, the farthest first."""
    assert prepared.picture is not None
    return outlying(prepared.picture.estimates, prepared.picture.covariances)


def _cut(whole: Whole, parts: Iterable[Moments], weights: Floats, anchored: bool) -> Prepared:
    """Targets of the shards at given weights (K,); nobody is judged yet."""
    space, full, chosen = whole.space, whole.full, whole.chosen
    own = [
        replace(full, arrays=chosen.apply(part), pairs=jnp.asarray(part.pairs), tempering=jnp.zeros(()))
        for part in parts
    ]
    picture = anchor(space, full, own, weights)
    if np.any(weights != 1.0) or _may_disagree(picture):
        picture = climbed(space, full, own, picture)
    shards = [_weighted(shard, float(weight)) for shard, weight in zip(own, weights, strict=True)]
    if anchored:
        shards = [
            replace(shard, precision=jnp.asarray(precision), shift=jnp.asarray(shift))
            for shard, (precision, shift) in zip(shards, picture.cavities, strict=True)
        ]
    else:
        share, wider = jnp.asarray(1.0 / len(shards)), full.transform * np.sqrt(len(shards))
        shards = [replace(shard, tempering=share, transform=wider) for shard in shards]
    data = full
    if np.any(weights != 1.0):
        data = replace(full, arrays=chosen.apply(whole.moments), pairs=jnp.asarray(whole.moments.pairs))
    return Prepared(space, full, data, tuple(shards), picture, anchored, weights, (), chosen.points, chosen.error)


def _may_disagree(picture: Anchor) -> bool:
    """Whether one Newton step per shard, which is cheap, tells of a disagreement."""
    names = [str(k) for k in range(picture.mean.size)]
    found = heterogeneity(names, picture.estimates, picture.covariances)
    return found.joint_probability < SIGNIFICANCE or bool(outlying(picture.estimates, picture.covariances))


def _weighted(shard: Target, weight: float) -> Target:
    """A shard's target with its likelihood to the power `weight`."""
    if weight == 1.0:
        return shard
    return replace(shard, arrays=shard.arrays.weighted(weight), pairs=weight * shard.pairs)


def stored(prepared: Prepared) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and JSON values from which `restored` makes the same targets."""
    full, picture = prepared.full, prepared.picture
    arrays = {f"full/{name}": array for name, array in moments_to_arrays(full.arrays).items()}
    arrays |= {f"scaling/{name}": np.asarray(getattr(full.scaling, name)) for name in _SCALING}
    arrays |= {name: np.asarray(getattr(full, name)) for name in (*_SHARED, "pairs", "transform")}
    arrays["time_range"] = np.array([prepared.space.support.first, prepared.space.support.last])
    shards = prepared.shards if len(prepared.shards) > 1 else ()
    for index, shard in enumerate(shards):
        arrays |= {f"shards/{index}/{name}": array for name, array in moments_to_arrays(shard.arrays).items()}
        for name in _OWN:
            arrays[f"shards/{index}/{name}"] = np.asarray(getattr(shard, name))
    if picture is not None:
        for name in _PICTURE:
            arrays[f"picture/{name}"] = getattr(picture, name)
    if prepared.data is not full:
        arrays |= {f"data/{name}": array for name, array in moments_to_arrays(prepared.data.arrays).items()}
        arrays["data_pairs"] = np.asarray(prepared.data.pairs)
    for index, peak in enumerate(prepared.peaks):
        arrays |= {f"peaks/{index}/x": peak.x, f"peaks/{index}/curvature": peak.curvature}
    arrays["weights"] = prepared.weights
    arrays["condensing_error"] = np.asarray(prepared.condensing_error)
    values = {
        "scaling_mode": full.scaling.mode,
        "samples_noise": prepared.space.samples_noise,
        "shards": len(prepared.shards),
        "points": prepared.points,
        "lead": prepared.space.support.lead,
        "anchored": prepared.anchored,
        "matched": picture is not None and picture.matched,
        "contradictions": [asdict(outlier) for outlier in prepared.contradictions],
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
    data = full
    if "data_pairs" in arrays:
        measured = _moment_arrays(arrays, "data/")
        data = replace(full, arrays=measured, pairs=jnp.asarray(arrays["data_pairs"]))
    return Prepared(
        space,
        full,
        data,
        tuple(shards),
        _picture_of(arrays, matched=bool(values.get("matched"))),
        values["anchored"],
        np.asarray(arrays["weights"]),
        tuple(Outlier(**outlier) for outlier in values["contradictions"]),
        values["points"],
        float(arrays["condensing_error"]),
        tuple(_peaks_of(arrays)),
    )


def _peaks_of(arrays: Mapping[str, np.ndarray]) -> Iterator[Mode]:
    for index in range(sum(name.startswith("peaks/") and name.endswith("/x") for name in arrays)):
        curvature = arrays[f"peaks/{index}/curvature"]
        yield Mode(arrays[f"peaks/{index}/x"], curvature, whitening_of(curvature))


def _shard_of(full: Target, arrays: Mapping[str, np.ndarray], prefix: str) -> Target:
    own: dict[str, Any] = {name: jnp.asarray(arrays[prefix + name]) for name in _OWN}
    return replace(full, arrays=_moment_arrays(arrays, prefix), **own)


def _moment_arrays(arrays: Mapping[str, np.ndarray], prefix: str) -> MomentArrays:
    return moments_from_arrays({name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)})


def _picture_of(arrays: Mapping[str, np.ndarray], *, matched: bool) -> Anchor | None:
    if "picture/mean" not in arrays:
        return None
    return Anchor(cavities=(), matched=matched, **{name: arrays[f"picture/{name}"] for name in _PICTURE})


def _with_corner(matrix: Floats, corner: float) -> Floats:
    """A matrix (n, n) bordered by zeros and one more diagonal element."""
    size = matrix.shape[0]
    found = np.zeros((size + 1, size + 1))
    found[:size, :size] = matrix
    found[size, size] = corner
    return found
