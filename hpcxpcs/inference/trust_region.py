"""Minimisation with NLSQ's trust region in whitened coordinates, on the square-root form of the normal equations.

At every point the residual vector of all pairs is replaced by the triangular factor of [J r]: p + 1 numbers with
the same norm, the same JᵀJ and the same Jᵀr, so the steps are those of the full problem at any number of pairs.
In whitened coordinates a gradient of 1 is one standard deviation away from the minimum.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from hpcxpcs.arrays import Floats
from hpcxpcs.inference.objective import Objective
from hpcxpcs.likelihood.gaussian import Normal

if TYPE_CHECKING:
    from nlsq import LeastSquares

CACHE_SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)
"""JAX settings that importing the solver changes."""


@contextmanager
def quiet_nlsq() -> Iterator[None]:
    """Keep the solver's own log lines to itself unless they are asked for; its outcome is judged here, not there."""
    logger = logging.getLogger("nlsq")
    propagate = logger.propagate
    logger.propagate = logger.isEnabledFor(logging.INFO)
    try:
        yield
    finally:
        logger.propagate = propagate


@cache
def nlsq_solver() -> LeastSquares:
    """The solver, imported with JAX's compile cache, the working directory and the fault handler left as they were."""
    settings = {name: getattr(jax.config, name) for name in CACHE_SETTINGS}
    with (
        TemporaryDirectory() as elsewhere,
        chdir(elsewhere),
        _nothing_logged(),
        _own_fault_handler(),
        _own_log_handlers(),
    ):
        from nlsq import LeastSquares

        solver = LeastSquares()
    for name, value in settings.items():
        jax.config.update(name, value)
    return solver


@contextmanager
def _own_fault_handler() -> Iterator[None]:
    """Let an import enable the fault handler on a stream that has a descriptor, and put the handler back after."""
    enabled = faulthandler.is_enabled()
    with ExitStack() as streams:
        if not _has_descriptor(sys.stderr):
            streams.enter_context(redirect_stderr(streams.enter_context(Path(os.devnull).open("w"))))
        yield
    faulthandler.disable()
    if enabled and sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Let an import say nothing that is no error."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)


@contextmanager
def _own_log_handlers() -> Iterator[None]:
    """Let an import add no handler: who listens to which logger is the program's choice."""
    root, known = logging.getLogger(), list(logging.getLogger().handlers)
    try:
        yield
    finally:
        root.handlers = known
        logging.getLogger("nlsq").handlers = [logging.NullHandler()]


def _has_descriptor(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() >= 0
    except (OSError, ValueError):
        return False


DECREMENT = 1.0e-5
"""Converged when a full Newton step would lower ½χ² by less than this: 0.005 of the smallest error bar."""

FIRST_STEP = 0.3
"""First trust region of a round, as a share of the full Newton step: far from a minimum one sd leads nowhere."""

FLOOR = 1.0e-9
"""Relative eigenvalue below which a direction counts as undetermined."""


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended: coordinates (f,), expansion there, counts, whether it is a minimum, and
    whether the allowed evaluations were used up."""

    u: Floats
    normal: Normal
    evaluations: int
    iterations: int
    converged: bool
    exhausted: bool = False

    @property
    def cost(self) -> float:
        """½χ² with scaling prior and walls."""
        return float(self.normal.cost)


def decrement(normal: Normal) -> float:
    """Decrease of ½χ² that a full Gauss-Newton step promises."""
    gradient = np.asarray(normal.gradient)
    if not np.all(np.isfinite(gradient)):
        return float("inf")
    step = whitening(normal).T @ gradient
    return 0.5 * float(step @ step)


def finite(normal: Normal) -> bool:
    """Whether cost, gradient and information are numbers: a trial step may land where they overflow."""
    return all(np.all(np.isfinite(np.asarray(part))) for part in (normal.cost, normal.gradient, normal.information))


def whitening(normal: Normal) -> Floats:
    """Matrix W (f, f) with u = u0 + W z turning the information into the identity (floored where undetermined)."""
    information = np.asarray(normal.information)
    if information.size == 0:
        return information
    scale = 1.0 / np.sqrt(np.clip(np.diag(information), 1e-300, None))
    values, vectors = np.linalg.eigh(information * np.outer(scale, scale))
    return scale[:, None] * vectors / np.sqrt(np.maximum(values, max(FLOOR * values[-1], 1e-300)))


@dataclass
class _SquareRoot:
    """fun and jac for the solver around one whitened origin; remembers the last expansions by their position."""

    origin: Floats
    transform: Floats
    expand: Callable[[Floats], Normal]
    known: Normal
    seen: dict[bytes, tuple[Normal, Floats, Floats]] = field(default_factory=dict)
    evaluations: int = 0

    def __post_init__(self) -> None:
        """The origin has been expanded already."""
        self.seen[np.zeros(self.origin.size).tobytes()] = (self.known, *self._factor(self.known))

    def at(self, z: Floats) -> tuple[Normal, Floats, Floats]:
        """Expansion, residual and Jacobian at whitened coordinates z (f,), evaluated once."""
        key = (np.asarray(z, dtype=np.float64) + 0.0).tobytes()
        if key not in self.seen:
            self.evaluations += 1
            normal = self.expand(self.origin + self.transform @ np.asarray(z))
            self.seen[key] = (normal, *self._factor(normal))
        return self.seen[key]

    def _factor(self, normal: Normal) -> tuple[Floats, Floats]:
        size = self.origin.size
        # A trial step may land where the cost overflows: that is an answer, not an accident.
        with np.errstate(over="ignore", invalid="ignore"):
            information = self.transform.T @ np.asarray(normal.information) @ self.transform
            gradient = self.transform.T @ np.asarray(normal.gradient)
        if not (np.isfinite(normal.cost) and np.all(np.isfinite(information)) and np.all(np.isfinite(gradient))):
            return np.full(size + 1, 1e150), np.zeros((size + 1, size))
        values, vectors = np.linalg.eigh(information)
        root = np.sqrt(np.maximum(values, 1e-12 * max(values[-1], 1.0)))
        head = (vectors.T @ gradient) / root
        tail = 2.0 * float(normal.cost) - head @ head
        residual = np.append(head, np.sqrt(max(tail, 0.0)))
        return residual, np.vstack([root[:, None] * vectors.T, np.zeros((1, size))])

    def fun(self, z: Floats, *_: object) -> object:
        """Residual (f + 1,) whose half square is the cost above the constant."""
        return jnp.asarray(self.at(z)[1])

    def jac(self, z: Floats, *_: object) -> object:
        """Jacobian (f + 1, f) with the information matrix as its square."""
        return jnp.asarray(self.at(z)[2])


def minimise(
    objective: Objective,
    start: Floats,
    *,
    max_evaluations: int = 200,
    tolerance: float = 1e-8,
    radius: float = 1.0,
    expand: Callable[[Floats], Normal] | None = None,
) -> Minimum:
    """Minimise from coordinates start (f,): whiten, let NLSQ step, whiten again, until a Newton step gains nothing.

    `tolerance` is the change of ½χ² below which the solver stops a round, `radius` the first trust region
    in standard deviations; `expand` replaces the objective's own derivatives (recovery by finite differences).
    """
    expand = expand or objective.expand
    u, normal = np.asarray(start, dtype=np.float64), expand(start)
    used, rounds = 1, 0
    while used < max_evaluations and finite(normal) and decrement(normal) > DECREMENT:
        gain = decrement(normal)
        reach = max(radius, FIRST_STEP * float(np.sqrt(2.0 * gain)))
        problem = _SquareRoot(u, reach * whitening(normal), expand, normal)
        with quiet_nlsq():
            outcome = nlsq_solver().least_squares(
                problem.fun,
                np.zeros(u.size),
                jac=problem.jac,
                bounds=(np.full(u.size, -np.inf), np.full(u.size, np.inf)),
                max_nfev=min(20, max(2, max_evaluations - used + 1)),
                ftol=max(1e-15, tolerance / max(1.0, float(normal.cost))),
                xtol=1e-8,
                gtol=1e-4,
            )
        rounds += 1
        step = np.asarray(outcome["x"])
        candidate, fresh = u + problem.transform @ step, problem.at(step)[0]
        used += problem.evaluations
        if not float(fresh.cost) < float(normal.cost):
            break
        stalled = float(normal.cost) - float(fresh.cost) < 1e-9 * max(1.0, gain)
        u, normal = candidate, fresh
        if stalled:
            break
    converged = finite(normal) and decrement(normal) <= DECREMENT * 10.0
    return Minimum(u, normal, used, rounds, converged, used >= max_evaluations and not converged)
