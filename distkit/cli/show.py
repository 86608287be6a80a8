"""`distkit show`: a prefix, or some of its counters, once."""

from __future__ import annotations

import click
from rich.console import Console
from rich.text import Text

from distkit.cli import tables
from distkit.cli.connection import connected, url_and_prefix
from distkit.cli.documents import dumped, of_page
from distkit.cli.text import name, number, plural
from distkit.core.inspection import first_pages, merged
from distkit.inspection import PrefixInfo, inspect, pages, partitions_of

MOST = 50


@click.command()
@url_and_prefix
@click.argument("keys", nargs=-1)
@click.option("--all", "everything", is_flag=True, help=f"Not only {MOST} rows of each table.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(url: str, prefix: str, keys: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Show the instances and counters of a prefix; of each KEY, every slice."""
    most = None if everything else MOST
    with connected(url) as client:
        partitions = partitions_of(client, prefix)
        if keys:
            info = inspect(client, prefix, keys=keys, partitions=partitions)
        else:
            info = merged(list(first_pages(pages(client, prefix, partitions=partitions), most)))
    if as_json:
        click.echo(dumped(of_page(info)))
    elif keys:
        _print_counters(info, keys, most)
    else:
        _print_prefix(info, most)
    if set(keys) - info.counters.keys():
        raise SystemExit(1)


def _print_prefix(info: PrefixInfo, most: int | None) -> None:
    console = Console(highlight=False)
    console.print(tables.summary(info))
    instances = sorted(info.instances.values(), key=lambda each: -each.silent_ms)
    if instances:
        console.print()
        console.print(tables.of_instances(instances[:most], console.width))
        _print_rest(console, len(instances), most)
    counters = sorted(info.counters.values(), key=lambda each: each.key)
    if counters:
        console.print()
        console.print(tables.of_counters(counters[:most], console.width))
        _print_rest(console, max(info.listed, len(counters)), most)
    for key, epoch in sorted(info.tombstones.items())[:most]:
        console.print(name(key), f"has vanished; its epoch was {epoch}", soft_wrap=True)
    _print_damage(console, info)


def _print_rest(console: Console, count: int, most: int | None) -> None:
    if most is not None and count > most:
        console.print(Text(f"... of {number(count)}; --all shows all", "dim"))


def _print_damage(console: Console, info: PrefixInfo) -> None:
    for key in info.missing:
        console.print(name(key, "red"), "is listed and does not exist: writes were lost")
    for key, why in info.unreadable.items():
        console.print(name(key, "red"), "cannot be read:", name(why), soft_wrap=True)


def _print_counters(info: PrefixInfo, keys: tuple[str, ...], most: int | None) -> None:
    """Each key with its slices."""
    console = Console(highlight=False)
    for key in keys:
        counter = info.counters.get(key)
        if counter is not None:
            line = name(key, "bold")
            line.append(f": total {number(counter.total)}", "not bold")
            line.append(f", epoch {counter.epoch}, {plural(counter.slice_count, 'slice')}")
            console.print(line)
            slices = len(counter.slices or {})
            shown = slices if most is None else most
            console.print(tables.of_slices(counter, shown, console.width))
            _print_rest(console, slices, most)
        elif key in info.tombstones:
            console.print(name(key), f"has vanished; its epoch was {info.tombstones[key]}")
        elif key not in info.missing and key not in info.unreadable:
            console.print(name(key), "does not exist")
    _print_damage(console, info)
