"""Failing histories, saved under a name so that they can be played again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from oracle.cli.report import Misused
from oracle.conform.judge import judge
from oracle.conform.lines import Malformed, encode
from oracle.conform.play import Differs
from oracle.conform.search import Failure
from oracle.conform.shipped import find_trace, vector_names
from oracle.conform.traces import History, read_trace, write_trace

TRACES = Path(".oracle")
"""Where they are saved unless a folder is named."""


def save(failure: Failure, folder: Path) -> str:
    """Write the history down, with the right answers and the port's wrong one. Returns its name."""
    history, error = failure.history, failure.error
    why = error.hint.rules[0] if isinstance(error, Differs) else "broke"
    content = "\n".join([str(history.threshold_ms), *map(encode, history.lines)])
    name = f"{why}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    answers = zip(history.lines, judge(history), strict=True)
    lines = [{**line, "answer": answer} for line, answer in answers]
    if isinstance(error, Differs) and lines:
        lines[-1]["said"] = error.steps[-1].said
    write_trace(folder / f"{name}.jsonl", [(history._replace(comment=failure.found_in), lines)])
    return name


def find(name: str, folder: Path) -> list[History]:
    """The histories of a trace: a file, one that was saved, or a golden one, by its name."""
    saved = folder / f"{name}.jsonl"
    path = saved if saved.is_file() and not Path(name).is_file() else find_trace(name)
    if path is None:
        known = ", ".join(vector_names())
        raise Misused(
            f"there is no file {name!r}, no history saved in {folder} under this name, "
            f"and no golden trace: {known}"
        )
    return read(path)


def failed(folder: Path) -> list[History]:
    """Every history that was saved."""
    found = [history for path in sorted(folder.glob("*.jsonl")) for history in read(path)]
    if not found:
        raise Misused(f"no failing history is saved in {folder}")
    return found


def read(path: Path) -> list[History]:
    try:
        return read_trace(path)
    except (Malformed, UnicodeDecodeError) as error:
        raise Misused(str(error)) from None
