"""What the stages of a point fit hand to each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from hpcxpcs.answer.fit import CompressionReport, Exchange, NoiseParts
from hpcxpcs.arrays import Floats
from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.inference.bounds import Mirror, Settled
from hpcxpcs.inference.recovery import Scaled
from hpcxpcs.likelihood.cells import Partition
from hpcxpcs.likelihood.moments import Moments
from hpcxpcs.likelihood.products import Source
from hpcxpcs.likelihood.whitened import Neighbourhood, Whitened

Report = Callable[[str], None]


@dataclass
class Progress:
    """Phase timings in seconds, and where to announce phases."""

    announce: Report
    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:
        """Announce a phase and add its duration to the timings."""
        self.announce(text)
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - begun


@dataclass(frozen=True)
class PairNoise:
    """σ (n_phi,), where it comes from, and the degrees of freedom it rests on (infinite when it was stated)."""

    sigma: Floats
    source: str
    freedom: float


@dataclass(frozen=True)
class Represented:
    """The data as a source of inner products, with their noise, and how the cells came out.

    Under the noise of speckles, whose `parts` are known then, the moments are those of `whitened` squares near the
    `window` of parameters.
    """

    source: Source
    moments: Moments
    noise: PairNoise
    partition: Partition | None
    is_raw: bool
    whitened: Whitened | None = None
    parts: NoiseParts | None = None
    window: Neighbourhood | None = None


@dataclass(frozen=True)
class Fitted:
    """A settled minimum with its scaling, the source it was found on, what it took, and the parameters as fitted."""

    scaled: Scaled
    settled: Settled
    represented: Represented
    report: CompressionReport
    parameters: tuple[ResolvedParameter, ...]
    exchange: Exchange | None = None
    mirror: Mirror | None = None

    @property
    def sampled(self) -> tuple[ResolvedParameter, ...]:
        """The parameters of a posterior: as fitted, with offsets at 0 that the data do not tell from their rate."""
        return tuple(
            replace(item, start=0.0, fixed=0.0) if index in self.settled.rested else item
            for index, item in enumerate(self.parameters)
        )
