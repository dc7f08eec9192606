"""The report: one page that stands alone, says how far to trust the numbers, and hides no failure."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.physics.model import MODELS
from hpcxpcs.results.records import Trouble, WrittenResults
from hpcxpcs.results.report import FORMULAS, report_html, write_report
from tests.results.sample import COMPRESSION, sample_answer, sample_run

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """The text of a page; complains about tags that are not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.texts, self.links = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def answer():
    return sample_answer()


def page(answer, folder, **changes):
    return Page(report_html(replace(WrittenResults(folder, ()), **changes), answer))


def test_given_an_answer_then_the_page_opens_with_the_verdict(answer, tmp_path):
    text = page(answer, tmp_path).text
    verdict = text.index("The fit converged. The model explains the data")
    assert verdict < text.index("The answer") < text.index("What was fitted") < text.index("How far to trust it")
    assert "exit code 0 (converged)" in text


def test_given_an_answer_then_the_page_holds_values_error_bars_units_and_truth(answer, tmp_path):
    text = page(answer, tmp_path).text
    for words in ("12050 ± 120", "170", "Å²/s^(1+alpha)", "12000", "+0.4 σ", "0.2300 ± 0.0020"):
        assert words in text


def test_given_no_truth_then_the_page_has_no_such_column(answer, tmp_path):
    assert "truth" in page(answer, tmp_path).text
    assert "truth" not in page(replace(answer, run=sample_run(truth=None)), tmp_path).text


def test_given_an_answer_then_conventions_and_model_are_named_in_words(answer, tmp_path):
    text = page(answer, tmp_path).text
    for words in (
        "shear law couette",
        "integrator exact",
        "sinc²(X)",
        "0.0054 Å⁻¹",
        "frames 1 to 40 of the file",
    ):
        assert words in text


def test_given_every_model_then_there_is_a_formula_in_words():
    assert set(FORMULAS) == set(MODELS)


def test_given_a_doubtful_fit_then_the_page_says_so_at_the_top(tmp_path):
    answer = sample_answer(
        status="at_bounds",
        message="the data push alpha against a bound",
        at_bound=np.arange(7) == 1,
        compression=replace(COMPRESSION, error=0.3),
        recovery_actions=("wider trust region",),
        flags=("phi0 is hardly determined",),
    )
    text = page(replace(answer, run=sample_run(exit_code=3)), tmp_path).text
    head, rest = text.split("The answer")
    for words in (
        "edge of the allowed range",
        "exit code 3",
        "the data push alpha against a bound",
        "phi0 is hardly determined",
    ):
        assert words in head
    for words in ("at bound", "wider trust region", "ABOVE the limit of 0.05"):
        assert words in rest


def test_given_inflated_error_bars_then_the_page_says_which_to_prefer(answer, tmp_path):
    assert "1.4 times larger: some noise is shared" in page(answer, tmp_path).text
    bare = replace(answer, fit=replace(answer.fit, robust_uncertainty=None))
    assert "Robust compared" not in page(bare, tmp_path).text


def test_given_pictures_then_they_are_inside_the_page_and_nothing_else_is_needed(answer, tmp_path):
    names = ("overview.png", "c2_phi_-12.5.png", "unrelated.png")
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    links = page(answer, tmp_path, files=tuple(tmp_path / name for name in names)).links
    contents = [base64.b64decode(link.removeprefix("data:image/png;base64,")).decode() for link in links]
    assert contents == ["overview.png", "c2_phi_-12.5.png"]


def test_given_a_page_then_it_runs_no_script_and_needs_no_network(answer, tmp_path):
    html = report_html(WrittenResults(tmp_path, ()), answer)
    assert "<script" not in html
    assert "http" not in html
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html


def test_given_failed_pictures_and_skipped_files_then_the_page_lists_them(answer, tmp_path):
    troubles = {
        "plots_failed": (Trouble("plots/overview.png", "ValueError: no ink"),),
        "skipped": (Trouble("nlsq/fitted_data.npz", "it would take 9.0 GB"),),
    }
    text = page(answer, tmp_path, **troubles).text
    assert "the numbers are not affected" in text
    assert "ValueError: no ink" in text
    assert "it would take 9.0 GB" in text


def test_given_a_file_name_with_markup_then_it_stays_text(answer, tmp_path):
    name = "<script>alert('x')</script>&.h5"
    data: TwoTime = replace(answer.data, provenance={"file": name})
    assert name in page(replace(answer, data=data), tmp_path).text


def test_given_more_angles_than_fit_in_a_page_then_it_says_where_the_others_are(tmp_path):
    answer = sample_answer(12, tuple(np.linspace(0.0, 90.0, 45)))
    assert "5 more angles are in the folder plots" in page(answer, tmp_path).text


def test_given_an_answer_then_the_report_is_a_file_beside_the_numbers(answer, tmp_path):
    assert write_report(WrittenResults(tmp_path, ()), answer) == tmp_path / "report.html"
    assert Page((tmp_path / "report.html").read_text()).text.startswith(" converged · laminar_flow")
