"""Where the port in Rust is, and what it needs: cargo, which builds it."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "rust-session"
_BUILT = FOLDER / "target" / "release"
PORT = (str(_BUILT / "port"),)
COUNT = (str(_BUILT / "count"),)
BUILD_S = 1_800
"""How long the first build may take: it compiles what the port depends on, too."""


def why_not() -> str:
    """Why the port cannot run here; nothing if it can."""
    return "" if shutil.which("cargo") else "cargo was not found: the Rust port is not checked"


@cache
def build() -> None:
    """Build it; a moment if nothing has changed.

    Raises:
        AssertionError: it does not build; what cargo wrote is the message.
    """
    manifest = str(FOLDER / "Cargo.toml")
    command = ["cargo", "build", "--quiet", "--release", "--manifest-path", manifest]
    built = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S)
    assert built.returncode == 0, built.stderr
