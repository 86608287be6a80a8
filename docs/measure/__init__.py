"""The runs behind the pictures and tables of the site: `python -m docs.measure [NAME...]`.

Each module here has a function `measure() -> dict`, whose result is written to
`docs/measured/NAME.json`. They start redis-servers of their own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MEASURED = Path(__file__).parents[1] / "measured"


def result(name: str) -> Any:
    """What a run has found: the contents of its file."""
    return json.loads((MEASURED / f"{name}.json").read_text("utf-8"))
