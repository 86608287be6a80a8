"""The counter's oracle: what every implementation must answer, as a pure state machine.

`oracle.model` is the machine, `oracle.check.properties` what must be true of it, and `InMemoryCounter`
the public counter API on top, for unit tests without Redis. Nothing here does I/O, and nothing here
imports `distkit`: the two are compared, in `tests/`, because they share no code.
"""

from oracle.in_memory.counter import (
    Change,
    CounterOverflowError,
    CounterState,
    InMemoryCounter,
    InMemoryServer,
    InvalidKeyError,
    eq,
    gt,
    lt,
    ne,
)

__all__ = [
    "Change",
    "CounterOverflowError",
    "CounterState",
    "InMemoryCounter",
    "InMemoryServer",
    "InvalidKeyError",
    "eq",
    "gt",
    "lt",
    "ne",
]
