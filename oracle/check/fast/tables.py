"""Functions of numbers, computed once for each argument and looked up for many at a time.

`oracle.check.fast.space` needs them to be fast: a bounded world has millions of states, made of some thousands
of parts. Arrays are NumPy's, of 64-bit integers. What is computed for the first time is computed in
Python, one argument after another, and may raise; then nothing of that is kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.int64]
T = TypeVar("T", bound=Hashable)

NO_KEY = np.iinfo(np.int64).max
UNKNOWN = -1


class TooLarge(Exception):
    """The world has more different parts than there are numbers for them."""


class Numbers(Generic[T]):
    """Gives equal things the same number, from 0."""

    def __init__(self, what: str, bits: int) -> None:
        self.what, self.bits = what, bits
        self.numbers: dict[T, int] = {}
        self.things: list[T] = []

    def of(self, thing: T) -> int:
        number = self.numbers.get(thing)
        if number is None:
            number = len(self.things)
            if number >= 2**self.bits:
                raise TooLarge(f"more than {2**self.bits} different {self.what}")
            self.numbers[thing] = number
            self.things.append(thing)
        return number


class Trait(Generic[T]):
    """A number that belongs to each thing that is numbered."""

    def __init__(self, numbers: Numbers[T], compute: Callable[[T], int]) -> None:
        self.numbers, self.compute = numbers, compute
        self.values = array("q")

    def of(self, numbers: Array) -> Array:
        things = self.numbers.things
        for number in range(len(self.values), len(things)):
            self.values.append(self.compute(things[number]))
        return _view(self.values)[numbers]


class Sorted:
    """Numbers of 0 and more by their keys, in the order of the keys."""

    def __init__(self) -> None:
        # One at the end that no key reaches, so that every search ends at one.
        self.keys = np.array([NO_KEY])
        self.values = np.array([UNKNOWN])

    def __len__(self) -> int:
        return len(self.keys) - 1

    def of(self, keys: Array) -> Array:
        places = np.searchsorted(self.keys, keys)
        return np.where(self.keys[places] == keys, self.values[places], UNKNOWN)

    def add(self, keys: Array, values: Array) -> None:
        """Keys that are not there yet, in order."""
        places = np.searchsorted(self.keys, keys)
        self.keys = np.insert(self.keys, places, keys)
        self.values = np.insert(self.values, places, values)


class Table:
    """A function of several numbers, of so many bits each. What was computed last is kept apart
    until it is a tenth of all: to add to an array is to copy it."""

    def __init__(self, bits: Sequence[int], compute: Callable[..., int]) -> None:
        assert sum(bits) < 63
        self.bits, self.compute = tuple(bits), compute
        self.known, self.young = Sorted(), Sorted()

    def of(self, *arguments: Array | int) -> Array:
        keys = self._keys(arguments)
        values = self.known.of(keys)
        (places,) = (values == UNKNOWN).nonzero()
        if len(places):
            values[places] = self._young_of(keys[places])
        return values

    def __len__(self) -> int:
        return len(self.known) + len(self.young)

    def arguments(self) -> Iterator[tuple[int, ...]]:
        """All that the function was computed of."""
        keys = np.concatenate([self.known.keys[:-1], self.young.keys[:-1]])
        return map(self._arguments, keys.tolist())

    def _young_of(self, keys: Array) -> Array:
        values = self.young.of(keys)
        (places,) = (values == UNKNOWN).nonzero()
        if len(places):
            self._learn(np.unique(keys[places]))
            values[places] = self.young.of(keys[places])
        if len(self.young) > len(self.known) // 10:
            self.known.add(self.young.keys[:-1], self.young.values[:-1])
            self.young = Sorted()
        return values

    def _learn(self, keys: Array) -> None:
        values = [self.compute(*self._arguments(key)) for key in keys.tolist()]
        self.young.add(keys, np.array(values))

    def _keys(self, arguments: Sequence[Array | int]) -> Array:
        keys: Any = arguments[0]
        for bits, argument in zip(self.bits[1:], arguments[1:], strict=True):
            keys = keys << bits | argument
        return keys  # type: ignore[no-any-return]

    def _arguments(self, key: int) -> tuple[int, ...]:
        arguments = []
        for bits in reversed(self.bits):
            arguments.append(key & 2**bits - 1)
            key >>= bits
        return tuple(reversed(arguments))


class Fans:
    """A function of several numbers that gives any number of numbers."""

    def __init__(self, bits: Sequence[int], compute: Callable[..., Sequence[int]]) -> None:
        self.compute = compute
        self.fans = Table(bits, self._fan)
        self.ends = array("q", [0])
        """Where the results of each argument end, after those of the one before."""
        self.results = array("q")

    def of(self, *arguments: Array | int) -> tuple[Array, Array]:
        """All results, and beside each the place of the argument that it comes of."""
        fans = self.fans.of(*arguments)
        ends = _view(self.ends)
        first, counts = ends[fans], ends[fans + 1] - ends[fans]
        origins = np.repeat(np.arange(len(fans)), counts)
        before = np.cumsum(counts) - counts
        places = np.arange(len(origins)) + np.repeat(first - before, counts)
        return origins, _view(self.results)[places]

    def _fan(self, *arguments: int) -> int:
        self.results.extend(self.compute(*arguments))
        self.ends.append(len(self.results))
        return len(self.ends) - 2


def _view(values: array[int]) -> Array:
    """(Not to be kept: an array cannot grow while it is looked at.)"""
    return np.frombuffer(values, np.int64)
