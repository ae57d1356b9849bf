"""Who reads the page without a mouse, a wide screen, light or sight finds everything."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qbench.registry_file import RegistryFile

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    import registries
    from browsing import NARROW, drawn, go, ready, rows, until, window
    from synthetic import add

NAMES = """() => {
    const visible = (one) => one.checkVisibility({visibilityProperty: true});
    const name = (one) => one.ariaLabel || one.textContent.trim()
        || [...(one.labels || [])].map((label) => label.textContent.trim()).join(" ");
    const named = "a, button, input, summary, [role=img], [role=group], [role=region], nav, section";
    return [...document.querySelectorAll(named)]
        .filter(visible).filter((one) => !name(one)).map((one) => one.outerHTML.slice(0, 200));
}"""
CONTRAST = """() => {
    const parts = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const paper = light(parts(getComputedStyle(document.body).backgroundColor));
    const found = {};
    for (const one of document.querySelectorAll("h1, p, th, td, dt, dd, a, button, small, summary, .plot text")) {
        if (!one.checkVisibility({visibilityProperty: true}) || !one.textContent.trim()) continue;
        if (one.matches("[aria-pressed=true]") || one.closest("[aria-pressed=true]")) continue;
        const style = getComputedStyle(one);
        const ink = light(parts(one instanceof SVGElement ? style.fill : style.color));
        const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
        if (one instanceof SVGElement && (style.strokeWidth !== "0px" && style.stroke !== "none")) continue;
        if (!(one instanceof SVGElement) && ratio < 4.5) found[one.tagName + "." + one.className] = ratio;
    }
    return found;
}"""


def tabbed(page: Any, wanted: str, most: int = 60) -> None:
    """Presses Tab until the focus is on what the selector says."""
    for _ in range(most):
        if page.evaluate("(wanted) => document.activeElement.matches(wanted)", wanted):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{most} times Tab do not lead to {wanted}")


def outlined(page: Any) -> bool:
    """Whether what has the focus shows it."""
    script = """() => {
        const style = getComputedStyle(document.activeElement);
        return (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
    }"""
    return bool(page.evaluate(script))


def test_chips_rows_and_sorting_by_keyboard(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    tabbed(page, "[aria-label=bits] button:nth-of-type(4)")
    assert outlined(page)
    page.keyboard.press("Enter")
    until(page, "location.hash === '#bits=3'")
    assert page.evaluate("() => document.activeElement.textContent") == "3"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    until(page, "location.hash === '#bits=4'")
    assert page.evaluate("() => document.activeElement.ariaPressed") == "true"
    tabbed(page, "#search")
    assert outlined(page)
    page.keyboard.type("method-1")
    until(page, "document.querySelectorAll('#rows > tr.row').length === 1")
    tabbed(page, "[data-column=name] button")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('[data-column=name]').ariaSort === 'ascending'")
    tabbed(page, "#rows th.name button")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#detail')")
    assert page.evaluate("() => document.activeElement.ariaExpanded") == "true"
    assert outlined(page)
    tabbed(page, "#detail .command button")
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('#detail')")
    page.keyboard.press("Escape")
    until(page, "document.querySelector('#search').value === ''")


def test_the_first_link_skips_to_the_table(page: Any) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(page, "document.activeElement.id === 'standings'")
    until(page, "document.querySelector('#standings').getBoundingClientRect().top < 200")


def test_everything_to_press_has_a_name(page: Any) -> None:
    go(page, "bits=3&open=method-1")
    page.locator("#rows > tr.row th.name button").first.click()
    until(page, "document.querySelector('#detail')")
    assert page.evaluate(NAMES) == []


def test_structure(page: Any) -> None:
    page.locator("#rows > tr.row th.name button").first.click()
    until(page, "document.querySelector('#detail')")
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert sorted({one for one in ids if ids.count(one) > 1}) == []
    assert page.evaluate("() => document.documentElement.lang") == "en"
    assert page.title() == "qbench leaderboard"
    levels = page.evaluate(
        "() => [...document.querySelectorAll('h1, h2, h3, h4')].map((one) => Number(one.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert [pair for pair in itertools.pairwise(levels) if pair[1] > pair[0] + 1] == []
    scopes = page.locator("th").evaluate_all("(all) => all.map((one) => one.scope)")
    assert {*scopes} == {"row", "col"}
    assert page.locator("#table caption").count() == 1
    assert page.locator("table #rows > tr.row > th[scope=row]").count() == len(rows(page))


def test_on_a_phone(opened: Callable[..., Any]) -> None:
    with opened(viewport=NARROW, charts=3, has_touch=True, is_mobile=True) as page:
        assert page.evaluate("() => [innerWidth, document.documentElement.scrollWidth]") == [390, 390]
        shown = page.locator("#table thead th").evaluate_all(
            "(all) => all.filter((one) => one.checkVisibility()).length"
        )
        assert shown == 3
        figure, table = (page.locator(one).bounding_box() for one in ("#chart-signature", "#table"))
        assert figure["y"] < table["y"]
        assert figure["width"] <= 390
        page.locator("#rows > tr.row th.name button").first.tap()
        until(page, "document.querySelector('#detail')")
        for chart in ("pareto", "heat", "sources", "gradient-density"):
            box = drawn(page, chart).locator("svg").first.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 391, chart
        assert page.evaluate("() => document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(17, 20, 23)")])
def test_light_and_dark(opened: Callable[..., Any], scheme: str, paper: str) -> None:
    other = {"light": "dark", "dark": "light"}[scheme]
    colour = "() => getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('#chart-signature .plot svg text')).fill"
    with opened(charts=3, color_scheme=scheme) as page:
        assert page.evaluate(colour) == paper
        assert page.evaluate(CONTRAST) == {}
        before = page.evaluate(f"() => {ink}")
        page.locator("#theme").click()
        until(page, f"location.hash === '#theme={other}'")
        assert page.evaluate(colour) != paper
        until(page, f"{ink} !== {before!r}")
        page.reload()
        until(page, "document.documentElement.dataset.ready")
        assert page.evaluate(colour) != paper


def partial(path: Path) -> None:
    """Of networks alone: methods that quantize about 98.5 and 99.5 % of the parameters, halves to be rounded."""
    add(path, quantizers=4, bits=(2, 3, 4, 8), gains=(0, 0.3, -0.3, -0.6), seeds=1)
    with RegistryFile(path).transaction() as connection:
        for method, share in {"method-1": 0.985, "method-2": 0.995, "method-3": 0.984999}.items():
            connection.execute(
                "UPDATE measurements SET value = $1 WHERE name = 'coverage' AND result_id IN "
                "(SELECT result_id FROM results WHERE quantizer = $2)",
                [share, method],
            )


@pytest.fixture(scope="module")
def few(make_site: Callable[..., Any]) -> Any:
    """The page of :func:`partial`."""
    return make_site("partial", partial, registries.CATALOG)


SAID = (
    *("#facts", "#best h2", "#best dd", "#best > p", "#board", "#rows th.name", "#rows td.c-rank"),
    *("#rows .saved .figure", "#rows .saved .words", "#rows td.c-rate", "#rows td.c-quality"),
    *("#rows td.c-coverage", "#rows td.c-n", "#rows td.c-trust", "#tabs a"),
)


def said(page: Any) -> dict[str, list[str]]:
    return {
        place: [" ".join(text.split()) for text in page.locator(place).all_text_contents()] for place in SAID
    }


@pytest.mark.parametrize("name", ["site", "few"])
def test_without_scripts_a_board_reads_as_with_them(
    browser: Any, request: pytest.FixtureRequest, name: str
) -> None:
    """Words and numbers of the head, of the best, and of the table are the same."""
    site = request.getfixturevalue(name)
    with window(browser, site.folder.as_uri(), java_script_enabled=False) as (page, _):
        page.goto(site.address)
        before = said(page)
        assert page.locator("#table tbody tr").count() == len(before["#rows th.name"]) > 3
    with window(browser, site.folder.as_uri()) as (page, _):
        page.goto(site.address)
        assert said(ready(page)) == before
    assert len(before["#best dd"]) == 9
    assert before["#best dd"][6] == "nothing beats the anchor"


def test_shares_of_parameters_are_rounded_alike(browser: Any, few: Any) -> None:
    """Halves up, of six decimals."""
    with window(browser, few.folder.as_uri(), java_script_enabled=False) as (page, _):
        page.goto(few.address)
        names = [" ".join(text.split()) for text in page.locator("#rows th.name button").all_text_contents()]
        shares = page.locator("#rows td.c-coverage").all_text_contents()
    found = dict(zip(names, shares, strict=True))
    assert found == {"uniform": "100 %", "method-1": "99 %", "method-2": "100 %", "method-3": "98 %"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tabs_without_a_board_look_so(browser: Any, few: Any, scheme: str) -> None:
    """Fainter than the one that is open, yet to be read; they do nothing under the mouse."""
    colour = "(one) => getComputedStyle(one).color"
    with window(browser, few.folder.as_uri(), color_scheme=scheme) as (page, _):
        page.goto(few.address)
        ready(page)
        lame = page.locator("#tabs [aria-disabled=true]")
        assert lame.count() == 4
        assert lame.first.get_attribute("href") is None
        assert lame.first.evaluate(colour) != page.locator("#tabs [aria-current]").evaluate(colour)
        assert page.evaluate(CONTRAST) == {}
        looks = """(one) => {
            const {color, cursor, borderBottomColor} = getComputedStyle(one);
            return {color, cursor, borderBottomColor};
        }"""
        before = lame.first.evaluate(looks)
        lame.first.hover()
        assert lame.first.evaluate(looks) == before
        assert before["cursor"] == "default"


def test_live_tabs_answer_the_mouse(page: Any) -> None:
    edge = "(one) => getComputedStyle(one).borderBottomColor"
    live = page.locator("#tabs a[href]:not([aria-current])").first
    before = live.evaluate(edge)
    live.hover()
    assert live.evaluate(edge) != before
    page.mouse.move(1, 1)


@pytest.mark.parametrize(("chart", "mark"), [("pareto", ".mark-symbol path"), ("heat", ".mark-rect path")])
def test_hints_say_what_a_mark_is(page: Any, chart: str, mark: str) -> None:
    """Over every mark that is not under another one."""
    marks = drawn(page, chart).locator(f"{mark}[aria-roledescription]")
    for place in (0, marks.count() // 2, marks.count() - 1):
        page.mouse.move(1, 1)
        until(page, "!document.querySelector('#vg-tooltip-element.visible')")
        marks.nth(place).hover(force=True)
        until(page, "document.querySelector('#vg-tooltip-element.visible')", seconds=3)
        words = page.locator("#vg-tooltip-element").inner_text()
        assert "method-" in words or "uniform" in words
    page.mouse.move(1, 1)
