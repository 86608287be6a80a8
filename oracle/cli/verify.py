"""`python -m oracle verify -- CMD ...`: the suite's random layer alone."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from oracle.cli import report, saved
from oracle.cli.replay import play_all
from oracle.conform.layers import Plan, Report, conform
from oracle.conform.lines import OPERATIONS
from oracle.conform.play import Differs
from oracle.conform.process import Port
from oracle.conform.search import Failure


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
@click.option("--timeout", default=30.0, show_default=True, type=click.FloatRange(0.01),
              metavar="S", help="How long the port may take for an answer.")  # fmt: skip
@click.option("--without", multiple=True, type=click.Choice(list(OPERATIONS)), metavar="OPERATION",
              help="Do not use it; to look past what is known already.")  # fmt: skip
@click.option("--small-counts", is_flag=True,
              help="No counts near the ends of the range, and no bad keys.")  # fmt: skip
@click.option("--replay", metavar="NAME|FILE",
              help="Play a history that was saved, and no other.")  # fmt: skip
@click.option("--traces", default=saved.TRACES, show_default=True, type=click.Path(path_type=Path),
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
    """Play random histories on the port CMD, and compare each answer with the oracle's.

    It is the layer `random` of `conform`. CMD speaks the line protocol of spec/PORTS.md. The first
    history that it answers wrongly is shrunk, printed, and saved under a name for --replay.
    """
    out, err = report.consoles()
    histories = saved.find(replay, traces) if replay is not None else None
    plan = Plan(
        ("random",), (), examples, steps, secrets.randbelow(2**32) if seed is None else seed,
        threshold_ms or 0, small_counts,
    )  # fmt: skip
    with report.started(command, timeout) as port:
        if histories is not None:
            raise SystemExit(play_all(out, histories, port, threshold_ms))
        port.capabilities = port.capabilities.except_for(without)
        found = _search(err, port, plan)
    _conclude(out, found, traces)


def _search(console: Console, port: Port, plan: Plan) -> Report:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("histories"), TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("playing", total=plan.examples)

        def watch(_: str, number: int, __: int, failure: Failure | None) -> None:
            words = f"shrinking: {len(failure.history.lines)} steps" if failure else "playing"
            bar.update(task, completed=number + 1, description=words)

        return conform(port, plan, watch)


def _conclude(out: Console, found: Report, traces: Path) -> NoReturn:
    (layer,) = found.layers
    if layer.dropped:
        out.print(f"{layer.dropped} histories came too near the threshold in real time: dropped")
    if not found.failures:
        if layer.played == 0:
            raise report.Misused("no history could be played: try a larger --threshold-ms")
        out.print(
            f"{layer.played} histories, {layer.steps} steps: every answer was right "
            f"(suite {found.suite}, seed {found.plan.seed})"
        )
        raise SystemExit(report.RIGHT)
    (failure,) = found.failures
    report.say_failure(out, failure.error)
    if failure.unsteady:
        out.print("It does not fail each time: the port, or its Redis, is not deterministic.")
    name = saved.save(failure, traces)
    drawn = f"suite {found.suite}, seed {found.plan.seed}"
    out.print(f"History {layer.played} failed ({drawn}); --replay {name} plays it")
    raise SystemExit(report.DIFFERS if isinstance(failure.error, Differs) else report.BROKE)
