"""The counter's oracle: what every implementation must answer, as a pure state machine.

`oracle.model` is the machine, `oracle.check` visits its states and checks properties of them,
`oracle.conform` compares ports with it, and `InMemoryCounter` is the public counter API on top of
it, for unit tests without Redis. Nothing here imports `distkit`: tests compare the two, and that is
worth something because they share no code.
"""

from oracle.in_memory.counter import (
    Comparator,
    CounterOverflowError,
    InMemoryCounter,
    InMemoryServer,
    InvalidKeyError,
    always,
    eq,
    gt,
    lt,
    ne,
)
from oracle.model import Change, CounterState

__all__ = [
    "Change",
    "Comparator",
    "CounterOverflowError",
    "CounterState",
    "InMemoryCounter",
    "InMemoryServer",
    "InvalidKeyError",
    "always",
    "eq",
    "gt",
    "lt",
    "ne",
]
