"""campaign.html in a real browser: sorts, filters, opens items and draws, needs no network, never runs a text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.results.campaign import write_campaign
from tests.browser.chromium import Chromium, browser_program
from tests.installed import skip_or_fail
from tests.results.sample_campaign import BASIS, Q, item, parameter, sample_table, table, thumbnail

ROWS = "#items tbody tr"
INJECTION = "<script>window.broken = true</script><img src=x onerror='window.broken = true'></script>"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[Chromium]:
    """One browser for all tests of this file."""
    program = browser_program()
    if program is None:
        skip_or_fail("Chromium is not installed: run tests/browser/install.sh as root")
    with Chromium(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def show(chromium, tmp_path):
    """Write a campaign and open its page; at the end nothing may have gone wrong or over a network."""

    def written_and_opened(written):
        chromium.open(write_campaign(tmp_path, written)[2])
        return chromium

    yield written_and_opened
    chromium.run("0")
    assert chromium.errors == []
    assert chromium.requests == [(tmp_path / "campaign.html").resolve().as_uri()]


def column(page, name: str) -> list[str]:
    """The cells of the column under this heading, without its unit; what is written across columns is no cell."""
    headings = page.run("[...document.querySelectorAll('#items thead th span')].map((title) => title.textContent)")
    return page.texts(f"#items tbody tr > :nth-child({headings.index(name) + 1})")


def sort_by(page, key: str) -> None:
    page.click(f'#items thead button[data-column="{key}"]')


def choose(page, name: str, value: str) -> None:
    """Choose in a list of choices as a reader does: the list tells its page."""
    page.run(
        f"(() => {{ const list = document.getElementById({json.dumps(name)}); list.value = {json.dumps(value)};"
        "list.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )
    assert page.run(f"document.getElementById({json.dumps(name)}).value") == value


def find(page, words: str) -> None:
    before = page.text("#shown")
    page.run("(document.getElementById('find').value = '', document.getElementById('find').focus())")
    page.type(words)
    page.until(f"document.getElementById('shown').innerText !== {json.dumps(before)}")


def test_given_a_campaign_then_the_page_opens_with_what_became_of_it_and_why(show):
    page = show(sample_table())
    assert page.text("h1") == "55 of 60 items are done"
    head = page.text("header")
    assert "46 good, 7 acceptable, 2 poor, 2 failed, 1 running, 2 waiting" in head
    assert "2 × the dataset /xpcs/twotime is missing: select another file" in head
    assert "The same for all: attenuation att02, model laminar_flow, method importance, noise speckle" in head


def test_given_a_campaign_then_the_worst_items_come_first_in_words(show):
    page = show(sample_table())
    expected = ["failed"] * 2 + ["poor"] * 2 + ["acceptable"] * 7 + ["good"] * 39
    assert column(page, "state") == expected
    assert page.text("#shown") == "60 of 60 items, rows 1 to 50"
    page.click("#after")
    assert column(page, "state") == ["good"] * 7 + ["running"] + ["waiting"] * 2
    assert page.text("#shown") == "60 of 60 items, rows 51 to 60"
    assert page.run("document.getElementById('after').disabled")


def test_given_a_failed_item_then_its_row_says_why_instead_of_numbers(show):
    page = show(sample_table())
    assert page.texts(f"{ROWS}:first-child td.reason") == [
        "the dataset /xpcs/twotime is missing: select another file, or name it with data.dataset"
    ]


def test_when_a_heading_is_pressed_then_rows_are_in_the_order_of_its_numbers_and_back(show):
    values = {0: 30.0, 1: 4.0, 2: -200.0, 3: 1e5}
    rows = [item(k, parameters=(parameter("D0", value),)) for k, value in values.items()]
    page = show(table(*rows, item(4, state="failed", reason="gone"), item(5, state="waiting")))
    sort_by(page, "p:D0")
    assert column(page, "#") == ["2", "1", "0", "3", "4", "5"]
    assert column(page, "D0")[:4] == ["-200.00 ± 0.10", "4.00 ± 0.10", "30.00 ± 0.10", "100000.00 ± 0.10"]
    assert page.run("document.querySelector('[aria-sort]').innerText").startswith("D0")
    sort_by(page, "p:D0")
    assert column(page, "#") == ["3", "0", "1", "2", "4", "5"]
    assert page.run("document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"
    page.press("Enter")  # the heading keeps the focus: a keyboard does the same
    assert column(page, "#") == ["2", "1", "0", "3", "4", "5"]


def test_when_words_are_typed_then_only_items_that_have_all_of_them_remain(show):
    page = show(sample_table())
    find(page, "t300K R2")
    assert page.text("#shown") == "3 of 60 items"
    assert set(column(page, "temperature")) == {"300"}
    assert set(column(page, "repeat")) == {"2"}
    find(page, "nowhere")
    assert page.texts(ROWS) == ["No item matches."]
    page.click("#clear")
    assert page.text("#shown") == "60 of 60 items, rows 1 to 50"


def test_when_qualities_are_pressed_then_only_they_are_shown_until_they_are_released(show):
    page = show(sample_table())
    page.click('[data-standing="poor"]')
    assert column(page, "state") == ["poor", "poor"]
    page.click('[data-standing="failed"]')
    assert column(page, "state") == ["failed", "failed", "poor", "poor"]
    assert page.run("document.querySelector('[data-standing=poor]').ariaPressed") == "true"
    for name in ("poor", "failed"):
        page.click(f'[data-standing="{name}"]')
    assert page.text("#shown") == "60 of 60 items, rows 1 to 50"


def test_when_a_group_is_pressed_then_its_items_alone_are_shown(show):
    written = sample_table(6)
    page = show(written)
    counts = page.texts("#groups tbody tr:nth-child(3) > *")
    assert counts == ["292.5", "1", "3", "1", "0", "0", "2", "1.58 s"]
    page.click("#groups tbody tr:nth-child(3) button")
    assert set(column(page, "temperature")) == {"292.5"}
    assert set(column(page, "repeat")) == {"1"}
    assert len(page.texts(ROWS)) == 3
    page.click("#groups tbody tr:nth-child(3) button")
    assert page.text("#shown") == "18 of 18 items"


def test_when_a_row_is_pressed_then_everything_about_its_item_is_shown(show):
    page = show(sample_table())
    find(page, "A001 q0.0072")
    page.click(f"{ROWS}:first-child td:nth-child(3)")
    assert page.run("document.getElementById('item').open")
    text = page.text("#item")
    for words in (
        *(
            "A001_att02_T290K_r2_results-q0.0072",
            "poor",
            "The model misses the data.",
            "95 % interval",
            "held",
            "truth",
        ),
        *("The residuals keep a structure of 4 standard deviations along the lag.", "0.0072 Å⁻¹", "1/s^(1+beta)"),
        *("/data/beamtime/2026-1/gel/A001_att02_T290K_r2_results.hdf", "0.002300 ± 0.000010", "laminar_flow"),
    ):
        assert words in text
    assert page.run("document.querySelectorAll('#item canvas').length") == 3
    page.press("Escape")
    page.until("!document.getElementById('item').open")


def test_given_the_keyboard_alone_then_an_item_opens_and_its_neighbours_follow(show):
    page = show(sample_table(2))
    page.run("document.querySelector('#items tbody tr:nth-child(2) button').focus()")
    page.press("Enter")
    names = column(page, "item")
    assert page.text("#item-name") == names[1]
    page.press("ArrowRight")
    assert page.text("#item-name") == names[2]
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    assert page.text("#item-name") == names[0]
    page.press("Escape")
    page.until("!document.getElementById('item').open")
    assert page.run("document.activeElement.textContent") == names[1]


def test_given_the_report_of_an_item_then_it_is_linked_and_others_are_not(show, tmp_path):
    written = table(item(0, name="odd #1 name"), item(1))
    report = tmp_path / "items" / "odd #1 name" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("the report")
    page = show(written)
    page.click(f"{ROWS}:nth-child(1) button")
    assert page.run("document.querySelector('#item a').href") == report.resolve().as_uri()
    page.press("ArrowRight")
    assert page.text("#item-name") == "item-0001"
    assert not page.run("document.querySelector('#item a')")


def test_given_text_that_looks_like_a_page_then_it_is_shown_as_text_and_never_run(show):
    rows = [
        item(
            *(0,),
            name=INJECTION,
            labels={INJECTION: INJECTION, "q": 1.0},
            file=INJECTION,
            verdict=INJECTION,
            warnings=(INJECTION,),
            parameters=(parameter(INJECTION, 1.0, unit=INJECTION),),
        ),
        item(1, labels={INJECTION: "other", "q": 2.0}, state="failed", reason=INJECTION),
    ]
    page = show(table(*rows, name=INJECTION, group_by=(INJECTION,), settings={INJECTION: INJECTION}))
    assert INJECTION in page.text("header")
    assert column(page, "item") == ["item-0001", INJECTION]
    page.click(f"{ROWS}:nth-child(2) button")
    assert page.text("#item").count(INJECTION) >= 6
    assert page.run("window.broken") is None
    assert page.run("document.querySelectorAll('img, script').length") == 2


def test_given_an_inline_script_then_the_page_itself_would_not_run_it(chromium, tmp_path):
    path = write_campaign(tmp_path, table())[2]
    path.write_text(path.read_text().replace("</body>", "<script>window.broken = true</script></body>"))
    chromium.open(path)
    assert chromium.run("window.broken") is None
    chromium.run("0")
    assert any("Content Security Policy" in error for error in chromium.errors)


def points(page, place: str) -> list[list[float]]:
    """Places of the points of a plot on the screen: to the right, and up."""
    circles = f"[...document.querySelectorAll('#{place} circle')]"
    return page.run(f"{circles}.map((one) => [one.cx.baseVal.value, -one.cy.baseVal.value])")


def axis(page) -> str:
    return page.run("[...document.querySelectorAll('#trend text')].at(-1).textContent")


def test_given_a_campaign_then_trends_show_every_determined_value_against_the_first_label(show):
    written = sample_table()
    page = show(written)
    drawn = points(page, "trend")
    done = [row for row in written.rows if row.parameters]
    assert len(drawn) == len(done) == 55
    assert axis(page) == "D0 (Å²/s^(1+alpha))"
    values = [row.parameters[0].value for row in done]
    by_name = dict(zip([row.name for row in done], values, strict=True))
    titles = page.run("[...document.querySelectorAll('#trend circle title')].map((one) => one.textContent)")
    shown = [by_name[title.split(":")[0]] for title in titles]
    slope, start = np.polyfit(shown, [up for _, up in drawn], 1)
    np.testing.assert_allclose([up for _, up in drawn], slope * np.array(shown) + start, atol=1e-3)
    assert page.run("document.querySelectorAll('#trend path.bars').length") == 2  # a colour for each repeat


def test_when_another_parameter_is_chosen_then_the_trend_is_drawn_anew(show):
    page = show(sample_table())
    before = points(page, "trend")
    choose(page, "trend-y", "p:gamma_dot_t0")
    assert axis(page) == "gamma_dot_t0 (1/s^(1+beta))"
    assert points(page, "trend") != before
    choose(page, "trend-x", "l:q")
    assert len({round(across) for across, _ in points(page, "trend")}) == 2 * len(Q)  # repeats side by side
    choose(page, "trend-colour", "")
    assert len({round(across) for across, _ in points(page, "trend")}) == len(Q)
    assert not page.run("[...document.getElementById('trend-y').options].some((one) => one.value === 'p:D_offset')")


def bar_heights(page) -> list[float]:
    """Lengths (pixels) of the error bars of a trend."""
    paths = "[...document.querySelectorAll('#trend path.bars')].map((path) => path.getAttribute('d')).join('')"
    return [abs(float(a) - float(b)) for a, b in re.findall(r"M\S+ (\S+)V([^M]+)", page.run(paths))]


def test_when_other_bars_are_chosen_then_they_are_the_error_the_interval_or_none(show):
    rows = [item(k, labels={"T": k}, parameters=(parameter("D0", 10.0 * k, 1.0),)) for k in range(12)]
    page = show(table(*rows))
    scale = np.diff(sorted(up for _, up in points(page, "trend")))[0] / 10.0
    np.testing.assert_allclose(bar_heights(page), [2.0 * scale] * 12, rtol=1e-6)
    choose(page, "trend-bars", "interval")
    scale = np.diff(sorted(up for _, up in points(page, "trend")))[0] / 10.0
    np.testing.assert_allclose(bar_heights(page), [2.0 * 1.96 * scale] * 12, rtol=1e-6)
    choose(page, "trend-bars", "")
    assert bar_heights(page) == []


def test_when_colours_mean_a_number_then_they_run_from_its_lowest_to_its_highest(show):
    rows = [item(k, labels={"T": k, "pH": 7}, parameters=(parameter("D0", 1.0),)) for k in range(12)]
    page = show(table(*rows))
    choose(page, "trend-colour", "l:T")
    assert page.texts("#trend-words .legend") == ["● 0", "● 5.5", "● 11"]
    colours = page.run("[...document.querySelectorAll('#trend circle')].map((one) => one.getAttribute('stroke'))")
    assert len(set(colours)) == 12
    choose(page, "trend-colour", "standing")
    assert page.texts("#trend-words .legend") == ["● good"]


def test_when_the_table_is_filtered_then_trends_show_the_same_items(show):
    page = show(sample_table())
    page.click('[data-standing="poor"]')
    assert len(points(page, "trend")) == 2
    page.click("#trend circle")
    assert page.text("#item-name") in column(page, "item")
    page.press("Escape")
    page.until("!document.getElementById('item').open")
    page.click('[data-standing="poor"]')
    page.click('[data-standing="failed"]')
    assert "None of the items" in page.text("#trend")


def test_when_axes_are_logarithmic_then_powers_of_ten_are_evenly_apart_and_what_has_no_logarithm_is_counted(show):
    rows = [item(k, labels={"T": 10.0**k}, parameters=(parameter("D0", 10.0**k),)) for k in range(4)]
    page = show(table(*rows, item(4, labels={"T": 0.0}, parameters=(parameter("D0", -5.0),))))
    assert len(points(page, "trend")) == 5
    for box in ("trend-log-x", "trend-log-y"):
        page.click(f"#{box}")
    drawn = np.array(sorted(points(page, "trend")))
    np.testing.assert_allclose(np.diff(drawn, n=2, axis=0), 0.0, atol=0.01)
    assert len(drawn) == 4
    assert "1 lie at or below 0" in page.text("#trend-words")


def test_given_windows_of_frames_then_trends_are_drawn_against_them_in_their_order(show):
    windows = ["1001-2000", "1-1000", "10001-11000"]
    rows = [item(k, labels={"frames": name}, parameters=(parameter("D0", k),)) for k, name in enumerate(windows)]
    page = show(table(*rows))
    across = {title: place for title, (place, _) in zip("012", points(page, "trend"), strict=True)}
    assert across["1"] < across["0"] < across["2"]
    assert page.run("document.getElementById('trend-log-x').disabled")


def test_given_a_label_with_many_digits_then_the_table_shows_as_many_as_tell_items_apart(show):
    rows = [item(k, labels={"q": value, "T": 290.0 + k}) for k, value in enumerate([0.004153846153846154, 0.0054])]
    page = show(table(*rows, group_by=("q", "T")))
    assert column(page, "q") == ["0.0041538462", "0.0054"]
    assert page.texts("#groups tbody th") == ["0.0041538462", "0.0054"]
    assert page.texts("#groups tbody td:nth-child(2)") == ["290", "291"]


def q_items(power: float, odd: float = 1.0):
    """Items at four q with values along a power of q, of which one is off by a factor."""
    for k, q in enumerate((*Q, 0.02)):
        value = 12000.0 * (q / 0.01) ** power * (odd if k == 2 else 1.0)
        yield item(k, labels={"q": q}, q=q, parameters=(parameter("D0", value, 100.0, "Å²/s"),))


@pytest.mark.parametrize(
    ("power", "odd", "words"),
    [
        (0.0, 1.0, "no dependence on q beyond that of the model"),
        (0.5, 1.0, "depends on q in another way than the model says"),
        (0.0, 1.5, "no power law describes these values"),
    ],
)
def test_given_items_that_differ_in_q_then_the_page_states_the_exponent_and_its_misfit(show, power, odd, words):
    page = show(table(*q_items(power, odd)))
    text = page.text("#law-words")
    assert words in text
    assert "χ²" in text
    if odd == 1.0:
        assert f"exponent {power:.1f}" in text
    assert len(points(page, "law")) == 4
    corners = page.run("document.querySelector('#law path.curve').getAttribute('d').slice(1).split('L')")
    first, *_, last = [[float(number) for number in corner.split()] for corner in corners]
    if odd == 1.0:  # the curve begins and ends in the first and last point, y counted downwards
        np.testing.assert_allclose([first, last], np.array(points(page, "law"))[[0, -1]] * [1, -1], atol=0.01)
    assert page.run("document.querySelectorAll('#law-table td.misfit').length") == (odd != 1.0)


def test_given_a_poor_item_in_a_series_of_q_then_the_law_without_it_is_stated_too(show):
    rows = list(q_items(0.0, 1.5))
    rows[2] = replace(rows[2], quality="poor")
    text = show(table(*rows)).text("#law-words")
    assert "no power law describes these values. Of poor quality: 1 of 4 items. Without them: exponent 0.0" in text
    assert text.endswith("no dependence on q beyond that of the model.")


def evidences(value):
    return {"log_evidence": value, "log_evidence_error": 0.1, "evidence_basis": BASIS}


def test_given_two_models_then_their_evidence_is_ranked(show):
    rows = [
        item(k, labels={"model": model}, file="one.hdf", model=model, **evidences(-evidence))
        for k, (model, evidence) in enumerate({"static": 112.0, "laminar_flow": 100.0}.items())
    ]
    page = show(table(*rows))
    assert column(page, "evidence") == ["2 of 2: -12.00 ± 0.14", "best of 2"]
    sort_by(page, "evidence")
    assert column(page, "model") == ["laminar_flow", "static"]


def test_given_a_thumbnail_then_its_colours_are_those_of_data_fit_and_residual(show):
    panels = np.ones((3, 4, 4))
    panels[0, 0, 0], panels[1, 3, 3] = 2.0, np.nan
    panels[2] = -9.0
    page = show(table(item(0, thumbnail=panels)))
    width, height, *levels = page.run(
        "(() => { const canvas = document.querySelector('#items canvas'); return [canvas.width, canvas.height,"
        "...canvas.getContext('2d').getImageData(0, 0, 16, 4).data]; })()"
    )
    assert (width, height) == (16, 4)
    pixels = np.reshape(levels, (height, width, 4)).tolist()
    first_frame, last_frame, missing, residual = pixels[3][0], pixels[0][3], pixels[0][9], pixels[0][12]
    assert first_frame == [253, 231, 37, 255]  # the first frame is below on the left
    assert last_frame == [68, 1, 84, 255]
    assert missing[3] == 0
    assert residual == [33, 102, 172, 255]


@pytest.mark.parametrize(
    ("rows", "headline"),
    [
        ([], "This campaign has no items yet"),
        ([item(0)], "1 of 1 item is done"),
        ([item(k, state="failed", reason="gone") for k in range(2)], "0 of 2 items are done"),
        ([item(k, state="waiting") for k in range(2)], "0 of 2 items are done"),
        ([item(0, state="failed")], "0 of 1 item is done"),
    ],
)
def test_given_little_to_show_then_the_page_says_so_without_empty_plots(show, rows, headline):
    page = show(table(*rows, group_by=("T",)) if rows else table())
    assert page.text("h1") == headline
    assert len(page.texts(ROWS)) == max(1, len(rows))
    assert page.run("getComputedStyle(document.getElementById('laws')).display") == "none"
    if not rows or rows[0].state != "done":
        assert page.run("getComputedStyle(document.getElementById('trends')).display") == "none"


def test_given_infinite_and_missing_numbers_then_the_page_stands(show):
    odd = parameter("D0", np.inf, np.inf, low=-np.inf, high=np.inf, probability=np.nan)
    rows = [item(0, labels={"T": np.inf}, parameters=(odd,)), item(1, labels={"T": np.nan}, chi_squared=np.inf)]
    page = show(table(*rows, group_by=("T",)))
    sort_by(page, "p:D0")
    assert column(page, "D0") == ["∞", "—"]
    assert column(page, "χ²") == ["1.010", "∞"]


def test_given_ten_thousand_items_then_the_page_answers_within_a_blink(show):
    random = np.random.default_rng(3)
    panels = thumbnail(0)
    rows = [
        item(k, labels={"T": k % 97, "q": Q[k % 3]}, q=Q[k % 3], thumbnail=panels, parameters=(parameter("D0", value),))
        for k, value in enumerate(random.normal(10.0, 1.0, 10_000))
    ]
    page = show(table(*rows, group_by=("T",)))
    assert page.text("#shown") == "10000 of 10000 items, rows 1 to 50"
    assert page.run("document.querySelectorAll('#items tbody tr').length") == 50
    sort_by(page, "p:D0")
    assert column(page, "#")[0] == str(min(rows, key=lambda row: row.parameters[0].value).index)
    milliseconds = page.run("(() => { const start = performance.now(); show(); return performance.now() - start; })()")
    assert milliseconds < 10_000  # half a second on a quiet machine; all rows at once take a minute


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_given_light_or_dark_colours_then_text_stands_out_from_the_paper(chromium, show, scheme):
    chromium.prefer(scheme)
    page = show(sample_table(2))
    text, paper = page.run(
        "['color', 'backgroundColor'].map((name) => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"
    )
    assert (sum(text) < sum(paper)) == (scheme == "light")
    assert abs(sum(text) - sum(paper)) > 400
    chromium.prefer("")


def test_given_a_narrow_window_then_the_page_itself_does_not_scroll_sideways(chromium, show):
    chromium.resize(420, 800)
    try:
        page = show(sample_table())
        assert page.run("document.documentElement.scrollWidth") <= 420
    finally:
        chromium.resize(1400, 900)
