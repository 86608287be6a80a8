"""The pictures of the site, by name. They are drawn when the site is built; none is stored.

crashes                             a run: servers that are killed
broken NAME                         the shortest history that breaks a broken protocol
growth                              the worlds that were explored
outage NAME                         a run: a failure of Redis
threshold, pauses, failover         the threshold, computed and measured
"""

from __future__ import annotations

from docs.measure import MEASURED
from docs.pictures import crashes, growth, histories, outages, threshold
from oracle.conform.shipped import SPEC

_ALONE = {
    "crashes": crashes.draw,
    "growth": growth.draw,
    "pauses": threshold.pauses,
    "threshold": threshold.draw,
    "failover": threshold.failover,
}

SOURCES = (*sorted(MEASURED.glob("*.json")), *sorted((SPEC / "vectors").glob("*.jsonl")))
"""A page with a picture has to be built again when one of these changes."""


def draw(name: str) -> str:
    """The picture as SVG. Raises LookupError if there is none of this name."""
    kind, _, rest = name.partition(" ")
    match kind:
        case "broken":
            return histories.broken(rest)
        case "outage":
            return outages.draw(rest)
    return _ALONE[name]()
