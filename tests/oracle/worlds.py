"""The bounded worlds that the suite explores to the end. `spec/explored.json` has their counts.

When the protocol changes, so do the counts: `make explored` explores these worlds again, and writes
the manifest and the table in `spec/VERIFICATION.md`.
"""

from __future__ import annotations

from pathlib import Path

import click

from oracle.check.call_kinds import CallKind, kinds
from oracle.check.fast.search import Options
from oracle.check.state import Bounds
from oracle.cli.explore import Run
from oracle.cli.manifest import Entry, entry, read_manifest, write_manifest
from oracle.model import OPERATIONS

SPEC = Path(__file__).parents[2] / "spec"
MANIFEST = SPEC / "explored.json"
PAGE = SPEC / "VERIFICATION.md"
BEGIN, END = "<!-- explored -->\n", "<!-- end -->\n"
"""The table of explored worlds stands between these lines of the page."""

INC_SET, INC_GET = kinds("inc,set"), kinds("inc,get")
EVERY_OPERATION: tuple[CallKind, ...] = kinds(",".join(OPERATIONS))

WORLDS = {
    "two calls of every kind, given up": Bounds(give_ups=2),
    "two calls of every kind, linearizable": Bounds(
        thresholds=(3,), ticks=1, crashes=1, give_ups=1, linear=True
    ),
    "two operations, and a clock that moves twice": Bounds(
        kinds=EVERY_OPERATION, ticks=2, crashes=1, give_ups=1
    ),
    "calls of two steps": Bounds(
        kinds=kinds("inc_then_set,set_if_then_inc,get_then_set_on_instance,leave"),
        ticks=1,
        crashes=1,
        give_ups=1,
        linear=True,
    ),
    "two counters": Bounds(keys=2, kinds=INC_SET, give_ups=1),
    "three instances": Bounds(3, kinds=kinds("inc,delete"), give_ups=1),
    "a new instance and a crash": Bounds(1, joins=1, crashes=1, give_ups=1),
    "everything lost": Bounds(operations=1, losses=1, give_ups=1),
    "everything lost twice": Bounds(operations=1, kinds=INC_SET, losses=2),
    "two calls, and everything lost": Bounds(kinds=INC_GET, losses=1),
    "a rollback": Bounds(operations=1, rollbacks=1, give_ups=1),
    "two rollbacks": Bounds(operations=1, kinds=INC_SET, rollbacks=2),
    "two calls and a rollback": Bounds(kinds=INC_SET, rollbacks=1),
    "a loss, a rollback and a clock": Bounds(
        operations=1, kinds=INC_SET, losses=1, rollbacks=1, ticks=1
    ),
}


def main() -> None:
    """Explore every world, and write what comes of it into the manifest."""
    for name, bounds in WORLDS.items():
        run = Run(bounds, "right", Options(), processes=1)
        found = run.explore(lambda _: None)
        click.echo(f"{name}: {found.states:,} states, {found.violation or 'nothing found'}")
        write_manifest(MANIFEST, read_manifest(MANIFEST), entry(bounds, run.command, found))
    PAGE.write_text(page_with_table(read_manifest(MANIFEST)), "utf-8")


def page_with_table(worlds: list[Entry]) -> str:
    """The page with a table of these worlds, the largest first."""
    rows = [
        f"| {world['distinct_states']:,} | {world['states_before_symmetry']:,} "
        f"| {world['transitions']:,} | {world['depth']} "
        f"| `{world['command'].removeprefix('python -m oracle explore ')}` |"
        for world in sorted(worlds, key=lambda world: -world["distinct_states"])
        if world["finished"] and not world["found"]
    ]
    head = ["| states | before symmetry | transitions | depth | world |", "|---|---|---|---|---|"]
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return "\n".join([before + BEGIN, *head, *rows, "", END + after])


if __name__ == "__main__":
    main()
