"""`Map`: an immutable dict, so that states that contain one can be hashed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Map(dict[K, V]):
    """An immutable, hashable dict. `put` and `without` return changed copies."""

    __slots__ = ()

    def put(self, key: K, value: V) -> Map[K, V]:
        after = Map(self)
        dict.__setitem__(after, key, value)  # `after` has not escaped yet
        return after

    def put_all(self, changes: Mapping[K, V]) -> Map[K, V]:
        """All of them with one copy: a `put` for each would copy the map as often."""
        return Map({**self, **changes}) if changes else self

    def without(self, *keys: K) -> Map[K, V]:
        gone = frozenset(keys)
        return Map({k: v for k, v in self.items() if k not in gone})

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    if not TYPE_CHECKING:  # as methods of dict they have overloads that no single one can match

        def _refuse(self, *_: Any, **__: Any) -> NoReturn:
            raise TypeError("a Map does not change; use put, put_all or without")

        __setitem__ = __delitem__ = __ior__ = _refuse
        update = pop = popitem = clear = setdefault = _refuse
