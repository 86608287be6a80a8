"""Space-time diagrams: the golden traces of the rules, and the histories that break protocols."""

from __future__ import annotations

import textwrap

from docs.measure import result
from docs.pictures import svg
from oracle.check.broken import BROKEN
from oracle.check.events import CopyArrives, HearsReply, InstanceEvent
from oracle.check.state import NAMES
from oracle.check.trace import Trace, decode_trace, tell
from oracle.cli.html import diagram
from oracle.conform.play import Exchange
from oracle.conform.shipped import SPEC
from oracle.conform.traces import History, answers_in, read_trace

LANE, ROW, TOP, SIDE, WORDS = 84, 26, 40, 44, 640


VECTORS = SPEC / "vectors"


def vectors_of(rule: str) -> list[History]:
    """The golden histories of a rule, such as R5. Raises LookupError if there are none."""
    files = sorted(VECTORS.glob(f"R{int(rule[1:]):02d}-*.jsonl"))
    if not files:
        raise LookupError(f"{rule} has no golden trace")
    return [history for file in files for history in read_trace(file)]


def vector(history: History) -> str:
    """A history of a golden trace, as the oracle draws what it checks."""
    answers = answers_in(history) or []
    steps = [
        Exchange({name: value for name, value in line.items() if name != "answer"}, answer, answer)
        for line, answer in zip(history.lines, answers, strict=True)
    ]
    return diagram(steps)


def broken(name: str) -> str:
    """The shortest history that breaks a broken protocol, as the explorer found it."""
    found = result("broken")["protocols"][name]
    protocol = BROKEN[name].protocol
    trace = decode_trace(found["trace"], protocol)
    told = [text.strip() for text in tell(trace, protocol)]
    return _drawn(trace, [text.split(". ", 1)[1] for text in told[: 2 * len(trace.events) : 2]])


def _drawn(trace: Trace, told: list[str]) -> str:
    lanes = [name for name in NAMES if any(getattr(e, "who", "") == name for e in trace.events)]
    place = {name: SIDE + LANE * number for number, name in enumerate(lanes)}
    server = SIDE + LANE * len(lanes)
    drawn, y = [], TOP
    for number, (event, words) in enumerate(zip(trace.events, told, strict=True), 1):
        x = place[event.who] if isinstance(event, InstanceEvent) else server
        if isinstance(event, (HearsReply, CopyArrives)):
            kind = "message" if isinstance(event, HearsReply) else "message late"
            drawn.append(svg.line(x, y, server, y + ROW / 3, kind))
            if isinstance(event, HearsReply):
                drawn.append(svg.line(server, y + ROW / 3, x, y + ROW * 2 / 3, kind))
        else:
            drawn.append(svg.element("circle", cx=x, cy=y, r=4, class_="dot"))
        for row in textwrap.wrap(f"{number}. {words}", 84):
            drawn.append(svg.text(server + 30, y + 4, row, "small"))
            y += ROW - 8
        y += ROW - 10
    for row in textwrap.wrap(f"Broken: {trace.violation}", 84):
        drawn.append(svg.text(server + 30, y + 4, row, "small killed"))
        y += ROW - 8
    heads = [
        svg.text(x, 18, name, "", "middle") + svg.line(x, 26, x, y, "lane")
        for name, x in {**place, "server": server}.items()
    ]
    return svg.picture(server + WORDS, y + 10, "A space-time diagram", *heads, *drawn)
