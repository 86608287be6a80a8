"""An instance on a prefix that may be divided into partitions (R21): a machine for each of them.

`Machines` finds the machine of a key, divides batches, and asks every machine for what concerns all
counters.
"""

from __future__ import annotations

import uuid

from oracle import model
from oracle.in_memory.arguments import checked_int, checked_name
from oracle.in_memory.machine import Machine, Result, all_results
from oracle.in_memory.server import InMemoryServer
from oracle.in_memory.types import InMemoryError


class Machines:
    """An instance in memory.

    Args:
        server: the `InMemoryServer`.
        prefix: the namespace.
        threshold: for how long the instance may be silent, in ms (R5).
        instance_id: its name, the same in every partition; None: a UUID4.
        partitions: how many there are.

    Attributes:
        name: the instance's.
    """

    def __init__(
        self,
        server: InMemoryServer,
        prefix: str,
        threshold: int,
        instance_id: str | None,
        partitions: int,
    ) -> None:
        self._server = server
        self._prefix = checked_name(prefix, "prefix", forbidden=":{}")
        name = str(uuid.uuid4()) if instance_id is None else instance_id
        self._threshold = _checked_threshold(threshold)
        self.name = checked_name(name, "instance_id")
        self._partitions = _checked_partitions(partitions)
        self._used: dict[int, Machine] = {}

    def at(self, key: object) -> Machine:
        """The machine of the partition to which a key belongs."""
        return self._machine(model.partition_of(checked_name(key, "key"), self._partitions))

    def _machine(self, number: int) -> Machine:
        if number not in self._used:
            place = self._prefix
            if self._partitions > 1:
                place = model.partition_name(self._prefix, number, self._partitions)
            instance = model.Instance(self.name, self._threshold)
            self._used[number] = Machine(self._server, place, instance, self._claim)
        return self._used[number]

    def _claim(self) -> None:
        self._server.claim(self._prefix, self._partitions)

    def _every(self) -> list[Machine]:
        return [self._machine(number) for number in range(self._partitions)]

    # --- Calls -----------------------------------------------------------------------------------

    def one(self, step: tuple[str, model.Step], kind: type[Result]) -> Result:
        return self.at(step[0]).one(step, kind)

    def all(self, steps: model.Steps, kind: type[Result]) -> list[Result]:
        """A batch: each partition runs its steps, and the results come in the order of the call."""
        if self._partitions == 1:  # an empty batch is a call too
            return all_results(self._machine(0).results(steps, kind))
        parts: dict[int, list[int]] = {}
        for place, (key, _) in enumerate(steps):
            parts.setdefault(model.partition_of(key, self._partitions), []).append(place)
        results: dict[int, Result | InMemoryError] = {}
        for number, places in parts.items():
            part = tuple(steps[place] for place in places)
            results.update(zip(places, self._machine(number).results(part, kind), strict=True))
        return all_results([results[place] for place in range(len(steps))])

    def heartbeat(self) -> None:
        for machine in self._every() if self._partitions == 1 else [*self._used.values()]:
            machine.heartbeat()

    def clear_on_instance(self) -> None:
        for machine in self._every() if self._partitions == 1 else [*self._used.values()]:
            machine.clear_on_instance()

    def clear(self) -> None:
        for machine in self._every():
            machine.clear()

    def leave(self) -> None:
        for machine in self._used.values():
            machine.leave()


def _checked_threshold(number: object) -> int:
    threshold = checked_int(number, "dead_instance_threshold_ms")
    if not 1 <= threshold <= model.LIMIT:
        raise ValueError(f"dead_instance_threshold_ms must be from 1 to 2^53 - 1, not {threshold}")
    return threshold


def _checked_partitions(number: object) -> int:
    partitions = checked_int(number, "partitions")
    if not 1 <= partitions <= model.MOST_PARTITIONS:
        raise ValueError(f"partitions must be from 1 to {model.MOST_PARTITIONS}, not {partitions}")
    return partitions
