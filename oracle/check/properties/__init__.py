"""What must hold of the counter, each property once, however the machine achieves it.

Each property is declared with its rules and its name; its docstring states it in words, and its
body in code. It looks at one observation, that is, at something that happened or at a state.
`PROPERTIES` lists them all, by the class of what they look at. Each module has the observations of
one kind, with their properties:

* `served.py`: whenever the server serves a request;
* `histories.py`: a request in the light of earlier ones, what is stored, a call that returns, and a
  reply that an instance hears;
* `quiescent.py`: when no call is under way and no copy arrives any more.

To add a property, add a function there, a row to the table in `spec/`, and a protocol to
`oracle.check.broken` that breaks it: tests ask for all three.
"""

from oracle.check.properties.histories import (
    Answered,
    Closed,
    Counted,
    Executed,
    Heard,
    Returned,
    Stored,
)
from oracle.check.properties.quiescent import (
    QUIESCENT,
    Quiet,
    find,
    hear_all,
    let_go,
    look_around,
    only_heard,
)
from oracle.check.properties.registry import PROPERTIES, Property, Violation, check
from oracle.check.properties.served import Served, served

__all__ = [
    "PROPERTIES",
    "QUIESCENT",
    "Answered",
    "Closed",
    "Counted",
    "Executed",
    "Heard",
    "Property",
    "Quiet",
    "Returned",
    "Served",
    "Stored",
    "Violation",
    "check",
    "find",
    "hear_all",
    "let_go",
    "look_around",
    "only_heard",
    "served",
]
