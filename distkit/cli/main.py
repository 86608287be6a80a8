"""The group of commands. Each command is a module of its own; this one lists them."""

from __future__ import annotations

import click

from distkit.cli.doctor import doctor
from distkit.cli.export import export
from distkit.cli.metrics import metrics
from distkit.cli.purge import purge
from distkit.cli.show import show
from distkit.cli.top import top


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="distkit-counter", prog_name="distkit")
def main() -> None:
    """See, check, remove and measure the counters of a prefix.

    URL is that of the Redis, as redis-py understands it: redis://HOST:PORT/DB, rediss://...,
    unix://PATH. One node of a cluster is enough. PREFIX is what the program gave to the counter.

    The exit status is 2 if a command could not do its work. All but purge only read.
    """


for _command in (top, show, export, doctor, purge, metrics):
    main.add_command(_command)
