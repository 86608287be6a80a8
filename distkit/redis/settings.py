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

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from redis.backoff import NoBackoff
from redis.cluster import get_node_name

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
    connection = _as_given(place)
    policy, connection.retry = connection.retry, retry_class(NoBackoff(), 0)
    given = connection.socket_timeout
    timeout = deadline if given is None else min(given, deadline)
    connection.socket_timeout = timeout
    if connection.socket_connect_timeout is None:
        connection.socket_connect_timeout = timeout
    return connection, policy


def _as_given(place: Place) -> Any:
    """A connection as the client makes it, not connected yet."""
    settings = {name: value for name, value in place.settings.items() if name not in POOLS_OWN}
    return place.connection_class(**settings)


def waits_forever(place: Place) -> bool:
    """Whether the client's own connections to this place have no timeout."""
    return _as_given(place).socket_timeout is None


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


def asked_last(nodes: Any, failed: Place) -> dict[str, Any]:
    """Make a node that has just failed the last one that the cluster's client asks for the slots.

    redis-py does so since 7; before, it forgets the node, even if it knows no other.

    Args:
        nodes: the client's nodes manager.
        failed: the place of the node.

    Returns:
        the arguments for `nodes.initialize`, which asks the others in any order since 8.
    """
    name = get_node_name(failed.settings["host"], failed.settings["port"])
    known = dict(nodes.startup_nodes)
    if name in known:
        node = known.pop(name)
        nodes.startup_nodes = {**known, name: node}
    takes = inspect.signature(nodes.initialize).parameters
    return {"last_failed_node_name": name} if "last_failed_node_name" in takes else {}
