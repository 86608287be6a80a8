"""`python -m oracle verify -- CMD ...`: is this port of the counter right?"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from oracle.cli import report
from oracle.cli.replay import play_all
from oracle.conform.histories import Found, Plan, Verdict, search
from oracle.conform.judge import judge
from oracle.conform.lines import OPERATIONS, History, Malformed, encode, read_trace, write_trace
from oracle.conform.play import Differs
from oracle.conform.process import Port

TRACES = Path(".oracle")


@click.command(cls=report.Checking, epilog=report.STATUSES)
@click.option("--examples", default=200, show_default=True, type=click.IntRange(1), metavar="N",
              help="How many histories.")  # fmt: skip
@click.option("--steps", default=50, show_default=True, type=click.IntRange(1), metavar="N",
              help="The most steps of a history.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), metavar="N",
              help="Draw the same histories again.")  # fmt: skip
@click.option("--threshold-ms", type=click.IntRange(1), metavar="MS",
              help="The threshold of every history. Otherwise it is drawn; 200 in real time."
              )  # fmt: skip
@click.option("--timeout", default=10.0, show_default=True, type=click.FloatRange(0.01),
              metavar="S", help="How long the port may take for an answer.")  # fmt: skip
@click.option("--without", multiple=True, type=click.Choice(list(OPERATIONS)), metavar="OPERATION",
              help="Do not use it; to look past what is known already.")  # fmt: skip
@click.option("--small-counts", is_flag=True,
              help="No counts near the ends of the range, and no bad keys.")  # fmt: skip
@click.option("--replay", metavar="NAME|FILE",
              help="Play a history that was saved, and no other.")  # fmt: skip
@click.option("--traces", default=TRACES, show_default=True, type=click.Path(path_type=Path),
              metavar="DIR", help="Where failing histories are saved.")  # fmt: skip
@click.argument("command", nargs=-1, required=True, metavar="-- CMD...")
def verify(
    examples: int,
    steps: int,
    seed: int | None,
    threshold_ms: int | None,
    timeout: float,
    without: tuple[str, ...],
    small_counts: bool,
    replay: str | None,
    traces: Path,
    command: tuple[str, ...],
) -> None:
    """Start the port CMD, drive it with histories, and compare each answer with the oracle's.

    CMD speaks the line protocol of spec/PORTS.md. The first history that it answers wrongly is
    shrunk, printed, and saved under a name for --replay.
    """
    out, err = report.consoles()
    saved = _find(replay, traces) if replay is not None else None
    plan = Plan(examples, steps, _seed(seed), threshold_ms or 0, small_counts)
    with report.started(command, timeout) as port:
        if saved is not None:
            raise SystemExit(play_all(out, saved, port, threshold_ms))
        port.capabilities = port.capabilities.except_for(without)
        verdict = _search(err, port, plan)
    _conclude(out, verdict, plan, traces)


def _seed(given: int | None) -> int:
    return secrets.randbelow(2**32) if given is None else given


def _find(name: str, traces: Path) -> list[History]:
    """A saved history by its name, or by its file."""
    paths = [Path(name), traces / f"{name}.jsonl"]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise report.Misused(f"no saved history {name!r}: neither {paths[0]} nor {paths[1]}")
    try:
        return read_trace(path)
    except Malformed as error:
        raise report.Misused(str(error)) from None


def _search(console: Console, port: Port, plan: Plan) -> Verdict:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("histories"), TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("playing", total=plan.examples)

        def progress(verdict: Verdict) -> None:
            if verdict.found is None:
                bar.update(task, completed=min(verdict.histories, plan.examples))
            else:
                lines = len(verdict.found.history.lines)
                bar.update(task, description=f"shrinking: {lines} steps")

        return search(port, plan, progress)


def _conclude(out: Console, verdict: Verdict, plan: Plan, traces: Path) -> NoReturn:
    if verdict.dropped:
        out.print(f"{verdict.dropped} histories came too near the threshold in real time: dropped")
    found = verdict.found
    if found is None:
        if verdict.histories == 0:
            raise report.Misused("no history could be played: try a larger --threshold-ms")
        out.print(
            f"{verdict.histories} histories, {verdict.steps} steps: every answer was right "
            f"(seed {plan.seed})"
        )
        raise SystemExit(report.RIGHT)
    if isinstance(found.error, Differs):
        report.say_difference(out, found.error)
    else:
        report.say_broken(out, found.error)
    if found.unsteady:
        out.print("It does not fail each time: the port, or its Redis, is not deterministic.")
    name = _save(found, traces)
    out.print(
        f"History {verdict.histories + 1} failed (seed {plan.seed}); --replay {name} plays it"
    )
    raise SystemExit(report.DIFFERS if isinstance(found.error, Differs) else report.BROKE)


def _save(found: Found, traces: Path) -> str:
    """Write the history down, with the right answers. Returns its name."""
    history = found.history
    why = found.error.rule if isinstance(found.error, Differs) else "broke"
    content = "\n".join([str(history.threshold_ms), *map(encode, history.lines)])
    name = f"{why}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    answers = zip(history.lines, judge(history), strict=True)
    lines = [{**line, "answer": answer} for line, answer in answers]
    if isinstance(found.error, Differs) and lines:
        lines[-1]["said"] = found.error.steps[-1].said
    write_trace(traces / f"{name}.jsonl", [(history, lines)])
    return name
