"""What the commands that check a port print, and the exit statuses that they share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from oracle.conform import notation
from oracle.conform.lines import APPLIED, Capabilities, Line, same
from oracle.conform.play import Differs, Exchange
from oracle.conform.process import Broke, Port

RIGHT, DIFFERS, BROKE, USAGE = 0, 1, 2, 64
"""USAGE is sysexits.h's EX_USAGE: click's own 2 is taken."""

STATUSES = """\b
Exit status:
  0   every answer was right
  1   an answer differs from the oracle's
  2   the port broke: it crashed, hung, or said what is no answer
  64  the command line, or the trace, is not as it should be"""


URL = "DISTKIT_URL"
"""The variable in which the ports here find their Redis."""


class Misused(click.UsageError):
    """The command line, or the trace that it names, is not as it should be."""

    exit_code = USAGE


class Checking(click.Command):
    """A command whose own misuse is not taken for a broken port."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise Misused(error.format_message(), ctx) from None


def consoles() -> tuple[Console, Console]:
    """stdout for what was found, stderr for how it goes."""
    return Console(highlight=False), Console(stderr=True, highlight=False)


def say(console: Console, words: str, style: str = "") -> None:
    """Print words as they are, in one line however long."""
    console.print(words, markup=False, soft_wrap=True, style=style or None)


@contextlib.contextmanager
def started(command: Sequence[str], timeout: float) -> Iterator[Port]:
    """The port, introduced, and ended at the end, its keys removed. One that cannot be started ends
    the command."""
    out, err = consoles()
    try:
        port = Port(command, timeout)
    except Broke as error:
        say_broken(out, error)
        if URL not in os.environ:
            say(out, f"{URL} is not set. If the port needs a Redis, it may look for its URL there.")
        raise SystemExit(BROKE) from None
    try:
        introduce(err, port.capabilities)
        yield port
    finally:
        with contextlib.suppress(Broke):
            port.remove_keys()
        port.end()


def introduce(console: Console, port: Capabilities) -> None:
    clock = "virtual clock" if port.virtual_clock else "real time only"
    instances = "many instances" if port.many_instances else "an instance"
    more = ", ".join(sorted(port.faults | port.features)) or "no faults"
    say(console, f"{port.port}: {clock}, {instances} to a process, {more}")


def say_difference(console: Console, error: Differs) -> None:
    """The history as a table, whose last line is the one that differs, and where to look."""
    hint = error.hint
    console.print(_table(error.steps, str(hint)))
    for cause in hint.causes:
        say(console, f"The port answers as if: {cause}.")
    said = error.steps[-1].said
    if said and "message" in said:
        say(console, f"The port's message: {said['message']}")


LAST_ROWS = 60
"""Of a longer history only its end is shown."""


def _table(steps: Sequence[Exchange], rules: str) -> Table:
    table = Table(pad_edge=False)
    for title in ("step", "who", "call", "the port's answer", "the right answer", "rule"):
        table.add_column(title, overflow="fold")
    wall_ms: int | None = None
    rows = notation.rows([step.line for step in steps])
    left_out = rows[-LAST_ROWS].start if len(rows) > LAST_ROWS else 0
    if left_out:
        table.add_row("...", "", f"{left_out} steps before", "", "", "")
    shown = steps[left_out:]
    for places in notation.rows([step.line for step in shown]):
        step, lines = shown[places[-1]], [shown[place].line for place in places]
        number = f"{left_out + places[0] + 1}"
        number += f"-{left_out + places[-1] + 1}" if len(places) > 1 else ""
        now: int | None = step.line.get("wall_ms", wall_ms)
        if wall_ms is not None and now is not None and now != wall_ms:
            table.add_row("", "", f"wait {now - wall_ms} ms", "", "", "")
        wall_ms = now
        wrong = step.said is not None and not same(step.line, step.said, step.right)
        table.add_row(
            number,
            Text(str(step.line.get("instance", ""))),
            Text(notation.row_text(lines)),
            Text("" if step.said is None else answer_text(step.said)),
            Text(answer_text(step.right)),
            rules if wrong else "",
            style="bold red" if wrong else None,
        )
    return table


def answer_text(answer: Line) -> str:
    """An answer, short: `(5, 2)`, `((5, 2), (3, 0)) applied`, `overflow`."""
    if "error" in answer:
        return str(answer["error"])
    if "answers" in answer:
        return ", ".join(map(answer_text, answer["answers"]))
    parts = [
        answer_text(n) if isinstance(n, dict) else str(n)
        for name, n in answer.items()
        if name not in (APPLIED, "message")
    ]
    text = f"({', '.join(parts)})" if parts else ""
    if APPLIED in answer:
        text += " applied" if answer[APPLIED] else " not applied"
    return text


def say_broken(console: Console, error: Broke) -> None:
    say(console, f"The port broke: {error}", "bold red")
    if error.stderr.strip():
        say(console, "What it wrote to stderr:")
        say(console, error.stderr.rstrip())


def say_failure(console: Console, error: Differs | Broke) -> None:
    """Whichever it was."""
    if isinstance(error, Differs):
        say_difference(console, error)
    else:
        say_broken(console, error)
