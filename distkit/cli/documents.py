"""What `--json` prints: the results of `distkit.inspection`, with all their properties.

A program that reads it can rely on the names; new ones may be added. Times are in ms.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any

from distkit.inspection import CounterInfo, PrefixInfo

Document = dict[str, Any]


def dumped(document: Any) -> str:
    """As JSON in ASCII: whatever a name contains, it does no harm to a terminal."""
    return json.dumps(document, indent=2)


def of_counter(counter: CounterInfo) -> Document:
    slices = counter.slices
    shown = dataclasses.asdict(dataclasses.replace(counter, slices=None))
    shown["total"] = counter.total
    shown["slices"] = None if slices is None else [
        {**dataclasses.asdict(each), "counts": each.counts, "goes": each.goes}
        for each in slices.values()
    ]  # fmt: skip
    return shown


def of_prefix(info: PrefixInfo) -> Document:
    """A prefix, without its counters."""
    return {
        "prefix": info.prefix,
        "clock": dataclasses.asdict(info.clock),
        "listed": info.listed,
        "instances": [dataclasses.asdict(each) for each in info.instances.values()],
    }


def of_page(info: PrefixInfo) -> Document:
    """A prefix, or a page of it, as one document."""
    return {
        **of_prefix(info),
        "counters": [of_counter(each) for each in info.counters.values()],
        "tombstones": dict(info.tombstones),
        "missing": list(info.missing),
        "unreadable": dict(info.unreadable),
    }


def streamed(pages: Iterable[PrefixInfo]) -> Iterator[str]:
    """All pages as one document, in pieces: a large prefix does not fit into memory."""
    tombstones: dict[str, int] = {}
    missing: list[str] = []
    unreadable: dict[str, str] = {}
    separator = "\n"
    last: PrefixInfo | None = None
    yield '{"counters": ['
    for page in pages:
        for counter in page.counters.values():
            yield separator + json.dumps(of_counter(counter))
            separator = ",\n"
        tombstones.update(page.tombstones)
        missing += page.missing
        unreadable.update(page.unreadable)
        last = page
    assert last is not None, "there is a page, if only an empty one"
    rest = {
        **of_prefix(last),
        "tombstones": tombstones,
        "missing": missing,
        "unreadable": unreadable,
    }
    yield "\n], " + json.dumps(rest)[1:] + "\n"
