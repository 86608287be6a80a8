"""The tables that people see: of instances, counters and slices. They fit 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from distkit.cli.text import duration, name, number, plural
from distkit.inspection import CounterInfo, InstanceInfo, PrefixInfo, SliceInfo

LIVE, DEAD = Text("live", "green"), Text("dead", "red")
NAMES = ("instance", "label", "counter")
GAP = 2
LEAST_NAME = 8
"""What is left of a name on the narrowest screen."""


def summary(info: PrefixInfo) -> Text:
    """One or two lines about the whole prefix."""
    live = sum(each.is_live for each in info.instances.values())
    dead = len(info.instances) - live
    line = Text.assemble(
        (info.prefix, "bold"),
        f": {plural(live, 'live instance')}",
        (f", {number(dead)} presumed dead", "red") if dead else "",
        f", {plural(info.listed, 'key')}",
    )
    clock = info.clock
    if clock.last_wall_ms is None:
        return line.append(
            "; nobody has used it yet" if not info.listed else "; no clock", "yellow"
        )
    line.append(f"; last request {duration(clock.wall_ms - clock.last_wall_ms)} ago")
    if clock.outage_ms:
        line.append(
            f"\nNobody was heard who had promised to be: {duration(clock.outage_ms)} of silence "
            f"count as an outage (R19)",
            "yellow",
        )
    return line


def of_instances(instances: Iterable[InstanceInfo], width: int) -> Table:
    return _table(
        ("instance", "label", "state", "silent>", "threshold>"),
        [
            (
                name(each.id),
                name(each.label),
                LIVE if each.is_live else DEAD,
                Text(duration(each.silent_ms)),
                Text(duration(each.threshold_ms)),
            )
            for each in instances
        ],
        width,
    )


def of_counters(counters: Iterable[CounterInfo], width: int) -> Table:
    return _table(
        ("counter", "total>", "epoch>", "slices>", "live>", "stale>", "gone>"),
        [
            (
                name(each.key),
                Text(number(each.total)),
                Text(str(each.epoch)),
                Text(number(each.slice_count)),
                *_by_state(each),
            )
            for each in counters
        ],
        width,
    )


def _by_state(counter: CounterInfo) -> list[Text]:
    if counter.slices is None:
        return [Text("?" if counter.needs_search else "-", "dim")] * 3
    slices = counter.slices.values()
    gone = sum(each.goes for each in slices)
    stale = sum(not each.goes and not each.is_current for each in slices)
    live = len(slices) - gone - stale
    return [
        Text(number(count) if count else "", style)
        for count, style in ((live, "green"), (stale, "yellow"), (gone, "red"))
    ]


def of_slices(counter: CounterInfo, most: int, width: int) -> Table:
    """The slices of a counter, the largest first."""
    slices = sorted((counter.slices or {}).values(), key=lambda each: -abs(each.count))
    return _table(
        ("instance", "label", "count>", "state", "silent>"),
        [
            (
                name(each.instance),
                name(each.label),
                Text(number(each.count)),
                state_of(each),
                Text(duration(each.silent_ms)),
            )
            for each in slices[:most]
        ],
        width,
    )


def state_of(each: SliceInfo) -> Text:
    """Why a slice counts or not."""
    if each.silent_ms is None:
        return Text("no session", "red")
    if not each.is_live:
        return DEAD
    if not each.is_of_this_session:
        return Text("old session", "red")
    return LIVE if each.is_current else Text(f"stale, epoch {each.epoch}", "yellow")


def _table(columns: Sequence[str], rows: Sequence[tuple[Text, ...]], width: int) -> Table:
    """A table that fits: numbers are never cut, and names get what is left, the first one first.

    A heading that ends in `>` is that of numbers.
    """
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    needed = [
        max(len(column.removesuffix(">")), *(row[i].cell_len for row in rows), 0)
        for i, column in enumerate(columns)
    ]
    named = [i for i, column in enumerate(columns) if column in NAMES]
    room = width - sum(size + GAP for i, size in enumerate(needed) if i not in named)
    room -= (LEAST_NAME + GAP) * len(named)
    for i in named:
        size = max(LEAST_NAME, min(needed[i], room + LEAST_NAME))
        room -= size - LEAST_NAME
        for row in rows:
            row[i].truncate(size, overflow="ellipsis")
    for column in columns:
        right = column.endswith(">")
        table.add_column(
            column.removesuffix(">"), justify="right" if right else "left", no_wrap=True
        )
    for row in rows:
        table.add_row(*row)
    return table
