"""Which clients are accepted, and how connections of our own are made from a client's settings.

A counter does not take connections from the client's pool: it would hold one for as long as it
counts, and with `max_connections=1` the rest of the program would starve. It makes its own from the
pool's settings instead, one for each request in flight, and shares the idle ones with the other
counters of the same client. What disconnects the pool (closing the client, or a new master that
Sentinel has named) closes the idle ones too.

A connection of our own never retries: redis-py would retry inside of our retries. It gives up on a
reply at the deadline, because a request that is sent again executes once (R11).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from redis.backoff import NoBackoff

from distkit.keys import LIMIT, checked_int

POOLS_OWN: Final = frozenset(
    {
        "event_dispatcher",
        "maint_notifications_config",
        "maint_notifications_pool_handler",
        "oss_cluster_maint_notifications_handler",
        "himport_registry",
    }
)
"""Settings that tie a connection to its pool."""

DEADLINE_SHARE: Final = 10
LEAST_DEADLINE_S: Final = 1.0
"""By default a reply may take a tenth of the threshold, but at least a second."""

MOST_REDIRECTIONS: Final = 5
"""How many redirections of a cluster one transmission follows."""

STAYS_FRESH_S: Final = 0.001
"""How long an idle connection is trusted. After that we look whether the server has closed it."""

MOST_IDLE: Final = 16
"""How many idle connections the counters of a client keep."""


def deadline_s(reply_timeout_ms: int | None, threshold_ms: int) -> float:
    """How long to wait for a reply. ValueError or TypeError if the argument is wrong."""
    if reply_timeout_ms is None:
        return max(LEAST_DEADLINE_S, threshold_ms / 1000 / DEADLINE_SHARE)
    timeout = checked_int(reply_timeout_ms, "reply_timeout_ms")
    if not 1 <= timeout <= LIMIT:
        raise ValueError(f"reply_timeout_ms must be from 1 to 2^53 - 1, not {timeout}")
    return timeout / 1000


class Place(NamedTuple):
    """Where connections lead, and how they are made."""

    connection_class: type[Any]
    settings: Mapping[str, Any]

    def at(self, host: str, port: int) -> Place:
        """The same on another node of a cluster; without a host, on another port."""
        address = {"port": port} | ({"host": host} if host else {})
        return Place(self.connection_class, {**self.settings, **address})


def made(place: Place, retry_class: type[Any], deadline: float) -> tuple[Any, Any]:
    """A connection of our own, not connected yet, and the retry policy that the client gives it."""
    settings = {name: value for name, value in place.settings.items() if name not in POOLS_OWN}
    connection = place.connection_class(**settings)
    policy, connection.retry = connection.retry, retry_class(NoBackoff(), 0)
    given = connection.socket_timeout
    timeout = deadline if given is None else min(given, deadline)
    connection.socket_timeout = timeout
    if connection.socket_connect_timeout is None:
        connection.socket_connect_timeout = timeout
    return connection, policy


def checked_pool(client: Any, what: str) -> None:
    """TypeError if the client has no usable connection pool."""
    pool = getattr(client, "connection_pool", None)
    settings = getattr(pool, "connection_kwargs", None)
    if not isinstance(settings, Mapping) or not isinstance(
        getattr(pool, "connection_class", None), type
    ):
        raise TypeError(f"client must be {what} with a connection pool, not {kind_of(client)}")


def kind_of(client: object) -> str:
    return f"{type(client).__module__}.{type(client).__qualname__}"


SharedT = TypeVar("SharedT")
SHARED: Final = "_distkit_shared"
"""The attribute of a pool or cluster that holds what its counters share."""


def shared_by(owner: Any, key: Any, make: Callable[[], SharedT]) -> SharedT:
    """What the counters of a pool or cluster share. It lives as long as the owner."""
    shared: dict[Any, SharedT] = vars(owner).setdefault(SHARED, {})
    return shared.setdefault(key, make()) if key not in shared else shared[key]


def leads_elsewhere(pool: Any, connection: Any) -> bool:
    """Whether Sentinel has named another master since this connection was made."""
    master = getattr(getattr(pool, "proxy", pool), "master_address", None)
    if master is None or not getattr(pool, "is_master", False):
        return False
    return bool(tuple(master) != (connection.host, connection.port))


def asks_sentinel(pool: Any) -> bool:
    """Whether a new connection asks Sentinel for the master."""
    return bool(getattr(pool, "is_master", False))
