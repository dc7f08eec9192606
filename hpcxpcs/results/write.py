"""Writing results: the numbers first, whole and at once; then pictures, fitted data and the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hpcxpcs.errors import OutputError
from hpcxpcs.files.atomic import Fault, replacing_folder
from hpcxpcs.files.json_safe import write_json
from hpcxpcs.results.bands import BAND_MATRICES, write_credible_data
from hpcxpcs.results.cmc import write_posterior
from hpcxpcs.results.comparison import compared
from hpcxpcs.results.fitted import reason_to_skip, write_fitted_data
from hpcxpcs.results.nlsq import write_point_fit
from hpcxpcs.results.posterior_records import Posterior
from hpcxpcs.results.records import Answer, Trouble, WrittenResults
from hpcxpcs.results.summary import provenance_record, summary_record, with_hashes

Progress = Callable[[str], None]
FITTED_DATA = Path("nlsq") / "fitted_data.npz"
QUALITY = "quality.json"
CREDIBLE_DATA = Path("cmc") / "fitted_data.npz"


def write_numbers(folder: Path, answer: Answer, *, fault: Fault | None = None) -> WrittenResults:
    """Write parameters, quality, covariance, summary, provenance; `folder` is old or new, never mixed."""
    provenance = provenance_record(answer)
    with replacing_folder(folder, fault=fault) as fresh:
        numbers = fresh / "nlsq"
        numbers.mkdir()
        files = write_point_fit(numbers, answer.fit, answer.data, fault=fault)
        if answer.posterior is not None:
            (fresh / "cmc").mkdir()
            files = (*files, *write_posterior(fresh / "cmc", answer, answer.posterior, fault=fault))
        if answer.run.quality is not None:
            write_json(fresh / QUALITY, answer.run.quality, fault=fault)
            files = (*files, fresh / QUALITY)
        provenance = with_hashes(provenance, fresh, files)
        _write_records(WrittenResults(fresh, files, provenance=provenance), answer, "pending", fault)
    there = tuple(folder / path.relative_to(fresh) for path in files)
    return WrittenResults(folder, there, provenance=provenance)


def write_pictures(
    written: WrittenResults,
    answer: Answer,
    *,
    plots: bool = True,
    report: bool = True,
    fitted_data: bool = True,
    on_progress: Progress | None = None,
    fault: Fault | None = None,
) -> WrittenResults:
    """Add plots, fitted data and the report to written numbers; a matrix of one angle is in memory at a time.

    A picture that fails and a file that had to be left out do not raise: they are listed in the result, in
    summary.json and in the report.
    """
    progress = on_progress or _silent
    if plots:
        written = _draw(written, answer, progress, fault)
    if fitted_data:
        written = _write_fitted(written, answer, progress, fault)
        if answer.posterior is not None:
            written = _write_credible(written, answer, answer.posterior, progress, fault)
    if report:
        from hpcxpcs.results.report import write_report

        path = write_report(written, answer, fault=fault)
        written = replace(_with_files(written, path), report=path)
        progress("report report.html")
    written = replace(written, provenance=with_hashes(written.provenance, written.folder, written.files))
    _write_records(written, answer, "written" if plots else "off", fault)
    return written


def _draw(written: WrittenResults, answer: Answer, progress: Progress, fault: Fault | None) -> WrittenResults:
    # The numbers are on disk by now: only pictures pay for importing matplotlib.
    from hpcxpcs.results.gallery import Gallery

    with replacing_folder(written.folder / "plots", fault=fault) as fresh:
        gallery = Gallery(fresh, answer, progress)
        for block in compared(answer):
            gallery.add(block)
        gallery.finish()
    pictures = sorted((written.folder / "plots").glob("*.png"))
    return replace(_with_files(written, *pictures), plots_failed=tuple(gallery.failed))


def _write_fitted(
    written: WrittenResults, answer: Answer, progress: Progress, fault: Fault | None
) -> WrittenResults:
    path = written.folder / FITTED_DATA
    reason = reason_to_skip(path, answer.data)
    try:
        if reason is None:
            write_fitted_data(path, answer, fault=fault)
    except OutputError as error:
        reason = str(error)
    return _with_archive(written, FITTED_DATA, reason, progress)


def _write_credible(
    written: WrittenResults, answer: Answer, posterior: Posterior, progress: Progress, fault: Fault | None
) -> WrittenResults:
    path = written.folder / CREDIBLE_DATA
    reason = reason_to_skip(path, answer.data, matrices=len(BAND_MATRICES))
    try:
        if reason is None:
            write_credible_data(path, answer, posterior, fault=fault)
    except OutputError as error:
        reason = str(error)
    return _with_archive(written, CREDIBLE_DATA, reason, progress)


def _with_archive(
    written: WrittenResults, name: Path, reason: str | None, progress: Progress
) -> WrittenResults:
    """The archive is there, or listed with the reason why it is not."""
    if reason is not None:
        return replace(written, skipped=(*written.skipped, Trouble(name.as_posix(), reason)))
    progress(f"file {name}")
    return _with_files(written, written.folder / name)


def _with_files(written: WrittenResults, *paths: Path) -> WrittenResults:
    return replace(written, files=tuple(dict.fromkeys((*written.files, *paths))))


def _write_records(written: WrittenResults, answer: Answer, pictures: str, fault: Fault | None) -> None:
    observed = answer.run.observed()
    provenance = {**written.provenance, "timings": dict(answer.run.timings), "phases": observed.get("phases")}
    write_json(written.folder / "provenance.json", provenance, fault=fault)
    write_json(written.folder / "summary.json", summary_record(answer, written, pictures, observed), fault=fault)


def _silent(step: str) -> None:
    """Nobody is told about `step`."""
