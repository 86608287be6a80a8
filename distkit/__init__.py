"""distkit: counters on Redis that know which process counted what.

`StrictInstanceAwareCounter` is the counter. The rules that it obeys are in `spec/SPEC.md`; the same
rules as a pure state machine are the package `oracle`, against which it is tested step by step.
"""

from distkit.counter import StrictInstanceAwareCounter
from distkit.errors import (
    CounterOverflowError,
    DistkitError,
    InvalidKeyError,
    NotExecutedError,
    OutcomeUnknownError,
)
from distkit.steps import CounterState

__all__ = [
    "CounterOverflowError",
    "CounterState",
    "DistkitError",
    "InvalidKeyError",
    "NotExecutedError",
    "OutcomeUnknownError",
    "StrictInstanceAwareCounter",
]
