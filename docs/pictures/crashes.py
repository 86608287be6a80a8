"""The problem, in a picture that moves: four servers, two ways to count, and SIGKILL.

Everything is drawn from the samples of one run (`docs.measure.crashes`). Without motion, as for
readers who have asked for none, the picture shows the whole run at once.
"""

from __future__ import annotations

from typing import Any

from docs.measure import result
from docs.pictures import svg

WIDTH, HEIGHT = 720, 430
LEFT, RIGHT = 46, 704
CHART_TOP, CHART_BOTTOM = 208, 400
BARS_TOP, BARS_BOTTOM = 34, 130
LOOP = "24s"


def draw() -> str:
    run = result("crashes")
    samples = run["samples"]
    end = samples[-1][0]
    top = max(max(plain, ours) for _, _, plain, ours in samples) + 4

    def x(at: float) -> float:
        return LEFT + (RIGHT - LEFT) * at / end

    def y(count: float) -> float:
        return CHART_BOTTOM - (CHART_BOTTOM - CHART_TOP) * count / top

    true = [(x(at), y(sum(n or 0 for n in counts))) for at, counts, _, _ in samples]
    plain = [(x(at), y(number)) for at, _, number, _ in samples]
    ours = [(x(at), y(number)) for at, _, _, number in samples]
    return svg.picture(
        WIDTH,
        HEIGHT,
        "Four servers are killed one after the other. A plain counter keeps what they had counted; "
        "the slices go.",
        *_servers(samples),
        *_axes(top, end, x, y),
        *(_kill(kill, x(kill["at"])) for kill in run["kills"]),
        svg.steps(true, "line true"),
        svg.steps(plain, "line plain"),
        svg.steps(ours, "line ours"),
        _curtain(end),
        *_legend(samples),
    )


def _axes(top: int, end: float, x: Any, y: Any) -> list[str]:
    drawn = []
    for count in range(0, top, 10):
        drawn.append(svg.line(LEFT, y(count), RIGHT, y(count), "grid"))
        drawn.append(svg.text(LEFT - 8, y(count) + 4, str(count), "small", "end"))
    seconds = range(0, int(end) + 1, 4)
    return drawn + [svg.text(x(s), CHART_BOTTOM + 18, f"{s} s", "small", "middle") for s in seconds]


def _kill(kill: Any, x: float) -> str:
    words = f"kill -9 {'ABCD'[kill['server']]}"
    return svg.line(x, CHART_TOP - 14, x, CHART_BOTTOM, "kill") + svg.text(
        x + 4, CHART_TOP - 6, f"{words}: {kill['had']} gone", "small killed"
    )


def _servers(samples: Any) -> list[str]:
    """A bar for each server, as high as its connections, and empty while it is dead."""
    drawn = []
    width, most = 56.0, 20
    for place, name in enumerate("ABCD"):
        left = LEFT + 8 + place * 84
        counts = [sample[1][place] for sample in samples]
        heights = [(BARS_BOTTOM - BARS_TOP) * (count or 0) / most for count in counts]
        moving = _discrete("height", heights) + _discrete("y", [BARS_BOTTOM - h for h in heights])
        bar = svg.element(
            "rect", moving, x=left, y=BARS_BOTTOM - heights[-1], width=width, height=heights[-1],
            class_="bar",
        )  # fmt: skip
        dead = [0.0 if count is not None else 1.0 for count in counts]
        cross = svg.element(
            "g",
            _discrete("opacity", dead),
            svg.text(left + width / 2, BARS_BOTTOM - 30, "killed", "killed", "middle"),
            opacity=0,
        )
        drawn += [
            svg.line(left, BARS_BOTTOM, left + width, BARS_BOTTOM, "axis"),
            bar,
            cross,
            svg.text(left + width / 2, BARS_BOTTOM + 18, f"server {name}", "small", "middle"),
        ]
    return [*drawn, svg.text(LEFT, 18, "connections that are open, on each server", "small")]


def _discrete(attribute: str, values: list[float]) -> str:
    """The values one after the other, in the time that the run took. Equal ones are merged."""
    times: list[float] = []
    kept: list[float] = []
    for place, value in enumerate(values):
        if not kept or value != kept[-1]:
            times.append(place / len(values))
            kept.append(value)
    return svg.element(
        "animate",
        attributeName=attribute,
        values=";".join(f"{value:.1f}" for value in kept),
        keyTimes=";".join(f"{time:.4f}" for time in times),
        calcMode="discrete",
        dur=LOOP,
        repeatCount="indefinite",
        class_="motion",
    )


def _curtain(end: float) -> str:
    """What covers the time that has not come yet."""
    width, height = RIGHT - LEFT + 8, CHART_BOTTOM - CHART_TOP + 22
    return svg.element(
        "rect",
        svg.element("animate", attributeName="x", values=f"{LEFT};{RIGHT + 8}", dur=LOOP,
                    repeatCount="indefinite"),
        svg.element("animate", attributeName="width", values=f"{width};0", dur=LOOP,
                    repeatCount="indefinite"),
        x=RIGHT + 8, y=CHART_TOP - 20, width=0, height=height, class_="curtain",
    )  # fmt: skip


def _legend(samples: Any) -> list[str]:
    _, counts, plain, ours = samples[-1]
    rows = [
        ("true", "open connections", sum(n or 0 for n in counts)),
        ("plain", "INCRBY and DECRBY", plain),
        ("ours", "slices (distkit)", ours),
    ]
    drawn = []
    for place, (class_, words, last) in enumerate(rows):
        y = 52 + place * 28
        drawn.append(svg.line(420, y - 5, 448, y - 5, f"line {class_}"))
        drawn.append(svg.text(458, y, words))
        drawn.append(svg.text(690, y, f"at the end: {last}", "small", "end"))
    return drawn
