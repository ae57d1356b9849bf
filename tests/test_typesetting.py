"""What is escaped is read back as it was, by readers that know nothing of how it was escaped."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from qbench.typesetting import code, latex, markdown, plain, quoted

NAMED = {
    "textbackslash": "\\",
    "textbraceleft": "{",
    "textbraceright": "}",
    "textasciicircum": "^",
    "textasciitilde": "~",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textquotesingle": "'",
    "textasciigrave": "`",
}
anything = st.text(
    st.characters() | st.sampled_from("\\{}$&#^_~%|`<>[]*-'\"\n\r\u2028\u202e\u200f&"), max_size=60
)


def typeset(source: str) -> str:
    """What LaTeX prints in text mode; raises where it would stop, change its mode, or join two marks to one."""
    printed, at, depth = "", 0, 0
    while at < len(source):
        rest = source[at:]
        if found := re.match(r"\\([a-z]+)\{\}", rest):
            printed, at = printed + NAMED[found[1]], at + found.end()
        elif found := re.match(r"\\\(\\pm\\\)", rest):
            printed, at = printed + "±", at + found.end()
        elif found := re.match(r"\{\\char(\d+)\}", rest):
            printed, at = printed + chr(int(found[1])), at + found.end()
        elif rest[0] == "\\":
            assert rest[1] in "$&#%_", rest
            printed, at = printed + rest[1], at + 2
        else:
            assert rest[0] not in "$&#%_^~", rest
            assert rest[:2] not in ("--", ",,", "''", "``", "?`", "!`", "<<", ">>"), rest
            assert " " <= rest[0] < "\x7f", rest
            depth += (rest[0] == "{") - (rest[0] == "}")
            assert depth >= 0
            printed, at = printed + (rest[0] if rest[0] not in "{}" else ""), at + 1
    assert depth == 0
    return printed


def ascii_of(text: str) -> str:
    """Beyond ASCII spelled out, as Python does in strings of bytes."""
    return "±".join(part.encode("ascii", "backslashreplace").decode() for part in plain(text).split("±"))


@given(anything)
def test_latex_prints_the_text(text: str) -> None:
    assert typeset(latex(text)) == ascii_of(text)
    assert latex(text).count("{") == latex(text).count("}")


def test_what_latex_has_a_meaning_for() -> None:
    assert latex("\\{}$&#^_~%") == (
        r"\textbackslash{}\textbraceleft{}\textbraceright{}\$\&\#\textasciicircum{}\_\textasciitilde{}\%"
    )
    assert latex("--where 'a'") == r"-{}-where \textquotesingle{}a\textquotesingle{}"
    assert latex("[1ex]") == "{[}1ex{]}"
    assert latex("\N{GREEK SMALL LETTER ALPHA}") == r"\textbackslash{}u03b1"


@given(anything)
def test_markdown_shows_the_text(text: str) -> None:
    """In a cell of a table, read by a library; blanks at the ends of a cell mean nothing."""
    tokens = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parse(f"| x{markdown(text)}x |\n| --- |\n")
    )
    assert tokens[0].type == "table_open"
    (inline,) = [token for token in tokens if token.type == "inline"]
    assert {child.type for child in inline.children} <= {"text", "text_special"}
    assert "".join(child.content for child in inline.children) == f"x{plain(text)}x"


@given(anything)
def test_a_code_span_shows_the_text(text: str) -> None:
    (paragraph,) = [t for t in MarkdownIt("commonmark").parse(f"a {code('x' + text)}") if t.type == "inline"]
    before, span = paragraph.children
    assert (before.content, span.type) == ("a ", "code_inline")
    assert span.content.strip() == f"x{plain(text)}".strip()


@given(anything)
def test_yaml_holds_the_text(text: str) -> None:
    assert yaml.safe_load(f"a: {quoted(text)}\n") == {"a": plain(text)}


@pytest.mark.parametrize("mark", ["\u202e", "\u2028", "\x1b", "\n", "\x00", "\ud800", "\u200f"])
def test_what_cannot_be_seen_is_spelled_out(mark: str) -> None:
    shown = plain(f"a{mark}b")
    assert re.fullmatch(r"a\\(u[0-9a-f]{4}|x[0-9a-f]{2}|n)b", shown)
    assert shown.encode().decode("unicode_escape").encode("utf-8", "surrogatepass") == f"a{mark}b".encode(
        "utf-8", "surrogatepass"
    )
