"""`distkit doctor` finds each planted fault, and nothing on a server without one. It changes
nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import pytest
import redis

from distkit import StrictInstanceAwareCounter, lt
from distkit.cli import checks
from distkit.cli.checks import Finding, Patient
from distkit.cli.doctor import Diagnosis, diagnose
from distkit.keys import Keyspace
from distkit.redis.script import MARK
from tests.conftest import REAL
from tests.harness.servers import RedisServer
from tests.operations.test_inspection import dump

PREFIX = "seen"
ROOT = f"distkit:{{{PREFIX}}}:"
SPACE = Keyspace(PREFIX)
HOUR = 3_600_000


@pytest.fixture
def healthy(real_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of a server on which all is well: two live instances, two counters."""
    client = real_server.client()
    a = StrictInstanceAwareCounter(client, PREFIX, instance_id="A")
    b = StrictInstanceAwareCounter(client, PREFIX, instance_id="B")
    a.inc_all([("k", 5), ("j", 1)])
    b.inc("k", 2)
    b.inc("only of B")
    yield client
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 0)
    client.flushall()


def found(client: redis.Redis, **options: Any) -> list[Finding]:
    """The findings; AssertionError if the checks changed anything."""
    before = client.dbsize(), dump(client)
    diagnosis = diagnose(Patient(client, PREFIX, **options))
    assert (client.dbsize(), dump(client)) == before
    assert diagnosis.unchecked.keys() <= {"layout", "facts"} | names(diagnosis.unchecked)
    return diagnosis.findings


def names(unchecked: dict[str, str]) -> set[str]:
    """The checks that an unreadable prefix makes impossible."""
    return {name for name, why in unchecked.items() if "cannot be read" in why}


# --- The table of planted faults -----------------------------------------------------------------


def evicts(client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")


def evicts_soon(client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "allkeys-random")
    client.config_set("maxmemory", "500mb")


def nearly_full(client: redis.Redis) -> None:
    used: Any = client.info("memory")
    client.config_set("maxmemory", int(used["used_memory"]) + 100_000)


def mixes_thresholds(client: redis.Redis) -> None:
    StrictInstanceAwareCounter(client, PREFIX, dead_instance_threshold_ms=5000).inc("k")


def was_ahead(client: redis.Redis) -> None:
    """The server's clock was an hour ahead, and has been set back: T stands still."""
    _, now, wall, opened, closed, due = head_of(client)
    set_head(client, now, wall + HOUR, opened, closed, due)


def has_a_later_layout(client: redis.Redis) -> None:
    client.hset(ROOT + "instances", ":", "2 some later layout")


def has_an_earlier_layout(client: redis.Redis) -> None:
    client.hset(ROOT + "instances", ":", "1000 1000 1 0")


def has_an_earlier_list(client: redis.Redis) -> None:
    client.delete(ROOT + "keys")
    client.sadd(ROOT + "keys", "k")


def holds_something_else(client: redis.Redis) -> None:
    client.hset(ROOT + "instances", ":", "hello")


def has_a_damaged_counter(client: redis.Redis) -> None:
    client.delete(ROOT + "counter:k")
    client.set(ROOT + "counter:k", "a string")


def lost_a_counter(client: redis.Redis) -> None:
    client.delete(ROOT + "counter:k")


def lost_an_entry_of_the_list(client: redis.Redis) -> None:
    client.hdel(ROOT + "keys", "k")


def has_a_stray(client: redis.Redis) -> None:
    client.hset(ROOT + "backup", "k", "1")


def has_a_dead_instance(client: redis.Redis) -> None:
    """Without a slice: its session alone."""
    counter = StrictInstanceAwareCounter(client, PREFIX, dead_instance_threshold_ms=1)
    counter.heartbeat()
    time.sleep(0.01)


def has_a_slice_of_the_dead(client: redis.Redis) -> None:
    client.hdel(ROOT + "instances", "B")


def was_out_of_reach(client: redis.Redis) -> None:
    """An hour ago, somebody promised to be heard within a minute."""
    _, now, wall, opened, closed, _ = head_of(client)
    set_head(client, now - HOUR, wall - HOUR, opened, closed, now - HOUR + 60_000)


def head_of(client: redis.Redis) -> tuple[int, ...]:
    fields: Any = client.hget(ROOT + "instances", ":")
    return tuple(map(int, fields.split()))


def set_head(client: redis.Redis, *numbers: int) -> None:
    client.hset(ROOT + "instances", ":", " ".join(map(str, (1, *numbers))))


PLANTED: list[tuple[Callable[[redis.Redis], None], str, str]] = [
    (evicts, "eviction", "allkeys-lru"),
    (evicts_soon, "eviction", "when memory is full"),
    (nearly_full, "memory", "get and heartbeats too"),
    (mixes_thresholds, "thresholds", r"30 s \(2 instances\)"),
    (was_ahead, "clock", "ahead of the server's clock"),
    (has_a_later_layout, "layout", "layout 2"),
    (has_an_earlier_layout, "layout", "layout 0"),
    (has_an_earlier_list, "layout", "layout 0"),
    (holds_something_else, "layout", "holds something else"),
    (has_a_damaged_counter, "layout", "1 counter cannot be read, k"),
    (lost_a_counter, "lost writes", "k"),
    (lost_an_entry_of_the_list, "unlisted", "counter:k"),
    (has_a_stray, "unlisted", "backup"),
    (has_a_dead_instance, "garbage", "1 instance presumed dead"),
    (has_a_slice_of_the_dead, "garbage", "2 slices of dead instances in 2 counters, k, only of B"),
    (was_out_of_reach, "outage", "59 min"),
]


def test_nothing_is_found_where_all_is_well(healthy: redis.Redis) -> None:
    diagnosis = diagnose(Patient(healthy, PREFIX))
    assert diagnosis == Diagnosis([], {}, diagnosis.facts)
    assert diagnosis.facts["instances"] == "2 live, 0 dead"
    assert diagnosis.facts["counters"] == "3, and 0 tombstones"
    assert re.match(r"about [\d.]+ k?B of", diagnosis.facts["memory"])


@pytest.mark.parametrize(("plant", "check", "problem"), PLANTED)
def test_a_planted_fault_is_found(
    healthy: redis.Redis, plant: Callable[[redis.Redis], None], check: str, problem: str
) -> None:
    plant(healthy)
    findings = found(healthy)
    assert [each.check for each in findings] == [check], findings
    assert re.search(problem, findings[0].problem)
    assert findings[0].remedy


@pytest.mark.parametrize(("off", "which"), [(HOUR, "behind"), (-HOUR, "ahead of")])
def test_a_clock_that_is_an_hour_off(healthy: redis.Redis, off: int, which: str) -> None:
    (finding,) = found(healthy, local_ms=lambda: time.time() * 1000 + off)
    assert finding.check == "clock"
    assert f"60 min {which} this machine's" in finding.problem


def test_an_old_server(healthy: redis.Redis) -> None:
    """Its version is what INFO says; there is no server that is too old to run the tests on."""
    patient = Patient(healthy, PREFIX)
    (server,) = patient.servers
    assert "redis_version" in server.info
    server.info["redis_version"] = "6.0.16"
    (finding,) = diagnose(patient).findings
    assert finding == Finding("version", "Redis 6.0.16 is too old", "use Redis 6.2 or later")


# --- Replicas ------------------------------------------------------------------------------------


def test_a_master_that_does_not_wait_for_its_replicas() -> None:
    master = RedisServer(REAL[-1], "--repl-diskless-sync-delay", "0", tcp=True)
    follower = RedisServer(REAL[-1], "--replicaof", f"127.0.0.1 {master.port}", tcp=True)
    try:
        client, replica = master.client(), follower.client()
        StrictInstanceAwareCounter(client, PREFIX).inc("k")
        deadline = time.monotonic() + 20
        while not replica.exists(ROOT + "counter:k") and time.monotonic() < deadline:
            time.sleep(0.02)
        (finding,) = found(client)
        assert finding.check == "replication"
        assert "min-replicas-to-write" in finding.remedy
        client.config_set("min-replicas-to-write", 1)
        assert not found(client)
        (finding,) = found(replica)
        assert "is a replica" in finding.problem
    finally:
        follower.stop()
        master.stop()


# --- Permissions ---------------------------------------------------------------------------------

SCRIPT = resources.files("distkit.redis").joinpath("counter.lua").read_text("utf-8")
NEEDED = sorted({str(words[0]) for words in checks.probes(SPACE)})


@pytest.fixture
def as_user(healthy: redis.Redis, real_server: RedisServer) -> Iterator[Callable[..., Any]]:
    """Connect as a user with these rules."""
    command: Any = healthy.execute_command

    def connect(*rules: str) -> redis.Redis:
        command("ACL", "SETUSER", "somebody", "reset", "on", ">secret", *rules)
        return real_server.client(username="somebody", password="secret")

    yield connect
    command("ACL", "DELUSER", "somebody")


def test_every_command_of_the_script_is_tried() -> None:
    called = set(re.findall(r"call\('([A-Z]+)'", SCRIPT + MARK))
    called |= set(re.findall(r"in_chunks\('([A-Z]+)'", SCRIPT))
    assert called <= set(NEEDED)
    assert set(NEEDED) - called == {"EVAL", "EVALSHA", "HSCAN"}, "and what a counter sends itself"


def test_the_permissions_that_are_tried_are_enough(
    as_user: Callable[..., Any], healthy: redis.Redis
) -> None:
    """Those of a counter; INFO, SCAN and MEMORY are the doctor's own, and are not checked."""
    client = as_user(f"~{ROOT}*", *(f"+{name.lower()}" for name in NEEDED))
    counter = StrictInstanceAwareCounter(client, PREFIX, instance_id="C")
    with counter:
        counter.inc_all([("k", 1), ("new", 2)])
        counter.inc_if("k", lt(100))
        counter.delete("new")
        healthy.hdel(ROOT + "instances", "C")
        counter.heartbeat()
        counter.clear()
    healthy.flushall()
    diagnosis = diagnose(Patient(client, PREFIX))
    assert diagnosis.findings == []
    assert all("may not run" in why for why in diagnosis.unchecked.values())
    assert diagnosis.unchecked.keys() >= {"eviction", "unlisted", "facts"}


@pytest.mark.parametrize("command", NEEDED)
def test_a_missing_permission_is_found(as_user: Callable[..., Any], command: str) -> None:
    client = as_user(f"~{ROOT}*", "+@all", f"-{command.lower()}")
    findings = diagnose(Patient(client, PREFIX)).findings
    (finding,) = (each for each in findings if each.check == "permissions")
    assert finding.problem.endswith(f": +{command.lower()}")
    assert finding.remedy == f"ACL SETUSER <user> ~{ROOT}* +{command.lower()}"


@pytest.mark.parametrize("kind", ["instances", "keys", "counter:*"])
def test_a_missing_kind_of_key_is_found(as_user: Callable[..., Any], kind: str) -> None:
    others = {"instances", "keys", "counter:*"} - {kind}
    client = as_user("+@all", *(f"~{ROOT}{other}" for other in others))
    findings = diagnose(Patient(client, PREFIX)).findings
    (finding,) = (each for each in findings if each.check == "permissions")
    assert f"~{ROOT}*" in finding.remedy
