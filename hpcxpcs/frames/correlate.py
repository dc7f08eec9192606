"""From frames to a result file in the nexus layout: two-time matrices, multi-tau g2, means, and the partition.

Frames are read in blocks and the counts of used pixels kept, sorted by bin, as float32; each bin then is one symmetric
matrix product. With a limit of memory, the file is read several times, for as many bins as fit at a time.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Flags, Floats, Integers
from hpcxpcs.data.formats import nexus
from hpcxpcs.data.formats.layout import Stack
from hpcxpcs.data.formats.qmap import Partition
from hpcxpcs.errors import ConfigError, DataError, SelectionError
from hpcxpcs.files.atomic import replacing_file
from hpcxpcs.files.places import output_file
from hpcxpcs.frames.products import Counts, Decay, Smoothing, delays_of, multi_tau, smooth, two_time
from hpcxpcs.frames.schemas import read_partition, refuse_inputs
from hpcxpcs.frames.stack import Frames, opened_frames

FEWEST_FRAMES = 8
"""Processed frames below which there is no decay to see."""
PARTIAL_BLOCKS = nexus.SEGMENTS
"""Consecutive blocks of time of which multi-tau g2 is made by itself, too."""
SEGMENTS = 10
"""Consecutive blocks of time of which I(q) is averaged by itself, as in the layout's files."""
FEW_PIXELS = 20
"""Pixels of a static bin below which dividing by its mean takes more than 5 % of the contrast."""
FEW_PHOTONS = 10.0
"""Photons of a static bin in a frame below which dividing by their mean adds noise: simulated, C2 scatters 1.13 times
as much at 10, 1.3 times at 2, and no more than without at 20."""


@dataclass(frozen=True)
class CorrelatorSettings:
    """How frames are used: those from `first` to `last` (from 1, -1 the end), every `stride`-th, `average` summed.

    `frame_time` (s) is that of the detector, None to take it from the file; `memory` in bytes bounds the counts that
    are kept, None: all at once; `threads` bins are worked on at a time.
    """

    first: int = 1
    last: int = -1
    stride: int = 1
    average: int = 1
    smoothing: Smoothing = "sqmap"
    frame_time: float | None = None
    dataset: str | None = None
    memory: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        for key in ("stride", "average", "threads"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}: {getattr(self, key)} must be at least 1")
        if self.frame_time is not None and not 0.0 < self.frame_time < np.inf:
            raise ConfigError(f"frame time: {self.frame_time} must be a positive number of seconds")


@dataclass(frozen=True)
class BinResult:
    """What one bin gives: C2 (N, N), g2 by delay of all frames and of blocks, mean counts of its pixels per raw frame,
    and those of its static bins in every segment (SEGMENTS, n).
    """

    c2: NDArray[np.float32]
    whole: Decay
    partial: list[Decay]
    image: Floats
    segments: Floats


@dataclass(frozen=True)
class Correlated:
    """What was done, for people: bins, processed frames, pixels, dead frames (from 1), photons, doubts."""

    bins: int
    frames: int
    pixels: int
    dead: tuple[int, ...]
    photons: tuple[float, float]
    doubts: tuple[str, ...]


class _Detector:
    """The used pixels of a partition, sorted by dynamic and static label; bin b has places starts[b]:starts[b+1]."""

    def __init__(self, partition: Partition) -> None:
        dynamic, static = partition.dynamic.labels.ravel(), partition.static.labels.ravel()
        used = np.flatnonzero(dynamic)
        self.partition = partition
        self.pixels = used[np.lexsort((static[used], dynamic[used]))]
        self.static = static[self.pixels].astype(np.int64)
        self.starts = np.concatenate([[0], np.cumsum(partition.dynamic.pixels)])

    def of(self, bin_: int) -> slice:
        """The places of the pixels of a bin (from 0)."""
        return slice(int(self.starts[bin_]), int(self.starts[bin_ + 1]))

    def groups(self, frames: int, memory: int | None) -> list[range]:
        """Bins that are kept at the same time: all, or as many as fit into so many bytes."""
        count = self.partition.dynamic.count
        if memory is None:
            return [range(count)]
        limit, groups, begin = memory // (4 * frames), list[range](), 0
        for bin_ in range(1, count + 1):
            if bin_ == count or self.starts[bin_ + 1] - self.starts[begin] > limit:
                groups.append(range(begin, bin_))
                begin = bin_
        return groups


def correlate(frames: Path, qmap: Path, output: Path, settings: CorrelatorSettings) -> Correlated:
    """Correlate the frames of a file by the partition of another, and write the result file.

    The result appears under its name when it is complete.
    """
    refuse_inputs(output, frames, qmap)
    partition = read_partition(qmap)
    with opened_frames(frames, settings.dataset) as stack:
        if partition.mask.shape != stack.shape[1:]:
            raise DataError(
                f"{qmap}: is a partition of {partition.mask.shape} pixels, but the frames of {frames} have "
                f"{stack.shape[1:]}: use the partition of this detector"
            )
        if partition.dynamic.count == 0:
            raise DataError(f"{qmap}: has no bin with pixels")
        frame_time = settings.frame_time or stack.frame_time
        if frame_time is None or not frame_time > 0.0:
            raise DataError(f"{frames}: does not tell the time between frames; give it in seconds with --frame-time")
        run = _Run(stack, _Detector(partition), settings)
        dt = frame_time * settings.stride * settings.average
        made = Stack(
            c2=run.matrices(),
            q=partition.dynamic.centres("q"),
            phi=partition.dynamic.centres("phi"),
            dt=dt,
            stride=settings.stride,
            average=settings.average,
            partition=partition,
        )
        with replacing_file(output_file(output)) as temporary:
            nexus.write(temporary, made)
            with h5py.File(temporary, "r+") as file:
                run.add_to(file, frames)
    return run.told()


class _Run:
    """One correlation: reads frames, hands out matrices bin by bin, and keeps what else they give."""

    def __init__(self, stack: Frames, detector: _Detector, settings: CorrelatorSettings) -> None:
        self.stack, self.detector, self.settings = stack, detector, settings
        self.first, end = stack.window(settings.first, settings.last)
        self.step = settings.stride * settings.average
        self.count = (end - self.first) // self.step
        if self.count < FEWEST_FRAMES:
            raise SelectionError(
                f"{stack.path}: {end - self.first} frames make {self.count} of stride {settings.stride} x average "
                f"{settings.average}; at least {FEWEST_FRAMES} are needed"
            )
        self.end = self.first + self.count * self.step
        self.delays = delays_of(self.count)
        raw = np.arange(self.first, self.end, settings.stride)
        self.raw_frames, self.raw_sums = raw, np.zeros(len(raw))
        partition = detector.partition
        self.image = np.zeros(partition.mask.size)
        self.segments = np.zeros((SEGMENTS, partition.static.count))
        self.results: list[tuple[Decay, list[Decay]]] = []

    def matrices(self) -> Iterator[NDArray[np.float32]]:
        """C2 of every dynamic bin in the order of labels."""
        groups = self.detector.groups(self.count, self.settings.memory)
        if len(groups) > 1:  # whether a frame is dead is asked of all pixels
            for _ in self._blocks(self.detector.pixels):
                pass
        with ThreadPoolExecutor(self.settings.threads) as pool:
            for group in groups:
                counts = self._read(group, summed=len(groups) == 1)
                alive = self._alive()
                todo = ((bin_, counts, alive) for bin_ in group)
                for bin_, result in zip(group, _ahead(pool, self._work, todo, self.settings.threads), strict=True):
                    yield self._keep(bin_, result)
                    del result  # of several large matrices none is kept longer than it is needed

    def _blocks(self, pixels: Integers, summed: bool = True) -> Iterator[tuple[int, Counts]]:
        """Counts of processed frames in blocks, with the place of the first; sums of raw frames are kept by the way."""
        stride, average, place = self.settings.stride, self.settings.average, 0
        for block in self.stack.blocks(pixels, self.first, self.end, self.step):
            raw = block[::stride]
            if summed:
                begin = place * average
                self.raw_sums[begin : begin + len(raw)] = raw.sum(axis=1, dtype=np.float64)
            whole = raw if average == 1 else raw.reshape(-1, average, raw.shape[1]).sum(axis=1)
            yield place, whole
            place += len(whole)

    def _read(self, group: range, summed: bool) -> dict[int, Counts]:
        """Counts (N, P) of every bin of a group."""
        places = [self.detector.of(bin_) for bin_ in group]
        begin = places[0].start
        pixels = self.detector.pixels[begin : places[-1].stop]
        counts = {
            bin_: np.empty((self.count, place.stop - place.start), dtype=np.float32)
            for bin_, place in zip(group, places, strict=True)
        }
        for first, block in self._blocks(pixels, summed):
            for bin_, place in zip(group, places, strict=True):
                counts[bin_][first : first + len(block)] = block[:, place.start - begin : place.stop - begin]
        return counts

    def _alive(self) -> Flags:
        """Which processed frames (N,) have counts in every raw frame that they are made of."""
        return np.asarray((self.raw_sums.reshape(self.count, -1) > 0.0).all(axis=1))

    def _work(self, bin_: int, all_counts: dict[int, Counts], alive: Flags) -> BinResult:
        counts = all_counts.pop(bin_)
        static = self.detector.static[self.detector.of(bin_)]
        whole = multi_tau(counts, static, self.delays, alive)
        length = self.count // PARTIAL_BLOCKS
        blocks = [slice(k * length, (k + 1) * length) for k in range(PARTIAL_BLOCKS)]
        partial = [multi_tau(counts[block], static, self.delays, alive[block]) for block in blocks]
        image = counts.mean(axis=0, dtype=np.float64) / self.settings.average
        _, first, sizes = np.unique(static, return_index=True, return_counts=True)
        edges = np.linspace(0, self.count, SEGMENTS + 1).astype(np.int64)
        segments = np.zeros((SEGMENTS, len(sizes)))
        for k, (begin, end) in enumerate(itertools.pairwise(edges)):
            if end > begin:
                mean = counts[begin:end].mean(axis=0, dtype=np.float64) / self.settings.average
                segments[k] = np.add.reduceat(mean, first) / sizes
        smooth(counts, static, self.settings.smoothing)
        counts[~alive] = 0.0
        return BinResult(two_time(counts), whole, partial, image, segments)

    def _keep(self, bin_: int, result: BinResult) -> NDArray[np.float32]:
        """Keep all but the matrix, which is returned."""
        place = self.detector.of(bin_)
        self.image[self.detector.pixels[place]] = result.image
        self.segments[:, np.unique(self.detector.static[place]) - 1] = result.segments
        self.results.append((result.whole, result.partial))
        return result.c2

    def _static_means(self) -> Floats:
        labels = self.detector.partition.static.labels.ravel()
        total = np.bincount(labels, weights=self.image, minlength=self.segments.shape[1] + 1)[1:]
        return np.asarray(total / self.detector.partition.static.pixels)

    def add_to(self, file: h5py.File, frames: Path) -> None:
        """Write what comes beside the matrices: means in space and time, and multi-tau g2."""
        shape, pixels = self.detector.partition.mask.shape, len(self.detector.pixels)
        file.create_dataset(nexus.MEAN_IMAGE, data=self.image.reshape(1, *shape).astype(np.float32), compression="lzf")
        file[nexus.BIN_MEANS] = self._static_means()[None].astype(np.float32)
        file[nexus.BIN_SEGMENTS] = self.segments.astype(np.float32)
        file[nexus.FRAME_MEANS] = np.stack([self.raw_frames, self.raw_sums / pixels])
        g2, errors = (np.stack([getattr(whole, part) for whole, _ in self.results], axis=1) for part in ("g2", "error"))
        partial, partial_errors = (
            np.stack([[getattr(one, part) for one in blocks] for _, blocks in self.results], axis=2)
            for part in ("g2", "error")
        )
        multitau: dict[str, Any] = {
            "delay_list": self.delays,
            "normalized_g2": g2.astype(np.float32),
            "normalized_g2_err": errors.astype(np.float32),
            "normalized_g2_partial": partial.astype(np.float32),
            "normalized_g2_partial_err": partial_errors.astype(np.float32),
            "normalized_g2_partial_labels": np.arange(1, PARTIAL_BLOCKS + 1),
            "config/stride_frame": self.settings.stride,
            "config/avg_frame": self.settings.average,
            "config/begin_frame": self.first,
            "config/end_frame": self.end,
            "config/num_partial_g2": PARTIAL_BLOCKS,
            "config/analysis_type": "Both",
        }
        for name, values in multitau.items():
            file[f"xpcs/multitau/{name}"] = values
        file["xpcs/twotime/config/smooth"] = self.settings.smoothing
        for name, value in (("begin_frame", self.first), ("end_frame", self.end)):
            file[f"xpcs/twotime/config/{name}"][...] = value
        file["xpcs/rawdata_path"] = str(frames.resolve())

    def _doubts(self, means: Floats, pixels: Integers) -> tuple[str, ...]:
        """What smoothing by small or dark static bins does, from photons per pixel and frame and pixels of each."""
        found = []
        small, dark = int((pixels < FEW_PIXELS).sum()), int((means * pixels < FEW_PHOTONS).sum())
        if small:
            found.append(
                f"{small} of {len(pixels)} static bins have fewer than {FEW_PIXELS} pixels: dividing by their means "
                "lowers the contrast by about one over that number; use fewer static bins, or --smooth dqmap"
            )
        if dark:
            found.append(
                f"{dark} of {len(pixels)} static bins have fewer than {FEW_PHOTONS:g} photons per frame: dividing by "
                "their means adds noise; use fewer static bins, or --smooth dqmap"
            )
        return tuple(found)

    def told(self) -> Correlated:
        """What was done, in numbers."""
        static = self.detector.partition.static
        means = self._static_means() * self.settings.average
        doubts = self._doubts(means, static.pixels) if self.settings.smoothing == "sqmap" else ()
        dead = tuple((np.flatnonzero(~self._alive()) + 1).tolist())
        used = means[means > 0.0]
        photons = (float(used.min()), float(used.max())) if used.size else (0.0, 0.0)
        return Correlated(len(self.results), self.count, len(self.detector.pixels), dead, photons, doubts)


def _ahead[T](
    pool: ThreadPoolExecutor, work: Callable[..., T], todo: Iterable[tuple[Any, ...]], most: int
) -> Iterator[T]:
    """Results in order, with at most so many worked on or waiting."""
    waiting: deque[Future[T]] = deque()
    for arguments in todo:
        waiting.append(pool.submit(work, *arguments))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
