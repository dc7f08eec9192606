"""The files of a fit of g2(τ): JSON, CSV, NetCDF, HDF5, pictures and a page, in one folder; never in the data file
unless asked.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from hpcxpcs import __version__
from hpcxpcs.errors import FormatError
from hpcxpcs.files.atomic import atomic_write_bytes, atomic_write_text, writing
from hpcxpcs.files.json_safe import dumps, utc_now
from hpcxpcs.g2.fit import FileFit, tidy_rows
from hpcxpcs.g2.layouts import Table, write_viewer
from hpcxpcs.g2.models import viewer_time
from hpcxpcs.g2.plots import bins_picture, tau_picture
from hpcxpcs.g2.simulate import true_rows
from hpcxpcs.g2.verdict import GOOD, LARGEST_R_HAT, LOWEST_BFMI, MEANING, MISFIT
from hpcxpcs.results.drawing import png
from hpcxpcs.results.pages import page_template, readable
from hpcxpcs.results.table import measurement, number

if TYPE_CHECKING:
    import xarray

SCHEMA_VERSION = 1
NAMES = ("g2.json", "g2.csv", "g2.nc", "g2.hdf", "g2.png", "tau_q.png", "g2.html")
FITS = "fits/hpcxpcs_g2"
"""Group of fitted values in an HDF5 file."""


def write_fit(fit: FileFit, folder: Path, command: str = "") -> list[Path]:
    """Write all files of a fit, each of them whole, and take away those of an earlier fit; return their paths."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            (folder / name).unlink(missing_ok=True)
    pictures = {"g2.png": png(bins_picture(fit)), "tau_q.png": png(tau_picture(fit))}
    atomic_write_text(folder / "g2.json", dumps(record(fit, command)))
    atomic_write_text(folder / "g2.csv", csv_text(fit))
    for name, content in pictures.items():
        atomic_write_bytes(folder / name, content)
    if fit.draws is not None:
        atomic_write_bytes(folder / "g2.nc", bytes(tree(fit).to_netcdf(engine="h5netcdf")))
    atomic_write_bytes(folder / "g2.hdf", _hdf5(fit))
    atomic_write_text(folder / "g2.html", page(fit, pictures, command))
    return [folder / name for name in NAMES if (folder / name).exists()]


def record(fit: FileFit, command: str = "") -> dict[str, Any]:
    """Everything about a fit but its draws and curves, as JSON has it."""
    truth = true_rows(fit.data.simulated, fit.shape.parameters)
    return {
        "schema_version": SCHEMA_VERSION,
        "created": utc_now(),
        "created_by": f"hpcxpcs {__version__}",
        "command": command,
        "file": fit.data.file,
        "sha256": _sha256(fit.data.file),
        "layout": fit.data.layout,
        "notes": fit.data.notes,
        "settings": fit.settings.model_dump(mode="json"),
        "model": fit.shape.form,
        "baseline": fit.shape.baseline,
        "parameters": dict(zip(fit.shape.parameters, fit.shape.units, strict=True)),
        "noise": fit.noise.words,
        "choice": None if fit.choice is None else {**vars(fit.choice), "words": fit.choice.words},
        "status": fit.words,
        "meaning": {word: MEANING[word] for word in dict.fromkeys(fit.status)},
        "law": None if fit.law is None else {**vars(fit.law), "words": fit.law.words},
        "limits": {"r_hat": LARGEST_R_HAT, "bfmi": LOWEST_BFMI},
        "seconds": fit.seconds,
        "bins": [_bin(fit, k, truth) for k in range(len(fit.status))],
    }


def _sha256(file: str) -> str | None:
    path = Path(file)
    return hashlib.sha256(path.read_bytes()).hexdigest() if file and path.is_file() else None


def _bin(fit: FileFit, k: int, truth: np.ndarray | None) -> dict[str, Any]:
    data, quality = fit.data, fit.quality
    chains = fit.chains[k] if fit.chains else None
    names = fit.shape.parameters
    found: dict[str, Any] = {
        "bin": data.labels[k],
        "q": data.q[k],
        "phi": data.phi[k],
        "status": fit.status[k],
        "reason": fit.reasons[k],
        "values": int(data.there[:, k].sum()),
        **{name: values[k] for name, values in vars(quality).items()},
        "least_squares": _estimates(fit.point, names, k),
        "covariance": fit.covariance[k],
    }
    if "exponent" in names:
        tau, exponent = fit.answer.value[k, 0], fit.answer.value[k, 1]
        found["viewer_tau"] = viewer_time(tau, exponent) if np.isfinite(tau) else None
    if fit.posterior is not None:
        found["posterior"] = _estimates(fit.posterior, names, k)
    if chains is not None:
        found["chains"] = {
            "r_hat": chains.mixing.r_hat,
            "ess_bulk": chains.mixing.ess_bulk,
            "ess_tail": chains.mixing.ess_tail,
            "divergences": chains.divergences,
            "bfmi": chains.bfmi,
            "refused": chains.refused,
        }
    if truth is not None:
        found["truth"] = dict(zip(names, truth[k], strict=True))
    return found


def _estimates(found: Any, names: tuple[str, ...], k: int) -> dict[str, Any]:
    return {
        name: {
            "value": found.value[k, j],
            "error": found.sd[k, j],
            "interval_68": found.ends[k, j, 1:3],
            "interval_95": found.ends[k, j, [0, 3]],
        }
        for j, name in enumerate(names)
    }


def csv_text(fit: FileFit) -> str:
    """A row per bin and parameter; what is no number is an empty cell."""
    stream = io.StringIO()
    rows = list(tidy_rows(fit))
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {name: "" if isinstance(cell, float) and np.isnan(cell) else cell for name, cell in row.items()}
        )
    return stream.getvalue()


def tree(fit: FileFit) -> xarray.DataTree:
    """Draws of all bins, NaN where there are none, with what the sampler recorded and the data, for ArviZ."""
    import xarray

    assert fit.draws is not None
    data, order = fit.data, ("chain", "draw", "bin")
    _, chains, draws, _ = fit.draws.values.shape
    bins = {
        "bin": data.labels,
        "q": ("bin", data.q, {"units": "1/angstrom"}),
        "phi": ("bin", data.phi, {"units": "deg"}),
        "status": ("bin", np.array(fit.status, dtype=object)),
    }
    index = {"chain": np.arange(chains), "draw": np.arange(draws), **bins}
    moved = np.moveaxis(fit.draws.values, 0, 2)
    parameters = {
        name: (order, moved[..., j], {"units": unit})
        for j, (name, unit) in enumerate(zip(fit.shape.parameters, fit.shape.units, strict=True))
    }
    recorded = {
        "energy": (order, np.moveaxis(fit.draws.energy, 0, 2)),
        "diverging": (order, np.moveaxis(fit.draws.diverging, 0, 2)),
    }
    observed = {"g2": (("delay", "bin"), data.g2), "error": (("delay", "bin"), fit.noise.error)}
    about = {"created_by": f"hpcxpcs {__version__}", "inference_library": "numpyro", "model": fit.shape.form}
    return xarray.DataTree.from_dict(
        {
            "/": xarray.Dataset(attrs={**about, "file": readable(data.file), "noise": fit.noise.words}),
            "/posterior": xarray.Dataset(parameters, coords=index),
            "/sample_stats": xarray.Dataset(recorded, coords=index),
            "/observed_data": xarray.Dataset(observed, coords={"delay": ("delay", data.tau, {"units": "s"}), **bins}),
        }
    )


def _hdf5(fit: FileFit) -> bytes:
    """g2 as it was fitted, in the viewer's schema, with the fits."""
    stream = io.BytesIO()
    data = fit.data
    with h5py.File(stream, "w") as file:
        write_viewer(file, Table(data.tau, data.g2, fit.noise.error, data.q, data.phi, 1.0, data.partial))
        _write_fits(file, fit)
    return stream.getvalue()


def _write_fits(file: h5py.File, fit: FileFit) -> None:
    """Values, errors and intervals of all bins under FITS, bins in the rows."""
    if FITS in file:
        del file[FITS]
    group = file.create_group(FITS)
    answer = fit.answer
    group["parameters"] = np.array(fit.shape.parameters, dtype=object)
    group["units"] = np.array(fit.shape.units, dtype=object)
    for name, values in (("values", answer.value), ("errors", answer.sd), ("intervals", answer.ends)):
        group[name] = values
    group["intervals"].attrs["ends"] = "low 95 %, low 68 %, high 68 %, high 95 %"
    group["least_squares"], group["covariance"] = fit.point.value, fit.covariance
    group["status"] = np.array(fit.status, dtype=object)
    group["fitted"] = fit.fitted
    group["chi_squared"], group["freedom"] = fit.quality.chi_squared, fit.quality.freedom
    group["labels"], group["q"], group["phi"] = fit.data.labels, fit.data.q, fit.data.phi
    about = {"model": fit.shape.form, "created_by": f"hpcxpcs {__version__}", "noise": fit.noise.words}
    group.attrs.update(about)


def write_into(fit: FileFit, path: Path) -> None:
    """Put the fits under FITS into the data file itself: into a copy, which then takes its place."""
    if not h5py.is_hdf5(path):
        raise FormatError(f"{path}: is not HDF5, so that fits cannot be put into it; leave out --into-file")
    copy = path.with_name(f".{path.name}.with-fits.temp")
    with writing(path):
        try:
            shutil.copy2(path, copy)
            with h5py.File(copy, "r+") as file:
                _write_fits(file, fit)
            copy.replace(path)
        finally:
            copy.unlink(missing_ok=True)


def page(fit: FileFit, pictures: dict[str, bytes], command: str = "") -> str:
    """One page that needs no network: what was found, both pictures, every bin with its word."""
    counts = {word: fit.status.count(word) for word in dict.fromkeys(fit.status)}
    good = counts.get(GOOD, 0)
    tone = "good" if good == len(fit.status) else "caution" if fit.usable.any() else "bad"
    content = page_template("g2.html.j2").render(
        title=Path(fit.data.file).name or "g2",
        tone=tone,
        headline=f"{int(fit.usable.sum())} of {len(fit.status)} bins have an answer",
        counts={word: (count, MEANING[word]) for word, count in counts.items()},
        usable=(GOOD, MISFIT),
        law=None if fit.law is None else fit.law.words,
        facts=_facts(fit),
        notes=fit.data.notes,
        pictures={name: base64.b64encode(content).decode() for name, content in pictures.items()},
        headings=[f"{name} ({unit})" if unit != "1" else name for name, unit in _columns(fit)],
        rows=list(_page_rows(fit)),
        command=command,
    )
    return readable(content)


def _columns(fit: FileFit) -> list[tuple[str, str]]:
    return list(zip(fit.shape.parameters, fit.shape.units, strict=True))


def _facts(fit: FileFit) -> dict[str, str]:
    data = fit.data
    method = "least squares and NUTS" if fit.posterior is not None else "least squares"
    found = {
        "file": data.file,
        "read as": f"{data.layout}: {len(data.labels)} bins, {len(data.tau)} delays, "
        f"{data.tau[0]:.4g} to {data.tau[-1]:.4g} s",
        "model": f"{fit.shape.form}, baseline {fit.shape.baseline.replace('_', ' ')}, contrast {fit.settings.contrast}",
        "method": f"{method}, {fit.seconds:.3g} s",
        "noise": fit.noise.words,
    }
    return found | ({} if fit.choice is None else {"chosen": fit.choice.words})


def _page_rows(fit: FileFit) -> Iterator[dict[str, Any]]:
    answer, quality = fit.answer, fit.quality
    for k, word in enumerate(fit.status):
        chains = fit.chains[k] if fit.chains else None
        cells = [str(measurement(v, e)) for v, e in zip(answer.value[k], answer.sd[k], strict=True)]
        worst = "" if chains is None else f"{number(float(np.max(chains.mixing.r_hat)), 4)}"
        yield {
            "bin": int(fit.data.labels[k]),
            "q": number(float(fit.data.q[k]), 4),
            "phi": number(float(fit.data.phi[k]), 4),
            "status": word,
            "reason": fit.reasons[k],
            "cells": cells if word in (GOOD, MISFIT) else [""] * len(cells),
            "chi": f"{quality.chi_squared[k]:.4g} / {quality.freedom[k]:.0f}",
            "r_hat": worst,
        }
