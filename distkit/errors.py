"""What a call can raise besides `TypeError`: each error says whether something has changed.

Every class is also the built-in or redis-py class that a caller who knows nothing of distkit would
catch. A refusal by the server that is none of these (no permission, out of memory, read-only, ...)
passes through as redis-py raises it, and such a call has changed nothing; unless it met only a
retry: then the first copy may have been executed, and the error is OutcomeUnknownError.
"""

from redis.exceptions import ConnectionError as RedisConnectionError


class DistkitError(Exception):
    """The base of all that distkit raises on its own account, but for `TypeError`.

    Attributes:
        outcomes: after a batch, what became of each step, in order: its result or its error.
    """

    outcomes: tuple[object, ...] = ()


class InvalidKeyError(DistkitError, ValueError):
    """A prefix, key or instance id is not allowed (R1), or something in Redis that is no counter
    stands where the counter would be. Nothing changed."""


class CounterOverflowError(DistkitError, OverflowError):
    """A count or a total would leave -(2^53 - 1)..2^53 - 1 (R2). Nothing changed."""


class OutcomeUnknownError(DistkitError, RedisConnectionError):
    """The call was sent and its outcome cannot be known (R12). It may have been executed, once; it
    will not be executed later than the next call, which works, and says what holds. If the session
    was lost meanwhile, a `set` or `delete` may have moved the epoch, and its value may be gone."""


class NotExecutedError(DistkitError, RedisConnectionError):
    """The call cannot have reached the server, or its session could not be kept. It was surely not
    executed, and never will be."""
