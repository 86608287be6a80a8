"""`python -m oracle explore --suite NAME`: explore the worlds of a suite, one after the other.

Worlds that the manifest has to the end, for this version of the protocol, are left out: so a suite
that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from oracle.check.fast.search import Budget, Exploration
from oracle.check.fast.tables import TooLarge
from oracle.check.state import Bounds
from oracle.check.suite import worlds
from oracle.check.trace import encode_bounds
from oracle.cli.manifest import Entry, entry, read_manifest, write_manifest
from oracle.model import VERSION

Explore = Callable[[Bounds, Budget], Exploration]


class Total(NamedTuple):
    """What the worlds of a suite came to.

    Attributes:
        worlds: how many were explored to the end, now or earlier.
        states: how many states these have.
        found: the entry of the world in which a property is violated, or None.
        left: how many worlds are left: the budget ended first, or they are too large.
    """

    worlds: int = 0
    states: int = 0
    found: Entry | None = None
    left: int = 0


def explore_suite(
    suite: str,
    manifest: Path | None,
    budget: Budget,
    explore: Explore,
    command: Callable[[Bounds], str],
) -> Total:
    """Explore the worlds of a suite, until a violation is found or the budget ends.

    Args:
        suite: its name, one of `SUITES`.
        manifest: where entries are kept; None keeps none.
        budget: the states and seconds for all of the worlds that are explored now.
        explore: explores one world, within a budget.
        command: the command that explores one world.
    """
    began, spent, total = time.perf_counter(), 0, Total()
    done = _finished(manifest)
    for bounds in worlds(suite):
        recorded = done.get(str(encode_bounds(bounds)))
        if recorded is None:
            seconds = budget.seconds - (time.perf_counter() - began)
            left = Budget(budget.states - spent, seconds)
            recorded = _explore_one(bounds, left, explore, command(bounds), manifest)
            spent += recorded["distinct_states"] if recorded is not None else 0
        if recorded is not None and recorded["found"]:
            return total._replace(found=recorded)
        if recorded is None or not recorded["finished"]:
            total = total._replace(left=total.left + 1)
            continue
        states = total.states + recorded["distinct_states"]
        total = total._replace(worlds=total.worlds + 1, states=states)
    return total


def _explore_one(
    bounds: Bounds, budget: Budget, explore: Explore, command: str, manifest: Path | None
) -> Entry | None:
    """The entry of a world; None if the budget is spent, or the world is too large."""
    if budget.states <= 0 or budget.seconds <= 0:
        return None
    try:
        found = explore(bounds, budget)
    except TooLarge as error:
        click.echo(f"too large ({error}): {command}")
        return None
    result = found.violation or ("nothing found" if found.finished else "the budget ended")
    click.echo(f"{found.states:,} states in {found.seconds:,.0f} s, {result}: {command}")
    new = entry(bounds, command, found)
    if manifest is not None and found.finished:
        write_manifest(manifest, read_manifest(manifest), new)
    return new


def _finished(manifest: Path | None) -> dict[str, Entry]:
    """The worlds that need not be explored again, by their bounds."""
    entries = read_manifest(manifest) if manifest is not None else []
    return {
        str(world["bounds"]): world
        for world in entries
        if world["protocol"] == VERSION and world["finished"] and not world["found"]
    }
