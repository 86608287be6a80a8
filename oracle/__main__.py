"""The oracle's command line: `python -m oracle COMMAND`, or `distkit-oracle COMMAND`.

It needs the extra `oracle`. If a package of that extra is missing, it says so in one line.
"""

from __future__ import annotations

import sys

EXTRA = ("click", "fastjsonschema", "numpy", "rich")
UNAVAILABLE = 69
"""sysexits.h's EX_UNAVAILABLE: the statuses below it belong to the commands."""


def run() -> None:
    """Run the command that the command line names."""
    try:
        from oracle.cli.main import main
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        install = "pip install 'distkit-counter[oracle]'"
        print(f"python -m oracle needs {package}: {install}", file=sys.stderr)
        sys.exit(UNAVAILABLE)
    main(prog_name="python -m oracle")


if __name__ == "__main__":
    run()
