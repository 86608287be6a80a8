"""`make explored`: explore the worlds of the suite `quick` again, and write what comes of it.

That is needed whenever the protocol, or what can happen in a world, has changed: the suite compares
the counts of its worlds with `spec/explored.json`, and the tables of `spec/VERIFICATION.md` with it
and with the broken protocols. The worlds of the suite `full` that are not in `quick` take hours;
`python -m oracle explore --suite full --manifest spec/explored.json` explores those that are
missing there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from oracle.check.broken import BROKEN
from oracle.check.fast.search import explore
from oracle.check.suite import worlds
from oracle.check.trace import decode_bounds
from oracle.cli.explore import command_of
from oracle.cli.manifest import Entry, entry, read_manifest, write_manifest
from oracle.model import VERSION

SPEC = Path(__file__).parents[2] / "spec"
MANIFEST = SPEC / "explored.json"
PAGE = SPEC / "VERIFICATION.md"

LARGEST = 20
"""How many worlds the page lists."""

END = "<!-- end -->\n"


def with_table(page: str, name: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The page with a table between the lines `<!-- name -->` and `<!-- end -->`."""
    begin = f"<!-- {name} -->\n"
    before, found, rest = page.partition(begin)
    assert found, f"the page has no line {begin!r}"
    table = [head, ["---"] * len(head), *rows]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([before + begin, *lines, "", END + rest.partition(END)[2]])


def with_largest(page: str, entries: Iterable[Entry]) -> str:
    """The page with a table of the largest of these worlds."""
    largest = sorted(entries, key=lambda world: -world["distinct_states"])[:LARGEST]
    rows = [
        [
            *(f"{world[name]:,}" for name in ("distinct_states", "transitions")),
            f"{world['depth']}",
            f"`{world['command'].removeprefix('python -m oracle explore ')}`",
        ]
        for world in largest
    ]
    return with_table(page, "largest", ("states", "transitions", "depth", "world"), rows)


def with_totals(page: str, entries: Iterable[Entry]) -> str:
    """The page with a table of how much was explored in all."""
    all_worlds = [(decode_bounds(world["bounds"]), world["distinct_states"]) for world in entries]
    sums = {
        "in all": [states for _, states in all_worlds],
        "in which Redis loses everything": [n for b, n in all_worlds if b.losses],
        "in which Redis loses one key": [n for b, n in all_worlds if b.key_losses],
        "in which Redis falls back to an earlier state": [n for b, n in all_worlds if b.rollbacks],
        "in which one key falls back": [n for b, n in all_worlds if b.key_rollbacks],
        "in which an id is used again": [n for b, n in all_worlds if b.reuses],
        "with promises and a clock": [n for b, n in all_worlds if any(b.promises) and b.ticks],
        "with different thresholds": [n for b, n in all_worlds if len(b.thresholds) > 1],
    }
    rows = [[what, f"{len(states)}", f"{sum(states):,}"] for what, states in sums.items()]
    return with_table(page, "totals", ("worlds", "how many", "states"), rows)


def with_broken(page: str, events: dict[str, int]) -> str:
    """The page with a table of the broken protocols: how many events their shortest traces have."""
    rows = [[name, broken.breaks, f"{events[name]}"] for name, broken in BROKEN.items()]
    return with_table(page, "broken", ("what is wrong", "what it breaks", "events"), rows)


def main() -> None:
    """Explore every world of the suite `quick`, and every broken protocol; write what was found."""
    for bounds in worlds("quick"):
        found = explore(bounds)
        click.echo(f"{found.states:,} states, {found.violation or 'nothing found'}: {bounds}")
        entries = [world for world in read_manifest(MANIFEST) if world["protocol"] == VERSION]
        write_manifest(MANIFEST, entries, entry(bounds, command_of(bounds), found))
    events = {name: len(explore(b.bounds, b.protocol).trace) for name, b in BROKEN.items()}
    entries = read_manifest(MANIFEST)
    page = with_broken(PAGE.read_text("utf-8"), events)
    PAGE.write_text(with_totals(with_largest(page, entries), entries), "utf-8")


if __name__ == "__main__":
    main()
