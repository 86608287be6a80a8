"""The public counter API on the model: an application's unit tests need no Redis.

`InMemoryServer` stands in for the Redis client. Counters that share one see each other; its clock
stands still until a test moves it.

    server = InMemoryServer()
    counter = InMemoryCounter(server, "my_app")
    server.advance(30_000)  # every other instance is now presumed dead

The semantics are exactly the model's, and threads may share a counter. The errors are named like
`distkit`'s and have the same built-in bases (`ValueError`, `OverflowError`), but are classes of
their own, because `oracle` never imports `distkit`. Code that catches the built-in classes works
with both.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Protocol, TypeVar

from oracle import model
from oracle.model import Change, CounterState

Result = TypeVar("Result", CounterState, Change)
Self = TypeVar("Self", bound="InMemoryCounter")


class InvalidKeyError(ValueError):
    """R1: a prefix, key or instance id is not allowed. Nothing changed."""

    outcomes: tuple[CounterState | Change | Exception, ...] = ()


class CounterOverflowError(OverflowError):
    """R2: a count or a total would be outside -(2^53 - 1)..2^53 - 1. Nothing changed.

    Attributes:
        outcomes: after a batch, what became of each step, in order: its result or its error.
    """

    outcomes: tuple[CounterState | Change | Exception, ...] = ()


class Comparator(Protocol):
    """What `eq`, `ne`, `lt`, `gt` and `always` make: a pair, the relation and the operand. Those of
    `distkit` are accepted too."""

    @property
    def operand(self) -> int: ...

    def __iter__(self) -> Iterator[str | int]: ...


def eq(operand: int) -> model.Condition:
    """Holds for counts equal to `operand` (R15)."""
    return model.Condition("eq", _checked_count(operand, "operand"))


def ne(operand: int) -> model.Condition:
    """Holds for counts other than `operand` (R15)."""
    return model.Condition("ne", _checked_count(operand, "operand"))


def lt(operand: int) -> model.Condition:
    """Holds for counts less than `operand` (R15)."""
    return model.Condition("lt", _checked_count(operand, "operand"))


def gt(operand: int) -> model.Condition:
    """Holds for counts greater than `operand` (R15)."""
    return model.Condition("gt", _checked_count(operand, "operand"))


def always() -> model.Condition:
    """Holds for every count (R15): for batches in which only some steps depend on a condition."""
    return model.ALWAYS


class InMemoryServer:
    """Stands in for Redis: the state of every prefix, and a wall clock in ms.

    Args:
        wall_ms: what the wall clock shows at first.
    """

    wall_ms: int
    lock: threading.Lock

    def __init__(self, wall_ms: int = 0) -> None:
        self.wall_ms = wall_ms
        self.lock = threading.Lock()
        self._prefixes: dict[str, model.Server] = {}

    def advance(self, ms: int) -> None:
        """Move the wall clock by `ms`. A negative `ms` moves it back, which ages nobody (R3)."""
        self.wall_ms += ms

    def state(self, prefix: str) -> model.Server:
        """The model's state of one prefix, for reading."""
        return self._prefixes.get(prefix, model.Server())

    def flush(self) -> None:
        """Lose everything, as `FLUSHALL` does."""
        self._prefixes.clear()

    def keep(self, prefix: str, state: model.Server) -> None:
        """Replace the state of one prefix. Counters use it, and tests that set a scene."""
        self._prefixes[prefix] = state

    def existing(self, prefix: str) -> set[str]:
        """The keys of all counters that exist (R18)."""
        return model.existing_counters(self.state(prefix))


class InMemoryCounter:
    """`distkit.StrictInstanceAwareCounter` without Redis.

    Args:
        server: the `InMemoryServer` that the counters of a test share.
        prefix: the counters' namespace (R1).
        dead_instance_threshold_ms: how long an instance may be silent, in ms (R5).
        instance_id: this instance's name; a UUID4 unless given.

    Raises:
        InvalidKeyError: prefix or instance_id is not 1 to 255 bytes without `:` (R1).
        TypeError: the threshold is not an int.
        ValueError: the threshold is not from 1 to 2^53 - 1.
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
        self._rounds = model.Rounds()

    @property
    def instance_id(self) -> str:
        """This instance's name."""
        return self._instance.name

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave: the slices are removed and the session is closed (R16)."""
        with self._server.lock:
            self._instance = model.make_leave(self._instance, self._make).instance

    # --- One counter -----------------------------------------------------------------------------

    def inc(self, key: str, count: int = 1) -> CounterState:
        """Add `count` to this instance's slice (R9)."""
        return self._state(_step("inc", key, count))

    def dec(self, key: str, count: int = 1) -> CounterState:
        """Take `count` from this instance's slice; it may go below 0 (R9)."""
        key, step = _step("inc", key, count)
        return self._state((key, step._replace(count=-step.count)))

    def get(self, key: str) -> CounterState:
        """Read the total and this slice. It is a heartbeat too (R4, R9)."""
        return self._state(_step("get", key))

    def set(self, key: str, count: int) -> CounterState:
        """Make `count` the total, all of it this instance's; the epoch moves on (R9)."""
        return self._state(_step("set", key, count))

    def set_on_instance(self, key: str, count: int) -> CounterState:
        """Make `count` this instance's slice; the others keep theirs (R9)."""
        return self._state(_step("set_on_instance", key, count))

    def delete(self, key: str) -> CounterState:
        """Remove every slice; the epoch moves on. Returns what was there before (R9)."""
        return self._state(_step("delete", key))

    def delete_on_instance(self, key: str) -> CounterState:
        """Remove this instance's slice. Returns the new total, and what was removed (R9)."""
        return self._state(_step("delete_on_instance", key))

    # --- With a condition ------------------------------------------------------------------------

    def inc_if(self, key: str, comparator: Comparator, count: int = 1) -> Change:
        """`inc`, if the total meets the condition (R15)."""
        return self._change(_step_if("inc", key, comparator, count))

    def set_if(self, key: str, comparator: Comparator, count: int) -> Change:
        """`set`, if the total meets the condition (R15)."""
        return self._change(_step_if("set", key, comparator, count))

    def set_on_instance_if(self, key: str, comparator: Comparator, count: int) -> Change:
        """`set_on_instance`, if this instance's slice meets the condition (R15)."""
        return self._change(_step_if("set_on_instance", key, comparator, count))

    # --- Batches ---------------------------------------------------------------------------------

    def inc_all(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`inc` for each `(key, count)`, in order."""
        return self._states(_steps("inc", updates))

    def set_all(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`set` for each `(key, count)`, in order."""
        return self._states(_steps("set", updates))

    def set_all_on_instance(self, updates: Iterable[tuple[str, int]]) -> list[CounterState]:
        """`set_on_instance` for each `(key, count)`, in order."""
        return self._states(_steps("set_on_instance", updates))

    def get_all(self, keys: Iterable[str]) -> list[CounterState]:
        """`get` for each key, in order."""
        if isinstance(keys, str | bytes):
            raise TypeError(f"keys must be an iterable of str, not {type(keys).__name__}")
        return self._states(tuple(_step("get", key) for key in keys))

    def inc_all_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> list[Change]:
        """`inc_if` for each `(key, comparator, count)`, in order."""
        return self._changes(_steps_if("inc", updates))

    def set_all_if(self, updates: Iterable[tuple[str, Comparator, int]]) -> list[Change]:
        """`set_if` for each `(key, comparator, count)`, in order."""
        return self._changes(_steps_if("set", updates))

    def set_all_on_instance_if(
        self, updates: Iterable[tuple[str, Comparator, int]]
    ) -> list[Change]:
        """`set_on_instance_if` for each `(key, comparator, count)`, in order."""
        return self._changes(_steps_if("set_on_instance", updates))

    # --- Every counter ---------------------------------------------------------------------------

    def heartbeat(self) -> None:
        """Say that this instance is alive (R4), and look after its counters (R10, R18)."""
        with self._server.lock:
            made, self._rounds = model.make_heartbeat(self._instance, self._rounds, self._make)
            self._instance = made.instance

    def clear_on_instance(self) -> None:
        """Remove this instance's slices on every key."""
        outcomes = self._run(lambda: model.clear_on_instance_steps(self._instance))
        if model.REFUSED in outcomes:
            raise CounterOverflowError(
                "without one of this instance's slices a total would be outside ±(2^53 - 1)"
            )

    def clear(self) -> None:
        """Delete every key of the prefix; the epochs move on."""
        existing = self._server.existing
        self._run(lambda: model.clear_steps(self._instance, existing(self._prefix)))

    # --- On the model ----------------------------------------------------------------------------

    def _state(self, step: tuple[str, model.Step]) -> CounterState:
        return _the_result(self._results((step,), CounterState))

    def _change(self, step: tuple[str, model.Step]) -> Change:
        return _the_result(self._results((step,), Change))

    def _states(self, steps: model.Steps) -> list[CounterState]:
        return _all_results(self._results(steps, CounterState))

    def _changes(self, steps: model.Steps) -> list[Change]:
        return _all_results(self._results(steps, Change))

    def _results(
        self, steps: model.Steps, kind: type[Result]
    ) -> list[Result | CounterOverflowError]:
        """What became of each step, as the caller gets it."""
        outcomes = self._run(lambda: steps)
        return [
            outcome if isinstance(outcome, kind) else _refused(key, step)
            for (key, step), outcome in zip(steps, outcomes, strict=True)
        ]

    def _run(self, steps: Callable[[], model.Steps]) -> tuple[model.Outcome, ...]:
        with self._server.lock:
            made = model.make_steps(self._instance, steps(), self._make)
            self._instance = made.instance
        return made.outcomes

    def _make(self, begun: model.Instance) -> model.Made:
        """Make the call that has begun, over a network that does not fail."""
        state = self._server.state(self._prefix)
        state, instance, outcomes = model.finish_at_once(state, begun, self._server.wall_ms)
        self._server.keep(self._prefix, state)
        return model.Made(instance, outcomes)


def _the_result(results: list[Result | CounterOverflowError]) -> Result:
    (result,) = results
    if isinstance(result, CounterOverflowError):
        raise result
    return result


def _all_results(results: list[Result | CounterOverflowError]) -> list[Result]:
    """The results; or the first error is raised, after all steps have run (R2)."""
    for error in results:
        if isinstance(error, CounterOverflowError):
            error.outcomes = tuple(results)
            raise error
    return [result for result in results if not isinstance(result, CounterOverflowError)]


def _refused(key: str, step: model.Step) -> CounterOverflowError:
    return CounterOverflowError(
        f"{step.op} on {key!r}: a count or the total would be outside ±(2^53 - 1)"
    )


# --- Arguments: bad ones are refused before anything changes ------------------------------------


def _step(op: str, key: object, count: object = 0) -> tuple[str, model.Step]:
    return _checked_name(key, "key"), model.Step(op, _checked_count(count, "count"))


def _step_if(op: str, key: object, comparator: object, count: object) -> tuple[str, model.Step]:
    key, step = _step(op, key, count)
    return key, step._replace(condition=_checked_condition(comparator))


def _steps(op: str, updates: Iterable[object]) -> model.Steps:
    return tuple(_step(op, *update) for update in _shaped(updates, "(key, count)"))


def _steps_if(op: str, updates: Iterable[object]) -> model.Steps:
    shaped = _shaped(updates, "(key, comparator, count)")
    return tuple(_step_if(op, *update) for update in shaped)


def _shaped(updates: Iterable[object], shape: str) -> Iterator[tuple[object, ...]]:
    for update in updates:
        if not isinstance(update, tuple | list) or len(update) != shape.count(",") + 1:
            raise TypeError(f"each update must be {shape}, not {update!r}")
        yield tuple(update)


def _checked_name(name: object, what: str, forbidden: str = ":") -> str:
    error = model.name_error(name, forbidden)
    if error or not isinstance(name, str):
        raise InvalidKeyError(f"{what} {error}")
    return name


def _checked_int(number: object, what: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{what} must be an int, not {type(number).__name__}")
    return number


def _checked_count(count: object, what: str) -> int:
    number = _checked_int(count, what)
    if abs(number) > model.LIMIT:
        raise CounterOverflowError(f"{what} must be from -(2^53 - 1) to 2^53 - 1, not {number}")
    return number


def _checked_condition(comparator: object) -> model.Condition:
    if isinstance(comparator, tuple) and hasattr(comparator, "operand"):
        condition = model.Condition(*comparator)
        if condition == model.ALWAYS or condition.relation in model.RELATIONS:
            _checked_count(condition.operand, "operand")
            return condition
    kind = type(comparator).__name__
    raise TypeError(f"comparator must be made by eq, ne, lt, gt or always, not {kind}")
