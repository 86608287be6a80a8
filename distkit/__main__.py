"""The command line of those who run a counter: `distkit COMMAND`, or `python -m distkit COMMAND`.

It needs the extra `cli`. If a package of that extra is missing, it says so in one line.
"""

from __future__ import annotations

import sys

EXTRA = {"click": "cli", "rich": "cli", "prometheus_client": "metrics"}
UNAVAILABLE = 69
"""sysexits.h's EX_UNAVAILABLE: the statuses below it belong to the commands."""


def run() -> None:
    """Run the command that the command line names."""
    try:
        from distkit.cli.main import main

        main(prog_name="distkit")
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        install = f"pip install 'distkit-counter[{EXTRA[package]}]'"
        print(f"distkit needs {package}: {install}", file=sys.stderr)
        sys.exit(UNAVAILABLE)


if __name__ == "__main__":
    run()
