"""Who reads the page without a mouse, a wide screen, light or sight finds everything."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from browsing import NARROW, drawn, go, rows, until

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


def test_without_scripts_a_board_can_be_read(browser: Any, site: Any) -> None:
    context = browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(site.address)
    assert page.locator("#table tbody tr").count() == 5
    assert page.locator("#best .big").count() == 3
    assert "0.90 dB" in page.content()
    context.close()


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
