"""How names, durations and numbers are shown to people.

Keys, ids and labels come from Redis and may contain anything. They are shown with their control
characters escaped, and never read as markup: nobody who can write a label writes to a terminal.
"""

from __future__ import annotations

from rich.text import Text

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000))


def printable(text: str) -> str:
    """The text with everything escaped that is not printable."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def name(text: str, style: str = "") -> Text:
    """A name for a table."""
    return Text(printable(text), style)


def duration(ms: int | None) -> str:
    """Two digits are enough for people: 40 ms, 1.2 s, 5 min, 3.1 d."""
    if ms is None:
        return "-"
    if abs(ms) < 1000:
        return f"{ms} ms"
    for unit, size in _UNITS:
        if abs(ms) >= 2 * size:
            return f"{_short(ms / size)} {unit}"
    return f"{_short(ms / 1000)} s"


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0") if abs(number) < 10 else f"{number:.0f}"


def size(count: float) -> str:
    """Bytes for people: 512 B, 1.5 kB, 20 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{_short(count)} {unit}"
        count /= 1000
    return f"{_short(count)} TB"


def number(value: int) -> str:
    return f"{value:,}"


def plural(count: int, noun: str) -> str:
    """1 counter, 2 counters."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"
