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

SIDE_BY_SIDE = (
    "tests/equivalence/test_scenarios.py",
    "tests/equivalence/test_stateful.py",
    "tests/equivalence/test_conformance.py",
)


PLANTED = "not defect and not mutant"
"""Without the tests that plant defects of their own: a mutant can take away the place for one."""


class Stage(NamedTuple):
    """Tests that run together, until the first of them fails."""

    tests: tuple[str, ...]
    but: tuple[str, ...] = ()


STAGES: dict[str, tuple[Stage, ...]] = {
    "distkit": (
        Stage(("tests/counter",), ("tests/counter/test_demo.py",)),
        Stage((*SIDE_BY_SIDE, "tests/equivalence/test_holding.py", "tests/examples")),
        Stage(("tests/operations", "tests/equivalence", "tests/ports"), ("tests/ports/rust",)),
    ),
    "script": (
        Stage(("tests/equivalence/test_scenarios.py", "tests/equivalence/test_script.py")),
        Stage((*SIDE_BY_SIDE, "tests/counter")),
        Stage(("tests/equivalence", "tests/operations")),
    ),
    "oracle/model": (
        Stage(("tests/equivalence/test_scenarios.py", "tests/oracle/test_in_memory.py")),
        Stage((*SIDE_BY_SIDE, "tests/ports/test_ports_spec.py", "tests/oracle/test_reached.py")),
        Stage(("tests/oracle",)),
    ),
    "oracle/check": (
        Stage(("tests/oracle/test_reached.py", "tests/oracle/test_suite.py")),
        Stage(("tests/oracle/test_explore.py", "tests/oracle/test_reductions.py")),
        Stage(("tests/oracle", "tests/equivalence/test_traces.py")),
    ),
    "oracle/conform": (
        Stage(("tests/ports/test_ports_spec.py", "tests/ports/test_notation.py")),
        Stage(("tests/ports/test_shrink.py", "tests/ports/test_conform_cli.py")),
        Stage(("tests/ports/test_ports.py", "tests/ports/test_defects.py")),
    ),
}


def place_of(path: str) -> str:
    """The place to which a file belongs."""
    if path.endswith(".lua"):
        return "script"
    return next(place for place in PLACES if path.startswith(f"{place}/"))
