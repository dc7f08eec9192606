"""The folder of pictures: drawn angle by angle as the data pass; one that fails does not cost the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hpcxpcs.answer.posterior import Posterior
from hpcxpcs.files.atomic import atomic_write_bytes
from hpcxpcs.results import plots, posterior_plots
from hpcxpcs.results.comparison import Block
from hpcxpcs.results.plots import AngleReduction, AngleSummary
from hpcxpcs.results.records import Answer, Trouble
from hpcxpcs.results.table import Truth, true_values


class Gallery:
    """Takes blocks in order, draws a page when an angle is complete, and pictures of all angles at the end.

    A picture that cannot be drawn or written is listed in `failed` with the error's text; the others are not
    affected.
    """

    def __init__(self, folder: Path, answer: Answer, on_progress: Callable[[str], None]) -> None:
        self.failed: list[Trouble] = []
        self._folder, self._answer, self._on_progress = folder, answer, on_progress
        self._names = plots.angle_file_names(answer.data.phi)
        self._page: plots.AnglePage | None = None
        self._reduction: AngleReduction | None = None
        self._summaries: list[AngleSummary] = []

    def add(self, block: Block) -> None:
        """Take rows of an angle; after its last ones its page is drawn."""
        if self._reduction is None:
            self._reduction = AngleReduction(block.angle, block.n_frames)
        self._reduction.add(block)
        if block.is_last:
            summary = self._reduction.summary()
            self._reduction = None
            self._summaries.append(summary)
            self._make(self._names[block.angle], lambda: self._angle_page(summary))

    def finish(self) -> None:
        """Draw the pictures that show all angles."""
        answer, summaries = self._answer, self._summaries
        truth = true_values(answer.run.truth, answer.data.phi)
        self._make("overview.png", lambda: plots.overview(answer, summaries))
        self._make("angle_scaling.png", lambda: plots.angle_scaling(answer, truth))
        self._make("residual_checks.png", lambda: plots.residual_checks(answer, summaries))
        if answer.posterior is not None:
            self._posterior_pictures(answer.posterior, truth)

    def _posterior_pictures(self, found: Posterior, truth: Mapping[str, Truth]) -> None:
        answer = self._answer
        pictures: dict[str, Callable[[], bytes]] = {
            "posterior.png": lambda: posterior_plots.posterior(answer, found, truth),
            "forest.png": lambda: posterior_plots.forest(answer, found, truth),
            "pair.png": lambda: posterior_plots.pair(found, truth),
        }
        if found.statistics is not None:
            pictures |= {
                "trace.png": lambda: posterior_plots.trace(found),
                "rank.png": lambda: posterior_plots.rank(found),
                "autocorrelation.png": lambda: posterior_plots.autocorrelation(found),
                "energy.png": lambda: posterior_plots.energy(found),
                "ess.png": lambda: posterior_plots.ess(found),
            }
        if found.shards:
            pictures["shard_forest.png"] = lambda: posterior_plots.shard_forest(found, truth)
        for name, draw in pictures.items():
            self._make(name, draw)

    def _angle_page(self, summary: AngleSummary) -> bytes:
        if self._page is None:
            self._page = plots.AnglePage(self._answer)
        return self._page.draw(summary)

    def _make(self, name: str, draw: Callable[[], bytes]) -> None:
        try:
            atomic_write_bytes(self._folder / name, draw())
        except Exception as error:  # whatever fails in a picture, it must not cost the others
            self._page = None
            self.failed.append(Trouble(f"plots/{name}", f"{type(error).__name__}: {error}"))
        self._on_progress(f"picture {name}")
