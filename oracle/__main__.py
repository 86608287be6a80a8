"""The oracle's command line: `python -m oracle COMMAND`. Needs the extra `oracle`.

Each command is a module of its own; this file only lists them.
"""

from __future__ import annotations

import click

from oracle.cli.explore import explore_command
from oracle.cli.replay import replay
from oracle.cli.vectors import vectors
from oracle.cli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The counter as a state machine: explore it, and check other counters against it."""


for command in (explore_command, verify, replay, vectors):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="python -m oracle")
