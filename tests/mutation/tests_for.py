"""Which tests look for a defect, by the place where it is: those that cover it best come first."""

from __future__ import annotations

from typing import NamedTuple

PLACES = {
    "distkit": "distkit/**/*.py",
    "script": "distkit/redis/*.lua",
    "oracle/model": "oracle/model/*.py",
    "oracle/check": "oracle/check/**/*.py",
    "oracle/conform": "oracle/conform/*.py",
}
"""The places that mutants are drawn from, by their names."""

NOT_MUTATED = ("distkit/demo.py", "distkit/__main__.py", "distkit/cli/")
"""Pages that only show things."""

LEFT_OUT = "not defect and not mutant and not no_outage_leaks_a_slot"
"""Without the tests that plant defects of their own: a mutant can take away the place for one. And
without those that crash a server again and again in real time: on a loaded machine they fail."""


class Stage(NamedTuple):
    """Tests that run together, until the first of them fails; files may be left out of a folder."""

    tests: tuple[str, ...]
    but: tuple[str, ...] = ()


def _in(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/{folder}/test_{name}.py" for name in names)


HISTORIES = _in("equivalence", "scenarios", "script", "stateful", "holding", "partitions")
REPLAYED = _in("equivalence", "reached", "traces", "conformance")
SLOW = _in("counter", "faults", "interrupts", "scale", "cluster", "demo", "recipe", "signatures")
OPERATIONS = Stage(("tests/operations",))
COUNTER = Stage(("tests/counter",), SLOW)
SPECIFIED = (*_in("ports", "ports_spec", "notation"), *_in("oracle", "spec", "suite", "in_memory"))

STAGES: dict[str, tuple[Stage, ...]] = {
    "distkit": (Stage(HISTORIES), COUNTER, OPERATIONS, Stage(REPLAYED), Stage(SLOW)),
    "script": (Stage(HISTORIES[:2]), Stage(HISTORIES[2:]), Stage(REPLAYED), COUNTER, OPERATIONS),
    "oracle/model": (
        Stage((*HISTORIES[:1], *SPECIFIED)),
        Stage((*HISTORIES[1:], *_in("oracle", "reached"))),
        Stage(REPLAYED),
        Stage(("tests/oracle",), _in("oracle", "reductions")),
        Stage(_in("oracle", "reductions")),
    ),
    "oracle/check": (
        Stage(_in("oracle", "search", "suite", "manifest", "spec", "linearizability", "reached")),
        Stage(("tests/oracle",), _in("oracle", "reductions")),
        Stage((*_in("oracle", "reductions"), *HISTORIES, *_in("equivalence", "traces"))),
    ),
    "oracle/conform": (
        Stage(SPECIFIED),
        Stage((*_in("ports", "shrink", "conform_cli"), *_in("equivalence", "conformance"))),
        Stage(("tests/ports",), ("tests/ports/rust",)),
    ),
}
"""By place, in the order in which they run. All that can tell, but for what takes very long."""

FIRST = {
    "distkit/metrics/": OPERATIONS,
    "distkit/inspection.py": OPERATIONS,
    "distkit/core/inspection.py": OPERATIONS,
    "distkit/redis/reading.py": OPERATIONS,
    "distkit/port.py": Stage(_in("ports", "ports_spec", "ports", "ports_fast")),
    "distkit/holding/": Stage(_in("counter", "holding")),
    "distkit/core/holding.py": Stage(_in("counter", "holding")),
    "distkit/partitions/": Stage(_in("counter", "partitions")),
}
"""The tests that run before those of the place, by the file or folder that they are about."""


def stages_of(path: str) -> list[Stage]:
    """The tests that look for a defect of this file, in order."""
    place = STAGES[place_of(path)]
    first = [stage for room, stage in FIRST.items() if path.startswith(room)]
    return [*first, *(stage for stage in place if stage not in first)]


def place_of(path: str) -> str:
    """The place to which a file belongs."""
    if path.endswith(".lua"):
        return "script"
    return next(place for place in PLACES if path.startswith(f"{place}/"))
