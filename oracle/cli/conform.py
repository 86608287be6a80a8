"""`python -m oracle conform -- CMD ...`: the whole suite, layer by layer."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from oracle.cli import html, junit, report, saved
from oracle.conform.layers import (
    BEYOND,
    LAYERS,
    SUITE,
    LayerReport,
    Plan,
    Report,
    conform,
    how_many_drawn,
    systematic,
)
from oracle.conform.lines import Capabilities
from oracle.conform.play import cannot_play
from oracle.conform.process import Port
from oracle.conform.search import Failure

OUR_PORT = (sys.executable, "-m", "distkit.port")
"""The counter in Python as a port. It is started, never imported."""


@click.command("conform", cls=report.Checking, epilog=report.STATUSES)
@click.option("--layer", "layers", multiple=True, type=click.Choice([x.name for x in LAYERS]),
              metavar="NAME", help="Play this layer only; may be repeated.")  # fmt: skip
@click.option("--only", "rules", multiple=True, metavar="RULE",
              help="Play only systematic histories about this rule, such as R10.")  # fmt: skip
@click.option("--examples", default=2000, show_default=True, type=click.IntRange(0), metavar="N",
              help="How many random histories.")  # fmt: skip
@click.option("--steps", default=50, show_default=True, type=click.IntRange(1), metavar="N",
              help="The most steps of a random history.")  # fmt: skip
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), metavar="N",
              help="Which random histories.")  # fmt: skip
@click.option("--threshold-ms", type=click.IntRange(1), metavar="MS",
              help="The threshold of every history.")  # fmt: skip
@click.option("--timeout", default=30.0, show_default=True, type=click.FloatRange(0.01),
              metavar="S", help="How long the port may take for an answer.")  # fmt: skip
@click.option("--fail-fast", "-x", is_flag=True, help="End with the first failure.")
@click.option("--list", "listed", is_flag=True, help="List the histories, and play none.")
@click.option("--dry-run", is_flag=True,
              help="Start the port, say what it would be asked, and play nothing.")  # fmt: skip
@click.option("--junit", "junit_file", type=click.Path(dir_okay=False, path_type=Path),
              metavar="FILE", help="Write a JUnit report.")  # fmt: skip
@click.option("--html", "html_folder", type=click.Path(file_okay=False, path_type=Path),
              metavar="DIR", help="Write a page to look at.")  # fmt: skip
@click.option("--traces", default=saved.TRACES, show_default=True, type=click.Path(path_type=Path),
              metavar="DIR", help="Where failing histories are saved.")  # fmt: skip
@click.option("--redis-url", metavar="URL",
              help="Check distkit itself on this Redis, in a prefix that is removed afterwards."
              )  # fmt: skip
@click.argument("command", nargs=-1, metavar="-- CMD...")
def conform_command(
    layers: tuple[str, ...],
    rules: tuple[str, ...],
    examples: int,
    steps: int,
    seed: int,
    threshold_ms: int | None,
    timeout: float,
    fail_fast: bool,
    listed: bool,
    dry_run: bool,
    junit_file: Path | None,
    html_folder: Path | None,
    traces: Path,
    redis_url: str | None,
    command: tuple[str, ...],
) -> None:
    """Play the whole suite on the port CMD, layer by layer, and report each.

    CMD speaks the line protocol of spec/PORTS.md. What fails is shrunk, printed, and saved for
    `replay`. What the port cannot play is counted by rule, and named at the end.
    """
    out, err = report.consoles()
    plan = Plan(layers, rules, examples, steps, seed, threshold_ms or 0, fail_fast=fail_fast)
    _check_rules(plan)
    if listed:
        _list(out, plan)
        return
    if redis_url:
        os.environ[report.URL] = redis_url
        command = command or OUR_PORT
    if not command:
        raise report.Misused("Missing argument 'CMD', or --redis-url")
    with report.started(command, timeout) as port:
        if dry_run:
            _say_what_would_be_asked(out, plan, port.capabilities)
            return
        found = _play(err, port, plan)
    conclude(out, found, traces)
    if junit_file:
        junit.write(found, junit_file)
    if html_folder:
        report.say(out, f"The page: {html.write(found, html_folder)}")
    raise SystemExit(status(found))


def _check_rules(plan: Plan) -> None:
    if not plan.rules:
        return
    anything = Capabilities("", True, True, frozenset(), frozenset())
    found = {
        rule
        for layer in LAYERS
        for history in systematic(layer, Plan(), anything)
        for rule in history.rules.split()
    }
    for rule in plan.rules:
        if rule not in found:
            why = f": {BEYOND[rule]}" if rule in BEYOND else ""
            known = ", ".join(rule for rule, _ in sorted_rules(dict.fromkeys(found, 0)))
            raise report.Misused(f"no history is about {rule}{why}; there are some about {known}")


def status(found: Report) -> int:
    """The exit status that comes of a run."""
    if not found.failures:
        return report.RIGHT
    return report.BROKE if found.broke else report.DIFFERS


def _list(out: Console, plan: Plan) -> None:
    anything = Capabilities("", True, True, frozenset(), frozenset())
    for layer in LAYERS:
        if plan.layers and layer.name not in plan.layers:
            continue
        for history in systematic(layer, plan, anything):
            report.say(out, f"{layer.name}: {history.comment} ({history.rules or 'no rule'})")
        many = how_many_drawn(layer, plan)
        if many:
            report.say(out, f"{layer.name}: {many} drawn at random, seed {plan.seed}")


def _say_what_would_be_asked(out: Console, plan: Plan, port: Capabilities) -> None:
    for layer in LAYERS:
        if plan.layers and layer.name not in plan.layers:
            continue
        histories = systematic(layer, plan, port)
        reasons = [reason for history in histories if (reason := cannot_play(history, port))]
        asked = len(histories) - len(reasons) + how_many_drawn(layer, plan)
        report.say(out, f"{layer.name}: {asked} histories, {len(reasons)} left out")
        for reason in dict.fromkeys(reasons):
            report.say(out, f"    {reasons.count(reason)}: {reason}")


def _play(console: Console, port: Port, plan: Plan) -> Report:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("histories"), TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=console) as bar:
        tasks = {}

        def watch(layer: str, number: int, many: int, failure: Failure | None) -> None:
            if (layer, many) not in tasks:
                tasks[layer, many] = bar.add_task(layer, total=many)
            words = f", shrinking: {len(failure.history.lines)} steps" if failure else ""
            bar.update(tasks[layer, many], completed=number + 1, description=f"{layer}{words}")

        return conform(port, plan, watch)


def conclude(out: Console, found: Report, traces: Path) -> None:
    """Print what came of a run, and save what failed."""
    for layer in found.layers:
        _say_layer(out, layer)
    for failure in found.failures:
        out.print()
        report.say(out, f"Found in: {failure.found_in}")
        report.say_failure(out, failure.error)
        if failure.unsteady:
            report.say(
                out, "It does not fail each time: the port, or its Redis, is not deterministic."
            )
        name = saved.save(failure, traces)
        report.say(out, f"`replay {name} -- CMD` plays it again")
    out.print()
    _say_end(out, found)


def _say_layer(out: Console, layer: LayerReport) -> None:
    what = f"{layer.played} histories, {layer.steps} steps"
    came = f"{layer.failed} failed" if layer.failed else "right"
    left_out = f", {len(layer.left_out)} left out" if layer.left_out else ""
    dropped = f", {layer.dropped} too near the threshold in real time" if layer.dropped else ""
    if not layer.played:
        what, came = "nothing was played", "not checked"
    report.say(out, f"{layer.layer:8} {came:12} {what}{left_out}{dropped} ({layer.seconds:.1f} s)")


def _say_end(out: Console, found: Report) -> None:
    for reason, rules in found.not_covered.items():
        many = ", ".join(f"{rule} ({number})" for rule, number in sorted_rules(rules))
        report.say(out, f"Not checked, since {reason}: {many}")
    failed = sum(layer.failed for layer in found.layers)
    played = sum(layer.played for layer in found.layers)
    steps = sum(layer.steps for layer in found.layers)
    if failed:
        verdict = f"{failed} of {played} histories failed"
    else:
        verdict = f"{played} histories, {steps} steps: every answer was right"
    report.say(out, f"Suite {SUITE}, seed {found.plan.seed}. {verdict}. {_coverage(found)}")


def _coverage(found: Report) -> str:
    """What the run says nothing about, in one sentence. It is never nothing: see `BEYOND`."""
    layers = [layer.name for layer in LAYERS if layer.name not in {x.layer for x in found.layers}]
    rules = {rule for about in found.not_covered.values() for rule in about}
    played = {rule for layer in found.layers for rule, _, _ in layer.rules}
    missing = [f"layer {name}" for name in layers]
    missing += [f"{rule}{' in part' if rule in played else ''}" for rule, _ in
                sorted_rules(dict.fromkeys(rules, 0))]  # fmt: skip
    if found.plan.rules:
        missing.append(f"all but {' '.join(found.plan.rules)}")
    return f"Not covered: {', '.join([*missing, *BEYOND])}."


def sorted_rules(rules: dict[str, int]) -> Sequence[tuple[str, int]]:
    """By number."""
    return sorted(rules.items(), key=lambda item: (len(item[0]), item[0]))
