"""The public counter API on the model: an application's unit tests need no Redis.

`InMemoryServer` stands where the Redis client would stand. Counters that share one see each other;
its clock stands still until a test moves it.

    server = InMemoryServer()
    counter = InMemoryCounter(server, "my_app")
    server.advance(30_000)  # everybody else is now presumed dead

The semantics are the model's, to the letter; threads may share a counter. The errors have the names
of `distkit`'s and the same built-in bases (`ValueError`, `OverflowError`), but are classes of their
own, for `oracle` never imports `distkit`: catch the built-in ones, and one handler serves both.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from oracle import model

_NOTHING = model.Counter()


class InvalidKeyError(ValueError):
    """R1: a prefix, key or instance id that is not allowed."""

    outcomes: tuple[object, ...] = ()


class CounterOverflowError(OverflowError):
    """R2: a count or a total would leave -(2^53 - 1)..2^53 - 1. Nothing changed. After a batch,
    `outcomes` holds what became of each step, in order: its result or its error."""

    outcomes: tuple[object, ...] = ()


class CounterState(NamedTuple):
    """`(cumulative, instance_count)`, as every call returns it."""

    cumulative: int
    instance_count: int


class Change(NamedTuple):
    """`(new, old)`, as a call with a condition returns it (R15)."""

    new: CounterState
    old: CounterState


def eq(operand: int) -> model.Condition:
    """The condition "equal to `operand`" (R15). `distkit`'s own will do as well."""
    return model.Condition("eq", operand)


def ne(operand: int) -> model.Condition:
    """The condition "not equal to `operand`" (R15)."""
    return model.Condition("ne", operand)


def lt(operand: int) -> model.Condition:
    """The condition "less than `operand`" (R15)."""
    return model.Condition("lt", operand)


def gt(operand: int) -> model.Condition:
    """The condition "greater than `operand`" (R15)."""
    return model.Condition("gt", operand)


class InMemoryServer:
    """What stands in for Redis: the state of every prefix, and a wall clock in ms."""

    def __init__(self, wall_ms: int = 0) -> None:
        self.wall_ms = wall_ms
        self.lock = threading.Lock()
        self._prefixes: dict[str, model.Server] = {}
        self._made: dict[str, set[str]] = {}

    def advance(self, ms: int) -> None:
        """Move the wall clock by `ms`; back when negative, which costs nobody anything (R3)."""
        self.wall_ms += ms

    def state(self, prefix: str) -> model.Server:
        """The model's state of one prefix, to be read."""
        return self._prefixes.get(prefix, model.Server())

    def flush(self) -> None:
        """Lose everything, as `FLUSHALL` does."""
        self._prefixes.clear()
        self._made.clear()

    def keep(self, prefix: str, state: model.Server, touched: Iterable[str] | None = None) -> None:
        """Make this the state of one prefix; for counters, and for tests that set a scene.

        Args:
            prefix: which one.
            state: what it holds from now on.
            touched: the keys that may have been made meanwhile; all of them unless given.
        """
        self._prefixes[prefix] = state
        looked_at = state.counters if touched is None else touched
        made = {key for key in looked_at if state.counters.get(key, _NOTHING) != _NOTHING}
        self._made.setdefault(prefix, set()).update(made)

    def made(self, prefix: str) -> frozenset[str]:
        """The keys that a write has made, and no loss has unmade: a read makes none."""
        return frozenset(self._made.get(prefix, ()))


class InMemoryCounter:
    """`distkit.StrictInstanceAwareCounter` without Redis.

    Args:
        server: the `InMemoryServer` that the counters of a test share.
        prefix: the counters' namespace (R1).
        dead_instance_threshold_ms: how long an instance may be silent, in ms (R5).
        instance_id: this instance's name; a UUID4 unless given.

    Raises:
        InvalidKeyError: prefix or instance_id is not 1 to 255 bytes without `:`.
        TypeError: the threshold is not an int.
        ValueError: the threshold is not positive.
    """

    def __init__(
        self,
        server: InMemoryServer,
        prefix: str,
        *,
        dead_instance_threshold_ms: int = 30_000,
        instance_id: str | None = None,
    ) -> None:
        self._server = server
        self._prefix = _checked_name(prefix, "prefix", forbidden=":{}")
        name = str(uuid.uuid4()) if instance_id is None else instance_id
        threshold = _checked_int(dead_instance_threshold_ms, "dead_instance_threshold_ms")
        if not 1 <= threshold <= model.LIMIT:
            raise ValueError(
                f"dead_instance_threshold_ms must be from 1 to 2^53 - 1, not {threshold}"
            )
        self._instance = model.Instance(_checked_name(name, "instance_id"), threshold)

    @property
    def instance_id(self) -> str:
        return self._instance.name

    def __enter__(self) -> InMemoryCounter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave: the slices are removed, the session is closed (R16)."""
        clear = model.Step("set_on_instance")
        try:
            if self._instance.session:
                self._run(tuple((key, clear) for key in sorted(self._instance.memory)))
        finally:
            self._make(model.begin_leaving(self._instance))

    def inc(self, key: str, count: int = 1) -> CounterState:
        """Add `count` to this instance's slice (R9)."""
        return self._call(key, "inc", _checked_count(count))

    def dec(self, key: str, count: int = 1) -> CounterState:
        """Take `count` from this instance's slice (R9)."""
        return self._call(key, "inc", -_checked_count(count))

    def get(self, key: str) -> CounterState:
        """Read; still a heartbeat (R4, R9)."""
        return self._call(key, "get")

    def set(self, key: str, count: int) -> CounterState:
        """Make `count` the total, all of it this instance's; the epoch moves on (R9)."""
        return self._call(key, "set", _checked_count(count))

    def set_on_instance(self, key: str, count: int) -> CounterState:
        """Make `count` this instance's slice; no epoch moves (R9)."""
        return self._call(key, "set_on_instance", _checked_count(count))

    def delete(self, key: str) -> CounterState:
        """Remove every slice; the epoch moves on. Returns what was there before (R9)."""
        return self._call(key, "delete")

    def delete_on_instance(self, key: str) -> CounterState:
        """Remove this instance's slice. Returns (new total, what was removed) (R9)."""
        return self._call(key, "delete_on_instance")

    def inc_if(self, key: str, comparator: Any, count: int = 1) -> Change:
        """`inc`, if the total meets the condition (R15)."""
        return self._call_if((key, comparator, count), "inc")

    def set_if(self, key: str, comparator: Any, count: int) -> Change:
        """`set`, if the total meets the condition (R15)."""
        return self._call_if((key, comparator, count), "set")

    def set_on_instance_if(self, key: str, comparator: Any, count: int) -> Change:
        """`set_on_instance`, if this instance's slice meets the condition (R15)."""
        return self._call_if((key, comparator, count), "set_on_instance")

    def inc_all(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`inc` for each `(key, count)`, in order."""
        return self._all(_updates(updates, "inc"))

    def set_all(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`set` for each `(key, count)`, in order."""
        return self._all(_updates(updates, "set"))

    def set_all_on_instance(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`set_on_instance` for each `(key, count)`, in order."""
        return self._all(_updates(updates, "set_on_instance"))

    def get_all(self, keys: Iterable[str]) -> list[CounterState]:
        """`get` for each key, in order."""
        return self._all([(_checked_name(key, "key"), model.Step("get")) for key in keys])

    def inc_all_if(self, updates: Iterable[tuple[str, Any, int]]) -> list[Change]:
        """`inc_if` for each `(key, comparator, count)`, in order."""
        return self._all(_updates_if(updates, "inc"))

    def set_all_if(self, updates: Iterable[tuple[str, Any, int]]) -> list[Change]:
        """`set_if` for each `(key, comparator, count)`, in order."""
        return self._all(_updates_if(updates, "set"))

    def set_all_on_instance_if(self, updates: Iterable[tuple[str, Any, int]]) -> list[Change]:
        """`set_on_instance_if` for each `(key, comparator, count)`, in order."""
        return self._all(_updates_if(updates, "set_on_instance"))

    def heartbeat(self) -> None:
        """Keep an idle instance alive (R4)."""
        self._run(())

    def clear_on_instance(self) -> None:
        """Remove this instance's slices on every key."""
        step = model.Step("set_on_instance", 0)
        outcomes = self._run(tuple((key, step) for key in sorted(self._instance.memory)))
        if model.REFUSED in outcomes:
            raise CounterOverflowError(f"without one of the slices a total leaves ±{model.LIMIT}")

    def clear(self) -> None:
        """Delete every key of the prefix; the epochs move on."""
        keys = {*self._server.made(self._prefix), *self._instance.memory}
        self._run(tuple((key, model.Step("set", 0)) for key in sorted(keys)))

    def _call(self, key: str, kind: str, count: int = 0) -> CounterState:
        return self._one((_checked_name(key, "key"), model.Step(kind, count)))  # type: ignore[no-any-return]

    def _call_if(self, update: tuple[str, Any, int], kind: str) -> Change:
        return self._one(*_updates_if([update], kind))  # type: ignore[no-any-return]

    def _all(self, todo: Sequence[tuple[str, model.Step]]) -> list[Any]:
        """Each step's result; the first that was refused is raised, after all have run (R2)."""
        told = self._results(todo)
        for result in told:
            if isinstance(result, CounterOverflowError):
                result.outcomes = tuple(told)
                raise result
        return told

    def _one(self, todo: tuple[str, model.Step]) -> Any:
        (told,) = self._results([todo])
        if isinstance(told, CounterOverflowError):
            raise told
        return told

    def _results(self, todo: Sequence[tuple[str, model.Step]]) -> list[Any]:
        outcomes = self._run(tuple(todo))
        return [_told(*item, outcome) for item, outcome in zip(todo, outcomes, strict=True)]

    def _run(self, steps: tuple[tuple[str, model.Step], ...]) -> tuple[model.Outcome, ...]:
        return self._make(model.begin(self._instance, steps), *(key for key, _ in steps))

    def _make(self, begun: model.Instance, *keys: str) -> tuple[model.Outcome, ...]:
        """Make the call that has begun; it may write these keys."""
        with self._server.lock:
            state = self._server.state(self._prefix)
            state, self._instance, outcomes = self._converse(state, begun)
            put_back = self._instance.memory if self._instance.fence != begun.fence else ()
            self._server.keep(self._prefix, state, {*put_back, *keys})
        return outcomes

    def _converse(
        self, state: model.Server, instance: model.Instance
    ) -> tuple[model.Server, model.Instance, tuple[model.Outcome, ...]]:
        return model.finish_at_once(state, instance, self._server.wall_ms)


def _checked_name(name: object, what: str, forbidden: str = ":") -> str:
    if not isinstance(name, str):
        raise InvalidKeyError(f"a {what} must be a str, not {type(name).__name__}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidKeyError(f"a {what} must be text that UTF-8 can hold: {name!r}") from None
    if not 1 <= size <= 255:
        raise InvalidKeyError(f"a {what} has 1 to 255 bytes in UTF-8, not {size}")
    found = sorted(set(forbidden) & set(name))
    if found:
        raise InvalidKeyError(f"a {what} must not contain {' '.join(found)}: {name!r}")
    return name


def _checked_int(count: object, what: str) -> int:
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{what} must be an int, not {type(count).__name__}")
    return count


def _checked_count(count: object) -> int:
    number = _checked_int(count, "count")
    if abs(number) > model.LIMIT:
        raise CounterOverflowError(f"count must lie within ±{model.LIMIT}, not {number}")
    return number


def _updates(updates: Iterable[tuple[str, int]], kind: str) -> list[tuple[str, model.Step]]:
    return [
        (_checked_name(key, "key"), model.Step(kind, _checked_count(count)))
        for key, count in updates
    ]


def _updates_if(updates: Iterable[tuple[str, Any, int]], kind: str) -> list[tuple[str, model.Step]]:
    return [
        (
            _checked_name(key, "key"),
            model.Step(kind, _checked_count(count), _checked_condition(comparator)),
        )
        for key, comparator, count in updates
    ]


def _told(
    key: str, step: model.Step, outcome: model.Outcome
) -> CounterState | Change | CounterOverflowError:
    """What a step came to, as the caller gets it."""
    if isinstance(outcome, str):
        return CounterOverflowError(
            f"{step.op} on {key!r}: a count or the total would leave ±{model.LIMIT}"
        )
    if isinstance(outcome, model.Change):
        return Change(CounterState(*outcome.new), CounterState(*outcome.old))
    return CounterState(*outcome)


def _checked_condition(comparator: Any) -> model.Condition:
    if not isinstance(comparator, tuple) or len(comparator) != 2:
        kind = type(comparator).__name__
        raise TypeError(f"comparator must be made by eq, ne, lt or gt, not {kind}")
    test, operand = comparator
    return model.Condition(test, _checked_count(operand))
