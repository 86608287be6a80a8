"""`python -m oracle explore`: a bounded world, visited to the end.

Exit status: 0 every state was visited and nothing found; 1 a violation was found; 2 the command
line is wrong; 3 the budget ended first, or there are more different parts than fit."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from oracle.check.broken import BROKEN
from oracle.check.fast.parts import explore_in_parts, parts_of
from oracle.check.fast.search import Budget, Found, Progress, explore
from oracle.check.fast.tables import TooLarge
from oracle.check.trace import Trace, tell, write_trace
from oracle.check.world import KEYS, KINDS, NAMES, RIGHT, Bounds, Protocol, is_a_kind

FOUND, BUDGET_ENDED = 1, 3
LOG_SECONDS = 30

console = Console(stderr=True)


class BudgetType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "BUDGET"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Budget:
        if isinstance(value, Budget):
            return value
        text = str(value).replace("_", "")
        digits = text.removesuffix("s")
        if not digits.isdecimal() or not int(digits):
            self.fail(f"{value!r} is neither a number of states (2000000) nor of seconds (90s)")
        return Budget(seconds=int(digits)) if text.endswith("s") else Budget(states=int(digits))


class KindsType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "KIND,KIND..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        kinds = tuple(dict.fromkeys(str(value).split(",")))
        unknown = [kind for kind in kinds if not is_a_kind(kind)]
        if unknown:
            known = f"{', '.join(KINDS)}, and two steps of one call, such as inc_then_set"
            self.fail(f"{', '.join(unknown)}: no such operation; there are {known}")
        return kinds


def _count(
    name: str, what: str, least: int = 0, most: int | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    default = getattr(Bounds(), name)
    return click.option(
        "--" + name.replace("_", "-"),
        default=default,
        show_default=True,
        type=click.IntRange(least, most),
        help=what,
    )


@click.command("explore")
@_count("instances", "Instances that are there from the start.", 1, len(NAMES))
@_count("keys", "Counters.", 1, len(KEYS))
@_count("operations", "Calls, by whomever, drawn from --kinds.", 1)
@click.option(
    "--kinds",
    default=Bounds().kinds,
    type=KindsType(),
    help="Default: every operation. Two steps of one call: inc_then_set.",
)
@_count("threshold", "After how many ms of silence an instance is dead.", 1)
@_count("ticks", "Moves of the clock, each by 1, threshold - 1, threshold or -1 ms.")
@_count("crashes", "Instances that crash.")
@_count("joins", "Instances that join later.")
@_count("give_ups", "Calls that are given up without a reply.")
@_count("losses", "Times that the server loses everything.")
@_count("rollbacks", "Times that the server falls back to an earlier state.")
@click.option("--linear", is_flag=True, help="Check that replies are linearizable, too.")
@click.option(
    "--protocol",
    type=click.Choice(["right", *BROKEN]),
    default="right",
    help="One that is broken, to see it found out; its own world, unless bounds are given.",
)
@click.option("--no-symmetry", is_flag=True, help="Tell worlds apart that differ in names alone.")
@click.option("--budget", type=BudgetType(), default=Budget(), help="2000000 (states) or 90s.")
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="With more than one, the world is explored in parts, by the first operation.",
)
@click.option("--summary", type=click.Path(dir_okay=False, path_type=Path), help="Write it here.")
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), help="What was found.")
@click.pass_context
def explore_command(
    context: click.Context,
    /,
    protocol: str,
    no_symmetry: bool,
    budget: Budget,
    processes: int,
    summary: Path | None,
    trace: Path | None,
    **given: object,
) -> None:
    """Visit every state of a bounded world, breadth first, and check every property in each.

    Exit status: 0 nothing found; 1 a violation; 2 wrong usage; 3 the budget ended first.
    """
    bounds = Bounds(**given)  # type: ignore[arg-type]
    machine = RIGHT
    if protocol != "right":
        machine = BROKEN[protocol].protocol
        if bounds == Bounds():
            bounds = BROKEN[protocol].bounds
    if bounds.instances + bounds.joins > len(NAMES):
        raise click.UsageError(f"at most {len(NAMES)} instances in all, those that join included")
    try:
        with _bar() as progress:
            found = _explore(bounds, machine, processes, not no_symmetry, budget, progress)
    except TooLarge as error:
        console.print(f"The world is too large: {error}.")
        context.exit(BUDGET_ENDED)
    lines = list(_summary(bounds, protocol, processes, not no_symmetry, found))
    click.echo("\n".join(lines))
    history = Trace(bounds, found.trace, protocol, found.violation)
    if found.violation:
        click.echo("\n".join(["", *tell(history, machine)]))
    if summary:
        summary.write_text("\n".join(lines) + "\n", "utf-8")
    if trace and found.violation:
        trace.write_text("\n".join(write_trace(history)) + "\n", "utf-8")
    context.exit(FOUND if found.violation else 0 if found.complete else BUDGET_ENDED)


def _explore(
    bounds: Bounds,
    protocol: Protocol,
    processes: int,
    symmetry: bool,
    budget: Budget,
    progress: Callable[[Progress], None],
) -> Found:
    if processes == 1:
        return explore(bounds, protocol, symmetry=symmetry, budget=budget, progress=progress)
    return explore_in_parts(
        bounds, protocol, processes, symmetry=symmetry, budget=budget, progress=progress
    )


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    if not console.is_terminal:
        yield _log()
        return
    text = "{task.fields[states]:,} states, {task.fields[rate]:,.0f}/s, "
    text += "frontier {task.fields[frontier]:,}, depth {task.fields[depth]}"
    columns = SpinnerColumn(), TextColumn(text), TimeElapsedColumn()
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", states=0, rate=0.0, frontier=0, depth=0, total=None)

        def show(now: Progress) -> None:
            rate = now.states / max(now.seconds, 0.001)
            bar.update(task, states=now.states, rate=rate, frontier=now.frontier, depth=now.depth)

        yield show


def _log() -> Callable[[Progress], None]:
    """Where there is no terminal, a line now and then."""
    last = 0.0

    def show(now: Progress) -> None:
        nonlocal last
        if now.seconds - last >= LOG_SECONDS:
            last = now.seconds
            rate = now.states / now.seconds
            click.echo(
                f"{now.seconds:,.0f} s: {now.states:,} states, {rate:,.0f}/s, "
                f"frontier {now.frontier:,}, depth {now.depth}",
                err=True,
            )

    return show


def _summary(
    bounds: Bounds, protocol: str, processes: int, symmetry: bool, found: Found
) -> Iterator[str]:
    """What was explored and what came of it, as Markdown."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = "a violation" if found.violation else "nothing"
    state = "to the end" if found.complete else "until it was stopped"
    yield f"# An exploration: {result} was found, {state}"
    yield ""
    yield f"    {_command(bounds, protocol, processes, symmetry)}"
    yield ""
    yield "| | |"
    yield "|---|---|"
    rows = {
        "operations drawn from": ", ".join(bounds.kinds),
        "states": f"{found.states:,}",
        "states before symmetry": f"{found.worlds:,}",
        "transitions": f"{found.transitions:,}",
        "depth": f"{found.depth}",
        "seconds": f"{found.seconds:,.0f}",
        "states a second": f"{found.states / max(found.seconds, 0.001):,.0f}",
        "processes": f"{processes}",
        "most memory of a process": f"{max(usage.ru_maxrss, children.ru_maxrss) / 2**20:.2f} GiB",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "cores": f"{os.cpu_count()}",
    }
    if processes > 1:
        rows["parts"] = f"{len(parts_of(bounds))}; a state of several parts is counted in each"
    for name, value in rows.items():
        yield f"| {name} | {value} |"
    if found.violation:
        yield ""
        yield f"Found: {found.violation}"


def _command(bounds: Bounds, protocol: str, processes: int, symmetry: bool) -> str:
    """The command that does it again."""
    words = ["python", "-m", "oracle", "explore"]
    usual = Bounds()._asdict()
    for name, value in bounds._asdict().items():
        if value != usual[name]:
            option = "--" + name.replace("_", "-")
            words += [option] if value is True else [option, _word(value)]
    words += ["--protocol", protocol] if protocol != "right" else []
    words += ["--processes", str(processes)] if processes > 1 else []
    words += [] if symmetry else ["--no-symmetry"]
    return shlex.join(words)


def _word(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
