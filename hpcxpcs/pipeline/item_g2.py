"""An item of a campaign of g2: every bin of a multi-tau file, as `hpcxpcs g2 fit` fits it, in one row of the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from hpcxpcs.answer.campaign import ItemParameter, ItemRow
from hpcxpcs.answer.thresholds import NORMAL_95
from hpcxpcs.config import Config
from hpcxpcs.errors import PosteriorError
from hpcxpcs.g2.fit import FileFit, fit_file, tidy_rows
from hpcxpcs.g2.writing import write_fit
from hpcxpcs.pipeline.compile_cache import compile_cache
from hpcxpcs.pipeline.reporter import Reporter


def fit_g2_item(config: Config, row: ItemRow, folder: Path | None, reporter: Reporter) -> ItemRow:
    """The row of a file with its g2 fitted; with a folder, all files of the fit are written there.

    PosteriorError when no bin has an answer.
    """
    compile_cache(config.runtime.compilation_cache_dir, reporter.warn)
    reporter.phase(f"fitting g2 of {config.data_file.name}")
    found = fit_file(config.data_file, config.g2)
    if folder is not None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_fit(found, folder, "hpcxpcs g2 fit")
    if not np.any(found.usable):
        raise PosteriorError(f"{config.data_file}: no bin has an answer ({found.words}): {found.reasons[0]}")
    return _described(found, row)


def _described(found: FileFit, row: ItemRow) -> ItemRow:
    """The row with the answers of all bins, and the law of their τ."""
    usable, quality = found.usable, found.quality
    law = "" if found.law is None else f"; {found.law.words}"
    return replace(
        row,
        state="done",
        model=found.shape.form,
        quality="good" if np.all(usable) else "acceptable",
        verdict=f"{len(usable)} bins: {found.words}{law}.",
        chi_squared=float(np.sum(quality.chi_squared[usable]) / max(np.sum(quality.freedom[usable]), 1.0)),
        noise_model=found.noise.words,
        parameters=(*_of_law(found), *_of_bins(found)),
        warnings=tuple(
            f"bin {label}: {status}: {reason}"
            for label, status, reason, good in zip(
                found.data.labels.tolist(), found.status, found.reasons, usable, strict=True
            )
            if not good
        ),
    )


def _of_bins(found: FileFit) -> Iterator[ItemParameter]:
    """Every parameter of every bin, named after it, its q and phi; NaN where there is no answer."""
    usable = dict(zip(found.data.labels.tolist(), found.usable.tolist(), strict=True))
    for one in tidy_rows(found):
        where = f"bin {one['bin']}, q {one['q']:.6g}" + (f", phi {one['phi']:g}" if np.isfinite(one["phi"]) else "")
        good = usable[one["bin"]]
        value, error, low, high = (one[name] if good else np.nan for name in ("value", "error", "low95", "high95"))
        yield ItemParameter(f"{one['parameter']} [{where}]", one["unit"], value, error, low, high, 0.95, free=good)


def _of_law(found: FileFit) -> Iterator[ItemParameter]:
    """The exponent n of τ = a·q^−n, and D where it is that of diffusion."""
    law = found.law
    if law is None:
        return
    yield ItemParameter("n", "", law.exponent, law.error, law.low, law.high, 0.95, free=True)
    if np.isfinite(law.diffusion):
        half = NORMAL_95 * law.diffusion_error
        ends = law.diffusion - half, law.diffusion + half
        yield ItemParameter("D", "Å²/s", law.diffusion, law.diffusion_error, *ends, 0.95, free=True)
