"""The way inside a counter, for distkit's own tests and benchmarks.

Programs have no use for it, and it may change with any release.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast, overload

import distkit.asyncio
from distkit.base import Driver
from distkit.counter import StrictInstanceAwareCounter
from distkit.partitions.shared import Partitions
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
    does what the end of a `with` block does (R16). Of a prefix that is divided, it is the driver of
    the first partition.
    """
    driver: Any = counter._driver
    first: Any = driver.driver(0) if isinstance(driver, Partitions) else driver
    return cast(ThreadDriver | TaskDriver, first)


def drivers_of(counter: Any) -> list[Driver]:
    """The drivers of the partitions that were used (R21)."""
    driver: Any = counter._driver
    return driver.used() if isinstance(driver, Partitions) else [driver]


def use_script(counter: Any, script: Script) -> None:
    """Have the counter run another script than `counter.lua`: one with a planted defect, say."""
    for driver in drivers_of(counter):
        driver.transport.script = script


def use_monotonic(counter: Any, clock_s: Callable[[], float]) -> None:
    """Have the counter's holders use this clock, in seconds. Call it before there are any."""
    for driver in drivers_of(counter):
        driver.monotonic = clock_s
        driver.open_books()
