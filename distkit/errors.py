"""The errors of a call, besides `TypeError`. Each says whether the call changed anything.

Every class is also the built-in or redis-py class that a caller who does not know distkit would
catch. Other errors that the server answers with (no permission, out of memory, read-only) pass
through as redis-py raises them, and such a call changed nothing. The exception is such an answer to
a retry: the first copy may have been executed, so the error is OutcomeUnknownError.
"""

from __future__ import annotations

from redis.exceptions import ConnectionError as RedisConnectionError


class DistkitError(Exception):
    """The base of every error that distkit itself raises, except `TypeError`.

    Attributes:
        outcomes: after a batch, what became of each step, in order: its result or its error.
    """

    outcomes: tuple[object, ...] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.args))})"


class InvalidKeyError(DistkitError, ValueError):
    """A prefix, key or instance id is not allowed (R1), or the Redis key of a counter holds
    something that is not a counter. Nothing changed."""


class CounterOverflowError(DistkitError, OverflowError):
    """A count or a total would leave -(2^53 - 1)..2^53 - 1 (R2). Nothing changed."""


class OutcomeUnknownError(DistkitError, RedisConnectionError):
    """The call was sent and its outcome cannot be known (R12). It was executed once or not at all,
    and will not be executed after the next call. That call works, and its result shows what holds.
    If the session was lost meanwhile, a `set` or `delete` may have started a new epoch while the
    value that it set is gone."""


class MisuseError(DistkitError, RuntimeError):
    """The counter was called where it cannot work: from inside its own call in the same thread (by
    a signal handler, or a `__del__` that the garbage collector runs), or from a second event loop
    while the first one runs. Nothing was sent."""


class NotExecutedError(DistkitError, RedisConnectionError):
    """The call cannot have reached the server, or its session could not be kept. It was not
    executed and never will be."""


class LimitReached(DistkitError):
    """No slot of a limit is free (R20): at once, or within the time that the caller would wait.
    Nothing is held. With `when_unreachable="refuse"` also if Redis cannot be reached; `__cause__`
    says so then.

    Attributes:
        key: the counter.
        most: how many slots it has.
    """

    def __init__(self, key: str, most: int) -> None:
        super().__init__(f"none of the {most} slots of {key!r} is free")
        self.key = key
        self.most = most

    def __reduce__(self) -> tuple[type[LimitReached], tuple[str, int]]:
        return type(self), (self.key, self.most)


class LayoutError(DistkitError):
    """Another version of distkit, or another port, keeps this prefix's data in another layout.
    Nothing changed.

    Attributes:
        found: the layout in Redis; 0 is the one of the versions before layouts had numbers.
        known: the layout that this version reads and writes.
    """

    def __init__(self, found: int, known: int, prefix: str) -> None:
        super().__init__(found, known, prefix)
        self.found = found
        self.known = known
        self._prefix = prefix

    def __str__(self) -> str:
        if self.found > self.known:
            advice = "update distkit in this program"
        else:
            advice = (
                f"stop the programs that use the older version and delete its Redis keys "
                f"('distkit:{{{self._prefix}}}:*'), or choose another prefix"
            )
        return (
            f"the data of prefix {self._prefix!r} in Redis has layout {self.found}, and this "
            f"version of distkit knows layout {self.known}: {advice}"
        )


class PartitionsError(LayoutError):
    """This prefix is divided into another number of partitions than this counter was told (R21).
    Nothing changed.

    Attributes:
        there: into how many partitions the prefix is divided: 1 if it is not; None if unknown.
        asked: what this counter was told.
    """

    def __init__(self, prefix: str, there: int | None, asked: int) -> None:
        super().__init__(*((1, 2) if there == 1 else (2, 1)), prefix)
        self.args: tuple[str, int | None, int] = (prefix, there, asked)
        self.there: int | None = there
        self.asked: int = asked

    def __str__(self) -> str:
        if self.there == 1:
            found = "is not divided into partitions"
        else:
            found = f"is divided into {self.there or 'several'} partitions"
        return (
            f"prefix {self._prefix!r} {found}, and here partitions={self.asked}: all programs that "
            "share it have to give the same number"
        )
