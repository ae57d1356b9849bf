"""What tests of the page share: sites built once, windows that are watched, and waiting."""

import contextlib
import json
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


@dataclass
class Site:
    """A page with its registry, and what Python makes of the same: points as rounded for the page."""

    folder: Path
    registry: Path
    boards: list[Any]
    points: Any
    charts: list[Any]

    @property
    def address(self) -> str:
        return (self.folder / "index.html").as_uri()

    def board(self, track: str, target: str = "weight") -> Any:
        return next(board for board in self.boards if (board.track, board.target) == (track, target))


def made_once(
    shared: Path, name: str, fill: Callable[[Path], Any], catalog: dict[str, dict[str, str]]
) -> Site:
    """The page of a registry; whoever asks first makes it for all workers."""
    kept = shared / f"{name}.pickle"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            kept.write_bytes(pickle.dumps(_made(shared / name, fill, catalog)))
        site: Site = pickle.loads(kept.read_bytes())
    return site


def _made(folder: Path, fill: Callable[[Path], Any], catalog: dict[str, dict[str, str]]) -> Site:
    from qbench.leaderboard import build
    from qbench.leaderboard.payload import rounded
    from qbench.registry import Registry

    path, charts = folder.with_suffix(".duckdb"), []
    fill(path)
    with pytest.MonkeyPatch.context() as patch:
        all_charts = build.all_charts
        patch.setattr(build, "all_charts", lambda *a, **k: charts.append(all_charts(*a, **k)) or charts[-1])
        build.build(Registry(path), folder, catalog)
    boards, points = build.points_of(Registry(path), catalog)
    return Site(folder, path, build.in_order(boards), rounded(points), charts[-1])


@dataclass
class Watch:
    """What pages of a context said and asked for, and why they did not get it."""

    allowed: str
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def page(self, page: Any) -> None:
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))

    def request(self, request: Any) -> None:
        if not request.url.startswith(("data:", "blob:")):
            self.asked.append(request.url)

    def check(self) -> None:
        """Nothing in the console, and no request but for files of the site."""
        said, asked = [*self.said], [*self.asked]
        self.said.clear()
        self.asked.clear()
        abroad = [address for address in asked if not address.startswith(self.allowed)]
        assert not said, f"the console has {said}"
        assert not abroad, f"the page asked for {abroad}"


@contextlib.contextmanager
def window(browser: Any, allowed: str, **given: Any) -> Iterator[tuple[Any, Watch]]:
    """An empty page in a context of its own, without a network for files; watched to the end."""
    options = {"offline": allowed.startswith("file:"), "viewport": WIDE} | given
    context = browser.new_context(**options)
    context.set_default_timeout(20_000)
    watch = Watch(allowed)
    context.on("request", watch.request)
    context.on("requestfailed", lambda request: watch.refused.append(request.failure))
    context.on("page", watch.page)
    try:
        yield context.new_page(), watch
        watch.check()
    finally:
        context.close()


def until(page: Any, script: str, seconds: float = 20) -> None:
    """Waits for an expression of JavaScript to become true; the page's policy lets nobody else poll."""
    end = time.monotonic() + seconds
    while not page.evaluate(f"() => Boolean({script})"):
        assert time.monotonic() < end, f"in {seconds} s not true: {script}"
        time.sleep(0.03)


def ready(page: Any, charts: int = 0) -> Any:
    """Waits until the scripts have run, and for so many charts."""
    until(page, "document.documentElement.dataset.ready")
    until(page, f"document.querySelectorAll('.plot[data-drawn=yes] svg').length >= {charts}")
    return page


def go(page: Any, fragment: str) -> None:
    """To another state of the page, as a link in it goes."""
    page.evaluate(f"() => {{ location.hash = {json.dumps(fragment)}; }}")
    until(page, f"decodeURI(location.hash).slice(1) === decodeURI({json.dumps(fragment)})")
    page.evaluate("() => new Promise((done) => setTimeout(done, 0))")


def drawn(page: Any, chart: str) -> Any:
    """Scrolls to a chart, waits for it, and gives its place."""
    page.locator(f"#chart-{chart}").scroll_into_view_if_needed()
    until(page, f"document.querySelector('#chart-{chart} .plot[data-drawn=yes] svg')")
    return page.locator(f"#chart-{chart} .plot")


def rows(page: Any) -> list[str]:
    """Names of the rows of the table as they stand, short text and all."""
    cells = page.locator("#rows > tr.row > th.name").all_text_contents()
    return [" ".join(text.replace("stranger", "").split()) for text in cells]


def chips(page: Any, group: str) -> Any:
    """The buttons of a row of chips."""
    return page.locator(f"#filters [role=group][aria-label='{group}'] button")


def press(page: Any, group: str, text: str) -> None:
    """A click on the chip of that text."""
    page.locator(f"#filters [role=group][aria-label='{group}']").get_by_role(
        "button", name=text, exact=True
    ).click()
