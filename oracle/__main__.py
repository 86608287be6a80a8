"""The oracle's command line: `python -m oracle COMMAND`. Needs the extra `oracle`.

Each command is a module of its own; this file only lists them.
"""

from __future__ import annotations

import click

from oracle.explore_cli import explore_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The counter as a state machine: explore it, and check other counters against it."""


main.add_command(explore_command)

if __name__ == "__main__":
    main(prog_name="python -m oracle")
