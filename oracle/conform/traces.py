"""Histories, and the files that hold them: traces. A history is a `reset` and what follows it; in a
trace each line has its answer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from oracle.conform import schema
from oracle.conform.lines import Line, Malformed, check_message, decode, encode


class History(NamedTuple):
    """What happens under one prefix, from nothing.

    Attributes:
        threshold_ms: R5's D, for every instance.
        lines: operations and events, in order. An operation always has `wall_ms`, its time.
        comment: what the history shows.
        rules: the rules that it is about, such as "R10 R12".
    """

    threshold_ms: int
    lines: tuple[Line, ...]
    comment: str = ""
    rules: str = ""


def answers_in(history: History) -> list[Line] | None:
    """The answers that stand in the lines of a trace, if all of them have one."""
    answers = [line["answer"] for line in history.lines if "answer" in line]
    return answers if len(answers) == len(history.lines) else None


def without_answers(history: History) -> History:
    """The lines alone."""
    lines = ({name: line[name] for name in line if name not in _NOTES} for line in history.lines)
    return history._replace(lines=tuple(lines))


_NOTES = ("answer", "said")


def write_trace(path: Path, histories: Iterable[tuple[History, Iterable[Line]]]) -> None:
    """Write histories to a file, each with its lines as they are to stand there."""
    text = []
    for history, written in histories:
        head: Line = {"op": "reset", "threshold_ms": history.threshold_ms}
        head |= {"comment": history.comment} if history.comment else {}
        head |= {"rules": history.rules} if history.rules else {}
        text += [encode(line) for line in (head, *written)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in text), encoding="utf-8")


def read_trace(path: Path) -> list[History]:
    """The histories of a file. Unknown fields are kept as they are.

    Raises:
        Malformed: a line is no message, or the first one is no `reset`.
    """
    heads: list[History] = []
    bodies: list[list[Line]] = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not text.strip():
            continue
        try:
            _read_line(decode(text), heads, bodies)
        except Malformed as error:
            raise Malformed(f"{path.name}, line {number}: {error}") from None
    if not heads:
        raise Malformed(f"{path.name}: there is no history in it")
    return [head._replace(lines=tuple(body)) for head, body in zip(heads, bodies, strict=True)]


def _read_line(line: Line, heads: list[History], bodies: list[list[Line]]) -> None:
    op = line.get("op")
    if op == "hello":
        return
    if op == "reset":
        problem = schema.problem("reset", line)
        if problem:
            raise Malformed(problem)
        heads.append(
            History(line["threshold_ms"], (), line.get("comment", ""), line.get("rules", ""))
        )
        bodies.append([])
        return
    if not heads:
        raise Malformed('a trace starts with a "reset"')
    check_message(line)
    bodies[-1].append(line)
