"""`python -m oracle replay TRACE [-- CMD ...]`: play recorded histories again."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.console import Console

from oracle.cli import report
from oracle.conform.histories import REAL_TIME_THRESHOLD_MS
from oracle.conform.judge import judge
from oracle.conform.lines import History, Malformed, checked_answer, read_trace, same
from oracle.conform.play import Differs, Exchange, TooNear, cannot_play, play, scaled
from oracle.conform.process import Broke, Port
from oracle.conform.shipped import find_trace, vector_names


@click.command(cls=report.Checking, epilog=report.STATUSES)
@click.option("--threshold-ms", type=click.IntRange(1), metavar="MS",
              help="Stretch the histories to this threshold. In real time 200 unless given."
              )  # fmt: skip
@click.option("--timeout", default=10.0, show_default=True, type=click.FloatRange(0.01),
              metavar="S", help="How long the port may take for an answer.")  # fmt: skip
@click.argument("trace")
@click.argument("command", nargs=-1, metavar="[-- CMD...]")
def replay(trace: str, command: tuple[str, ...], threshold_ms: int | None, timeout: float) -> None:
    """Play the histories of TRACE: a file in the format of spec/PORTS.md, or the name of a golden
    trace, such as R05-death.

    With CMD, that port plays them, and its answers are compared with the oracle's. Without CMD, the
    answers in the trace are compared with the oracle's.
    """
    out, _ = report.consoles()
    path = find_trace(trace)
    if path is None:
        known = ", ".join(vector_names())
        raise report.Misused(
            f"there is no file {trace!r}, and no golden trace of this name: {known}"
        )
    try:
        histories = read_trace(path)
    except (Malformed, UnicodeDecodeError) as error:
        raise report.Misused(str(error)) from None
    if not command:
        raise SystemExit(_check_all(out, histories))
    with report.started(command, timeout) as port:
        raise SystemExit(play_all(out, histories, port, threshold_ms))


def _check_all(out: Console, histories: Sequence[History]) -> int:
    """Compare the answers that stand in the trace with the oracle's."""
    compared = 0
    for history in histories:
        steps = []
        for line, right in zip(history.lines, judge(history), strict=True):
            said = checked_answer(line, line["answer"]) if "answer" in line else None
            steps.append(Exchange(line, right, said))
            if said is not None and not same(said, right):
                _say_difference(out, Differs(history, steps))
                return report.DIFFERS
            compared += said is not None
    if not compared:
        raise report.Misused('no line of the trace has an "answer": there is nothing to compare')
    out.print(f"{len(histories)} histories, {compared} answers: all are the oracle's")
    return report.RIGHT


def play_all(
    out: Console, histories: Sequence[History], port: Port, threshold_ms: int | None
) -> int:
    """Play each history that the port can play; the exit status that comes of it."""
    played = steps = different = 0
    for number, history in enumerate(histories, 1):
        threshold = threshold_ms or _threshold(history, port)
        history = scaled(history, threshold)
        reason = cannot_play(history, port.capabilities)
        if not reason:
            try:
                steps += len(play(history, port))
            except TooNear:
                reason = "real time came too near the threshold"
            except Differs as error:
                _say_difference(out, error)
                different += 1
            except Broke as error:
                report.say_broken(out, error)
                return report.BROKE
        if reason:
            out.print(
                f"{_name(history, number)} was left out: {reason}", markup=False, soft_wrap=True
            )
        else:
            played += 1
    if not played:
        raise report.Misused("no history of the trace is one for this port")
    how = f"{different} differ" if different else f"{steps} steps: every answer was right"
    out.print(f"{played} of {len(histories)} histories were played, {how}")
    return report.DIFFERS if different else report.RIGHT


def _name(history: History, number: int) -> str:
    return f"history {number} ({history.comment})" if history.comment else f"history {number}"


def _threshold(history: History, port: Port) -> int:
    if port.capabilities.virtual_clock:
        return history.threshold_ms
    return min(history.threshold_ms, REAL_TIME_THRESHOLD_MS)


def _say_difference(out: Console, error: Differs) -> None:
    if error.history.comment:
        out.print(error.history.comment, markup=False, soft_wrap=True)
    report.say_difference(out, error)
