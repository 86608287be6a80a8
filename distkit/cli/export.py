"""`distkit export`: everything, as JSON."""

from __future__ import annotations

import click

from distkit.cli.connection import connected, url_and_prefix
from distkit.cli.documents import streamed
from distkit.inspection import pages, partitions_of


@click.command()
@url_and_prefix
@click.option("--match", metavar="GLOB", help="Only counters whose keys match, as h*llo.")
@click.option("--json", "_as_json", is_flag=True, default=True, help="The only format so far.")
def export(url: str, prefix: str, match: str | None, _as_json: bool) -> None:
    """Print all counters, slices and instances of a prefix as one JSON document."""
    with connected(url) as client:
        partitions = partitions_of(client, prefix)
        for piece in streamed(pages(client, prefix, match=match, partitions=partitions)):
            click.echo(piece, nl=False)
