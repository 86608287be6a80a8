"""Which partition a key belongs to, and what a partition is called in Redis (R21). No I/O.

A partition is a prefix of its own under a name that no program can choose. The name is made so that
its hash slot lies in the partition's share of all slots: then the partitions spread evenly over the
shards of a cluster that gives each shard a contiguous part of the slots.
"""

from __future__ import annotations

from binascii import crc32, crc_hqx
from collections.abc import Iterable
from functools import lru_cache
from itertools import count
from typing import Any, Final

from distkit.core.instance import DIVIDED
from distkit.core.operations import Step
from distkit.errors import PartitionsError
from distkit.keys import Keyspace, checked_int

MOST: Final = 256
"""How many partitions a prefix can have."""

SLOTS: Final = 16_384
"""How many hash slots a cluster has."""


def checked_partitions(number: object) -> int:
    """Return the number of partitions, or raise TypeError or ValueError."""
    partitions = checked_int(number, "partitions")
    if not 1 <= partitions <= MOST:
        raise ValueError(f"partitions must be from 1 to {MOST}, not {partitions}")
    return partitions


def partition_of(key: str, partitions: int) -> int:
    """The number of the partition to which a key belongs, from 0: CRC-32 of its bytes, modulo."""
    return crc32(key.encode()) % partitions


@lru_cache(maxsize=4 * MOST)
def name_of(prefix: str, number: int, partitions: int) -> str:
    """What the partition with this number is called, in the place of a prefix.

    It is `prefix:number/partitions:k` with the smallest k from 0 that puts it into the partition's
    share of the slots. A prefix contains no colon (R1), so no program can choose such a name.
    """
    for k in count():
        name = f"{prefix}:{number}/{partitions}:{k}"
        if slot_of(name) * partitions // SLOTS == number:
            return name
    raise AssertionError("unreachable")


def spaces_of(prefix: str, partitions: int) -> list[Keyspace]:
    """The Redis keys of each partition; of the prefix itself if it is not divided."""
    if partitions == 1:
        return [Keyspace(prefix)]
    return [Keyspace(prefix, name_of(prefix, n, partitions)) for n in range(partitions)]


def slot_of(tag: str) -> int:
    """The hash slot of everything whose hash tag this is: CRC-16 (XMODEM), modulo 16384."""
    return crc_hqx(tag.encode(), 0) % SLOTS


def mark_of(partitions: int) -> str:
    """The head of `instances` of a prefix that is divided: no instance opens a session there."""
    return f"{DIVIDED} {partitions}"


def divided_into(head: str) -> int | None:
    """Into how many partitions a prefix with this head is divided; None if it is not."""
    layout, _, number = head.partition(" ")
    return int(number) if layout == str(DIVIDED) and number.isdecimal() else None


def check_division(prefix: str, head: str | None, partitions: int) -> None:
    """PartitionsError if the head of the prefix says another number of partitions."""
    if head is not None and head != mark_of(partitions):
        raise PartitionsError(prefix, divided_into(head) or 1, partitions)


class Split:
    """The steps of a call, divided among the partitions.

    Args:
        steps: in the order of the call.
        partitions: how many there are.

    Attributes:
        parts: each partition's steps, in order.
    """

    def __init__(self, steps: Iterable[Step], partitions: int) -> None:
        self.parts: dict[int, list[Step]] = {}
        self._places: dict[int, list[int]] = {}
        self._size = 0
        for place, step in enumerate(steps):
            number = partition_of(step.key, partitions)
            self.parts.setdefault(number, []).append(step)
            self._places.setdefault(number, []).append(place)
            self._size += 1

    def joined(self, outcomes: Iterable[list[Any]]) -> list[Any]:
        """The outcomes of all steps in the order of the call.

        Args:
            outcomes: of each of the `parts`, in their order.
        """
        together: list[Any] = [None] * self._size
        for places, part in zip(self._places.values(), outcomes, strict=True):
            for place, outcome in zip(places, part, strict=True):
                together[place] = outcome
        return together
