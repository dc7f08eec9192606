"""summary.json and provenance.json: the verdict in one place, and all that is needed to make it again."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from hpcxpcs import __version__
from hpcxpcs.files.process_memory import peak_memory
from hpcxpcs.results.nlsq import labels_of, preprocessing_of, utc_now
from hpcxpcs.results.posterior_records import Posterior
from hpcxpcs.results.quality import exit_words, quality_flag, quality_warnings, verdict
from hpcxpcs.results.records import SCHEMA_VERSION, Answer, Fit, RunRecord, WrittenResults
from hpcxpcs.results.trust import posterior_quality, posterior_warnings, verdict_sentence

PACKAGES = (
    *("jax", "jaxlib", "numpy", "scipy", "h5py", "nlsq", "cma", "numpyro", "arviz", "xarray"),
    *("h5netcdf", "matplotlib"),
)
"""Packages whose versions can change the numbers or the pictures."""


OBSERVED = ("phases", "processes", "messages")
"""What a summary says of the processes of a run; None where they kept no log."""


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
        "verdict": _first_sentence(answer),
        "exit_code": run.exit_code,
        "exit_code_means": exit_words(run.exit_code),
        "method": method_of(answer),
        "analysis_mode": fit.model,
        "quality_flag": quality_flag(fit) if found is None else posterior_quality(found),
        "reduced_chi_squared": fit.reduced_chi_squared,
        "parameters": {name: _headline(fit, k) for k, name in enumerate(fit.names)},
        **labels_of(fit),
        "posterior": None if found is None else _posterior(found),
        "metrics": _metrics(fit, found),
        "timings": dict(run.timings),
        **{name: observed.get(name) for name in OBSERVED},
        "peak_memory_bytes": peak_memory(),
        "files": [_file(path, written.folder) for path in written.files],
        "warnings": [
            *(posterior_warnings(found, fit) if found is not None else ()),
            *quality_warnings(fit),
            *answer.data.processing.words(),
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
    end = utc_now()
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
        "start": run.started or _started(run, end),
        "end": end,
    }


def with_hashes(provenance: Mapping[str, Any], folder: Path, files: Iterable[Path]) -> dict[str, Any]:
    """A provenance record with SHA-256 of the files; those already there are not read again."""
    known = dict(provenance.get("sha256", {}))
    names = {path.relative_to(folder).as_posix(): path for path in files}
    hashes = {name: known.get(name) or _sha256(path) for name, path in names.items()}
    return {**provenance, "end": utc_now(), "sha256": hashes}


def method_of(answer: Answer) -> str:
    """How the answer was found: nlsq, cmc or exact."""
    return "nlsq" if answer.posterior is None else str(answer.posterior.settings.get("method", "cmc"))


def _first_sentence(answer: Answer) -> str:
    if answer.posterior is None:
        return verdict(answer.fit, answer.run.exit_code)
    return verdict_sentence(answer.posterior)


def _metrics(fit: Fit, found: Posterior | None) -> dict[str, Any]:
    """How good the answer is, in numbers that programs compare."""
    metrics: dict[str, Any] = {
        "chi_squared": fit.chi_squared,
        "degrees_of_freedom": fit.degrees_of_freedom,
        "reduced_chi_squared": fit.reduced_chi_squared,
        "iterations": fit.iterations,
        "evaluations": fit.evaluations,
        "starts": fit.search.followed,
        "pairs": int(sum(fit.pairs)),
        "compression_error": fit.compression.error,
    }
    if found is None:
        return metrics
    shards, summary = found.shards, found.summary
    divergent = sum(shard.divergences for shard in shards) if shards else np.sum(found.statistics.diverging)
    return {
        **metrics,
        "max_r_hat": np.max(summary.r_hat),
        "min_ess": min(np.min(summary.ess_bulk), np.min(summary.ess_tail)),
        "divergences": int(divergent),
        "num_shards": len(shards),
        "accepted": sum(shard.accepted for shard in shards),
        "k_hat": None if found.certificate is None else found.certificate.k_hat,
        "compression_error": found.compression.error,
    }


def _posterior(found: Posterior) -> dict[str, Any]:
    """The headline numbers of a posterior and its verdict."""
    summary = found.summary
    return {
        "route": found.route,
        "verdict": found.verdict,
        "words": found.words,
        "diagnostics_passed": found.judgement.passed,
        "hdi_probability": summary.hdi_probability,
        "parameters": {
            name: {
                "mean": summary.mean[k],
                "std": summary.std[k],
                "median": summary.median[k],
                "hdi": summary.hdi[k],
                "unit": found.units[k],
            }
            for k, name in enumerate(found.names)
        },
        "recommendations": list(found.recommendations),
    }


def _sampling(found: Posterior) -> dict[str, Any]:
    """What the draws depend on besides configuration and data."""
    return {
        "seed": found.seed,
        "chains": found.chains,
        "samples": found.samples,
        "shards": len(found.shards),
        "route": found.route,
        "settings": dict(found.settings),
        "timings": dict(found.timings),
    }


def _headline(fit: Fit, k: int) -> dict[str, Any]:
    robust = None if fit.robust_uncertainty is None else fit.robust_uncertainty[k]
    return {
        "value": fit.values[k],
        "uncertainty": fit.uncertainty[k],
        "robust_uncertainty": robust,
        "unit": fit.units[k],
    }


def _file(path: Path, folder: Path) -> dict[str, Any]:
    return {"path": path.relative_to(folder), "bytes": path.stat().st_size}


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


def _started(run: RunRecord, end: datetime.datetime) -> datetime.datetime:
    """Without a start on record, the phases that were timed give it."""
    return end - datetime.timedelta(seconds=round(sum(run.timings.values())))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
