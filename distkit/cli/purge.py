"""`distkit purge`: remove everything that Redis holds of a prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from distkit.cli.connection import Client, Failed, connected, url_and_prefix
from distkit.cli.documents import dumped
from distkit.cli.sweep import hashes_of
from distkit.cli.text import duration, plural, printable
from distkit.errors import InvalidKeyError, LayoutError
from distkit.inspection import PrefixInfo, inspect, partitions_of
from distkit.keys import Keyspace

STEP = 100
"""How many hashes one UNLINK removes."""


class Refused(Failed):
    """The prefix may be in use."""

    exit_code = 1


@click.command()
@url_and_prefix
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Even if instances are live.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; needs --yes.")
def purge(url: str, prefix: str, yes: bool, force: bool, as_json: bool) -> None:
    """Remove all counters and sessions of a prefix, of each partition, those that no list names
    too.

    It is refused while instances are live. With --force, their next calls put back what they
    remember. Nothing else in the database is touched.
    """
    if as_json and not yes:
        raise click.UsageError("--json cannot ask: give --yes too")
    with connected(url) as client:
        _refuse_if_in_use(client, prefix, force)
        if not yes:
            found = sum(1 for _ in hashes_of(client, prefix))
            what = plural(found, "Redis key")
            click.confirm(f"Remove {what} of the prefix {printable(prefix)!r}?", abort=True)
            _refuse_if_in_use(client, prefix, force)
        removed = removed_from(client, prefix)
    if as_json:
        click.echo(dumped({"prefix": prefix, "removed": removed}))
    else:
        click.echo(f"Removed {plural(removed, 'Redis key')}.")


def _refuse_if_in_use(client: Client, prefix: str, force: bool) -> None:
    if force:
        return
    try:
        info = inspect(client, prefix, keys=[], partitions=partitions_of(client, prefix))
    except LayoutError as error:
        raise Refused(
            f"the prefix has layout {error.found}, of which nobody here can tell who is live: "
            f"stop the programs that use it, then give --force"
        ) from None
    except InvalidKeyError as error:
        raise Refused(f"{error}: --force removes it all the same") from None
    live = _live(info)
    if live:
        some = ", ".join(live[:3]) + (", ..." if len(live) > 3 else "")
        # After an outage, time stands still until the next request: the dead seem live (R19).
        outage = info.clock.outage_ms
        hint = f"; nobody has been heard for {duration(outage)}, though" if outage else ""
        raise Refused(
            f"{plural(len(live), 'instance')} of the prefix may be live ({some}{hint}): stop "
            f"them, or give --force"
        )


def _live(info: PrefixInfo) -> list[str]:
    return [printable(each.id) for each in info.instances.values() if each.is_live]


def removed_from(client: Client, prefix: str) -> int:
    """Remove it in steps, each of a short command; returns how many Redis keys there were.

    The lists and the sessions go last, those of the prefix itself after those of its partitions:
    until then, whoever looks sees that something is left.
    """
    last: list[bytes] = []

    def others() -> Iterator[bytes]:
        for name in hashes_of(client, prefix):
            if name.partition(b"}:")[2] in (b"instances", b"keys"):
                last.append(name)
            else:
                yield name

    removed = 0
    for names in _in_steps(others()):
        removed += client.unlink(*names)
    own = Keyspace(prefix).own
    for names in (*_in_steps(name for name in last if name not in own), own):
        removed += client.unlink(*names)
    return removed


def _in_steps(names: Iterator[bytes]) -> Iterator[Sequence[bytes]]:
    step: list[bytes] = []
    for name in names:
        step.append(name)
        if len(step) == STEP:
            yield step
            step = []
    if step:
        yield step
