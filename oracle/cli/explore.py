"""`python -m oracle explore`: visit every state of a bounded world.

Exit status: 0 if every state was visited and nothing was found; 1 if a violation was found; 2 if
the command line is wrong; 3 if the budget ended first, or the world has more different parts than
fit.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from oracle.check.broken import BROKEN
from oracle.check.call_kinds import CallKind, kinds
from oracle.check.fast.parallel import divide, explore_in_parallel
from oracle.check.fast.search import NO_BUDGET, Budget, Exploration, Options, Progress, explore
from oracle.check.fast.tables import TooLarge
from oracle.check.state import KEYS, NAMES, RIGHT, Bounds, Protocol
from oracle.check.suite import SUITES
from oracle.check.trace import Trace, encode_trace, tell
from oracle.cli.manifest import NotAManifest, entry, read_manifest, write_manifest
from oracle.cli.suite import explore_suite

FOUND, BUDGET_ENDED = 1, 3
LOG_SECONDS = 30

console: Console = Console(stderr=True)


@dataclass(frozen=True)
class Run:
    """One exploration, as the command line asks for it. `protocol` is "right" or a key of
    `BROKEN`."""

    bounds: Bounds
    protocol: str
    options: Options
    processes: int

    @classmethod
    def of(
        cls, protocol: str, no_symmetry: bool, budget: Budget, processes: int, **given: Any
    ) -> Run:
        """The run that these options ask for; `given` are the bounds. Raises click.UsageError."""
        bounds = Bounds(**given)
        if protocol != "right" and bounds == Bounds():
            bounds = BROKEN[protocol].bounds
        if bounds.fault:
            raise click.UsageError(bounds.fault)
        options = Options(symmetry=not no_symmetry, budget=budget)
        return cls(bounds, protocol, options, processes)

    @property
    def machine(self) -> Protocol:
        return RIGHT if self.protocol == "right" else BROKEN[self.protocol].protocol

    def explore(self, progress: Callable[[Progress], None]) -> Exploration:
        options = replace(self.options, progress=progress)
        if self.processes == 1:
            return explore(self.bounds, self.machine, options)
        return explore_in_parallel(self.bounds, self.machine, options, self.processes)

    @property
    def command(self) -> str:
        """The command that repeats this run."""
        words = shlex.split(command_of(self.bounds))
        words += ["--protocol", self.protocol] if self.protocol != "right" else []
        words += ["--processes", str(self.processes)] if self.processes > 1 else []
        words += [] if self.options.symmetry else ["--no-symmetry"]
        words += (
            ["--budget", _word(self.options.budget)] if self.options.budget != NO_BUDGET else []
        )
        return shlex.join(words)

    @property
    def is_of_record(self) -> bool:
        """Whether its counts belong into a manifest: those of the protocol itself, each state
        counted once."""
        return self.protocol == "right" and self.processes == 1 and self.options.symmetry


def command_of(bounds: Bounds) -> str:
    """The command that explores a world."""
    words = ["python", "-m", "oracle", "explore"]
    usual = Bounds()._asdict()
    for name, value in bounds._asdict().items():
        if value != usual[name]:
            option = "--" + name.replace("_", "-")
            words += [option] if value is True else [option, _word(value)]
    return shlex.join(words)


def _word(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, Budget):
        return f"{value.seconds:g}s" if value.states == NO_BUDGET.states else f"{value.states}"
    if isinstance(value, tuple):
        return ",".join(kind.name if isinstance(kind, CallKind) else str(kind) for kind in value)
    return str(value)


# --- Options --------------------------------------------------------------------------------------


class _BudgetType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
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


class _KindsType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "KIND,KIND..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[CallKind, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return kinds(str(value))
        except ValueError as error:
            self.fail(str(error))


class NumbersType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Numbers of ms, with commas between them."""

    name = "MS,MS..."

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        if not all(word.isdecimal() and int(word) >= self.least for word in words):
            self.fail(
                f"{value!r} is not a list of ms, each at least {self.least}, such as 2 or 1,3"
            )
        return tuple(map(int, words))


def _numbers(
    name: str, what: str, least: int
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    default, one = getattr(Bounds(), name), name.removesuffix("s")
    return click.option(
        f"--{name}",
        f"--{one}",
        name,
        default=default,
        show_default=True,
        type=NumbersType(least),
        help=what,
    )


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


def _file(name: str, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(name, type=click.Path(dir_okay=False, path_type=Path), help=what)


@click.command("explore")
@_count("instances", "Instances that exist from the start.", 1, len(NAMES))
@_count("keys", "Counters.", 1, len(KEYS))
@_count("operations", "Calls that the instances make in all, each one of --kinds.", 1)
@click.option(
    "--kinds",
    default=Bounds().kinds,
    type=_KindsType(),
    help="Default: every kind. Two steps of one call: inc_then_set, on two counters: inc_and_set.",
)
@_numbers(
    "thresholds", "After how many ms of silence each instance is dead; the last for all others.", 1
)
@_numbers("promises", "Within how many ms each promises to be heard again; 0 is no promise.", 0)
@_count("ticks", "Moves of the clock, each by 1, a threshold - 1, a threshold or -1 ms.")
@_count("crashes", "Instances that crash.")
@_count("joins", "Instances that join later.")
@_count("reuses", "Instances that start under the id of one that has crashed.")
@_count("give_ups", "Calls that are given up without a reply.")
@_count("losses", "Times that Redis loses everything.")
@_count("key_losses", "Times that Redis loses one key.")
@_count("rollbacks", "Times that Redis falls back to an earlier state.")
@_count("key_rollbacks", "Times that one key falls back to an earlier state.")
@click.option("--linear", is_flag=True, help="Also check that replies are linearizable.")
@click.option(
    "--protocol",
    type=click.Choice(["right", *BROKEN]),
    default="right",
    help="Explore a broken protocol; in a world that shows its fault, unless bounds are given.",
)
@click.option(
    "--no-symmetry",
    is_flag=True,
    help="Count states that differ only in the names of instances as different.",
)
@click.option(
    "--budget", type=_BudgetType(), default=NO_BUDGET, help="2000000 (states) or 90s (seconds)."
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="More than one divide the world by the first call; a state of several shares then counts "
    "in each.",
)
@click.option(
    "--suite",
    type=click.Choice(SUITES),
    help="Explore the worlds of a suite, except those that the --manifest has to the end.",
)
@_file("--summary", "Write what is printed about the exploration to this file.")
@_file("--trace", "Write the trace to a violation to this file.")
@_file("--manifest", "Add the exploration to this file, such as spec/explored.json.")
@click.pass_context
def explore_command(
    context: click.Context,
    /,
    summary: Path | None,
    trace: Path | None,
    manifest: Path | None,
    suite: str | None,
    **given: Any,
) -> None:
    """Visit every state of a bounded world, breadth first, and check every property in each.

    Exit status: 0 nothing found; 1 a violation; 2 wrong usage; 3 the budget ended first.
    """
    run = Run.of(**given)
    worlds = _worlds_of(manifest, run)
    if suite is not None:
        context.exit(_explore_suite(suite, run, manifest, trace))
    try:
        with _bar() as progress:
            found = run.explore(progress)
    except TooLarge as error:
        console.print(f"The world is too large: {error}.")
        context.exit(BUDGET_ENDED)
    lines = list(_summary(run, found))
    click.echo("\n".join(lines))
    if found.violation:
        history = Trace(run.bounds, found.trace, run.protocol, found.violation)
        _tell(history, run.machine, trace)
    if summary:
        summary.write_text("\n".join(lines) + "\n", "utf-8")
    if manifest:
        write_manifest(manifest, worlds, entry(run.bounds, run.command, found))
    context.exit(FOUND if found.violation else 0 if found.finished else BUDGET_ENDED)


def _explore_suite(suite: str, run: Run, manifest: Path | None, trace: Path | None) -> int:
    """Explore a suite, and say what came of it. Returns the exit status."""
    if run != Run(Bounds(), "right", replace(Options(), budget=run.options.budget), 1):
        raise click.UsageError("--suite goes with --budget, --manifest and --trace alone")

    def explore_one(bounds: Bounds, budget: Budget) -> Exploration:
        with _bar() as progress:
            found = explore(bounds, options=Options(budget=budget, progress=progress))
        if found.violation:
            _tell(Trace(bounds, found.trace, "right", found.violation), RIGHT, trace)
        return found

    total = explore_suite(suite, manifest, run.options.budget, explore_one, command_of)
    left = f", {total.left} worlds are left" if total.left else ""
    click.echo(f"{total.worlds} worlds to the end, {total.states:,} states{left}")
    return FOUND if total.found else BUDGET_ENDED if total.left else 0


def _tell(trace: Trace, machine: Protocol, path: Path | None) -> None:
    """Print a trace, and write it to a file."""
    click.echo("\n".join(["", *tell(trace, machine)]))
    if path:
        path.write_text("\n".join(encode_trace(trace)) + "\n", "utf-8")


def _worlds_of(manifest: Path | None, run: Run) -> list[dict[str, Any]]:
    """The worlds that the manifest has by now. Raises click.UsageError before anything is done."""
    if manifest is None:
        return []
    if not run.is_of_record:
        raise click.UsageError(
            "--manifest counts each state of the right protocol once: it does not go with "
            "--protocol, --processes or --no-symmetry"
        )
    try:
        return read_manifest(manifest)
    except NotAManifest as error:
        raise click.UsageError(f"--manifest: {error}") from None


# --- Progress -------------------------------------------------------------------------------------


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
    """Without a terminal: a line every LOG_SECONDS."""
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


# --- The summary ----------------------------------------------------------------------------------


def _summary(run: Run, found: Exploration) -> Iterator[str]:
    """What was explored and what came of it, as Markdown."""
    result = "a violation" if found.violation else "nothing"
    state = "to the end" if found.finished else "until it was stopped"
    yield f"# An exploration: {result} was found, {state}"
    yield ""
    yield f"    {run.command}"
    yield ""
    yield "| | |"
    yield "|---|---|"
    rows = {
        "operations drawn from": ", ".join(kind.name for kind in run.bounds.kinds),
        "states": f"{found.states:,}",
        "states before symmetry": f"{found.states_before_symmetry:,}",
        "transitions": f"{found.transitions:,}",
        "depth": f"{found.depth}",
        "seconds": f"{found.seconds:,.0f}",
        "states a second": f"{found.states / max(found.seconds, 0.001):,.0f}",
        "processes": f"{run.processes}",
        "most memory of a process": _peak_memory(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "cores": f"{os.cpu_count()}",
    }
    if run.processes > 1:
        shares = len(divide(run.bounds))
        rows["shares"] = f"{shares}; a state of several shares is counted in each"
    for name, value in rows.items():
        yield f"| {name} | {value} |"
    if found.violation:
        yield ""
        yield f"Found: {found.violation}"


def _peak_memory() -> str:
    try:
        import resource  # not on Windows
    except ImportError:
        return "unknown"
    usage = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in usage)
    unit = 1 if sys.platform == "darwin" else 2**10
    return f"{peak * unit / 2**30:.2f} GiB"
