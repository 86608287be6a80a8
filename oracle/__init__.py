"""The counter's oracle: what every implementation must answer, as a pure state machine.

`oracle.model` is the machine, `oracle.check` visits its states and checks properties of them,
`oracle.conform` compares ports with it, and `InMemoryCounter` is the public counter API on top of
it, for unit tests without Redis. Nothing here imports `distkit`: tests compare the two, and that is
worth something because they share no code. (What the counters in memory raise and return is of
distkit's classes where they are registered; `oracle/in_memory/types.py`.)
"""

from oracle.in_memory.arguments import Comparator, always, eq, gt, lt, ne
from oracle.in_memory.counter import InMemoryCounter
from oracle.in_memory.counter_asyncio import AsyncInMemoryCounter
from oracle.in_memory.server import LOST_REPLY, LOST_REQUEST, NOT_EXECUTED, InMemoryServer
from oracle.in_memory.types import (
    CounterOverflowError,
    InMemoryError,
    InvalidKeyError,
    LimitReached,
    NotExecutedError,
    OutcomeUnknownError,
    PartitionsError,
)
from oracle.model import Change, CounterState

__all__ = [
    "LOST_REPLY",
    "LOST_REQUEST",
    "NOT_EXECUTED",
    "AsyncInMemoryCounter",
    "Change",
    "Comparator",
    "CounterOverflowError",
    "CounterState",
    "InMemoryCounter",
    "InMemoryError",
    "InMemoryServer",
    "InvalidKeyError",
    "LimitReached",
    "NotExecutedError",
    "OutcomeUnknownError",
    "PartitionsError",
    "always",
    "eq",
    "gt",
    "lt",
    "ne",
]
