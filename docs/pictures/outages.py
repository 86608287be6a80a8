"""What calls come to while Redis fails: a time line for each failure."""

from __future__ import annotations

from typing import Any

from docs.measure import result
from docs.pictures import svg

WIDTH, LEFT, RIGHT = 720, 56, 704
LINES_TOP, TOTAL_TOP, TOTAL_BOTTOM = 46, 120, 190
KINDS = {"ok": "ok", "OutcomeUnknownError": "unknown", "NotExecutedError": "refused"}
"""The class of each outcome's colour; any other outcome is an answer of Redis itself."""
WORDS = {
    "PRESUMED_DEAD": "presumed dead",
    "LOST_WRITES": "Redis lost writes",
    "PUT_BACK": "slices restored",
    "UNREACHABLE": "no reply",
    "REACHABLE": "heard again",
}
"""The events that are drawn."""
NEARLY_S = 0.2


def draw(name: str) -> str:
    """One failure. Each call of A is a bar, from when it began until it returned or raised."""
    run = result("outages")["failures"][name]
    begin, end = 0.5, run["calls"][-1][0] + 0.2

    def x(at: float) -> float:
        return LEFT + (RIGHT - LEFT) * (min(max(at, begin), end) - begin) / (end - begin)

    drawn = [
        svg.element("rect", x=x(run["began"]), y=28, width=x(run["ended"]) - x(run["began"]),
                    height=TOTAL_BOTTOM - 28, class_="failing"),
        svg.text(x(run["began"]), 18, run["title"], "small killed"),
    ]  # fmt: skip
    seconds = range(1, int(end) + 1)
    drawn += [svg.text(x(s), TOTAL_BOTTOM + 18, f"{s} s", "small", "middle") for s in seconds]
    drawn.append(svg.text(LEFT - 8, LINES_TOP + 14, "calls", "small", "end"))
    for at, took, kind, *_ in run["calls"]:
        if at >= begin:
            width = max(2.0, x(at + took) - x(at))
            drawn.append(
                svg.element("rect", x=x(at), y=LINES_TOP, width=width, height=20,
                            class_=f"call {KINDS.get(kind, 'answer')}")
            )  # fmt: skip
    drawn += _events(run, x)
    drawn += _totals(run, x, begin)
    return svg.picture(WIDTH, TOTAL_BOTTOM + 28, run["title"], *drawn)


def _events(run: Any, x: Any) -> list[str]:
    """What the two instances were told. Events that come at nearly the same time share a line."""
    drawn = []
    for label, y in (("A", 84), ("B", 104)):
        drawn.append(svg.text(LEFT - 8, y, label, "small", "end"))
        groups: list[tuple[float, list[str]]] = []
        for at, whose, kind in run["events"]:
            if whose != label or kind not in WORDS or at < run["began"] - 0.1:
                continue
            if groups and at - groups[-1][0] < NEARLY_S:
                groups[-1][1].append(WORDS[kind])
            else:
                groups.append((at, [WORDS[kind]]))
        for at, words in groups:
            right = x(at) > (LEFT + RIGHT) / 2  # there, the words stand before the dot
            where, anchor = (x(at) - 7, "end") if right else (x(at) + 7, "start")
            drawn.append(svg.element("circle", cx=x(at), cy=y - 4, r=3, class_="dot"))
            drawn.append(svg.text(where, y, ", ".join(words), "small", anchor))
    return drawn


def _totals(run: Any, x: Any, begin: float) -> list[str]:
    """The totals that A's calls returned."""
    answered = [
        (at, said[0]) for at, _, kind, *said in run["calls"] if kind == "ok" and at >= begin
    ]
    most = max(total for _, total in answered)
    scale = (TOTAL_BOTTOM - TOTAL_TOP) / max(most, 1)
    points = [(x(at), TOTAL_BOTTOM - scale * total) for at, total in answered]
    return [
        svg.text(LEFT - 8, TOTAL_TOP + 10, "total", "small", "end"),
        svg.line(LEFT, TOTAL_BOTTOM, RIGHT, TOTAL_BOTTOM, "axis"),
        *(svg.element("circle", cx=px, cy=py, r=1.8, class_="total") for px, py in points),
    ]
