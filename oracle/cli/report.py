"""What `verify` and `replay` print, and the exit statuses that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from oracle.conform.lines import APPLIED, EMPTY, GIVE_UP, LOSE_REPLY, Capabilities, Line, same
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


class Misused(click.UsageError):
    """The command line, or the trace that it names, is not as it should be."""

    exit_code = USAGE


class Checking(click.Command):
    """A command whose own mistakes in use are not taken for a broken port."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise Misused(error.format_message(), ctx) from None


def consoles() -> tuple[Console, Console]:
    """stdout for what was found, stderr for how it goes."""
    return Console(highlight=False), Console(stderr=True, highlight=False)


@contextmanager
def started(command: Sequence[str], timeout: float) -> Iterator[Port]:
    """The port, introduced, and ended at the end. One that cannot be started ends the command."""
    out, err = consoles()
    try:
        port = Port(command, timeout)
    except Broke as error:
        say_broken(out, error)
        raise SystemExit(BROKE) from None
    try:
        introduce(err, port.capabilities)
        yield port
    finally:
        port.end()


def introduce(console: Console, port: Capabilities) -> None:
    clock = "virtual clock" if port.virtual_clock else "real time only"
    instances = "many instances" if port.many_instances else "an instance"
    faults = ", ".join(sorted(port.faults)) or "no faults"
    console.print(
        f"{port.port}: {clock}, {instances} to a process, {faults}", markup=False, soft_wrap=True
    )


def say_difference(console: Console, error: Differs) -> None:
    """The history as a table; the last line is the one that differs."""
    console.print(_table(error.steps, error.rule))
    said = error.steps[-1].said
    if said and "message" in said:
        console.print(f"The port's message: {said['message']}", markup=False, soft_wrap=True)


LAST_STEPS = 60
"""Of a longer history only its end is shown."""


def _table(steps: Sequence[Exchange], rule: str) -> Table:
    table = Table(pad_edge=False)
    for title in ("step", "who", "call", "the port's answer", "the right answer", "rule"):
        table.add_column(title, overflow="fold")
    wall_ms: int | None = None
    left_out = max(0, len(steps) - LAST_STEPS)
    if left_out:
        table.add_row("...", "", f"{left_out} steps before", "", "", "")
    for number, step in enumerate(steps[left_out:], left_out + 1):
        now: int | None = step.line.get("wall_ms", wall_ms)
        if wall_ms is not None and now is not None and now != wall_ms:
            table.add_row("", "", f"wait {now - wall_ms} ms", "", "", "")
        wall_ms = now
        wrong = step.said is not None and not same(step.said, step.right)
        table.add_row(
            str(number),
            Text(str(step.line.get("instance", ""))),
            Text(call_text(step.line)),
            Text("" if step.said is None else answer_text(step.said)),
            Text(answer_text(step.right)),
            rule if wrong else "",
            style="bold red" if wrong else None,
        )
    return table


def call_text(line: Line) -> str:
    if line["op"] == EMPTY:
        return "Redis is emptied"
    if line["op"] == "die":
        return "dies"
    words = [line["op"], *(_word(line[name]) for name in ("key", "count") if name in line)]
    words += ["[reply lost]"] if line.get(LOSE_REPLY) else []
    words += ["[gives up]"] if line.get(GIVE_UP) else []
    return " ".join(words)


def _word(value: Any) -> str:
    """A key as it stands where that is clear, else as JSON would have it; a long one cut."""
    text = str(value)
    if len(text) > 40:
        text = f"{text[:20]}... ({len(text)} characters)"
    return text if text and " " not in text else f'"{text}"'


def answer_text(answer: Line) -> str:
    if "error" in answer:
        return str(answer["error"])
    parts = [
        answer_text(n) if isinstance(n, dict) else str(n)
        for name, n in answer.items()
        if name != APPLIED
    ]
    text = f"({', '.join(parts)})" if parts else ""
    if APPLIED in answer:
        text += " applied" if answer[APPLIED] else " not applied"
    return text


def say_broken(console: Console, error: Broke) -> None:
    console.print(f"The port broke: {error}", style="bold red", markup=False, soft_wrap=True)
    if error.stderr.strip():
        console.print("What it wrote to stderr:", markup=False)
        console.print(error.stderr.rstrip(), markup=False, soft_wrap=True)
