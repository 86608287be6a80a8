"""SVG as text. Colours are classes of `static/site.css`, so that pictures follow light and dark."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def element(name: str, *inside: str, **attributes: object) -> str:
    """An element. `class_` and `font_size` become `class` and `font-size`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{''.join(inside)}</{name}>" if inside else f"<{name}{given}/>"


def _text(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> str:
    return element("text", escape(words), x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str) -> str:
    """A line through the points."""
    where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polyline", points=where, class_=class_)


def steps(points: Iterable[tuple[float, float]], class_: str) -> str:
    """A line that stays at each point's height until the next point."""
    found: list[tuple[float, float]] = []
    for x, y in points:
        if found:
            found.append((x, found[-1][1]))
        found.append((x, y))
    return path(found, class_)


def picture(width: int, height: int, title: str, *inside: str) -> str:
    """The whole. The title is what screen readers say."""
    return element(
        "svg",
        element("title", escape(title)),
        *inside,
        viewBox=f"0 0 {width} {height}",
        role="img",
        style=f"max-width:{width}px",
    )
