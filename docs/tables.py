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
        everything = len(calls) == len(needs)
        rows.append([f"`{command}`", "every call" if everything else ", ".join(calls) or "-"])
    yield from _rows(["command", "without it, Redis refuses"], rows)
    yield from _taken_on(found)


def outages() -> Iterator[str]:
    """A row for each failure: what calls raised, and how soon they worked again."""
    found = result("outages")
    rows = []
    for failure in found["failures"].values():
        during = [c for c in failure["calls"] if failure["began"] - 0.05 <= c[0]]
        raised = list(dict.fromkeys(f"`{c[2]}`" for c in during if c[2] != "ok"))
        after = [c for c in failure["calls"] if c[0] + c[1] > failure["ended"] and c[2] == "ok"]
        whole = next(
            (c for c in after if c[3] - c[4] == found["b_counts"] and c[0] > failure["began"]), None
        )
        heals = f"{max(0.0, whole[0] + whole[1] - failure['ended']):.2f} s" if whole else "-"
        slowest = max(c[1] for c in during)
        rows.append([failure["title"], ", ".join(raised) or "nothing", f"{slowest:.2f} s", heals])
    head = ["failure", "calls raise", "the slowest call took", "the total is whole again after"]
    yield from _rows(head, rows)
    yield from _taken_on(found)


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
    found = result("shootout")
    head = ["", "leaked", "lost", "over-admitted", "admitted"]
    yield from _rows(
        head,
        (
            [row["name"], row["leaked"], row["lost"], row["over_admitted"], f"{row['admitted']:,}"]
            for row in found["rows"]
        ),
    )
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
