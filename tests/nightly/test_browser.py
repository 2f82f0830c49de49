"""The static site in real Chromium, where that is installed."""

import re

import pytest
from hostile_site import IMAGE, SCRIPT, of

pytest_plugins = ["hostile_site"]


def clean(browser):
    """Nothing asked for but the page and pictures within it, nothing complained of, nothing of the data's run."""
    asked = [url for url in browser.requested if not url.startswith(("file://", "data:image/png;"))]
    assert (asked, browser.complaints, browser.evaluate("typeof window.pwned")) == ([], [], "undefined")
    assert sum(url.startswith("file://") for url in browser.requested) == 1


@pytest.mark.parametrize("kind", ["", "runs", "notebooks"])
def test_pages_show_their_pictures_run_nothing_and_fit_a_narrow_screen(browser, site, kind):
    pictures = 0
    browser.look(width=360)
    for page in of(site, kind):
        browser.open(page)
        clean(browser)
        widths = browser.evaluate("[...document.images].map((image) => image.naturalWidth)")
        assert all(widths)
        pictures += len(widths)
        assert browser.evaluate("document.documentElement.scrollWidth <= 360")
    assert pictures or kind == "runs"


def test_markup_that_were_in_a_page_would_run_nothing(browser, site, tmp_path):
    page = (site / "index.html").read_text()
    (tmp_path / "index.html").write_text(page.replace("<h1>", f"{SCRIPT}{IMAGE}<h1>"))
    browser.open(tmp_path / "index.html")
    assert browser.evaluate("typeof window.pwned") == "undefined"
    assert browser.complaints


def column(browser, number):
    return browser.evaluate(f"[...document.querySelectorAll('#runs tbody tr')].map((r) => r.cells[{number}].innerText)")


def test_tables_sort_by_mouse_and_by_keyboard(browser, site):
    browser.look()
    browser.open(site / "index.html")
    scores = column(browser, 7)
    known = sorted(score for score in scores if score != "–")
    assert len(known) == len(scores) - 1
    assert len(set(known)) > 1
    header = "#runs th:nth-child(8)"
    browser.click(f"{header} button")
    assert column(browser, 7) == [*known, "–"]
    assert browser.evaluate(f"document.querySelector({header!r}).getAttribute('aria-sort')") == "ascending"
    browser.press("Enter")  # the click left the focus there
    assert column(browser, 7) == [*known[::-1], "–"]
    assert browser.evaluate("[...document.querySelectorAll('#runs [aria-sort]')].length") == 1
    browser.click("#runs th:nth-child(4) button")
    assert column(browser, 3) == sorted(column(browser, 3))
    clean(browser)


def shown(browser):
    rows = browser.evaluate(
        "[...document.querySelectorAll('#runs tbody tr')].filter((r) => r.offsetHeight).map((r) => r.innerText)"
    )
    return rows, browser.evaluate("document.getElementById('shown').innerText")


def test_runs_are_filtered_by_words_and_by_choice(browser, site):
    browser.look()
    browser.open(site / "index.html")
    assert shown(browser)[1] == "6 of 6 runs"
    browser.type("#text", "SIMPLE_nn")
    rows, stated = shown(browser)
    assert stated == "2 of 6 runs"
    assert all("simple_nn" in row for row in rows)
    choose = "document.querySelectorAll('#filter select')[3]"
    browser.evaluate(f"{choose}.value = 'failed', {choose}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    rows, stated = shown(browser)
    assert stated == "1 of 6 runs"
    assert "0123456789ab" in rows[0]


def chosen(browser):
    """What the chart says of the run that is pointed at, and where its link leads."""
    return browser.evaluate("[document.getElementById('pointed').innerText, document.getElementById('open').href]")


def choose(browser, selector, value):
    place = f"document.querySelector({selector!r})"
    browser.evaluate(f"{place}.value = {value!r}, {place}.dispatchEvent(new Event('input', {{bubbles: true}}))")


def marks(browser):
    return browser.evaluate(
        "[...document.querySelectorAll('#chart circle')].map((c) => [+c.getAttribute('cx'), +c.getAttribute('cy')])"
    )


def test_the_chart_shows_the_runs_of_the_table_and_opens_the_one_pointed_at(browser, site):
    browser.look()
    browser.open(site / "index.html")
    scores = [score for score in column(browser, 7) if score != "–"]
    before = marks(browser)
    assert len(before) == len(scores)
    assert min(y for _, y in before) < max(y for _, y in before)  # the highest score is on top
    browser.point("#chart circle")
    said, link = chosen(browser)
    assert "tfidf: mean " in said or "from_scratch: mean " in said
    assert all(f"{name} " in said for name in ("score", "labels", "device seconds", "FLOPs", "peak MiB"))
    assert browser.evaluate("document.querySelectorAll('#chart .same').length") >= 1
    choose(browser, "#axis", browser.evaluate("document.querySelector('#axis').options[1].value"))
    assert len(marks(browser)) == len(scores)
    assert "device seconds" in browser.evaluate("document.querySelector('#chart svg').textContent")
    for name in ("dataset", "method"):
        label = f"[...document.querySelectorAll('#filter label')].find((one) => one.innerText.startsWith({name!r}))"
        menu = f"{label}.querySelector('select')"
        for at in (1, 0):
            browser.evaluate(
                f"{menu}.selectedIndex = {at}, {menu}.dispatchEvent(new Event('input', {{bubbles: true}}))"
            )
            rows = [row for row in shown(browser)[0] if "–" not in row.split("\t")[7]]
            assert len(marks(browser)) == len(rows)
        assert len(rows) == len(scores)
    browser.type("#text", "tfidf")
    assert 0 < len(marks(browser)) < len(scores)
    browser.point("#chart circle")
    interval = r"\(0\.\d{3} to [01]\.\d{3}\)"
    assert re.search(rf"tfidf: mean [01]\.\d{{3}} {interval} of 4 seeds", chosen(browser)[0])
    clean(browser)
    browser.click("#chart circle")
    browser.wait_for_load()
    assert browser.evaluate("location.href").startswith(link.rpartition("/")[0])


def test_the_chart_goes_from_run_to_run_by_keyboard(browser, site):
    browser.look()
    browser.open(site / "index.html")
    browser.evaluate("document.querySelector('#chart svg').focus()")
    assert browser.evaluate("document.querySelector('#chart svg').tabIndex") == 0
    links = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        browser.press(key)
        links.append(chosen(browser)[1])
    assert links[0] == links[2] != links[1]
    clean(browser)
    browser.events.clear()
    browser.press("Enter")
    browser.wait_for_load()
    assert browser.evaluate("location.href") == links[0]


def test_the_chart_draws_ten_thousand_runs(browser, site, tmp_path):
    page = (site / "index.html").read_text()
    start, end = page.index("<tr", page.index('id="runs"')), page.rindex("</tbody>")
    rows = page[page.index("<tr", page.index("<tbody>", start)) : end]
    (tmp_path / "index.html").write_text(page[:end] + rows * 1999 + page[end:])
    browser.look()
    browser.open(tmp_path / "index.html")
    assert browser.evaluate("document.getElementById('shown').innerText") == "12000 of 12000 runs"
    assert len(marks(browser)) == 10000
    browser.point("#chart circle")
    assert "this run: " in chosen(browser)[0]


def test_a_run_is_one_click_away(browser, site):
    browser.look()
    browser.open(site / "index.html")
    browser.click("#runs a[href*='0123456789ab']")
    browser.wait_for_load()
    assert browser.evaluate("document.querySelector('main code').innerText") == "0123456789ab"
    assert browser.evaluate("typeof window.pwned") == "undefined"


def test_dark_is_dark_and_light_is_light(browser, site):
    seen = {}
    for scheme in ("light", "dark"):
        browser.look(scheme=scheme)
        browser.open(site / "index.html")
        style = "getComputedStyle(document.body)"
        seen[scheme] = [
            sum(map(int, browser.evaluate(f"{style}.{name}.match(/\\d+/g)"))) for name in ("backgroundColor", "color")
        ]
    assert seen["light"][0] > 700 > seen["light"][1]
    assert seen["dark"][0] < 200 < seen["dark"][1]
