"""What a chart of the page is: a Vega-Lite specification with the words around it."""

from dataclasses import dataclass, field
from typing import Any, final

Spec = dict[str, Any]


@final
@dataclass(frozen=True)
class Chart:
    """A chart with its words. Either ``spec`` is there or ``empty`` says what to run.

    Attributes:
        id: [a-z0-9-]+, the element's name on the page.
        title: a plain statement.
        caption: one line: what it shows, and what to look for.
        alt: the finding in numbers, for whoever cannot see it.
        spec: Vega-Lite 6, responsive; None where there is nothing to draw.
        empty: what to run, where there is nothing to draw.
        boards: the same chart of single boards, by their keys.
        linked: whether the specification reads the data set ``points``, the rows of the page's selection.
    """

    id: str
    title: str
    caption: str
    alt: str
    spec: Spec | None
    empty: str = ""
    boards: dict[str, Spec] = field(default_factory=dict)
    linked: bool = False


def nothing(id: str, title: str, caption: str, empty: str) -> Chart:
    """A chart that has nothing to show."""
    return Chart(id, title, caption, f"Nothing is drawn yet. {empty}", None, empty)
