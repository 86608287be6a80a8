"""A run as a page to look at: which rule was checked in which layer, and each failure drawn as what
instances and server did, from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from oracle.cli.report import answer_text
from oracle.conform import notation
from oracle.conform.layers import BEYOND, Report
from oracle.conform.lines import same
from oracle.conform.play import Differs, Exchange
from oracle.conform.search import Failure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em }
table { border-collapse: collapse } td, th { padding: .2em .8em; border: 1px solid #8884 }
td.right { background: #2a72 } td.failed { background: #d336; font-weight: bold }
td.missing { color: #888 } svg { max-width: 100%; background: #8881; margin: 1em 0 }
svg text { font: 13px ui-monospace, monospace; fill: currentColor } .wrong { fill: #d33 }
"""

LANE, ROW, TOP, SIDE = 190, 30, 46, 70


def write(found: Report, folder: Path) -> Path:
    """Write the page into a folder. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text("\n".join(_page(found)), encoding="utf-8")
    return path


def _page(found: Report) -> Iterator[str]:
    name = escape(found.port.port)
    yield f"<!doctype html><meta charset=utf-8><title>{name}</title><style>{_STYLE}</style>"
    yield f"<h1>{name}</h1><p>Suite {found.suite}, seed {found.plan.seed}.</p>"
    yield from _rules(found)
    for reason, rules in found.not_covered.items():
        many = ", ".join(f"{rule} ({number})" for rule, number in sorted(rules.items()))
        yield f"<p>Not checked, since {escape(reason)}: {escape(many)}</p>"
    for rule, reason in BEYOND.items():
        yield f"<p>{rule} is not checked on any port: {escape(reason)}</p>"
    for failure in found.failures:
        yield from _failure(failure)


def _rules(found: Report) -> Iterator[str]:
    """A row for each rule, a column for each layer."""
    played = {
        (layer.layer, rule): (many, failed)
        for layer in found.layers
        for rule, many, failed in layer.rules
    }
    left_out = {
        (layer.layer, rule)
        for layer in found.layers
        for history, _ in layer.left_out
        for rule in history.rules.split()
    }
    rules = sorted({rule for _, rule in (*played, *left_out)}, key=lambda rule: int(rule[1:]))
    heads = "".join(f"<th>{layer.layer}</th>" for layer in found.layers)
    yield f"<table><tr><th>rule</th>{heads}</tr>"
    for rule in rules:
        cells = []
        for layer in found.layers:
            many, failed = played.get((layer.layer, rule), (0, 0))
            if failed:
                cells.append(f"<td class=failed>{failed} of {many} failed</td>")
            elif many:
                part = ", in part" if (layer.layer, rule) in left_out else ""
                cells.append(f"<td class=right>{many}{part}</td>")
            else:
                missing = "not checked" if (layer.layer, rule) in left_out else ""
                cells.append(f"<td class=missing>{missing}</td>")
        yield f"<tr><th>{rule}</th>{''.join(cells)}</tr>"
    drawn = "".join(
        f"<td class={'failed' if layer.failed else 'right'}>{layer.played}</td>"
        for layer in found.layers
    )
    yield f"<tr><th>all histories</th>{drawn}</tr></table>"


def _failure(failure: Failure) -> Iterator[str]:
    yield f"<h2>{escape(failure.found_in)}</h2>"
    error = failure.error
    if not isinstance(error, Differs):
        yield f"<p>The port broke: {escape(str(error))}</p><pre>{escape(error.stderr)}</pre>"
        return
    hint = error.hint
    yield f"<p>Rules: {escape(str(hint))}.</p>"
    for cause in hint.causes:
        yield f"<p>The port answers as if: {escape(cause)}.</p>"
    yield diagram(error.steps)


def diagram(steps: Sequence[Exchange]) -> str:
    """An exchange as an SVG: instances and server side by side; time goes down."""
    names = list(dict.fromkeys(s.line["instance"] for s in steps if "instance" in s.line))
    lanes = {name: SIDE + LANE * place for place, name in enumerate(names)}
    server = SIDE + LANE * len(names)
    drawn: list[str] = []
    y, wall = TOP, None
    for places in notation.rows([step.line for step in steps]):
        step = steps[places[-1]]
        now = step.line.get("wall_ms", wall)
        if wall is not None and now is not None and now != wall:
            drawn.append(_text(10, y, f"{now - wall:+} ms"))
            y += ROW
        wall = now
        words = notation.row_text([steps[place].line for place in places])
        drawn += _step(step, words, lanes.get(step.line.get("instance", ""), server), server, y)
        y += 2 * ROW
    heads = [
        f'<text x="{x}" y="22" text-anchor="middle">{escape(name)}</text>'
        f'<line x1="{x}" y1="30" x2="{x}" y2="{y}" stroke="currentColor" stroke-opacity=".4"/>'
        for name, x in {**lanes, "server": server}.items()
    ]
    size = f'width="{server + LANE}" height="{y}" viewBox="0 0 {server + LANE} {y}"'
    return f"<svg {size}>{''.join(heads)}{''.join(drawn)}</svg>"


def _step(step: Exchange, words: str, x: int, server: int, y: int) -> Iterator[str]:
    if "wall_ms" not in step.line or "instance" not in step.line:
        yield f'<circle cx="{x}" cy="{y}" r="4" fill="currentColor"/>' + _text(x + 8, y, words)
        return
    yield _line(x, y, server, y + ROW // 2)
    yield _text(x + 8, y - 4, words)
    yield _line(server, y + ROW // 2, x, y + ROW)
    said = step.said if step.said is not None else {}
    wrong = not same(step.line, said, step.right)
    answer = answer_text(said)
    if wrong:
        answer += f", not {answer_text(step.right)}"
    yield _text(x + 8, y + ROW + 12, answer, "wrong" if wrong else "")


def _line(x1: int, y1: int, x2: int, y2: int) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="currentColor"/>'


def _text(x: int, y: int, words: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(words)}</text>'
