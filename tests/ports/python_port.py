"""The counter in Python as a port: `python -m tests.ports.python_port`. It is `distkit.port`; the
other ports here are changes of it."""

from __future__ import annotations

from distkit.port import Port

__all__ = ["Port"]

if __name__ == "__main__":
    Port().run()
