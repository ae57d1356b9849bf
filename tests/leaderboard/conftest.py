"""A browser, and the page of a small registry, built once for all workers."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    import browsing
    import registries

if TYPE_CHECKING:
    from browsing import Site, Watch

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def program() -> str:
    """The browser that ``QBENCH_TEST_BROWSER`` names, else the system's Chromium; skips where there is none."""
    named = os.environ.get("QBENCH_TEST_BROWSER")
    if named:
        found = shutil.which(named)
        assert found, (
            f"QBENCH_TEST_BROWSER={named}: no such program; name another, or unset it to skip these tests"
        )
        return found
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} on the path, nor is QBENCH_TEST_BROWSER set")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One for all tests of a worker."""
    executable = program()
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def make_site(tmp_path_factory: pytest.TempPathFactory) -> "Callable[..., Site]":
    """Makes the page of a registry, once for all workers."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return lambda name, fill, catalog: browsing.made_once(shared, name, fill, catalog)


@pytest.fixture(scope="session")
def site(make_site: "Callable[..., Site]") -> "Site":
    """The page of :func:`registries.realistic`. Nobody writes into its folder."""
    return make_site("realistic", registries.realistic, registries.CATALOG)


@pytest.fixture(scope="module")
def shared_window(browser: Any, site: "Site") -> "Iterator[tuple[Any, Watch]]":
    with browsing.window(browser, site.folder.as_uri(), accept_downloads=True) as (page, watch):
        page.goto(site.address)
        yield browsing.ready(page, charts=3), watch


@pytest.fixture
def page(shared_window: "tuple[Any, Watch]") -> Iterator[Any]:
    """The page, opened once for a module; each test finds it as it opens, and must leave the console empty."""
    page, watch = shared_window
    page.set_viewport_size(browsing.WIDE)
    browsing.go(page, "q=none")
    browsing.go(page, "")
    page.evaluate("() => { scrollTo({top: 0, behavior: 'instant'}); document.activeElement.blur(); }")
    yield page
    watch.check()


@pytest.fixture
def watch(shared_window: "tuple[Any, Watch]") -> "Watch":
    """What the page of ``page`` said."""
    return shared_window[1]


@pytest.fixture
def opened(browser: Any, site: "Site") -> Callable[..., Any]:
    """Opens the page in a window of its own: ``with opened("#bits=4", color_scheme="dark") as page``."""

    @contextlib.contextmanager
    def new(fragment: str = "", charts: int = 0, **given: Any) -> Iterator[Any]:
        with browsing.window(browser, site.folder.as_uri(), **given) as (page, _):
            page.goto(site.address + fragment)
            yield browsing.ready(page, charts)

    return new
