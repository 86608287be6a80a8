"""Functions of numbers, each computed once for each argument and looked up for many at a time.

A bounded world has millions of states that are made of some thousands of parts, so the functions
of parts see the same arguments again and again. Arrays are NumPy's, of 64-bit integers. A result
that is not known yet is computed in Python, one argument after another. If that raises, none of
the results of that lookup are kept.
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


class Interner(Generic[T]):
    """Interns values: equal values share a number, counted from 0.

    Named tuples of different types can be equal. They must not meet here, because one would be
    taken for the other.
    """

    def __init__(self, what: str, bits: int) -> None:
        self._what, self._bits = what, bits
        self._numbers: dict[T, int] = {}
        self.values: list[T] = []

    def number(self, value: T) -> int:
        """The number of a value. Raises TooLarge if there are no numbers left."""
        number = self._numbers.get(value)
        if number is None:
            number = len(self.values)
            if number >= 2**self._bits:
                raise TooLarge(f"more than {2**self._bits} different {self._what}")
            self._numbers[value] = number
            self.values.append(value)
        assert type(self.values[number]) is type(value), f"taken for {self.values[number]}: {value}"
        return number


class Attribute(Generic[T]):
    """A number that belongs to each value of an interner."""

    def __init__(self, interner: Interner[T], compute: Callable[[T], int]) -> None:
        self._interner, self._compute = interner, compute
        self._known = array("q")

    def of(self, numbers: Array) -> Array:
        values = self._interner.values
        for number in range(len(self._known), len(values)):
            self._known.append(self._compute(values[number]))
        return _view(self._known)[numbers]


class _SortedMap:
    """Numbers from 0 on by their keys, in the order of the keys."""

    def __init__(self) -> None:
        # The last key is greater than any other, so that every binary search ends at a key.
        self.keys = np.array([NO_KEY])
        self.values = np.array([UNKNOWN])

    def __len__(self) -> int:
        return len(self.keys) - 1

    def of(self, keys: Array) -> Array:
        """The value of each key, or UNKNOWN."""
        places = np.searchsorted(self.keys, keys)
        return np.where(self.keys[places] == keys, self.values[places], UNKNOWN)

    def add(self, keys: Array, values: Array) -> None:
        """Add keys that are not there yet, in order."""
        places = np.searchsorted(self.keys, keys)
        self.keys = np.insert(self.keys, places, keys)
        self.values = np.insert(self.values, places, values)


class Table:
    """A function of several numbers, of so many bits each.

    What it has learned last is kept apart in `young` until that is a tenth of everything: to add to
    an array is to copy it.
    """

    def __init__(self, bits: Sequence[int], compute: Callable[..., int]) -> None:
        assert sum(bits) < 63
        self._bits, self._compute = tuple(bits), compute
        self._known, self._young = _SortedMap(), _SortedMap()

    def of(self, *arguments: Array | int) -> Array:
        """The results for arrays of arguments. A plain number stands for an array of it."""
        keys = self._keys(arguments)
        values = self._known.of(keys)
        (places,) = (values == UNKNOWN).nonzero()
        if len(places):
            values[places] = self._young_of(keys[places])
        return values

    def __len__(self) -> int:
        return len(self._known) + len(self._young)

    def arguments(self) -> Iterator[tuple[int, ...]]:
        """Every argument that the function was computed for."""
        keys = np.concatenate([self._known.keys[:-1], self._young.keys[:-1]])
        return map(self._arguments, keys.tolist())

    def _young_of(self, keys: Array) -> Array:
        values = self._young.of(keys)
        (places,) = (values == UNKNOWN).nonzero()
        if len(places):
            self._learn(np.unique(keys[places]))
            values[places] = self._young.of(keys[places])
        if len(self._young) > len(self._known) // 10:
            self._known.add(self._young.keys[:-1], self._young.values[:-1])
            self._young = _SortedMap()
        return values

    def _learn(self, keys: Array) -> None:
        values = [self._compute(*self._arguments(key)) for key in keys.tolist()]
        self._young.add(keys, np.array(values))

    def _keys(self, arguments: Sequence[Array | int]) -> Array:
        keys: Any = arguments[0]
        for bits, argument in zip(self._bits[1:], arguments[1:], strict=True):
            keys = keys << bits | argument
        return keys  # type: ignore[no-any-return]

    def _arguments(self, key: int) -> tuple[int, ...]:
        arguments = []
        for bits in reversed(self._bits):
            arguments.append(key & 2**bits - 1)
            key >>= bits
        return tuple(reversed(arguments))


class MultiTable:
    """A function of several numbers with any number of results."""

    def __init__(self, bits: Sequence[int], compute: Callable[..., Sequence[int]]) -> None:
        self._compute = compute
        self._rows = Table(bits, self._add_row)
        self._ends = array("q", [0])
        """Row r has the results from ends[r] up to ends[r + 1]."""
        self._results = array("q")

    def of(self, *arguments: Array | int) -> tuple[Array, Array]:
        """All results, preceded by the places of the arguments that they belong to."""
        rows = self._rows.of(*arguments)
        ends = _view(self._ends)
        first, counts = ends[rows], ends[rows + 1] - ends[rows]
        origins = np.repeat(np.arange(len(rows)), counts)
        before = np.cumsum(counts) - counts
        places = np.arange(len(origins)) + np.repeat(first - before, counts)
        return origins, _view(self._results)[places]

    def _add_row(self, *arguments: int) -> int:
        self._results.extend(self._compute(*arguments))
        self._ends.append(len(self._results))
        return len(self._ends) - 2


def _view(values: array[int]) -> Array:
    """An array that shares the memory of `values`, which cannot grow as long as it is kept."""
    return np.frombuffer(values, np.int64)
