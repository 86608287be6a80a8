"""Take the runs again that the site is made of: all of them, or those that are named."""

from __future__ import annotations

import importlib
import json
import platform
import sys
from typing import Any

import redis

from docs.measure import MEASURED
from tests.harness.servers import find_binaries

NAMES = ("crashes", "pauses", "failover", "outages", "permissions", "sizes", "broken", "shootout")


def take(name: str) -> None:
    """Take a run, and write down what it found and what it was taken on."""
    found: dict[str, Any] = importlib.import_module(f"docs.measure.{name}").measure()
    version = ".".join(map(str, find_binaries().binaries[-1].version))
    taken_on = {
        "redis": version,
        "redis-py": redis.__version__,
        "python": platform.python_version(),
    }
    text = json.dumps({"taken_on": taken_on, **found}, ensure_ascii=False)
    (MEASURED / f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    wanted = sys.argv[1:] or NAMES
    unknown = set(wanted) - set(NAMES)
    if unknown:
        sys.exit(f"no such run: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    for name in wanted:
        print(f"{name} ...", flush=True)
        take(name)
