"""The layout of what is stored: another one is refused before anything is written."""

from __future__ import annotations

from typing import Any

import pytest
import redis

import distkit
from distkit import LayoutError, StrictInstanceAwareCounter

INSTANCES = "distkit:{p}:instances"
KEYS = "distkit:{p}:keys"
COUNTER = "distkit:{p}:counter:k"

OLD_INSTANCES = {":": "1000 1000 3 1000", "a": "1000 3 7"}
OLD_COUNTER = {":": "0 0 5 1000 1000", "a": "5 0 7 0 0 0 0"}
"""As the versions before layouts had numbers keep them."""
NEXT_INSTANCES: dict[Any, Any] = {":": "2 some other words"}
NEXT_COUNTER = {":": "2 0", "a": "whatever"}


def _everything(client: redis.Redis) -> dict[Any, Any]:
    names: Any = client.keys("*")
    return {
        name: client.hgetall(name) if client.type(name) == b"hash" else client.dump(name)
        for name in names
    }


def _is_refused(client: redis.Redis, call: Any, found: int) -> None:
    before = _everything(client)
    with pytest.raises(LayoutError) as caught:
        call()
    assert (caught.value.found, caught.value.known) == (found, 1)
    assert _everything(client) == before


@pytest.mark.parametrize(
    ("fields", "found"), [(OLD_INSTANCES, 0), (NEXT_INSTANCES, 2)], ids=["older", "newer"]
)
def test_another_layout_is_refused(client: redis.Redis, fields: Any, found: int) -> None:
    client.hset(INSTANCES, mapping=fields)
    counter = StrictInstanceAwareCounter(client, "p")
    for call in (lambda: counter.inc("k"), counter.heartbeat, counter.clear):
        _is_refused(client, call, found)


@pytest.mark.parametrize(
    ("fields", "found"), [(OLD_COUNTER, 0), (NEXT_COUNTER, 2)], ids=["older", "newer"]
)
def test_one_counter_of_another_layout_refuses_the_whole_request(
    client: redis.Redis, fields: Any, found: int
) -> None:
    counter = StrictInstanceAwareCounter(client, "p")
    counter.heartbeat()
    client.hset(COUNTER, mapping=fields)
    _is_refused(client, lambda: counter.inc_all([("j", 1), ("k", 1)]), found)
    assert counter.inc("j") == (1, 1)


def test_a_set_of_keys_is_the_older_layout(client: redis.Redis) -> None:
    """What is left of it if its `instances` are lost."""
    client.sadd(KEYS, "k")
    counter = StrictInstanceAwareCounter(client, "p")
    counter.heartbeat()
    _is_refused(client, lambda: counter.inc("j"), 0)


def test_a_running_program_meets_a_newer_version(client: redis.Redis) -> None:
    """It stops at its next call, and goes on when the older layout is back."""
    counter = StrictInstanceAwareCounter(client, "p")
    counter.inc("k", 5)
    old: Any = client.hgetall(INSTANCES)
    client.delete(INSTANCES)
    client.hset(INSTANCES, mapping=NEXT_INSTANCES)
    _is_refused(client, lambda: counter.inc("k"), 2)
    client.delete(INSTANCES)
    client.hset(INSTANCES, mapping=old)
    assert counter.inc("k") == (6, 6)


def test_the_error_says_what_to_do() -> None:
    assert "update distkit" in str(LayoutError(2, 1, "p"))
    older = str(LayoutError(0, 1, "p"))
    assert "'distkit:{p}:*'" in older
    assert "another prefix" in older
    assert isinstance(LayoutError(0, 1, "p"), distkit.DistkitError)


# --- What stays as it is -------------------------------------------------------------------------


def test_a_read_that_finds_nobody_dead_writes_nothing_to_the_counter(client: redis.Redis) -> None:
    """PROTOCOL: the head's expiry is a bound, before which nobody can be dead. Until then a read
    looks at no slice of others, so it costs the same however many there are, and it writes only
    that its instance was heard."""
    time = [1_000_000]

    def instance(name: str) -> StrictInstanceAwareCounter:
        return StrictInstanceAwareCounter(
            client, "p", instance_id=name, dead_instance_threshold_ms=1000, clock_ms=lambda: time[0]
        )

    early, late = instance("early"), instance("late")
    early.inc("k", 5)
    time[0] += 400
    late.inc("k", 1)
    early.heartbeat()
    kept = client.hgetall(COUNTER)
    for _ in range(3):
        time[0] += 100
        assert (early.get("k"), late.get("k")) == ((6, 5), (6, 1))
        assert client.hgetall(COUNTER) == kept
    time[0] += 300  # the bound is over: now somebody might be dead, and nobody is
    assert late.get("k") == (6, 1)
    assert client.hgetall(COUNTER) != kept
