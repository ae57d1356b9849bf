"""Text from anywhere as LaTeX, BibTeX, Markdown or YAML that says that text and nothing else. No torch here."""

import json
import re

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    '"': r"{\char34}",
    "±": r"\(\pm\)",
    **{c: f"\\{c}" for c in "$&#%_"},
    **{c: f"{{{c}}}" for c in "[]*"},  # after the end of a row these would be read as arguments of it
}
_JOINED = re.compile(r"([-,])(?=\1)")
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>&|~$#]")


def plain(text: str) -> str:
    """One line: what cannot be seen or turns the direction of reading is spelled out, line breaks too.

    >>> print(plain("a\\nb\u202e"))
    a\\nb\\u202e
    """
    return "".join(c if c.isprintable() else _spelled(c) for c in text)


def _spelled(c: str) -> str:
    return c.encode("unicode_escape").decode()


def latex(text: str) -> str:
    r"""For text mode in any font encoding, and for fields of BibTeX, in which escaped braces would count as well.

    Characters beyond ASCII are spelled out, but for the plus-minus sign: pdfLaTeX refuses those that it has no font
    for. Hyphens that fonts would join stay apart, so that a command can be copied.

    >>> print(latex("100 % of a_b --c"))
    100 \% of a\_b -{}-c
    """
    known = "".join(c if c.isascii() or c in _LATEX else _spelled(c) for c in plain(text))
    apart = "".join(_LATEX.get(c, c) for c in known)
    return _JOINED.sub(r"\1{}", apart)


def markdown(text: str) -> str:
    r"""For running text and for a cell of a table.

    >>> print(markdown("a|b <c>"))
    a\|b \<c\>
    """
    return _MARKDOWN.sub(r"\\\g<0>", plain(text))


def code(text: str) -> str:
    """A code span of Markdown, whatever backticks are in it.

    >>> code("a`b")
    '`` a`b ``'
    """
    shown = plain(text)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence, room = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{room}{shown}{room}{fence}"


def quoted(text: str) -> str:
    """A double-quoted scalar of YAML."""
    return json.dumps(plain(text), ensure_ascii=False)
