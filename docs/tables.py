"""The tables of the site that are made of runs, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from docs.measure import result


def _rows(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    names = list(head)
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def sizes() -> Iterator[str]:
    found = result("sizes")
    yield from _rows(["what", "bytes"], ([what, f"{size:,}"] for what, size in found["rows"]))
    yield from _taken_on(found)


def permissions() -> Iterator[str]:
    """A row for each command: which calls are refused without it."""
    found = result("permissions")
    needs: dict[str, list[str]] = found["calls"]
    rows = []
    for command in found["commands"]:
        calls = [call for call, commands in needs.items() if command in commands]
        spared = [call for call in needs if call not in calls]
        most = "every call" + (f" but {', '.join(spared)}" if spared else "")
        refused = most if len(spared) <= len(calls) / 4 else ", ".join(calls)
        rows.append([f"`{command}`", refused or "-"])
    yield from _rows(["command", "without it, Redis refuses"], rows)
    yield from _taken_on(found)


def outages() -> Iterator[str]:
    """A row for each failure: what calls raised, and how soon they worked again."""
    found = result("outages")
    rows = []
    for failure in found["failures"].values():
        during = [call for call in failure["calls"] if failure["began"] - 0.05 <= call[0]]
        raised = list(dict.fromkeys(f"`{call[2]}`" for call in during if call[2] != "ok"))
        slowest = max(call[1] for call in during)
        # What no call noticed was over at once.
        over = failure["ended"] if raised else failure["began"]
        heals = max(0.0, _whole_again(during, found["b_counts"]) - over)
        rows.append(
            [failure["title"], ", ".join(raised) or "nothing", f"{slowest:.2f} s", f"{heals:.2f} s"]
        )
    head = ["failure", "calls raise", "the slowest call took", "the total is whole again after"]
    yield from _rows(head, rows)
    yield from _taken_on(found)


def _whole_again(calls: list[Any], others: int) -> float:
    """When the first call returned after which each one got the whole total: its own count, and
    what the others count."""
    whole = [kind == "ok" and said[0] - said[1] == others for _, _, kind, *said in calls]
    last_wrong = max((place for place, is_whole in enumerate(whole) if not is_whole), default=-1)
    at, took, *_ = calls[last_wrong + 1]
    return at + took


def broken() -> Iterator[str]:
    found = result("broken")["protocols"]
    yield from _rows(
        ["broken protocol", "property that it breaks", "shortest history", "states visited"],
        (
            [name, one["breaks"], f"{one['events']} events", f"{one['states']:,}"]
            for name, one in found.items()
        ),
    )


def shootout() -> Iterator[str]:
    """Two rows for each way: killed at random, and Redis emptied."""
    found = result("shootout")
    what = {"kill": "`kill -9`", "flush": "`FLUSHALL`"}
    rows = [
        [
            row["name"] if run == "kill" else "",
            words,
            row[run]["leaked"],
            row[run]["lost"],
            f"{row[run]['over_admitted']:.1%}, at most {row[run]['most_inside']} inside",
        ]
        for row in found["rows"]
        for run, words in what.items()
    ]
    yield from _rows(["way", "fault", "leaked", "lost", "over-admitted"], rows)
    yield from _taken_on(found)


def _taken_on(found: Any) -> Iterator[str]:
    on = found["taken_on"]
    yield ""
    versions = f"Redis {on['redis']} with redis-py {on['redis-py']} and Python {on['python']}"
    yield f"Measured on {versions}."


_TABLES: dict[str, Callable[[], Iterator[str]]] = {
    table.__name__: table for table in (sizes, permissions, outages, broken, shootout)
}


def table(name: str) -> Iterator[str]:
    """The lines of a table. Raises LookupError if there is none of this name."""
    return _TABLES[name]()
