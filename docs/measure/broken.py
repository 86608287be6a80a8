"""The shortest history that breaks each broken protocol, as the explorer finds it."""

from __future__ import annotations

from typing import Any

from oracle.check.broken import BROKEN
from oracle.check.fast.search import explore
from oracle.check.trace import Trace, encode_trace


def measure() -> dict[str, Any]:
    found = {}
    for name, broken in BROKEN.items():
        exploration = explore(broken.bounds, broken.protocol)
        assert exploration.violation, f"nothing was found in {name!r}"
        trace = Trace(broken.bounds, exploration.trace, name, exploration.violation)
        found[name] = {
            "violation": exploration.violation,
            "breaks": broken.breaks,
            "events": len(exploration.trace),
            "states": exploration.states,
            "trace": list(encode_trace(trace)),
        }
    return {"protocols": found}
