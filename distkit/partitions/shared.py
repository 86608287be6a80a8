"""What the synchronous and the asyncio counter share when their prefix is divided (R21).

Each partition is a prefix of its own with a driver of its own: a session, a queue, a heartbeat. All
of them have the same instance id. The layer above them only finds the partition of a key, divides
batches, and asks all partitions for what concerns every counter.

The rules this file keeps:
  * A driver is made when its partition is first used, and does nothing before that.
  * Before the first session is opened, the mark of the prefix must say how many partitions there
    are. A counter that was told another number sends nothing else.
  * A partition in which the instance remembers and holds nothing sends no heartbeats.
"""

from __future__ import annotations

import os
import uuid
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from distkit.base import Driver, Options
from distkit.core import partitions as r21
from distkit.core.batching import results_of
from distkit.core.instance import Outcome, Purpose, Request
from distkit.core.pulse import promise_ms
from distkit.keys import Keyspace, checked_key, checked_name
from distkit.redis.script import Clock, Mark

DriverT = TypeVar("DriverT", bound=Driver)


class Family:
    """What the partitions of one counter have in common.

    Args:
        prefix: the namespace.
        partitions: how many there are.
        instance_id: the instance's name; None: a UUID4.

    Attributes:
        space: the Redis keys of the prefix itself: they hold only the mark.
    """

    def __init__(self, prefix: str, partitions: int, instance_id: str | None) -> None:
        self.space: Keyspace = Keyspace(prefix)
        self.partitions: int = partitions
        self._is_marked = False
        self._process = os.getpid()
        self._name = str(uuid.uuid4()) if instance_id is None else instance_id
        checked_name(self._name, "instance_id")

    @property
    def name(self) -> str:
        """The instance's id. In a forked child it is another one."""
        if os.getpid() != self._process:
            self._process, self._name = os.getpid(), str(uuid.uuid4())
        return self._name

    def space_of(self, number: int) -> Keyspace:
        """The Redis keys of a partition."""
        prefix = self.space.prefix
        return Keyspace(prefix, r21.name_of(prefix, number, self.partitions))

    def needs_mark(self, request: Request) -> bool:
        """Whether the mark has to be seen before this request is sent."""
        return request.purpose is Purpose.OPEN and not self._is_marked

    def mark(self) -> Mark:
        return Mark(self.space, r21.mark_of(self.partitions))

    def see(self, mark: Mark) -> None:
        """The mark was read. PartitionsError if it says something else."""
        r21.check_division(self.space.prefix, mark.found, self.partitions)
        self._is_marked = True


def begin_to_beat(driver: Driver) -> bool:
    """Whether a partition has to send a heartbeat now. If it has nothing to keep alive it sends one
    more without a promise, so that nobody waits for it, and then none until it is used again."""
    promised = driver.instance.promise_ms
    if driver.instance.memory or not driver.books.is_unused:
        driver.instance.promise_ms = (
            promise_ms(driver.instance.threshold_ms) if driver.is_alive else 0
        )
        return True
    driver.instance.promise_ms = 0
    return promised > 0


def is_resting(driver: Driver) -> bool:
    """Whether a partition has nothing to keep alive, and has said so."""
    return not driver.instance.promise_ms


class Partitions(Generic[DriverT]):
    """The drivers of a counter, one for each partition that was used.

    Args:
        client: the redis-py client.
        prefix: the namespace.
        partitions: how many there are, at least 2.
        options: the other arguments of the counter.

    Attributes:
        client, clock_ms, partitions: as given.
        family: what the partitions have in common.
        drivers: those that were used, by number.
        is_alive: whether the program is inside the counter's `with` block.
    """

    def __init__(self, client: Any, prefix: str, partitions: int, options: Options) -> None:
        self.client: Any = client
        self.clock_ms: Clock | None = options.clock_ms
        self.partitions: int = partitions
        self.family: Family = Family(prefix, partitions, options.instance_id)
        self.drivers: dict[int, DriverT] = {}
        self.is_alive: bool = False
        self._options = options
        self.driver(0)  # it checks the other arguments, and sends nothing

    @abstractmethod
    def make(self, space: Keyspace, options: Options) -> DriverT:
        """A driver for the partition with these keys."""

    @property
    def instance_id(self) -> str:
        return self.family.name

    @property
    def prefix(self) -> str:
        return self.family.space.prefix

    def driver(self, number: int) -> DriverT:
        """The driver of a partition."""
        driver = self.drivers.get(number)
        if driver is None:
            options = self._options._replace(instance_id=self.family.name)
            driver = self.make(self.family.space_of(number), options)
            if self.is_alive:
                driver.enter()
            driver = self.drivers.setdefault(number, driver)  # unless another thread has made one
        return driver

    def every(self) -> list[DriverT]:
        """The drivers of all partitions."""
        return [self.driver(number) for number in range(self.partitions)]

    def used(self) -> list[DriverT]:
        """The drivers of the partitions that were used."""
        return [*self.drivers.values()]

    def at(self, key: object) -> DriverT:
        """The driver of the partition to which a key belongs."""
        return self.driver(r21.partition_of(checked_key(key), self.partitions))

    def split(self, todo: Sequence[Any]) -> r21.Split:
        return r21.Split(todo, self.partitions)

    def begin(self) -> None:
        """Begin the instance's life: RuntimeError if it has begun already."""
        if self.is_alive:
            raise RuntimeError("this instance is alive already: its `with` block is inside itself")
        self.is_alive = True
        for driver in self.used():
            driver.enter()


def results(split: r21.Split, outcomes: Sequence[list[Outcome]]) -> list[Any]:
    """The results of a batch in order. If any step failed, the first error is raised."""
    return results_of(split.joined(outcomes))
