"""The arguments of calls in memory: bad ones are refused before anything changes (R1, R2, R15)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from oracle import model
from oracle.in_memory.types import registered


class Comparator(Protocol):
    """What `eq`, `ne`, `lt`, `gt` and `always` make: a pair, the relation and the operand. Those of
    `distkit` are accepted too."""

    @property
    def operand(self) -> int: ...

    def __iter__(self) -> Iterator[str | int]: ...


def eq(operand: int) -> model.Condition:
    """Holds for counts equal to `operand` (R15)."""
    return model.Condition("eq", checked_count(operand, "operand"))


def ne(operand: int) -> model.Condition:
    """Holds for counts other than `operand` (R15)."""
    return model.Condition("ne", checked_count(operand, "operand"))


def lt(operand: int) -> model.Condition:
    """Holds for counts less than `operand` (R15)."""
    return model.Condition("lt", checked_count(operand, "operand"))


def gt(operand: int) -> model.Condition:
    """Holds for counts greater than `operand` (R15)."""
    return model.Condition("gt", checked_count(operand, "operand"))


def always() -> model.Condition:
    """Holds for every count (R15): for batches in which only some steps depend on a condition."""
    return model.ALWAYS


def one_step(op: str, key: object, count: object = 0) -> tuple[str, model.Step]:
    return checked_name(key, "key"), model.Step(op, checked_count(count, "count"))


def decremented(key: object, count: object) -> tuple[str, model.Step]:
    """`inc` by minus `count`."""
    key, step = one_step("inc", key, count)
    return key, step._replace(count=-step.count)


def one_step_if(op: str, key: object, comparator: object, count: object) -> tuple[str, model.Step]:
    key, step = one_step(op, key, count)
    return key, step._replace(condition=checked_condition(comparator))


def steps_of(op: str, updates: Iterable[object]) -> model.Steps:
    return tuple(one_step(op, *update) for update in shaped(updates, "(key, count)"))


def steps_if_of(op: str, updates: Iterable[object]) -> model.Steps:
    items = shaped(updates, "(key, comparator, count)")
    return tuple(one_step_if(op, *update) for update in items)


def shaped(updates: Iterable[object], shape: str) -> Iterator[tuple[object, ...]]:
    for update in updates:
        if not isinstance(update, tuple | list) or len(update) != shape.count(",") + 1:
            raise TypeError(f"each update must be {shape}, not {update!r}")
        yield tuple(update)


def checked_name(name: object, what: str, forbidden: str = ":") -> str:
    error = model.name_error(name, forbidden)
    if error or not isinstance(name, str):
        raise registered().InvalidKeyError(f"{what} {error}")
    return name


def checked_int(number: object, what: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{what} must be an int, not {type(number).__name__}")
    return number


def checked_count(count: object, what: str) -> int:
    number = checked_int(count, what)
    if abs(number) > model.LIMIT:
        raise registered().CounterOverflowError(
            f"{what} must be from -(2^53 - 1) to 2^53 - 1, not {number}"
        )
    return number


def checked_condition(comparator: object) -> model.Condition:
    if isinstance(comparator, tuple) and hasattr(comparator, "operand"):
        condition = model.Condition(*comparator)
        if condition == model.ALWAYS or condition.relation in model.RELATIONS:
            checked_count(condition.operand, "operand")
            return condition
    kind = type(comparator).__name__
    raise TypeError(f"comparator must be made by eq, ne, lt, gt or always, not {kind}")


def gets(keys: Iterable[object]) -> model.Steps:
    """The steps of a batch of reads."""
    if isinstance(keys, str | bytes):
        raise TypeError(f"keys must be an iterable of str, not {type(keys).__name__}")
    return tuple(one_step("get", key) for key in keys)


def checked_positive(number: object, what: str) -> int:
    """R20: at least 1."""
    count = checked_count(number, what)
    if count < 1:
        raise ValueError(f"{what} must be at least 1, not {count}")
    return count


def checked_policy(given: str, *allowed: str) -> str:
    """R20: what to do when the server cannot be reached."""
    if given not in allowed:
        names = ", ".join(map(repr, allowed))
        raise ValueError(f"when_unreachable must be one of {names}, not {given!r}")
    return given


def checked_timeout(timeout: object, blocking: bool) -> float | None:
    """R20: how long to wait for a slot, in seconds; None: for ever."""
    if not blocking:
        if timeout is not None:
            raise ValueError("timeout is for blocking=True only")
        return 0.0
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds, not {type(timeout).__name__}")
    if not timeout >= 0:
        raise ValueError(f"timeout must not be negative: {timeout}")
    return float(timeout)
