"""`distkit top`: the counters of a prefix, live.

The heads of all counters are read for the ranking, which a large prefix takes seconds for: the
table appears at once, and says how far the reading is. Slices are read of the rows on the screen
only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import click
import redis
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from distkit.cli import tables
from distkit.cli.connection import Client, client_for, connected, described, url_and_prefix
from distkit.cli.documents import dumped, of_page
from distkit.cli.text import number
from distkit.core.inspection import merged
from distkit.errors import DistkitError
from distkit.inspection import CounterInfo, PrefixInfo, inspect, pages, partitions_of

HEADER_LINES = 6
"""The summary, an empty line, the table's header and a footer."""
ROWS_IN_A_PIPE = 50
REDRAW_S = 0.5
"""How often the table is drawn while a large prefix is being read."""
FIRST_DRAW_S = 0.2
"""When it is drawn first. Most prefixes have been read completely by then."""

ORDERS: dict[str, Callable[[CounterInfo], tuple[object, ...]]] = {
    "total": lambda each: (-each.total, each.key),
    "key": lambda each: (each.key,),
    "slices": lambda each: (-each.slice_count, each.key),
    "epoch": lambda each: (-each.epoch, each.key),
}


@click.command()
@url_and_prefix
@click.option("--sort", type=click.Choice(list(ORDERS)), default="total", show_default=True)
@click.option("--filter", "match", metavar="GLOB", help="Only counters whose keys match, as h*llo.")
@click.option("--interval", type=click.FloatRange(0.1), default=2.0, show_default=True,
              metavar="SECONDS", help="How long to wait between two readings.")  # fmt: skip
@click.option("--once", is_flag=True, help="Print one table, as without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print one reading as JSON.")
def top(
    url: str, prefix: str, sort: str, match: str | None, interval: float, once: bool, as_json: bool
) -> None:
    """Show the counters of a prefix, the largest first, until Ctrl-C."""
    console = Console(highlight=False)
    with connected(url) as client:
        if not (once or as_json) and sys.stdout.isatty():
            _live(console, client, Watch(url, prefix, sort, match, interval))
            return
        *_, (info, _) = _readings(client, prefix, match)
        info = _with_slices(client, info, _ranked(info, sort)[:ROWS_IN_A_PIPE])
    if as_json:
        click.echo(dumped(of_page(info)))
    else:
        console.print(_screen(info, info.listed, match, "", console.width))


class Watch:
    """What the live table shows. Its `error` is of the last attempt to read."""

    def __init__(
        self, url: str, prefix: str, sort: str, match: str | None, interval: float
    ) -> None:
        self.url: str = url
        self.prefix: str = prefix
        self.sort: str = sort
        self.match: str | None = match
        self.interval: float = interval
        self.error: str = ""


def _live(console: Console, client: Client, watch: Watch) -> None:
    """Draw until Ctrl-C. What goes wrong after the first reading is shown, and tried again."""
    shown: PrefixInfo | None = None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                began = time.monotonic()
                try:
                    nothing_yet = shown is None
                    for info, complete in _readings(client, watch.prefix, watch.match):
                        if nothing_yet and not complete:  # later, the last table is better
                            _draw(live, console, client, watch, info)
                        shown = info
                    watch.error = ""
                except (redis.RedisError, OSError, DistkitError) as error:
                    if shown is None:
                        raise
                    watch.error = described(error)
                    client = _again(client, watch)
                assert shown is not None, "the first reading has come"
                _draw(live, console, client, watch, shown)
                # A large prefix takes seconds to read: Redis is left alone for as long.
                time.sleep(max(watch.interval, time.monotonic() - began))
        except KeyboardInterrupt:
            pass


def _again(client: Client, watch: Watch) -> Client:
    """A new client: another node may have the prefix by now."""
    try:
        fresh = client_for(watch.url)
    except (redis.RedisError, OSError):
        return client
    client.close()
    return fresh


def _readings(client: Client, prefix: str, match: str | None) -> Iterator[tuple[PrefixInfo, bool]]:
    """The prefix without its slices: as far as it has been read, now and then, and False; at the
    end all of it, and True."""
    found: list[PrefixInfo] = []
    drawn_at = time.monotonic() - REDRAW_S + FIRST_DRAW_S
    partitions = partitions_of(client, prefix)
    for page in pages(client, prefix, match=match, slices=False, partitions=partitions):
        found.append(page)
        if time.monotonic() - drawn_at >= REDRAW_S:
            yield merged(found), False
            drawn_at = time.monotonic()
    yield merged(found), True


def _ranked(info: PrefixInfo, sort: str) -> list[CounterInfo]:
    return sorted(info.counters.values(), key=ORDERS[sort])


def _with_slices(client: Client, info: PrefixInfo, rows: list[CounterInfo]) -> PrefixInfo:
    """These rows alone, with their slices. Counters that vanished meanwhile are left out."""
    partitions = partitions_of(client, info.prefix)
    found = inspect(client, info.prefix, keys=[each.key for each in rows], partitions=partitions)
    kept = {each.key: found.counters[each.key] for each in rows if each.key in found.counters}
    return replace(info, counters=kept, instances=found.instances, clock=found.clock)


def _draw(live: Live, console: Console, client: Client, watch: Watch, info: PrefixInfo) -> None:
    rows = _ranked(info, watch.sort)[: max(1, console.height - HEADER_LINES)]
    read = len(info.counters) + len(info.tombstones)
    if not watch.error:
        try:
            info = _with_slices(client, info, rows)
        except (redis.RedisError, OSError) as error:
            watch.error = described(error)
    if watch.error:
        info = replace(info, counters={each.key: each for each in rows})
    live.update(_screen(info, read, watch.match, watch.error, console.width), refresh=True)


def _screen(info: PrefixInfo, read: int, match: str | None, error: str, width: int) -> Group:
    foot = Text("", "dim")
    if match is not None:
        foot.append(f"only {match}  ")
    elif read < info.listed:
        foot.append(f"{number(read)} of {number(info.listed)} read  ")
    foot.append(error, "red")
    return Group(tables.summary(info), "", tables.of_counters(info.counters.values(), width), foot)
