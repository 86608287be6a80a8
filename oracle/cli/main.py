"""The group of commands. Each command is a module of its own; this one lists them."""

from __future__ import annotations

import click

from oracle.cli.conform import conform_command
from oracle.cli.explore import explore_command
from oracle.cli.replay import replay
from oracle.cli.vectors import vectors
from oracle.cli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The counter as a state machine: explore it, and compare other counters with it."""


main.add_command(conform_command)
main.add_command(explore_command)
main.add_command(replay)
main.add_command(vectors)
main.add_command(verify)
