"""The report of a posterior: the verdict first, then how far to trust it, and the point fit beside."""

import base64
from dataclasses import replace

import pytest

from hpcxpcs.results.records import WrittenResults
from hpcxpcs.results.report import POSTERIOR_PICTURES, report_html
from tests.results.sample import sample_answer, sample_run
from tests.results.sample_posterior import SAMPLED, rejected, sampled_answer
from tests.results.test_report import Page


def page(answer, folder, *files):
    return Page(report_html(WrittenResults(folder, files), answer))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return page(sampled_answer(), tmp_path_factory.mktemp("report")).text


def test_given_a_posterior_then_the_page_opens_with_its_verdict_and_why(text):
    head, rest = text.split("The answer", 1)
    for words in ("Certified: the combined draws", "k̂ = 0.21 is below its limit", "quality good", "4 shards"):
        assert words in head
    assert rest.index("95% interval") < rest.index("The point fit, for comparison") < rest.index("How far to trust it")


def test_given_a_posterior_then_every_parameter_has_mean_interval_and_checks(text):
    answer = text.split("The answer", 1)[1]
    for name in SAMPLED:
        assert answer.count(name) >= 2
    for words in ("12070 ± 120", "11835 to 12325", "contrast -12.5°", "96.7%", "Strongest correlations"):
        assert words in answer


def test_given_a_consensus_then_each_check_is_told_in_words(text):
    for words in (
        "check against all data the consensus agrees with the full-data posterior",
        "left out: shard 2: R-hat 1.31 of beta",
        "agreement of the shards",
        "R-hat compares the chains of the worst shard",
        "beta (33%): quote the prior with them",
        "56,000 evaluations in all shards",
    ):
        assert words in text


def test_given_a_rejected_posterior_then_the_top_of_the_page_is_red_and_says_what_to_do(tmp_path):
    answer = replace(sampled_answer(**rejected()), run=sample_run(exit_code=3))
    html = report_html(WrittenResults(tmp_path, ()), answer)
    assert '<header class="verdict bad">' in html
    head = Page(html).text.split("The answer", 1)[0]
    for words in ("Rejected: the draws failed", "exit code 3", "shard 2 was left out", "sample all data at once"):
        assert words in head


def test_given_exact_chains_then_the_page_speaks_of_no_shards(tmp_path):
    text = page(sampled_answer(route="exact"), tmp_path).text
    assert "all data were sampled at once" in text
    assert "The shards" not in text
    assert "worst shard" not in text


def test_given_no_posterior_then_the_page_is_that_of_the_point_fit(tmp_path):
    text = page(sample_answer(), tmp_path).text
    assert "The point fit, for comparison" not in text
    assert "Each parameter: prior, data, point fit" not in text


def test_given_pictures_of_the_posterior_then_they_come_first(tmp_path):
    names = ("overview.png", *POSTERIOR_PICTURES)
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    links = page(sampled_answer(), tmp_path, *(tmp_path / name for name in names)).links
    contents = [base64.b64decode(link.removeprefix("data:image/png;base64,")).decode() for link in links]
    assert contents == [*POSTERIOR_PICTURES, "overview.png"]


def test_given_words_with_markup_then_they_stay_text(tmp_path):
    answer = sampled_answer(words="<b>not bold</b>", warnings=("<script>alert(1)</script>",))
    html = report_html(WrittenResults(tmp_path, ()), answer)
    assert "<script" not in html
    assert "<b>not bold</b>" in Page(html).text
