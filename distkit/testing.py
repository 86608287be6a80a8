"""The way inside a counter, for distkit's own tests and benchmarks.

Programs have no use for it, and it may change with any release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import distkit.asyncio
from distkit.base import Driver
from distkit.counter import StrictInstanceAwareCounter
from distkit.redis.script import Script
from distkit.tasks import TaskDriver
from distkit.threads import ThreadDriver


@overload
def driver_of(counter: StrictInstanceAwareCounter) -> ThreadDriver: ...
@overload
def driver_of(counter: distkit.asyncio.StrictInstanceAwareCounter) -> TaskDriver: ...
def driver_of(
    counter: StrictInstanceAwareCounter | distkit.asyncio.StrictInstanceAwareCounter,
) -> ThreadDriver | TaskDriver:
    """What is inside: `instance`, `queue`, `pulse`, `space`, `heart`, `transport`, `send`.

    Replace `send` to see, delay or lose requests. `run` executes steps in one request, and `leave`
    does what the end of a `with` block does (R16).
    """
    return counter._driver


def use_script(counter: Any, script: Script) -> None:
    """Have the counter run another script than `counter.lua`: one with a planted defect, say."""
    driver: Driver = counter._driver
    driver.transport.script = script


def use_monotonic(counter: Any, clock_s: Callable[[], float]) -> None:
    """Have the counter's holders use this clock, in seconds. Call it before there are any."""
    driver: Driver = counter._driver
    driver.monotonic = clock_s
    driver.open_books()
