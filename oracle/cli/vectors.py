"""`python -m oracle vectors`: write the golden traces."""

from __future__ import annotations

from pathlib import Path

import click

from oracle.conform.vectors import write


@click.command()
@click.argument(
    "folder", default=Path("spec/vectors"), type=click.Path(file_okay=False, path_type=Path)
)
def vectors(folder: Path) -> None:
    """Write the golden traces, with the oracle's answers in them, to FOLDER (spec/vectors)."""
    written = write(folder)
    click.echo(f"{len(written)} traces in {folder}")
