"""What heartbeats do besides: rounds of looks, counters let go, and what crashed instances left."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import fakeredis
import pytest
import redis

import distkit.asyncio
from distkit import StrictInstanceAwareCounter
from distkit.core.housekeeping import LOOKS, RELEASES, Housekeeping, Memory
from distkit.core.instance import Reply, Request
from distkit.testing import driver_of
from oracle import model
from tests.harness.servers import RedisServer
from tests.harness.wire import sessions_of

THRESHOLD = 600


def _wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.005)


def _requests(counter: StrictInstanceAwareCounter) -> list[Request]:
    """Every request that the counter sends from now on."""
    sent: list[Request] = []
    real = driver_of(counter).send

    def send(request: Request) -> Reply:
        sent.append(request)
        return real(request)

    driver_of(counter).send = send
    return sent


# --- Rounds --------------------------------------------------------------------------------------


def test_every_counter_has_its_turn_within_a_round(client: redis.Redis) -> None:
    """R10: a loss is found within (counters / LOOKS) heartbeats."""
    counter = StrictInstanceAwareCounter(client, "p")
    keys = [f"k{n}" for n in range(35)]
    counter.inc_all((key, 1) for key in keys)
    sent = _requests(counter)
    for _ in range(4):
        counter.heartbeat()
    looked = [key for request in sent for key in request.call.by_key]
    assert sorted(looked) == sorted(keys)
    assert max(len(request.call.by_key) for request in sent) == LOOKS
    client.delete("distkit:{p}:counter:k7")
    for _ in range(4):
        counter.heartbeat()
    assert StrictInstanceAwareCounter(client, "p").get("k7") == (1, 0)


def test_counters_of_0_are_let_go_in_requests_of_bounded_size(client: redis.Redis) -> None:
    """R18"""
    counter = StrictInstanceAwareCounter(client, "p")
    keys = [f"k{n}" for n in range(250)]
    counter.inc_all((key, 1) for key in keys)
    counter.inc_all((key, -1) for key in keys)
    sent = _requests(counter)
    for _ in range(4):
        counter.heartbeat()
    assert [len(request.call.by_key) for request in sent] == [0, RELEASES, RELEASES, 70]
    assert not driver_of(counter).instance.memory
    assert client.keys("*") == [b"distkit:{p}:instances"]


def test_a_heartbeat_costs_nothing_that_grows_with_what_is_remembered() -> None:
    """But for the first of a round."""
    keeping = Housekeeping()
    memory = {f"k{n}": Memory(0, 1, n) for n in range(200_000)}
    for n in range(200_000):
        memory[f"z{n}"] = Memory(0, 0, 300_000 + n)
        keeping.zeros[f"z{n}"] = None
    keeping.plan(memory)
    took = []
    for _ in range(20):
        began = time.perf_counter()
        keeping.plan(memory)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.001


@pytest.mark.parametrize("seed", range(10))
def test_production_plans_what_the_oracle_plans(newest_server: RedisServer, seed: int) -> None:
    """On one instance, whatever it does: the same looks, the same counters let go."""
    client, chance = newest_server.client(), random.Random(seed)
    counter = StrictInstanceAwareCounter(client, "p", clock_ms=lambda: 1_000)
    instance, rounds = model.Instance("i", 30_000), model.Rounds()
    server = model.Server()
    mine = driver_of(counter).instance
    keys = [f"k{n}" for n in range(300)]
    for _ in range(60):
        if chance.random() < 0.3:
            before = set(instance.memory)
            looks, let_go, rounds = model.plan(rounds, instance)
            begun = model.begin_looking(instance, looks, let_go)
            server, instance, _ = model.finish_at_once(server, begun, 1_000)
            rounds = rounds.after(instance)
            sent = _requests(counter)
            counter.heartbeat()
            assert list(sent[-1].call.by_key) == [*looks, *let_go]
            assert before >= set(instance.memory)
        else:
            some = chance.sample(keys, chance.randint(1, 90))
            count = chance.choice([1, 0, 0])
            steps = tuple((key, model.Step("set_on_instance", count)) for key in some)
            server, instance, _ = model.call_at_once(server, instance, steps, 1_000)
            counter.set_all_on_instance((key, count) for key in some)
        assert {key: tuple(m) for key, m in mine.memory.items()} == {
            key: tuple(m) for key, m in instance.memory.items()
        }


# --- What crashed instances left -----------------------------------------------------------------


def test_what_crashed_instances_left_goes_while_anybody_is_alive(real_server: RedisServer) -> None:
    """R18, though the survivor never touches those counters."""
    client = real_server.client()
    for n in range(20):
        crashed = StrictInstanceAwareCounter(client, "p", dead_instance_threshold_ms=THRESHOLD)
        crashed.inc_all((f"user-{n}-{i}", 1) for i in range(100))
    with StrictInstanceAwareCounter(client, "p", dead_instance_threshold_ms=THRESHOLD) as counter:
        counter.inc("mine")
        _wait_for(lambda: client.hlen("distkit:{p}:keys") == 1)
        assert sorted(client.keys("*")) == [
            b"distkit:{p}:counter:mine",
            b"distkit:{p}:instances",
            b"distkit:{p}:keys",
        ]
        assert len(sessions_of(client, "p")) == 1


def test_the_asyncio_counter_removes_what_crashed_instances_left() -> None:
    """R18, in a few sweeps, of which each looks at more while it finds something."""

    async def main() -> None:
        server, time_ms = fakeredis.FakeServer(), [1_000_000]
        client = fakeredis.FakeRedis(server=server)
        options: Any = {"dead_instance_threshold_ms": THRESHOLD, "clock_ms": lambda: time_ms[0]}
        for n in range(3):
            crashed = StrictInstanceAwareCounter(client, "p", **options)
            crashed.inc_all((f"user-{n}-{i}", 1) for i in range(100))
        time_ms[0] += THRESHOLD
        counter = distkit.asyncio.StrictInstanceAwareCounter(
            fakeredis.aioredis.FakeRedis(server=server), "p", **options
        )
        await counter.inc("mine")
        for _ in range(20):
            await driver_of(counter).clean_up()
        assert client.hkeys("distkit:{p}:keys") == [b"mine"]
        assert len(client.keys("distkit:{p}:counter:*")) == 1

    asyncio.run(asyncio.wait_for(main(), 60))


def test_the_sweep_looks_at_few_counters_if_nobody_has_crashed(client: redis.Redis) -> None:
    other = StrictInstanceAwareCounter(client, "p")
    other.inc_all((f"k{n}", 1) for n in range(300))
    counter = StrictInstanceAwareCounter(client, "p")
    counter.heartbeat()
    sent = _requests(counter)
    for _ in range(5):
        driver_of(counter).clean_up()
    assert [len(request.call.by_key) for request in sent] == [LOOKS] * 5
    assert not driver_of(counter).instance.memory


def test_looks_share_no_request_with_other_steps(real_server: RedisServer) -> None:
    client = real_server.client()
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k")
    sent = _requests(counter)
    driver_of(counter).clean_up()
    counter.heartbeat()
    assert all(request.call.steps[0].op == "?" for request in sent)


# --- Labels --------------------------------------------------------------------------------------


def test_a_session_carries_its_instances_label(client: redis.Redis) -> None:
    counter = StrictInstanceAwareCounter(client, "p", instance_id="a", label="web 1: blue")
    counter.inc("k")
    counter.inc("k")
    counter.heartbeat()
    entry: Any = client.hget("distkit:{p}:instances", "a")
    assert entry.decode().split(" ", 5)[5] == "web 1: blue"


def test_by_default_the_label_says_where_the_process_is(client: redis.Redis) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    host, _, pid = driver_of(counter).instance.label.rpartition(":")
    assert host
    assert int(pid) > 0


@pytest.mark.parametrize("label", ["x" * 65, "é" * 33, "line\nbreak", "\x00", "\x7f", "\ud800"])
def test_a_label_that_is_not_allowed_is_refused(client: redis.Redis, label: str) -> None:
    with pytest.raises(ValueError, match="label"):
        StrictInstanceAwareCounter(client, "p", label=label)
    assert StrictInstanceAwareCounter(client, "p", label="x" * 64).inc("k") == (1, 1)


def test_a_label_is_text(client: redis.Redis) -> None:
    with pytest.raises(TypeError, match="label"):
        StrictInstanceAwareCounter(client, "p", label=7)  # type: ignore[arg-type]
