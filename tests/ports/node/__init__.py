"""Where the port on Node is, and what it needs; `make test` installs it where npm is found."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
PORT = ("node", str(FOLDER / "port.mjs"))
OLDEST = 20


@cache
def why_not() -> str:
    """Why the port cannot run here; nothing if it can."""
    if not shutil.which("node"):
        return "Node was not found: nothing is said about the port on Node"
    said = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    version = re.match(r"v(\d+)", said)
    if version is None or int(version[1]) < OLDEST:
        return f"the Node that was found is {said.strip() or 'broken'}, older than {OLDEST}"
    if not (FOLDER / "node_modules" / "redis").is_dir():
        return "the npm package redis is not installed: `make node` does it"
    return ""
