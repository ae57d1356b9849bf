"""Texts of results are somebody else's: whatever they hold, nothing runs and the page reads sensibly."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    import hostile
    from browsing import NARROW, Site, Watch, drawn, go, ready, rows, until, window

# Elements of texts are none of the page's: no picture, frame or form, and scripts are the three of the page.
STRANGE = "img, iframe, object, embed, form:not(.vega-bindings), base, link:not([rel=icon]), meta[http-equiv=refresh]"
FORMULA = re.compile(r"^[\s\x00-\x1f]*[=+@-]")


@pytest.fixture(scope="module")
def ill_site(make_site: Callable[..., Site]) -> Site:
    """The page of :func:`hostile.hostile`."""
    return make_site("hostile", hostile.hostile, hostile.catalog())


@pytest.fixture(scope="module")
def ill_window(browser: Any, ill_site: Site) -> Iterator[tuple[Any, Watch]]:
    with window(browser, ill_site.folder.as_uri(), accept_downloads=True) as (page, watch):
        page.goto(ill_site.address)
        yield ready(page, charts=3), watch


@pytest.fixture
def ill_page(ill_window: tuple[Any, Watch]) -> Iterator[Any]:
    """That page as it opens; afterwards nothing has run that is not the page's own."""
    page, watch = ill_window
    page.set_viewport_size({"width": 1440, "height": 900})
    go(page, "q=none")
    go(page, "")
    yield page
    assert page.evaluate("() => [typeof window.pwned, Object.keys(Object.prototype).length]") == [
        "undefined",
        0,
    ]
    assert page.locator(STRANGE).count() == 0
    assert page.locator("script").count() == 3
    watch.check()


def test_the_registry_holds_every_text(ill_site: Site) -> None:
    """In specifications, units and devices; else the tests below would prove nothing."""
    points = ill_site.points
    everything = "\n".join(
        str(text) for name in ("spec", "unit", "dataset", "device") for text in points[name].unique()
    )
    decoded = everything.encode("raw_unicode_escape").decode("unicode_escape", "replace")
    missing = [
        text for text in hostile.TEXTS if text[:40] not in everything and text.strip()[:6] not in decoded
    ]
    assert missing == []
    assert len(ill_site.boards) >= 6


def test_the_page_itself_has_no_element_of_a_text(ill_site: Site) -> None:
    text = (ill_site.folder / "index.html").read_text(encoding="utf-8")
    assert "<img" not in text.partition("<script>")[0]
    assert text.count("</script>") == 3
    assert text.count("<!--") == 0
    assert "\0" not in text
    assert not {"\u2028", "\u2029"} & {*text.partition('id="payload">')[2].partition("</script>")[0]}


def test_every_chart_draws_or_says_what_to_run(ill_page: Any, ill_site: Site) -> None:
    for chart in ill_site.charts:
        if chart.spec is None:
            ill_page.locator(f"#chart-{chart.id}").scroll_into_view_if_needed()
            until(
                ill_page, f"document.querySelector('#chart-{chart.id} .plot').textContent.includes('qbench')"
            )
        else:
            drawn(ill_page, chart.id)
        assert len(chart.alt) < 3000
    assert sum(chart.spec is not None for chart in ill_site.charts) >= 10


def test_every_board_and_row_reads(ill_page: Any, ill_site: Site) -> None:
    for board in ill_site.boards:
        go(ill_page, f"board={board.key}")
        count = len(rows(ill_page))
        assert count > 0
        for place in range(0, count, 5):
            row = ill_page.locator("#rows > tr.row").nth(place)
            assert len(row.locator("th.name").inner_text()) < 400
            row.locator("th.name button").click()
            until(ill_page, "document.querySelector('#detail')")
            assert all(len(text) <= 1001 for text in ill_page.locator("#detail dd").all_text_contents())
            row.locator("th.name button").click()
            until(ill_page, "!document.querySelector('#detail')")
    assert ill_page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_links_hold_any_text(ill_page: Any, ill_site: Site) -> None:
    """A row that is open is named in the fragment; so are data sets."""
    button = ill_page.locator("#rows > tr.row th.name button").nth(1)
    button.click()
    until(ill_page, "document.querySelector('#detail')")
    ill_page.reload()
    ready(ill_page)
    assert ill_page.locator("#detail").count() == 1
    ill_page.evaluate("(text) => { location.hash = 'q=' + encodeURIComponent(text); }", hostile.MARKUP)
    until(ill_page, "document.querySelector('#search').value.includes('<img')")
    ready(ill_page, charts=3)


def test_it_reads_on_a_phone(ill_page: Any, ill_site: Site) -> None:
    ill_page.set_viewport_size(NARROW)
    until(ill_page, "document.documentElement.scrollWidth <= innerWidth")
    ill_page.locator("#rows > tr.row th.name button").nth(1).click()
    until(ill_page, "document.querySelector('#detail')")
    assert ill_page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_directions_end_where_the_text_ends(ill_page: Any) -> None:
    """What turns the direction stands inside an element that isolates it."""
    loose = ill_page.evaluate("""() => {
        const turning = /[\\u202a-\\u202e\\u2066-\\u2069]/u;
        const walk = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
        const found = [];
        while (walk.nextNode()) {
          const own = walk.currentNode;
          const kept = own.parentElement.closest("bdi, svg, script");
          if (turning.test(own.data) && !kept) found.push(own.parentElement.outerHTML.slice(0, 200));
        }
        return found;
    }""")
    assert loose == []


def cells(text: str) -> list[str]:
    return [cell for line in list(csv.reader(io.StringIO(text, newline="")))[1:] for cell in line]


def test_no_cell_of_a_csv_is_a_formula(ill_page: Any, ill_site: Site) -> None:
    with ill_page.expect_download() as download:
        ill_page.locator("#download").click()
    made = Path(download.value.path()).read_text(encoding="utf-8")
    written = (ill_site.folder / "results.csv").read_text(encoding="utf-8")
    for text in (made, written):
        found = [cell for cell in cells(text) if FORMULA.match(cell) and not _number(cell)]
        assert found == []
    assert any("=1+1" in cell for cell in cells(made))


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_hints_are_texts(ill_page: Any) -> None:
    """A hint over a mark shows the texts of its row."""
    plot = drawn(ill_page, "pareto")
    plot.locator(".mark-symbol path[aria-label*='code: hostile']").last.hover(force=True)
    until(ill_page, "document.querySelector('#vg-tooltip-element.visible')")
    words = ill_page.locator("#vg-tooltip-element").inner_text()
    assert "parameters" in words
    assert len(words) < 1500
    ill_page.mouse.move(1, 1)
