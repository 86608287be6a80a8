"""distkit: counters on Redis that know which process counted what.

`StrictInstanceAwareCounter` is the counter; for asyncio, `distkit.asyncio` has it. The rules that
it obeys are in `spec/SPEC.md`; the same rules as a pure state machine are the package `oracle`,
against which it is tested step by step.
"""

from distkit.core.operations import Change, Comparator, CounterState, eq, gt, lt, ne
from distkit.counter import StrictInstanceAwareCounter
from distkit.errors import (
    CounterOverflowError,
    DistkitError,
    InvalidKeyError,
    NotExecutedError,
    OutcomeUnknownError,
)

__all__ = [
    "Change",
    "Comparator",
    "CounterOverflowError",
    "CounterState",
    "DistkitError",
    "InvalidKeyError",
    "NotExecutedError",
    "OutcomeUnknownError",
    "StrictInstanceAwareCounter",
    "eq",
    "gt",
    "lt",
    "ne",
]
