"""`python -m oracle replay TRACE [-- CMD ...]`: play recorded histories again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from oracle.cli import report, saved
from oracle.conform.draw import REAL_TIME_THRESHOLD_MS
from oracle.conform.judge import judge
from oracle.conform.lines import checked_answer, same
from oracle.conform.play import Differs, Exchange, TooNear, cannot_play, scaled
from oracle.conform.process import Broke, Port
from oracle.conform.search import try_history
from oracle.conform.traces import History


@click.command(cls=report.Checking, epilog=report.STATUSES)
@click.option("--threshold-ms", type=click.IntRange(1), metavar="MS",
              help="Stretch the histories to this threshold. In real time 200 unless given."
              )  # fmt: skip
@click.option("--timeout", default=30.0, show_default=True, type=click.FloatRange(0.01),
              metavar="S", help="How long the port may take for an answer.")  # fmt: skip
@click.option("--failed", is_flag=True, help="Play every history that was saved as failing.")
@click.option("--traces", default=saved.TRACES, show_default=True, metavar="DIR",
              type=click.Path(path_type=Path), help="Where they are saved.")  # fmt: skip
@click.argument("arguments", nargs=-1, metavar="[TRACE] [-- CMD...]")
def replay(
    arguments: tuple[str, ...], threshold_ms: int | None, timeout: float, failed: bool, traces: Path
) -> None:
    """Play the histories of TRACE: a file in the format of spec/PORTS.md, a history that was saved,
    or a golden trace such as R05-death, by its name.

    With CMD, that port plays them, and its answers are compared with the oracle's. Without CMD, the
    answers in the trace are compared with the oracle's.
    """
    out, _ = report.consoles()
    if failed:
        histories, command = saved.failed(traces), arguments
    elif arguments:
        histories, command = saved.find(arguments[0], traces), arguments[1:]
    else:
        raise report.Misused("Missing argument 'TRACE', or --failed")
    if not command:
        raise SystemExit(_check_all(out, histories))
    with report.started(command, timeout) as port:
        status = play_all(out, histories, port, threshold_ms)
    raise SystemExit(status)


def _check_all(out: Console, histories: Sequence[History]) -> int:
    """Compare the answers that stand in the trace with the oracle's."""
    compared = 0
    for history in histories:
        steps = []
        for line, right in zip(history.lines, judge(history), strict=True):
            answer = checked_answer(line, line["answer"]) if "answer" in line else None
            steps.append(Exchange(line, right, answer))
            if answer is not None and not same(line, answer, right):
                _say_difference(out, Differs(history, steps))
                return report.DIFFERS
            compared += answer is not None
    if not compared:
        raise report.Misused('no line of the trace has an "answer": there is nothing to compare')
    report.say(out, f"{len(histories)} histories, {compared} answers: all are the oracle's")
    return report.RIGHT


def play_all(
    out: Console, histories: Sequence[History], port: Port, threshold_ms: int | None
) -> int:
    """Play each history that the port can play; the exit status that comes of it."""
    played = steps = different = 0
    for number, history in enumerate(histories, 1):
        history = scaled(history, threshold_ms or _threshold(history, port))
        reason = cannot_play(history, port.capabilities)
        if not reason:
            try:
                came = try_history(history, port)
            except TooNear:
                reason = "real time came too near the threshold"
        if reason:
            report.say(out, f"{_name(history, number)} was left out: {reason}")
            continue
        played += 1
        if isinstance(came, int):
            steps += came
        elif isinstance(came.error, Broke):
            report.say_broken(out, came.error)
            return report.BROKE
        else:
            _say_difference(out, came.error)
            different += 1
    if not played:
        raise report.Misused("no history of the trace is one for this port")
    how = f"{different} differ" if different else f"{steps} steps: every answer was right"
    report.say(out, f"{played} of {len(histories)} histories were played, {how}")
    return report.DIFFERS if different else report.RIGHT


def _name(history: History, number: int) -> str:
    return f"history {number} ({history.comment})" if history.comment else f"history {number}"


def _threshold(history: History, port: Port) -> int:
    if port.capabilities.virtual_clock:
        return history.threshold_ms
    return min(history.threshold_ms, REAL_TIME_THRESHOLD_MS)


def _say_difference(out: Console, error: Differs) -> None:
    if error.history.comment:
        report.say(out, error.history.comment)
    report.say_difference(out, error)
