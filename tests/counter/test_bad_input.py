"""Bad input gets an error that names what was wrong and what is allowed, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

import distkit
from distkit import (
    Comparator,
    CounterOverflowError,
    DistkitError,
    InvalidKeyError,
    NotExecutedError,
    OutcomeUnknownError,
    StrictInstanceAwareCounter,
    eq,
    gt,
    lt,
    ne,
)
from oracle import InMemoryCounter, InMemoryServer
from oracle.model import METHODS
from tests.harness.servers import RedisServer, free_port

LIMIT = 2**53 - 1
BAD_NAMES = {
    "empty": "",
    "256 bytes": "k" * 256,
    "256 bytes in UTF-8, 128 characters": "ö" * 128,
    "with a colon": "a:b",
    "bytes": b"k",
    "None": None,
    "a number": 7,
    "no UTF-8": "\ud800",
}
OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "inc": lambda counter, key: counter.inc(key),
    "dec": lambda counter, key: counter.dec(key, 2),
    "get": lambda counter, key: counter.get(key),
    "set": lambda counter, key: counter.set(key, 1),
    "set_on_instance": lambda counter, key: counter.set_on_instance(key, 1),
    "delete": lambda counter, key: counter.delete(key),
    "delete_on_instance": lambda counter, key: counter.delete_on_instance(key),
    "inc_if": lambda counter, key: counter.inc_if(key, lt(5)),
    "set_if": lambda counter, key: counter.set_if(key, ne(0), 1),
    "set_on_instance_if": lambda counter, key: counter.set_on_instance_if(key, gt(0), 1),
    "inc_all": lambda counter, key: counter.inc_all([("good", 1), (key, 1)]),
    "get_all": lambda counter, key: counter.get_all(["good", key]),
    "set_all_if": lambda counter, key: counter.set_all_if([("good", eq(0), 1), (key, eq(0), 1)]),
}
COUNTED = [
    name
    for name, method in METHODS.items()
    if method.operation.takes_count and not method.is_conditional
]


def _everything(client: redis.Redis) -> dict[Any, Any]:
    return {name: client.dump(name) for name in client.keys("*")}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("key", BAD_NAMES.values(), ids=BAD_NAMES.keys())
def test_r1_a_bad_key_is_refused(client: redis.Redis, operation: str, key: object) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    with pytest.raises(InvalidKeyError, match=r"^key (must|cannot)"):
        OPERATIONS[operation](counter, key)
    with pytest.raises(ValueError, match="key"):
        OPERATIONS[operation](InMemoryCounter(InMemoryServer(), "p"), key)
    assert client.keys("*") == []


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (what, name)
        for what in ("prefix", "instance_id")
        for name in BAD_NAMES.values()
        if (what, name) != ("instance_id", None)  # which asks for a UUID
    ],
)
def test_r1_a_bad_prefix_or_instance_id_is_refused(
    client: redis.Redis, what: str, name: object
) -> None:
    arguments: dict[str, Any] = {"prefix": "p", what: name}
    with pytest.raises(InvalidKeyError, match=f"^{what} (must|cannot)"):
        StrictInstanceAwareCounter(client, **arguments)


@pytest.mark.parametrize("prefix", ["a{b", "a}b"])
def test_r1_a_prefix_has_no_braces(client: redis.Redis, prefix: str) -> None:
    with pytest.raises(InvalidKeyError, match="must not contain"):
        StrictInstanceAwareCounter(client, prefix)


@pytest.mark.parametrize("name", ["k" * 255, "ö" * 127, "{k}", "a b", "*", "\n\0", "ключ", "💥"])
def test_r1_any_other_name_works(client: redis.Redis, name: str) -> None:
    counter = StrictInstanceAwareCounter(client, "p", instance_id=name)
    assert counter.inc(name, 5) == (5, 5)
    assert counter.get(name) == (5, 5)
    counter.clear()
    assert counter.get(name) == (0, 0)


def test_r1_prefixes_are_isolated(client: redis.Redis) -> None:
    one, other = (StrictInstanceAwareCounter(client, p) for p in ("p", "p*"))
    one.inc("k", 5)
    other.set("k", 7)
    one.clear()
    assert (one.get("k"), other.get("k")) == ((0, 0), (7, 7))


@pytest.mark.parametrize("operation", COUNTED)
@pytest.mark.parametrize("count", [1.0, True, "1", None, b"1"], ids=repr)
def test_r2_a_count_that_is_no_int_is_a_type_error(
    client: redis.Redis, operation: str, count: object
) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    with pytest.raises(TypeError, match="count must be an int, not"):
        getattr(counter, operation)("k", count)
    with pytest.raises(TypeError, match="count must be an int, not"):
        getattr(InMemoryCounter(InMemoryServer(), "p"), operation)("k", count)
    assert client.keys("*") == []


@pytest.mark.parametrize(
    "comparator", [None, 5, "lt", ("lt", 5), [lt(5)], Comparator("le", 5)], ids=repr
)
def test_r15_what_is_no_comparator_is_refused(client: redis.Redis, comparator: Any) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    for refused in (
        lambda: counter.inc_if("k", comparator),
        lambda: counter.set_all_if([("k", comparator, 1)]),
    ):
        with pytest.raises(TypeError, match="comparator must be made by eq, ne, lt, gt or always"):
            refused()
    assert client.keys("*") == []


@pytest.mark.parametrize(
    ("operand", "error"),
    [(2**53, CounterOverflowError), (-(2**53), CounterOverflowError), (1.0, TypeError),
     (True, TypeError), (None, TypeError)],
    ids=repr,
)  # fmt: skip
def test_r15_the_operand_of_a_comparator_that_was_made_by_hand_is_checked_too(
    client: redis.Redis, operand: Any, error: type[Exception]
) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    for test in ("eq", "ne", "lt", "gt"):
        with pytest.raises(error, match="operand must be"):
            counter.inc_if("k", Comparator(test, operand))
        with pytest.raises(error, match="operand must be"):
            counter.set_all_if([("k", Comparator(test, operand), 1)])
    assert client.keys("*") == []


@pytest.mark.parametrize("make", [eq, ne, lt, gt])
def test_r15_an_operand_is_a_count(make: Any) -> None:
    assert make(LIMIT).operand == LIMIT
    with pytest.raises(TypeError, match="operand must be an int"):
        make(1.5)
    with pytest.raises(CounterOverflowError, match="operand must be from"):
        make(LIMIT + 1)


def test_a_batch_of_the_wrong_shape_is_refused(client: redis.Redis) -> None:
    counter: Any = StrictInstanceAwareCounter(client, "p")
    for updates in ({"k": 1}, [("k", 1, 2)], ["k"], [("good", 1), ("k",)]):
        with pytest.raises(TypeError, match=r"each update must be \(key, count\), not"):
            counter.inc_all(updates)
    with pytest.raises(TypeError, match=r"each update must be \(key, comparator, count\), not"):
        counter.inc_all_if([("k", 1)])
    with pytest.raises(TypeError, match="keys must be an iterable of str"):
        counter.get_all("key")
    assert client.keys("*") == []


def test_r2_a_refused_step_of_a_batch_keeps_none_of_the_others(client: redis.Redis) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    with pytest.raises(CounterOverflowError, match="'k'") as caught:
        counter.inc_all([("j", 1), ("k", LIMIT), ("k", 1), ("j", 2)])
    first, second, refused, last = caught.value.outcomes
    assert [first, second, last] == [(1, 1), (LIMIT, LIMIT), (3, 3)]
    assert refused is caught.value
    assert counter.inc_all([]) == []


def test_after_a_call_without_a_reply_the_rest_of_a_batch_is_not_sent() -> None:
    nowhere = redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 0))
    counter = StrictInstanceAwareCounter(nowhere, "p")
    with pytest.raises(NotExecutedError) as caught:
        counter.inc_all([("k", 1)] * 600)
    assert len(caught.value.outcomes) == 600
    assert "was not sent" in str(caught.value.outcomes[-1])


@pytest.mark.parametrize("operation", COUNTED)
@pytest.mark.parametrize("count", [LIMIT + 1, -LIMIT - 1, 10**30])
def test_r2_a_count_out_of_range_is_refused(
    client: redis.Redis, operation: str, count: int
) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    with pytest.raises(CounterOverflowError, match=r"2\^53 - 1"):
        getattr(counter, operation)("k", count)
    with pytest.raises(OverflowError):
        getattr(InMemoryCounter(InMemoryServer(), "p"), operation)("k", count)
    assert client.keys("*") == []


def test_r2_an_overflow_changes_nothing_and_says_where(client: redis.Redis) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    counter.set("k", LIMIT)
    with pytest.raises(CounterOverflowError, match=r"'k'.*2\^53 - 1"):
        counter.inc("k")
    assert counter.get("k") == (LIMIT, LIMIT)


@pytest.mark.parametrize("client_", [None, "redis://", 5, {}], ids=repr)
def test_what_is_no_client_is_refused(client_: Any) -> None:
    with pytest.raises(TypeError, match=r"client must be a redis\.Redis"):
        StrictInstanceAwareCounter(client_, "p")


def test_a_pipeline_or_an_asyncio_client_is_refused(client: redis.Redis) -> None:
    others: list[Any] = [client.pipeline(), redis.asyncio.Redis()]
    for other in others:
        with pytest.raises(TypeError, match=r"client must be a redis\.Redis"):
            StrictInstanceAwareCounter(other, "p")


@pytest.mark.parametrize("threshold", [0, -1, LIMIT + 1])
def test_a_threshold_out_of_range_is_refused(client: redis.Redis, threshold: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 2"):
        StrictInstanceAwareCounter(client, "p", dead_instance_threshold_ms=threshold)


@pytest.mark.parametrize("threshold", [1.5, True, "30000", None], ids=repr)
def test_a_threshold_that_is_no_int_is_a_type_error(client: redis.Redis, threshold: Any) -> None:
    with pytest.raises(TypeError, match="dead_instance_threshold_ms must be an int"):
        StrictInstanceAwareCounter(client, "p", dead_instance_threshold_ms=threshold)


def test_a_clock_that_gives_no_int_is_a_type_error(client: redis.Redis) -> None:
    with pytest.raises(TypeError, match="clock_ms must be callable"):
        StrictInstanceAwareCounter(client, "p", clock_ms=5)  # type: ignore[arg-type]
    counter = StrictInstanceAwareCounter(client, "p", clock_ms=lambda: 1.5)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match=r"clock_ms\(\) must be an int"):
        counter.get("k")
    assert client.keys("*") == []


def test_a_server_that_is_not_there_is_a_clear_error() -> None:
    """The constructor does no I/O. A call reports that it was not executed."""
    nowhere = redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 1))
    counter = StrictInstanceAwareCounter(nowhere, "p")
    also: list[Callable[[Any, Any], Any]] = [lambda c, _: c.heartbeat(), lambda c, _: c.clear()]
    for operation in [*OPERATIONS.values(), *also]:
        with pytest.raises(NotExecutedError) as caught:
            operation(counter, "k")
        assert isinstance(caught.value, DistkitError | redis.exceptions.ConnectionError)
        assert isinstance(caught.value.__cause__, redis.exceptions.ConnectionError)


def _refuses_what_is_in_the_way(client: redis.Redis, counter: StrictInstanceAwareCounter) -> None:
    """Every operation on `k` is refused, and the Redis key keeps its value."""
    before = client.dump("distkit:{p}:counter:k")
    for operation in OPERATIONS.values():
        with pytest.raises(InvalidKeyError, match=r"counter:k' holds something else"):
            operation(counter, "k")
    assert client.dump("distkit:{p}:counter:k") == before


@pytest.mark.parametrize("way", ["string", "list", "set"])
def test_a_key_of_another_type_in_the_way_is_refused(client: redis.Redis, way: str) -> None:
    """Only the steps on that key are refused, not the rest of the request."""
    name = "distkit:{p}:counter:k"
    ways: dict[str, Any] = {"string": client.set, "list": client.rpush, "set": client.sadd}
    ways[way](name, "1")
    counter = StrictInstanceAwareCounter(client, "p")
    _refuses_what_is_in_the_way(client, counter)
    assert counter.inc("j") == (1, 1)


@pytest.mark.parametrize("fields", [{"foo": "1"}, {":": "not ours"}, {":": "1 2", "foo": ""}])
def test_a_foreign_hash_in_the_way_is_left_alone(
    client: redis.Redis, fields: dict[Any, Any]
) -> None:
    name = "distkit:{p}:counter:k"
    client.hset(name, mapping=fields)
    counter = StrictInstanceAwareCounter(client, "p")
    _refuses_what_is_in_the_way(client, counter)


def test_a_wrong_password_is_redis_pys_own_error(real_server: RedisServer) -> None:
    client = real_server.client(username="nobody", password="wrong")
    with pytest.raises(redis.exceptions.AuthenticationError):
        StrictInstanceAwareCounter(client, "p").inc("k")


@pytest.mark.parametrize("own", ["instances", "keys"])
def test_a_prefix_whose_own_keys_are_taken_is_refused(client: redis.Redis, own: str) -> None:
    name = f"distkit:{{p}}:{own}"
    counter = StrictInstanceAwareCounter(client, "p")
    if own == "keys":
        counter.heartbeat()
    client.set(name, "1")
    before = _everything(client)
    with pytest.raises(InvalidKeyError, match="one of them holds something else"):
        counter.inc("k")
    with pytest.raises(InvalidKeyError, match="one of them holds something else"):
        counter.clear()
    assert _everything(client) == before


def test_errors_are_also_what_a_stranger_would_catch() -> None:
    assert issubclass(InvalidKeyError, DistkitError)
    assert issubclass(InvalidKeyError, ValueError)
    assert issubclass(CounterOverflowError, DistkitError)
    assert issubclass(CounterOverflowError, OverflowError)
    for error in (OutcomeUnknownError, NotExecutedError):
        assert issubclass(error, DistkitError)
        assert issubclass(error, redis.exceptions.ConnectionError)
    assert set(distkit.__all__) <= set(dir(distkit))
