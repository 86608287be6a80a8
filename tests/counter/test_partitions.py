"""R21: a prefix that is divided into partitions, as programs use it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio
import redis.asyncio.retry
from fakeredis import aioredis
from redis.backoff import NoBackoff
from redis.retry import Retry

import distkit.asyncio
from distkit import (
    CounterOverflowError,
    DistkitError,
    InvalidKeyError,
    NotExecutedError,
    PartitionsError,
    RequestReport,
    StrictInstanceAwareCounter,
    lt,
)
from distkit.core.partitions import name_of, partition_of
from distkit.redis.meaning import Abandoned
from distkit.testing import drivers_of
from tests.conftest import REAL
from tests.harness.deployments import HOST, Cluster, command
from tests.harness.servers import RedisServer

KEYS = ("ключ", "k", "connections")
"""With 3 partitions, the first key belongs to the first, and so on."""
PATIENCE_S = 20.0


def _counter(client: Any, partitions: int = 3, **options: Any) -> StrictInstanceAwareCounter:
    return StrictInstanceAwareCounter(client, "p", partitions=partitions, **options)


def _names(client: Any) -> list[str]:
    return sorted(name.decode() for name in client.keys("*"))


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- Where things are ----------------------------------------------------------------------------


def test_without_partitions_nothing_changes(client: redis.Redis) -> None:
    """Not a byte, and not a request more."""
    stored, told = [], []
    nothing: dict[str, Any] = {}
    for options in (nothing, {"partitions": 1}):
        client.flushall()
        reports: list[RequestReport] = []
        counter: Any = StrictInstanceAwareCounter(
            client, "p", instance_id="a", clock_ms=lambda: 5, on_request=reports.append, **options
        )
        drivers_of(counter)[0].instance.seq = 0
        counter.inc_all([(key, 2) for key in KEYS])
        stored.append(_names(client))
        told.append([(report.purpose, report.steps) for report in reports])
    assert stored[0] == stored[1]
    assert told[0] == told[1]


def test_each_key_is_in_its_partition(client: redis.Redis) -> None:
    counter = _counter(client)
    counter.inc_all([(key, 1) for key in KEYS])
    for number, key in enumerate(KEYS):
        name = name_of("p", number, 3)
        assert client.hkeys(f"distkit:{{{name}}}:keys") == [key.encode()]
    assert client.hgetall("distkit:{p}:instances") == {b":": b"2 3"}


def test_a_partition_is_opened_when_it_is_used(client: redis.Redis) -> None:
    with _counter(client) as counter:
        assert _names(client) == []
        counter.inc("k")
        opened = name_of("p", 1, 3)
        assert _names(client) == sorted(
            [
                "distkit:{p}:instances",
                *(f"distkit:{{{opened}}}:{what}" for what in ("counter:k", "instances", "keys")),
            ]
        )


def test_leaving_leaves_every_partition(client: redis.Redis) -> None:
    with _counter(client) as counter:
        counter.inc_all([(key, 1) for key in KEYS])
        assert counter.get("k") == (1, 1)
    left = [name for name in _names(client) if not name.endswith(":instances")]
    assert left == [], "no counter, and no list of counters"
    other = _counter(client)
    assert other.get_all(KEYS) == [(0, 0)] * 3


def test_two_instances_share_all_partitions(client: redis.Redis) -> None:
    one, other = _counter(client), _counter(client)
    assert one.inc_all([(key, 1) for key in KEYS]) == [(1, 1)] * 3
    assert other.inc_all([(key, 2) for key in KEYS]) == [(3, 2)] * 3
    assert one.inc_if("k", lt(10), 5).new == (8, 6)
    other.clear()
    assert one.get_all(KEYS) == [(0, 0)] * 3
    one.inc_all([(key, 4) for key in KEYS])
    one.clear_on_instance()
    assert other.get_all(KEYS) == [(0, 0)] * 3


def test_holders_and_limits_are_in_the_partition_of_their_key(client: redis.Redis) -> None:
    counter, other = _counter(client), _counter(client)
    with counter.held("k") as state, counter.held("connections", 2):
        assert state == (1, 1)
        assert other.get_all(KEYS) == [(0, 0), (1, 0), (2, 0)]
        with counter.limit("k", 2).slot():
            assert not other.limit("k", 2).acquire(blocking=False)
    assert other.get_all(KEYS) == [(0, 0)] * 3


def test_clear_reaches_partitions_that_only_others_have_used(client: redis.Redis) -> None:
    other = _counter(client)
    other.inc("k", 3)
    _counter(client).clear()
    assert other.get("k") == (0, 0)


def test_inspect_sees_all_partitions(client: redis.Redis) -> None:
    counter = _counter(client, instance_id="a")
    counter.inc_all([(key, place) for place, key in enumerate(KEYS, start=1)])
    found = counter.inspect()
    assert {key: each.total for key, each in found.counters.items()} == dict(
        zip(KEYS, (1, 2, 3), strict=True)
    )
    assert (found.prefix, found.listed, [*found.instances]) == ("p", 3, ["a"])
    assert [*counter.inspect(["k"]).counters] == ["k"]
    with pytest.raises(PartitionsError, match="divided into 3 partitions"):
        distkit.inspection.inspect(client, "p")
    with pytest.raises(PartitionsError, match="divided into 3 partitions"):
        distkit.inspection.inspect(client, "p", partitions=2)


# --- The mark ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("there", "asked"), [(3, 2), (3, 1), (1, 3)])
def test_another_number_of_partitions_is_refused(
    client: redis.Redis, there: int, asked: int
) -> None:
    _counter(client, there).inc("k")
    before = {name: client.hgetall(name) for name in _names(client)}
    stranger = _counter(client, asked)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: stranger.inc("k"),
        lambda: stranger.inc_all([("k", 1), ("ключ", 1)]),
        stranger.clear,
        stranger.inspect,
    )
    for call in calls:
        with pytest.raises(PartitionsError, match=f"partitions={asked}") as caught:
            call()
        assert caught.value.asked == asked
    after = {name: client.hgetall(name) for name in _names(client)}
    assert {name: len(after[name]) for name in after} == {
        name: len(before[name]) for name in before
    }
    assert _counter(client, there).get("k") == (1, 0), "the others go on"


def test_the_number_can_be_changed_while_nobody_counts(client: redis.Redis) -> None:
    """As README says: all leave, and the mark is deleted."""
    with _counter(client, 3) as counter:
        counter.set("k", 7)
        counter.inc_all([(key, 1) for key in KEYS])
    client.delete("distkit:{p}:instances")
    counter = _counter(client, 5)
    assert counter.inc_all([(key, 1) for key in KEYS]) == [(1, 1)] * 3
    with pytest.raises(PartitionsError, match="into 5 partitions"):
        _counter(client, 3).get("k")


def test_something_else_in_the_place_of_the_mark_is_named(client: redis.Redis) -> None:
    client.set("distkit:{p}:instances", "a string")
    with pytest.raises(InvalidKeyError, match="prefix cannot be used"):
        _counter(client).inc("k")


@pytest.mark.parametrize(
    ("partitions", "error"),
    [(0, ValueError), (257, ValueError), (-1, ValueError), (True, TypeError), ("3", TypeError)],
)
def test_a_bad_number_of_partitions_is_refused(partitions: Any, error: type[Exception]) -> None:
    kinds: tuple[tuple[Any, Any], ...] = (
        (StrictInstanceAwareCounter, fakeredis.FakeRedis()),
        (distkit.asyncio.StrictInstanceAwareCounter, aioredis.FakeRedis()),
    )
    for kind, of in kinds:
        with pytest.raises(error, match="partitions must be"):
            kind(of, "p", partitions=partitions)


@pytest.mark.parametrize("key", ["a:b", "", "x" * 256, 5])
def test_a_bad_key_is_refused(key: Any) -> None:
    counter = _counter(fakeredis.FakeRedis())
    for call in (counter.inc, counter.held):
        with pytest.raises(InvalidKeyError):
            call(key)
    with pytest.raises(InvalidKeyError):
        counter.limit(key, 2)


# --- Batches -------------------------------------------------------------------------------------


def test_a_batch_reports_every_step_in_order(client: redis.Redis) -> None:
    counter = _counter(client)
    counter.set("k", 2**53 - 1)
    with pytest.raises(CounterOverflowError) as caught:
        counter.inc_all([("ключ", 1), ("k", 1), ("connections", 2), ("ключ", 3)])
    outcomes = caught.value.outcomes
    assert (outcomes[0], outcomes[2], outcomes[3]) == ((1, 1), (2, 2), (4, 4))
    assert isinstance(outcomes[1], CounterOverflowError)
    assert counter.inc_all([]) == []


def test_a_part_without_a_reply_does_not_stop_the_others(client: redis.Redis) -> None:
    counter = _counter(client)
    counter.inc_all([(key, 1) for key in KEYS])

    def unreachable(_: object) -> Any:
        raise Abandoned from ConnectionError("no route")

    broken: Any = drivers_of(counter)[partition_of("k", 3)]
    broken.send, send = unreachable, broken.send
    with pytest.raises(NotExecutedError) as caught:
        counter.inc_all([(key, 1) for key in (*KEYS, *KEYS)])
    kinds = [isinstance(outcome, NotExecutedError) for outcome in caught.value.outcomes]
    assert kinds == [False, True, False] * 2
    broken.send = send
    assert counter.get_all(KEYS) == [(3, 3), (1, 1), (3, 3)]


def test_the_parts_of_a_batch_are_under_way_at_the_same_time() -> None:
    counter = _counter(fakeredis.FakeRedis())
    counter.inc_all([(key, 1) for key in KEYS])
    together = threading.Barrier(3, timeout=PATIENCE_S)

    def meeting(send: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def met(request: Any) -> Any:
            together.wait()
            return send(request)

        return met

    for driver in drivers_of(counter):
        with_send: Any = driver
        with_send.send = meeting(with_send.send)
    assert counter.get_all(KEYS) == [(1, 1)] * 3
    counter.clear_on_instance()


def test_an_asyncio_batch_is_so_too() -> None:
    async def main() -> None:
        counter = distkit.asyncio.StrictInstanceAwareCounter(
            aioredis.FakeRedis(), "p", partitions=3
        )
        await counter.inc_all([(key, 1) for key in KEYS])
        arrived, all_here = [], asyncio.Event()

        def meeting(send: Callable[[Any], Any]) -> Callable[[Any], Any]:
            async def met(request: Any) -> Any:
                arrived.append(request)
                if len(arrived) == 3:
                    all_here.set()
                await all_here.wait()
                return await send(request)

            return met

        for driver in drivers_of(counter):
            with_send: Any = driver
            with_send.send = meeting(with_send.send)
        assert await counter.get_all(KEYS) == [(1, 1)] * 3

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


# --- Life ----------------------------------------------------------------------------------------


def test_heartbeats_go_only_where_something_is_held(newest_server: RedisServer) -> None:
    reports: list[RequestReport] = []
    counter = _counter(
        newest_server.client(), dead_instance_threshold_ms=150, on_request=reports.append
    )
    with counter:
        counter.inc("k")
        counter.inc("connections")
        counter.dec("connections")
        resting: Any = drivers_of(counter)[partition_of("connections", 3)]
        _until(lambda: not resting.instance.memory and not resting.instance.promise_ms)
        _until(lambda: resting.instance.call.done)
        seq = resting.instance.seq
        beating: Any = drivers_of(counter)[partition_of("k", 3)]
        then = beating.instance.seq
        _until(lambda: beating.instance.seq > then + 3)
        assert resting.instance.seq == seq, "it has nothing to keep alive"
        assert counter.inc("connections") == (1, 1), "and comes back when it is used"
        assert counter.get("k") == (1, 1)
        _until(lambda: bool(resting.instance.promise_ms))


def test_a_partition_that_rests_sends_nothing_at_all(newest_server: RedisServer) -> None:
    """Neither heartbeats nor the sweep."""
    admin = newest_server.client()

    def commands() -> int:
        return int(admin.info("stats")["total_commands_processed"])

    with _counter(newest_server.client(), dead_instance_threshold_ms=150) as counter:
        counter.inc("k")
        counter.dec("k")
        used: Any = drivers_of(counter)[partition_of("k", 3)]
        _until(lambda: not used.instance.memory and not used.instance.promise_ms)
        time.sleep(0.2)
        before = commands()
        time.sleep(0.5)
        assert commands() - before == 1, "only the question"


def test_a_heartbeat_of_one_that_has_nothing_sends_nothing(client: redis.Redis) -> None:
    counter = _counter(client)
    counter.heartbeat()
    assert _names(client) == []


def test_a_forked_child_is_one_other_instance_in_all_partitions(client: redis.Redis) -> None:
    counter = _counter(client)
    parent = counter.instance_id
    counter.inc_all([(key, 1) for key in KEYS])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            states = counter.inc_all([(key, 1) for key in KEYS])
            names = {driver.instance_id for driver in drivers_of(counter)} | {counter.instance_id}
            os.write(write, f"{len(names)} {parent in names} {states == [(2, 1)] * 3}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    said = os.read(read, 100).decode()
    os.close(read)
    os.close(write)
    if client.connection_pool.connection_class is not fakeredis.FakeRedisConnection:
        assert said == "1 False True"
        assert counter.get_all(KEYS) == [(2, 1)] * 3
    else:  # a fake is not shared by processes
        assert said.startswith("1 False")


def test_a_life_inside_a_life_is_refused() -> None:
    counter = _counter(fakeredis.FakeRedis())
    with counter, pytest.raises(RuntimeError, match="alive already"):
        counter.__enter__()
    with counter:  # but it can begin another
        counter.inc("k")


# --- A cluster -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_shards() -> Iterator[Cluster]:
    cluster = Cluster(REAL[-1], replicas=0)
    yield cluster
    cluster.stop()


PARTITIONS = 12
MANY = [f"key-{number}" for number in range(200)]


def test_partitions_spread_over_the_shards(three_shards: Cluster) -> None:
    client = redis.RedisCluster(host=HOST, port=three_shards.servers[0].port)
    _counter(client, PARTITIONS).inc_all([(key, 1) for key in MANY])
    held = [
        len(command(server, "KEYS", "distkit:{p:*}:instances")) for server in three_shards.servers
    ]
    assert held == [PARTITIONS // 3] * 3
    client.close()


def _on_another_shard(cluster: Cluster, down: RedisServer) -> dict[int, str]:
    """A key of each partition that another shard serves."""
    found: dict[int, str] = {}
    for key in MANY:
        number = partition_of(key, PARTITIONS)
        if cluster.serving(name_of("down", number, PARTITIONS)) is not down:
            found.setdefault(number, key)
    return found


def test_calls_on_other_shards_go_on_while_one_is_down(three_shards: Cluster) -> None:
    """They fail not, and wait not."""
    retry = Retry(NoBackoff(), 1)
    client = redis.RedisCluster(
        host=HOST, port=three_shards.servers[0].port, retry=retry, socket_timeout=2
    )
    counter = StrictInstanceAwareCounter(client, "down", partitions=PARTITIONS)
    counter.inc_all([(key, 1) for key in MANY])
    down = three_shards.servers[1]
    others = _on_another_shard(three_shards, down)
    hurt = next(key for key in MANY if partition_of(key, PARTITIONS) not in others)
    assert len(others) == PARTITIONS * 2 // 3
    stuck = threading.Thread(target=_outcome, args=(lambda: counter.inc(hurt),))
    down.freeze()
    try:
        stuck.start()
        slowest = 0.0
        for key in [*others.values(), *others.values()]:
            began = time.monotonic()
            assert counter.inc(key).instance_count > 1
            slowest = max(slowest, time.monotonic() - began)
        assert stuck.is_alive(), "the shard is down all the time"
        assert slowest < 1.0, "less than any timeout"
    finally:
        down.thaw()
        stuck.join()
    client.close()


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except DistkitError as error:
        return error
