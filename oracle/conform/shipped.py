"""Where the golden traces are: in a checkout under spec/, in an installed package beside it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
SPEC = _PACKAGE / "spec" if (_PACKAGE / "spec").is_dir() else _PACKAGE.parent / "spec"
"""The specification: the wheel has it inside of the package `oracle`."""

VECTORS = SPEC / "vectors"


def vector_names() -> list[str]:
    """The names of the golden traces, in order."""
    return sorted(path.stem for path in VECTORS.glob("*.jsonl"))


def find_trace(name: str) -> Path | None:
    """A trace by its path, or a golden one by its name; None if it is neither."""
    candidates = (Path(name), VECTORS / f"{name}.jsonl")
    return next((path for path in candidates if path.is_file()), None)
