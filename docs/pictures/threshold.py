"""The threshold: what fits into it, and what pauses and failovers do to instances."""

from __future__ import annotations

from distkit.core.pulse import Pulse, promise_ms
from distkit.redis.settings import deadline_s
from docs.measure import result
from docs.pictures import svg

WIDTH, LEFT, RIGHT = 720, 60, 690
THRESHOLD_MS = 30_000


def draw() -> str:
    """One threshold from the last heartbeat that was heard, with the numbers of the code."""
    pulse = Pulse(THRESHOLD_MS)
    seconds = THRESHOLD_MS / 1000

    def x(at: float) -> float:
        return LEFT + (RIGHT - LEFT) * at / (seconds * 1.06)

    beats = [pulse.interval_s * number for number in range(4)]
    drawn = [svg.line(x(0), 80, x(seconds * 1.05), 80, "axis")]
    for number, at in enumerate(beats[:3]):
        words = "heard" if not number else f"heartbeat at {at:g} s"
        drawn.append(svg.element("circle", cx=x(at), cy=80, r=6, class_="dot"))
        drawn.append(svg.text(x(at), 62, words, "small", "middle"))
    at = pulse.interval_s + pulse.retry_s
    while at < seconds:
        drawn.append(svg.element("circle", cx=x(at), cy=80, r=3, class_="total"))
        at += pulse.retry_s
    drawn.append(svg.line(x(seconds), 40, x(seconds), 110, "kill"))
    drawn.append(svg.text(x(seconds), 30, f"presumed dead at {seconds:g} s", "small killed", "end"))
    spans = [
        (0.0, promise_ms(THRESHOLD_MS) / 1000, "all that an outage can cost"),
        (0.0, pulse.interval_s * 2, "a pause up to this length never kills"),
        (pulse.interval_s, pulse.interval_s + deadline_s(None, THRESHOLD_MS),
         "how long a reply may take"),
    ]  # fmt: skip
    for place, (begin, end, words) in enumerate(spans):
        y = 124 + 30 * place
        drawn.append(
            svg.element("rect", x=x(begin), y=y, width=x(end) - x(begin), height=12, class_="bar")
        )
        drawn.append(svg.text(x(end) + 8, y + 11, f"{words}: {end - begin:g} s", "small"))
    drawn.append(svg.text(x(at) - 4, 100, "", "small"))
    drawn.append(
        svg.text(
            LEFT,
            224,
            f"Small dots: a heartbeat that failed is tried again every {pulse.retry_s:g} s.",
            "small",
        )
    )
    return svg.picture(WIDTH, 236, "What fits into a threshold of 30 s", *drawn)


def pauses() -> str:
    """Of processes that were stopped for a part of their threshold, how many were presumed dead."""
    rows = result("pauses")["pauses"]
    first, last = rows[0][0], rows[-1][0]
    top, bottom = 24, 170

    def x(share: float) -> float:
        return LEFT + (RIGHT - LEFT) * (share - first) / (last - first)

    def y(part: float) -> float:
        return bottom - (bottom - top) * part

    drawn = []
    for part in (0, 0.5, 1):
        drawn.append(svg.line(LEFT, y(part), RIGHT, y(part), "grid"))
        drawn.append(svg.text(LEFT - 8, y(part) + 4, f"{part:.0%}", "small", "end"))
    points = []
    for share, died, of in rows:
        points.append((x(share), y(died / of)))
        drawn.append(svg.text(x(share), bottom + 18, f"{share:g}", "small", "middle"))
        drawn.append(
            svg.element("circle", svg.element("title", f"{died} of {of}"), cx=x(share),
                        cy=y(died / of), r=4, class_="dot")
        )  # fmt: skip
    for share, words in ((2 / 3, "2/3"), (1.0, "1")):
        drawn.append(svg.line(x(share), top - 10, x(share), bottom, "kill"))
        drawn.append(svg.text(x(share) + 4, top - 2, words, "small killed"))
    drawn.append(svg.path(points, "line ours"))
    drawn.append(svg.text(RIGHT, bottom + 38, "length of the pause, in thresholds", "small", "end"))
    return svg.picture(WIDTH, 216, "How many paused processes were presumed dead", *drawn)


def failover() -> str:
    """How long calls failed in each failover, beside the threshold."""
    run = result("failover")
    rows = run["failovers"]
    threshold = run["threshold_ms"] / 1000
    longest = max(row["failed_s"] for row in rows) * 1.35

    def x(at: float) -> float:
        return 150 + (RIGHT - 150) * at / longest

    drawn = []
    for place, row in enumerate(rows):
        y = 30 + 34 * place
        drawn.append(
            svg.text(142, y + 12, f"down-after {row['down_after_ms'] / 1000:g} s", "small", "end")
        )
        drawn.append(
            svg.element(
                "rect",
                x=x(0),
                y=y,
                width=x(row["failed_s"]) - x(0),
                height=16,
                class_="call answer",
            )
        )
        words = f"{row['failed_s']:.1f} s; presumed dead: {row['presumed_dead']}"
        drawn.append(svg.text(max(x(row["failed_s"]), x(threshold)) + 8, y + 13, words, "small"))
    bottom = 30 + 34 * len(rows)
    drawn.append(svg.line(x(threshold), 14, x(threshold), bottom, "kill"))
    drawn.append(svg.text(x(threshold) + 4, 16, f"threshold {threshold:g} s", "small killed"))
    return svg.picture(WIDTH, bottom + 10, "How long calls failed in failovers", *drawn)
