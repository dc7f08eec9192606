"""Writing results: the numbers first, whole and at once, with summary.json and provenance.json; then pictures, fitted
data and the report."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from hpcxpcs import __version__
from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.fit_verdict import exit_meaning, quality_warnings
from hpcxpcs.answer.posterior import Posterior
from hpcxpcs.answer.posterior_verdict import first_sentence, posterior_warnings, quality_of
from hpcxpcs.data.preprocess import warnings_of
from hpcxpcs.errors import OutputError
from hpcxpcs.files.atomic import atomic_write_bytes, replacing_folder
from hpcxpcs.files.json_safe import utc_now, write_json
from hpcxpcs.files.process_memory import peak_memory
from hpcxpcs.results.cmc import posterior_files
from hpcxpcs.results.comparison import compared
from hpcxpcs.results.fitted import matrices_of, reason_to_skip, write_fitted_data
from hpcxpcs.results.nlsq import estimate, labels_of, point_fit_files, preprocessing_of
from hpcxpcs.results.records import SCHEMA_VERSION, Answer, Trouble, WrittenResults, picked, picked_at

OnProgress = Callable[[str], None]
FITTED_DATA = Path("nlsq") / "fitted_data.npz"
QUALITY = "quality.json"
CREDIBLE_DATA = Path("cmc") / "fitted_data.npz"

PACKAGES = (
    *("jax", "jaxlib", "numpy", "scipy", "h5py", "nlsq", "cma", "numpyro", "arviz", "xarray"),
    *("h5netcdf", "matplotlib"),
)
"""Packages whose versions can change the numbers or the pictures."""

OBSERVED = ("phases", "processes", "messages")
"""What a summary says of the processes of a run; None where they kept no log."""


def write_numbers(folder: Path, answer: Answer) -> WrittenResults:
    """Write parameters, quality, covariance, summary, provenance; `folder` is old or new, never mixed."""
    provenance = provenance_record(answer)
    with replacing_folder(folder) as fresh:
        files = _write_all(fresh / "nlsq", point_fit_files(answer.fit, answer.data))
        if answer.posterior is not None:
            files += _write_all(fresh / "cmc", posterior_files(answer, answer.posterior))
        if answer.run.quality is not None:
            write_json(fresh / QUALITY, answer.run.quality)
            files += (fresh / QUALITY,)
        provenance = with_hashes(provenance, fresh, files)
        _write_records(WrittenResults(fresh, files, provenance=provenance), answer, "pending")
    there = tuple(folder / path.relative_to(fresh) for path in files)
    return WrittenResults(folder, there, provenance=provenance)


def _write_all(folder: Path, contents: Mapping[str, bytes]) -> tuple[Path, ...]:
    """Write files into a new folder and return their paths."""
    folder.mkdir()
    for name, content in contents.items():
        atomic_write_bytes(folder / name, content)
    return tuple(folder / name for name in contents)


def write_pictures(
    written: WrittenResults,
    answer: Answer,
    *,
    plots: bool = True,
    report: bool = True,
    fitted_data: bool = True,
    on_progress: OnProgress | None = None,
) -> WrittenResults:
    """Add plots, fitted data and the report to written numbers; a matrix of one angle is in memory at a time.

    A picture that fails and a file that had to be left out do not raise: they are listed in the result, in
    summary.json and in the report.
    """
    progress = on_progress or _silent
    if plots:
        written = _draw(written, answer, progress)
    if fitted_data:
        written = _write_fitted(written, answer, None, progress)
        if answer.posterior is not None:
            written = _write_fitted(written, answer, answer.posterior, progress)
    if report:
        from hpcxpcs.results.report import write_report

        path = write_report(written, answer)
        written = replace(_with_files(written, path), report=path)
        progress("report report.html")
    written = replace(written, provenance=with_hashes(written.provenance, written.folder, written.files))
    _write_records(written, answer, "written" if plots else "off")
    return written


def _draw(written: WrittenResults, answer: Answer, progress: OnProgress) -> WrittenResults:
    # The numbers are on disk by now: only pictures pay for importing matplotlib.
    from hpcxpcs.results.gallery import Gallery

    with replacing_folder(written.folder / "plots") as fresh:
        gallery = Gallery(fresh, answer, progress)
        for block in compared(answer):
            gallery.add(block)
        gallery.finish()
    pictures = sorted((written.folder / "plots").glob("*.png"))
    return replace(_with_files(written, *pictures), plots_failed=tuple(gallery.failed))


def _write_fitted(
    written: WrittenResults, answer: Answer, posterior: Posterior | None, progress: OnProgress
) -> WrittenResults:
    """The archive of a point fit or a posterior is there, or listed with the reason why it is not."""
    name = FITTED_DATA if posterior is None else CREDIBLE_DATA
    path = written.folder / name
    reason = reason_to_skip(path, answer.data, len(matrices_of(posterior)))
    try:
        if reason is None:
            write_fitted_data(path, answer, posterior)
    except OutputError as error:
        reason = str(error)
    if reason is not None:
        return replace(written, skipped=(*written.skipped, Trouble(name.as_posix(), reason)))
    progress(f"file {name}")
    return _with_files(written, path)


def _with_files(written: WrittenResults, *paths: Path) -> WrittenResults:
    return replace(written, files=tuple(dict.fromkeys((*written.files, *paths))))


def _write_records(written: WrittenResults, answer: Answer, pictures: str) -> None:
    observed = answer.run.observed()
    provenance = {**written.provenance, "timings": dict(answer.run.timings), "phases": observed.get("phases")}
    write_json(written.folder / "provenance.json", provenance)
    write_json(written.folder / "summary.json", summary_record(answer, written, pictures, observed))


def _silent(step: str) -> None:
    """Nobody is told about `step`."""


def summary_record(
    answer: Answer, written: WrittenResults, pictures: str, observed: Mapping[str, Any]
) -> dict[str, Any]:
    """The verdict, the headline numbers, what it took, every file; `pictures` is pending, written or off.

    `observed` has phases, processes and messages of all processes of the run, as far as they are known.
    """
    fit, run, found = answer.fit, answer.run, answer.posterior
    return {
        "schema_version": SCHEMA_VERSION,
        "timestamp": utc_now(),
        "run_id": run.run_id,
        "status": fit.status,
        "verdict": first_sentence(fit, found, run.exit_code),
        "exit_code": run.exit_code,
        "exit_code_means": exit_meaning(run.exit_code),
        "method": "nlsq" if found is None else found.method,
        "analysis_mode": fit.model,
        "quality_flag": quality_of(fit, found),
        "reduced_chi_squared": fit.reduced_chi_squared,
        "parameters": {name: estimate(fit, k) for k, name in enumerate(fit.names)},
        **labels_of(fit),
        "posterior": None if found is None else _posterior(found),
        "metrics": _metrics(fit, found),
        "timings": dict(run.timings),
        **{name: observed.get(name) for name in OBSERVED},
        "peak_memory_bytes": peak_memory(),
        "files": [{"path": path.relative_to(written.folder), "bytes": path.stat().st_size} for path in written.files],
        "warnings": [
            *(posterior_warnings(found, fit) if found is not None else ()),
            *quality_warnings(fit),
            *warnings_of(answer.data.processing),
            *_picture_warnings(written),
        ],
        **preprocessing_of(answer.data),
        "pictures": pictures,
        "plots_failed": [{"plot": item.what, "error": item.reason} for item in written.plots_failed],
        "files_skipped": [{"file": item.what, "reason": item.reason} for item in written.skipped],
        "report": None if written.report is None else written.report.relative_to(written.folder),
    }


def provenance_record(answer: Answer) -> dict[str, Any]:
    """Versions, configuration, data, machine, command and times (UTC); the hashes of files come later."""
    run, data = answer.run, answer.data
    end = _this_second()
    return {
        "schema_version": SCHEMA_VERSION,
        "versions": {"hpcxpcs": __version__, "python": platform.python_version(), **_installed(PACKAGES)},
        "config": dict(run.config),
        "config_fingerprint": run.fingerprint,
        "sampling": None if answer.posterior is None else _sampling(answer.posterior),
        "data": dict(data.provenance),
        "data_fingerprint": data.fingerprint(),
        "host": platform.node(),
        "operating_system": platform.platform(),
        "cpu_count": os.cpu_count(),
        "cores_available": len(os.sched_getaffinity(0)),
        "command": list(run.command),
        "working_directory": Path.cwd(),
        "executable": sys.executable,
        # without a start on record, the phases that were timed give it
        "start": run.started or end - datetime.timedelta(seconds=round(sum(run.timings.values()))),
        "end": end,
    }


def with_hashes(provenance: Mapping[str, Any], folder: Path, files: Iterable[Path]) -> dict[str, Any]:
    """A provenance record with SHA-256 of the files; those already there are not read again."""
    known = dict(provenance.get("sha256", {}))
    names = {path.relative_to(folder).as_posix(): path for path in files}
    hashes = {name: known.get(name) or _sha256(path) for name, path in names.items()}
    return {**provenance, "end": _this_second(), "sha256": hashes}


def _metrics(fit: PointFit, found: Posterior | None) -> dict[str, Any]:
    """How good the answer is, in numbers that programs compare."""
    metrics: dict[str, Any] = {
        **picked(fit, "chi_squared", "degrees_of_freedom", "reduced_chi_squared", "iterations", "evaluations"),
        "starts": fit.search.followed,
        "pairs": int(sum(fit.pairs)),
        "compression_error": fit.compression.error,
    }
    if found is None:
        return metrics
    shards, summary = found.shards, found.summary
    run = found.statistics
    divergent = sum(shard.divergences for shard in shards) if shards else None if run is None else run.divergences
    return {
        **metrics,
        "max_r_hat": np.max(summary.r_hat),
        "min_ess": summary.fewest_effective,
        "divergences": divergent,
        "num_shards": len(shards),
        "accepted": sum(shard.accepted for shard in shards),
        "k_hat": None if found.certificate is None else found.certificate.k_hat,
        "compression_error": found.compression.error,
    }


def _posterior(found: Posterior) -> dict[str, Any]:
    """The headline numbers of a posterior and its verdict."""
    summary = found.summary
    return {
        **picked(found, "route", "verdict", "words"),
        "diagnostics_passed": found.judgement.passed,
        **picked(found, "log_evidence", "log_evidence_error"),
        "hdi_probability": summary.hdi_probability,
        "parameters": {
            name: {**picked_at(k, summary, "mean", "std", "median", "hdi"), "unit": found.units[k]}
            for k, name in enumerate(found.names)
        },
        "recommendations": found.recommendations,
    }


def _sampling(found: Posterior) -> dict[str, Any]:
    """What the draws depend on besides configuration and data."""
    return {
        **picked(found, "seed", "chains", "samples"),
        "shards": len(found.shards),
        "route": found.route,
        "settings": dict(found.settings),
        "timings": dict(found.timings),
    }


def _picture_warnings(written: WrittenResults) -> list[str]:
    count = len(written.plots_failed)
    return [f"{count} picture{'s' if count > 1 else ''} could not be made: see plots_failed"] if count else []


def _installed(packages: Sequence[str]) -> dict[str, str]:
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _this_second() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
