"""From the arguments URL and PREFIX to a client, and from errors to one line each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from distkit.cli.text import printable
from distkit.errors import DistkitError, InvalidKeyError
from distkit.keys import Keyspace

FAILED = 2
TIMEOUT_S = 5

Client = redis.Redis | redis.RedisCluster

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class Failed(click.ClickException):
    """The command could not do its work."""

    exit_code = FAILED


def url_and_prefix(function: FunctionT) -> FunctionT:
    """The two arguments that every command has."""
    return click.argument("url")(click.argument("prefix", callback=_checked_prefix)(function))


def _checked_prefix(_context: object, _parameter: object, value: str) -> str:
    try:
        Keyspace(value)
    except InvalidKeyError as error:
        raise click.BadParameter(str(error)) from None
    return value


@contextlib.contextmanager
def connected(url: str) -> Iterator[Client]:
    """A client of the server, or of the whole cluster to which it belongs. What goes wrong inside
    becomes one line."""
    with one_line_errors():
        client = client_for(url)
        try:
            yield client
        finally:
            client.close()


def client_for(url: str) -> Client:
    """Connect. An error of redis-py if that does not work, ValueError if this is no URL."""
    settings: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    client = redis.Redis.from_url(url, **settings)
    if not _is_cluster(client):
        return client
    client.close()
    return redis.RedisCluster.from_url(url, **{**settings, "retry": Retry(NoBackoff(), 3)})


def node_of(client: Client, space: Keyspace) -> redis.Redis:
    """A client of the one server that has these Redis keys."""
    if isinstance(client, redis.Redis):
        return client
    locate: Any = client.get_node_from_key
    node: Any = locate(space.instances)
    if node is None:
        raise Failed(f"no node of the cluster serves the prefix {space.prefix!r}")
    found: redis.Redis = client.get_redis_connection(node)
    return found


def servers_of(client: Client) -> list[redis.Redis]:
    """A client of each server that keeps data."""
    if isinstance(client, redis.Redis):
        return [client]
    whole: Any = client
    return [client.get_redis_connection(node) for node in whole.get_primaries()]


def _is_cluster(client: redis.Redis) -> bool:
    try:
        found: Any = client.info("cluster")
    except ResponseError:  # no permission: a cluster that is redirected to is reported as such
        client.ping()
        return False
    return bool(found.get("cluster_enabled"))


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    try:
        yield
    except (DistkitError, redis.RedisError, OSError, ValueError) as error:
        raise Failed(described(error)) from error


def described(error: Exception) -> str:
    """One line that says what went wrong."""
    text = printable(str(error) or type(error).__name__)
    if isinstance(error, DistkitError):
        return text
    if isinstance(error, redis.RedisError | OSError):
        return f"Redis: {text}"
    return text
