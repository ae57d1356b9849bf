"""The page in a browser, without a network: what is drawn on opening, and that it says and asks for nothing."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qbench.leaderboard import serve
from qbench.registry import Registry

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from browsing import drawn, go, ready, rows, until, window

# Drawn elements, not axes: what stands for data.
MARKS = ".mark-symbol path, .mark-line path, .mark-rect path, .mark-area path, .mark-rule line"
CHARTS = (
    *("signature", "pareto", "heat", "profile", "sources", "beta", "sensitivity", "gradient-density"),
    *("gradient-memory", "gradient-increments", "gradient-codes", "traffic", "throughput"),
)
SAID = {
    "signature": ("lattice (fixed) 0.90 dB", "scalar (fixed) 2.50 dB", "1.53 dB"),
    "sources": ("limit 12.04 dB at 2 bits", "11.14 dB"),
    "beta": ("2.83 dB at beta 4.00", "1.07 dB at beta 2.00"),
    "sensitivity": ("0.32 nat and 8 bits", "16 times"),
    "gradient-density": ("density at 0 0.40",),
    "gradient-memory": ("0.25 at lag 1", "0.03 at lag 4"),
    "gradient-increments": ("median 20",),
    "gradient-codes": ("lloyd-max 1.50 dB", "kmeans -0.50 dB"),
    "traffic": ("float32 97.00 %", "96.50 % with 1.6e+07 bits"),
    "throughput": ("100 million elements", "the median 20"),
    "pareto": ("24 codes", "near 2 bits"),
    "heat": ("7 methods on 4 models",),
    "profile": ("2 boards",),
}


def test_three_charts_and_the_table_are_drawn_on_opening(opened: Callable[..., Any]) -> None:
    with opened(charts=3) as page:
        assert page.locator("table#table tbody tr").count() == 5
        assert page.evaluate("() => scrollY") == 0


def test_the_site_has_all_charts_with_something_in_them(site: Any) -> None:
    assert tuple(chart.id for chart in site.charts) == CHARTS
    assert [chart.id for chart in site.charts if chart.spec is None] == []


@pytest.mark.parametrize("chart", CHARTS)
def test_every_chart_renders(page: Any, chart: str) -> None:
    plot = drawn(page, chart)
    assert plot.locator(MARKS).count() >= 2
    box = plot.locator("svg").first.bounding_box()
    assert box["width"] > 200
    assert box["height"] > 40
    assert "NaN" not in plot.inner_html()
    assert plot.get_attribute("role") == "img"


def test_texts_stand_for_charts_with_the_numbers_of_their_data(page: Any, site: Any) -> None:
    for chart in site.charts:
        figure = page.locator(f"#chart-{chart.id}")
        said = figure.locator("details.alt p").text_content()
        assert figure.locator(".plot").get_attribute("aria-label") == said
        assert chart.linked or said == chart.alt
        assert figure.locator("h2").text_content() == chart.title
        assert chart.caption in figure.locator("figcaption").text_content()
        assert [words for words in SAID[chart.id] if words not in chart.alt] == []


def test_words_of_charts_follow_the_selection(page: Any, site: Any) -> None:
    """Points lost are 20 / 4^(bits + gain), gains 0, .3, .3 and -.2: at 2 bits the last is below the anchor's range."""
    words = page.locator("#chart-pareto details.alt p")
    for chart in ("pareto", "heat"):
        drawn(page, chart)
    until(
        page,
        "document.querySelector('#chart-pareto details.alt p').textContent.includes('fixed rate, 16 codes')",
    )
    assert f"near 2 bits method-1 is best with {20 / 4**2.3:.2f};" in words.text_content()
    go(page, "bits=2&model=model-1&q=uniform")
    until(
        page,
        "document.querySelector('#chart-pareto details.alt p').textContent.includes('at 2 bits, model-1')",
    )
    assert page.locator("#chart-pareto .plot").get_attribute("aria-label") == words.text_content()
    assert "Bits saved of 4 methods on 1 model," in page.locator("#chart-heat details.alt p").text_content()
    go(page, f"board={site.board('qat').key}")
    until(
        page,
        "document.querySelector('#chart-heat details.alt p').textContent.includes('while training (qat)')",
    )
    assert "while training (qat)" in words.text_content()


def test_rows_of_the_heat_map_are_in_the_order_of_the_table(page: Any) -> None:
    """method-4 saves bits but lacks units: it has no rank, and stands last."""
    drawn(page, "heat")
    names = page.locator("#chart-heat .plot .role-axis-label text").all_text_contents()
    assert [name for name in names if name in rows(page)] == rows(page)
    assert rows(page)[-1] == "method-4"
    assert "worst: method-3" in page.locator("#chart-heat details.alt p").text_content()


def test_charts_follow_the_board(page: Any, site: Any) -> None:
    """The profile of all boards stays; the linked one has the marks of the board."""
    plot = drawn(page, "pareto")
    go(page, f"board={site.board('qat').key}")
    marks = "#chart-pareto .plot .mark-symbol path[aria-roledescription=point]"
    until(page, f"document.querySelectorAll('{marks}').length === 16")
    assert "KL divergence" in plot.text_content() or "accuracy lost" in plot.text_content()


def test_the_policy_keeps_out_scripts_that_are_not_the_pages_own(page: Any, watch: Any) -> None:
    watch.check()
    found = page.evaluate("""async () => {
        const kept = [];
        document.addEventListener("securitypolicyviolation", (event) => kept.push(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.injected = 1";
        document.body.append(script);
        const button = document.createElement("button");
        button.setAttribute("onclick", "window.injected = 2");
        document.body.append(button);
        button.click();
        const picture = new Image();
        picture.src = "https://example.org/picture.png";
        document.body.append(picture);
        await fetch("https://example.org/").catch(() => 0);
        await new Promise((resolve) => setTimeout(resolve, 200));
        for (const one of [script, button, picture]) one.remove();
        return [window.injected === undefined, [...new Set(kept)].sort()];
    }""")
    assert found == [True, ["connect-src", "img-src", "script-src-attr", "script-src-elem"]]
    assert watch.refused == ["csp"] * len(watch.asked)
    assert all("Content Security Policy" in said for said in watch.said)
    watch.said.clear()
    watch.asked.clear()


def test_the_files_beside_the_page(page: Any, site: Any) -> None:
    links = {link.get_attribute("href") for link in page.locator("#data a[download]").all()}
    assert links == {"results.csv", "results.parquet"}
    assert all((site.folder / name).stat().st_size > 1000 for name in links)


def test_the_first_line_says_what_these_results_are(page: Any, site: Any) -> None:
    words = page.locator("#facts").text_content()
    board = site.boards[0]
    assert words == f"synthetic 00000000 · 2025-06-15 · cpu, cuda · {board.results:,} results on this board"
    qat = site.board("qat")
    go(page, f"board={qat.key}")
    assert page.locator("#facts").text_content().endswith(f" · cpu · {qat.results:,} results on this board")
    assert board.results != qat.results


@pytest.fixture
def served(site: Any) -> Iterator[str]:
    """The address of the page as ``qbench leaderboard serve`` shows it."""
    with serve.server(site.folder, 0) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield serve.address(listening)
        listening.shutdown()
        thread.join()


def test_the_page_served(served: str, site: Any, browser: Any) -> None:
    with window(browser, served, accept_downloads=True) as (page, watch):
        page.goto(served)
        ready(page, charts=3)
        page.locator("#tabs a", has_text="sources").click()
        assert "board=rate-distortion-source" in page.url
        with page.expect_download() as download:
            page.locator("#data a[href='results.parquet']").click()
        assert Path(download.value.path()).read_bytes() == (site.folder / "results.parquet").read_bytes()
        assert {address for address in watch.asked if address != served} <= {f"{served}results.parquet"}


def test_a_registry_without_results_says_what_to_run(browser: Any, make_site: Callable[..., Any]) -> None:
    empty = make_site("empty", lambda path: Registry(path).begin_run("smoke", {}, []), {})
    with window(browser, empty.folder.as_uri()) as (page, _):
        page.goto(empty.address)
        for chart in CHARTS:
            page.locator(f"#chart-{chart}").scroll_into_view_if_needed()
            until(page, f"document.querySelector('#chart-{chart} .plot').textContent.includes('qbench run')")
        assert page.locator(".plot").count() == len(CHARTS)
        assert "qbench run --suite standard" in page.locator("#note").text_content()
        assert page.locator("#rows tr").count() == 0
