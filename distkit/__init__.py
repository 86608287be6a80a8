"""distkit: counters on Redis that know which process counted what.

`StrictInstanceAwareCounter` is the counter; `distkit.asyncio` has the one for asyncio. `spec/` has
the rules that both follow. The package `oracle` has the same rules as a pure state machine, against
which the tests check every step of this package.
"""

from distkit.core.operations import Change, Comparator, CounterState, always, eq, gt, lt, ne
from distkit.counter import StrictInstanceAwareCounter
from distkit.errors import (
    CounterOverflowError,
    DistkitError,
    InvalidKeyError,
    LayoutError,
    LimitReached,
    MisuseError,
    NotExecutedError,
    OutcomeUnknownError,
    PartitionsError,
)
from distkit.events import Event, EventKind
from distkit.exit import leave_at_exit
from distkit.protocols import AsyncCounter, Counter
from distkit.tracing import RequestReport

__version__ = "0.1.0"

__all__ = [
    "AsyncCounter",
    "Change",
    "Comparator",
    "Counter",
    "CounterOverflowError",
    "CounterState",
    "DistkitError",
    "Event",
    "EventKind",
    "InvalidKeyError",
    "LayoutError",
    "LimitReached",
    "MisuseError",
    "NotExecutedError",
    "OutcomeUnknownError",
    "PartitionsError",
    "RequestReport",
    "StrictInstanceAwareCounter",
    "__version__",
    "always",
    "eq",
    "gt",
    "leave_at_exit",
    "lt",
    "ne",
]
