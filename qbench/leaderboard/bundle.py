"""What the page consists of besides its data: scripts, style, and the policy that lets exactly these run."""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from ..errors import QBenchError

SCRIPTS = (
    *(
        "state.js",
        "nodes.js",
        "hashing.js",
        "resampling.js",
        "standings.js",
        "data.js",
        "rows.js",
        "table.js",
        "charts.js",
    ),
    *("detail.js", "files.js", "chips.js", "best.js", "words.js", "start.js"),
)
_ESCAPED = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}
_PLACE = re.compile(r"\{\{([a-z]+)\}\}")


@functools.cache
def libraries() -> str:
    """Vega, Vega-Lite and Vega-Embed with its interpreter of expressions, as one script that defines ``vegaEmbed``.

    Raises:
        QBenchError: vl-convert-python is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise QBenchError(
            f"the page's charts need vl-convert-python ({error}): pip install vl-convert-python"
        ) from None
    code: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed; window.vegaLite = vegaLite;")
    return _inline(f"(() => {{{code}\n}})();")


@functools.cache
def script() -> str:
    """The page's own code: its files one after the other in a function of their own."""
    code = "\n".join(asset(name) for name in SCRIPTS)
    return _inline(f'(() => {{\n"use strict";\n{code}\n}})();')


def asset(name: str) -> str:
    """A file of the folder ``assets``."""
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def policy(scripts: tuple[str, ...], styles: tuple[str, ...]) -> str:
    """A content-security policy under which these texts run, and nothing is fetched from or sent to anywhere.

    Reference: W3C 2024, "Content Security Policy Level 3", section 8.3.
    """
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(map(_hash, scripts)),
        "style-src": " ".join(map(_hash, styles)),
        "img-src": "data: blob:",
        "connect-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def json_text(value: Any) -> str:
    r"""JSON for a script element: no letter in it can end the element or begin a comment.

    >>> json_text({"name": "</script>"})
    '{"name":"\\u003c/script\\u003e"}'

    Raises:
        ValueError: a number that JSON cannot say (NaN, inf).
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _without_surrogates(text).translate(_ESCAPED)


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with each ``{{name}}`` replaced, once: what is put in is not looked at again."""
    return _PLACE.sub(lambda found: values[found[1]], template)


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _inline(code: str) -> str:
    """Code for a script element, which ends at the first ``</script`` and reads ``<!--`` as a comment's begin.

    Both can only stand in texts and regular expressions of a library, where a backslash changes nothing.
    """
    safe = re.sub(r"</(?=script)", r"<\\/", code, flags=re.IGNORECASE).replace("<!--", r"<\!--")
    return safe.replace("\r\n", "\n").replace("\r", "\n")
