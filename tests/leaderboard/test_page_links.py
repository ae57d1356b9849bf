"""Links whose parts are not on the page: it says which, shows what there is, and puts the address right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from browsing import go, press, rows, until

WEIGHTS = "weights after training (ptq)"
# Asked for, what is said to be absent and to be shown, and the address that is left.
LINKS = (
    ("board=nope", "board nope", WEIGHTS, ""),
    ("bits=7&q=method", "bits 7", "all bits", "#q=method"),
    ("model=model-1,none", "model none", "model-1", "#model=model-1"),
    ("data=no%20such", "data set no such", "all data sets", ""),
    ("device=tpu&bits=3", "device tpu", "all devices", "#bits=3"),
    ("class=odd", "rate odd", "fixed rate", ""),
    ("board=nope&bits=9&model=x,y", "board nope, bits 9, model x, y", f"{WEIGHTS}, all bits, all models", ""),
    ("board=%3Cb%3Ex%3C/b%3E", "board <b>x</b>", WEIGHTS, ""),
)


def follow(page: Any, fragment: str) -> None:
    page.evaluate("(text) => { location.hash = text; }", fragment)
    page.evaluate("() => new Promise((done) => setTimeout(done, 30))")


@pytest.mark.parametrize(("fragment", "absent", "shown", "left"), LINKS)
def test_what_is_not_here_is_said(page: Any, fragment: str, absent: str, shown: str, left: str) -> None:
    follow(page, fragment)
    line = page.locator("#missing")
    assert line.text_content() == f"The link asks for what is not here: {absent}. Shown instead: {shown}."
    assert page.evaluate("() => location.hash") == left
    assert line.bounding_box()["y"] < page.locator("#table").bounding_box()["y"]
    assert line.locator("b").count() == 0
    press(page, "bits", "4")
    assert line.text_content() == ""


def test_a_link_is_said_to_lack_something_on_opening(opened: Callable[..., Any], site: Any) -> None:
    """What is here of it is shown: the bits, though the board is another one."""
    with opened("#board=nope&bits=3") as page:
        assert "board nope. Shown instead: " in page.locator("#missing").text_content()
        assert page.evaluate("() => location.hash") == "#bits=3"
        assert page.locator("#filters [aria-label=bits] [aria-pressed=true]").text_content() == "3"
        page.reload()
        until(page, "document.documentElement.dataset.ready")
        assert page.locator("#missing").text_content() == ""


def test_links_to_what_is_here_say_nothing(page: Any, site: Any) -> None:
    for fragment in (
        f"board={site.board('qat').key}",
        "bits=3&model=model-1,model-2&device=cpu",
        "class=coded",
        "",
    ):
        go(page, fragment)
        assert page.locator("#missing").text_content() == ""
        assert not page.locator("#missing").is_visible()


@pytest.mark.parametrize(
    "fragment",
    [
        "bits=constructor",
        "bits=7&sort=toString&class=__proto__",
        "board=%&q=%E0%A4%A",
        "open=nothing&theme=pink&model=none",
        "__proto__=1&constructor=2",
    ],
)
def test_links_that_were_made_up(page: Any, fragment: str) -> None:
    """What is not known is not taken over."""
    follow(page, fragment)
    assert len(rows(page)) == 5
