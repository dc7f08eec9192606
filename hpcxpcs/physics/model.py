"""The correlation models: from parameters, times and an angle to the shape f of c2 = offset + contrast·f."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from hpcxpcs.physics import heterodyne as two_component
from hpcxpcs.physics import homodyne
from hpcxpcs.physics.rates import RateTerm, Scalar, TimeGrid, cumulative_trapezoid, on_grid, rate_integral

__all__ = ["INTEGRATORS", "MODELS", "AngleSets", "Model", "RateTerm", "TimeGrid", "build_model"]

INTEGRATORS = ("exact", "trapezoid")

_STATIC = ("D0", "alpha", "D_offset")
_SHEAR = ("gamma_dot_t0", "beta", "gamma_dot_t_offset", "phi0")
_REFERENCE = ("D0_ref", "alpha_ref", "D_offset_ref")
_SAMPLE = ("D0_sample", "alpha_sample", "D_offset_sample")
_MOTION = ("v0", "beta", "v_offset", "f0", "f1", "f2", "f3", "phi0")

MODELS: dict[str, tuple[str, ...]] = {
    "static": _STATIC,
    "laminar_flow": _STATIC + _SHEAR,
    "two_component": _REFERENCE + _SAMPLE + _MOTION,
    "static_ref": _REFERENCE,
    "static_both": _REFERENCE + _SAMPLE,
}

_DIFFUSION = RateTerm("diffusion", 0, 1, 2, nonnegative=True)
_SHEAR_RATE = RateTerm("shear_rate", 3, 4, 5, nonnegative=True)
_REFERENCE_TRANSPORT = RateTerm("reference_transport", 0, 1, 2, nonnegative=True)
_SAMPLE_TRANSPORT = RateTerm("sample_transport", 3, 4, 5, nonnegative=True)
_VELOCITY = RateTerm("velocity", 6, 7, 8, nonnegative=False)

_RATES: dict[str, tuple[RateTerm, ...]] = {
    "static": (_DIFFUSION,),
    "laminar_flow": (_DIFFUSION, _SHEAR_RATE),
    "two_component": (_REFERENCE_TRANSPORT, _SAMPLE_TRANSPORT, _VELOCITY),
    "static_ref": (_REFERENCE_TRANSPORT,),
    "static_both": (_REFERENCE_TRANSPORT, _SAMPLE_TRANSPORT),
}


type Values = Array | list[Array]
"""Parameters (p,): of the whole fit, or each as it is at some angles."""


@partial(jax.tree_util.register_dataclass, data_fields=["phi", "q", "number"], meta_fields=["count", "own"])
@dataclass(frozen=True)
class AngleSets:
    """The `count` data sets of a joint fit: phi (degrees), q (1/Å) and the number of its set, from 0, of every angle.

    `own` are (parameter, place): in set k > 0 it differs from its value in set 0 by theta[place + k - 1], which is the
    logarithm of their ratio for the amplitude of a rate (that scales as a whole, constant part and all), and their
    difference for any other parameter.
    """

    phi: Array
    q: Array
    number: Array
    count: int
    own: tuple[tuple[int, int], ...] = ()


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["q", "gap", "grid", "sets"],
    meta_fields=["name", "parameter_names", "shear_law", "integrator", "convention", "rates"],
)
@dataclass(frozen=True)
class Model:
    """A correlation model at one q, an argument of compiled functions: other q and gap need no compilation.

    q is in Å⁻¹ and gap in Å. rates name the power laws of theta; those marked nonnegative must not fall
    below zero on the data's time range. They are not clipped (that is the prior's support), except where a
    published convention with the trapezoid integrator asks for its floors. Transports enter as |∫J dt|.

    With `sets`, those of a joint fit, what is taken for phi is the number of an angle, whose phi, q and parameters
    they know; q is then a typical one.
    """

    name: str
    parameter_names: tuple[str, ...]
    q: float
    gap: float
    shear_law: str
    integrator: str
    convention: str
    grid: TimeGrid | None
    rates: tuple[RateTerm, ...]
    sets: AngleSets | None = None

    def shape(self, theta: ArrayLike, t1: ArrayLike, t2: ArrayLike, phi_degrees: ArrayLike) -> Array:
        """Shape f in [0, 1], exactly 1 at t1 = t2.

        theta has shape (p,); t1, t2 (s) and phi_degrees broadcast against each other. Every integral is
        evaluated on t1 and t2 as given, so t1 (n, 1) and t2 (1, m) cost n + m of them.
        """
        times = jnp.asarray(t1, jnp.float64), jnp.asarray(t2, jnp.float64)
        values, q, phi = self._at_angle(theta, phi_degrees)
        if self._is_two_component:
            reference, sample, phase = self._two_fields(values, *times, q, phi)
            mixed = reference**2 + sample**2 + 2.0 * reference * sample * jnp.cos(phase)
            return jnp.where(times[0] == times[1], 1.0, mixed)
        return self._one_field(values, *times, q, phi) ** 2

    def field(self, theta: ArrayLike, t1: ArrayLike, t2: ArrayLike, phi_degrees: ArrayLike) -> Array:
        """Field correlation g1 = ⟨E*(t1) E(t2)⟩ with |g1|² = shape; same arguments as shape.

        Real for one component, complex for two; a positive semidefinite kernel on any set of times.
        """
        times = jnp.asarray(t1, jnp.float64), jnp.asarray(t2, jnp.float64)
        values, q, phi = self._at_angle(theta, phi_degrees)
        if self._is_two_component:
            reference, sample, phase = self._two_fields(values, *times, q, phi)
            return reference + sample * jnp.exp(1j * phase)
        return self._one_field(values, *times, q, phi)

    def _at_angle(self, theta: ArrayLike, phi_degrees: ArrayLike) -> tuple[Values, Scalar, Array]:
        """Parameters, q and phi at some angles; in a joint fit phi_degrees are the numbers of these."""
        values, phi = jnp.asarray(theta, jnp.float64), jnp.asarray(phi_degrees, jnp.float64)
        if self.sets is None:
            return values, self.q, phi
        angle = jnp.round(phi).astype(jnp.int64)
        own, number = list(values), self.sets.number[angle]
        amplitudes = {rate.amplitude: rate.offset for rate in self.rates}
        for index, place in self.sets.own:
            shifts = jnp.concatenate([jnp.zeros(1), values[place : place + self.sets.count - 1]])[number]
            if index in amplitudes:
                for scaled in (index, amplitudes[index]):
                    own[scaled] = own[scaled] * jnp.exp(shifts)
            else:
                own[index] = own[index] + shifts
        return own, self.sets.q[angle], self.sets.phi[angle]

    def conventions(self) -> dict[str, str]:
        """Names of the conventions that the parameter values depend on, as the configuration spells them."""
        if self._is_heterodyne:
            return {"integrator": self.integrator, "heterodyne": self.convention}
        return {"integrator": self.integrator, "shear_law": self.shear_law}

    @property
    def _is_heterodyne(self) -> bool:
        return self.name in ("two_component", "static_ref", "static_both")

    @property
    def _is_two_component(self) -> bool:
        return self.name in ("two_component", "static_both")

    def _sampled_rate(self, theta: Values, term: RateTerm, grid: TimeGrid) -> Array:
        coefficients = theta[term.amplitude], theta[term.exponent], theta[term.offset]
        if self._is_heterodyne:
            floored = self.convention == "heterodyne-2" and term.nonnegative
            return two_component.sampled_rate(grid, *coefficients, floored=floored)
        return homodyne.sampled_rate(grid, *coefficients, floored=self.shear_law == "homodyne-2")

    def _integral(self, theta: Values, term: RateTerm, t1: Array, t2: Array) -> Array:
        """Integral of a rate from t1 to t2, in the broadcast shape of the two."""
        if self.grid is not None:
            running = cumulative_trapezoid(self._sampled_rate(theta, term, self.grid), self.grid.step)
            return on_grid(running, self.grid, t2) - on_grid(running, self.grid, t1)
        coefficients = theta[term.amplitude], theta[term.exponent], theta[term.offset]
        return rate_integral(t2, *coefficients) - rate_integral(t1, *coefficients)

    def _one_field(self, values: Values, t1: Array, t2: Array, q: Scalar, phi: Array) -> Array:
        """Field correlation of static, laminar_flow and static_ref."""
        field = homodyne.diffusion_field(q, self._integral(values, self.rates[0], t1, t2))
        if self.name == "laminar_flow":
            alignment = jnp.cos(jnp.deg2rad(values[6] - phi))
            strain = self._integral(values, _SHEAR_RATE, t1, t2)
            return field * homodyne.shear_field(self.shear_law, q, self.gap, alignment, strain)
        return jnp.broadcast_to(field, jnp.broadcast_shapes(field.shape, phi.shape))

    def _two_fields(self, values: Values, t1: Array, t2: Array, q: Scalar, phi: Array) -> tuple[Array, Array, Array]:
        """Field correlations of reference and sample, and the phase between them in radians."""
        if self.name == "static_both":
            values = [*values[: len(MODELS[self.name])], *map(jnp.asarray, two_component.REDUCED_CONSTANTS)]
        reference1, sample1 = self._amplitudes(values, t1)
        reference2, sample2 = self._amplitudes(values, t2)
        slow = homodyne.diffusion_field(q, self._integral(values, _REFERENCE_TRANSPORT, t1, t2))
        fast = homodyne.diffusion_field(q, self._integral(values, _SAMPLE_TRANSPORT, t1, t2))
        alignment = two_component.flow_alignment(phi, values[13], convention=self.convention)
        phase = q * alignment * self._integral(values, _VELOCITY, t1, t2)
        return reference1 * reference2 * slow, sample1 * sample2 * fast, phase

    def _amplitudes(self, theta: Values, t: Array) -> tuple[Array, Array]:
        f0, f1, f2, f3 = theta[9], theta[10], theta[11], theta[12]
        return two_component.unit_amplitudes(
            two_component.sample_fraction(t, f0, f1, f2, f3, convention=self.convention)
        )


def _require(value: str, key: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}: {value!r} is not one of {', '.join(allowed)}")


def _require_positive(value: float, key: str, unit: str) -> None:
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"{key}: {value!r} must be a positive number of {unit}")


def build_model(
    name: str,
    *,
    q: float,
    gap: float = 2.0e6,
    shear_law: str = "couette",
    integrator: str = "exact",
    heterodyne: str = "physical",
    grid: TimeGrid | None = None,
    sets: AngleSets | None = None,
    own_names: tuple[str, ...] = (),
) -> Model:
    """Build a model by name for q (Å⁻¹) and the gap (Å) between the walls; grid is for the trapezoid only.

    `sets` are those of a joint fit, and `own_names` what the parameters are called by which they differ.

    The trapezoid integrator reproduces the published packages: it sums over grid (all frames) and picks the
    frame nearest to each time; times outside the grid give NaN.
    Reduced modes are special cases of two_component with heterodyne.REDUCED_CONSTANTS: static_both varies
    both transports; static_ref lets both components share one, so that the fraction drops out.
    """
    _require(name, "model", tuple(MODELS))
    _require(shear_law, "shear_law", homodyne.SHEAR_LAWS)
    _require(integrator, "integrator", INTEGRATORS)
    _require(heterodyne, "heterodyne", two_component.CONVENTIONS)
    _require_positive(q, "q", "1/Å")
    _require_positive(gap, "gap", "Å")
    if integrator == "trapezoid" and (grid is None or grid.step <= 0.0 or grid.count < 2):
        raise ValueError("integrator: 'trapezoid' needs a grid of at least two frames with a positive step")
    return Model(
        name=name,
        parameter_names=MODELS[name] + own_names,
        q=float(q),
        gap=float(gap),
        shear_law=shear_law,
        integrator=integrator,
        convention=heterodyne,
        grid=grid if integrator == "trapezoid" else None,
        rates=_RATES[name],
        sets=sets,
    )
