"""SECURITY.md: the permissions that it names are enough, and none of them can be left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError, ResponseError

from distkit import StrictInstanceAwareCounter, lt
from distkit.testing import driver_of
from tests.harness.servers import RedisServer

PAGE = (Path(__file__).parents[2] / "SECURITY.md").read_text("utf-8")
(RULE,) = re.findall(r"^    ACL SETUSER my_app (.*)$", PAGE, re.M)
COMMANDS = [word for word in RULE.split() if word.startswith("+")]


@pytest.fixture
def allow(real_server: RedisServer) -> Any:
    """Connect as a user with these permissions."""
    admin = real_server.client()

    def connect(rule: list[str]) -> redis.Redis:
        command: Any = admin.execute_command
        command("ACL", "SETUSER", "my_app", "reset", *rule)
        return real_server.client(username="my_app", password="secret")

    yield connect
    admin.acl_deluser("my_app")


def _everything(client: redis.Redis, admin: redis.Redis) -> None:
    """Every kind of request, on a server that has not seen the script and then loses a write."""
    now = [0]
    admin.script_flush()

    def start(name: str) -> StrictInstanceAwareCounter:
        return StrictInstanceAwareCounter(
            client, "my_app", instance_id=name, clock_ms=lambda: now[0]
        )

    a, b = start("a"), start("b")
    a.inc("k")
    b.inc_all([("k", 2), ("j", 1)])
    now[0] += 30_000
    assert a.get("k") == (1, 1)
    assert b.set("k", 5) == (5, 5)
    a.inc_if("k", lt(9))
    a.delete("k")
    b.clear_on_instance()
    b.clear()
    with b:
        b.inc("k")
        b.dec("k")
        b.heartbeat()
        b.heartbeat()
    sessions = "distkit:{my_app}:instances"
    before: Any = admin.hget(sessions, "a")
    a.inc("k")
    admin.hset(sessions, "a", before)
    assert a.inc("k") == (2, 2)
    a.inspect()
    driver_of(a).leave()  # the end of a `with` block would only log what is missing


def test_the_permissions_are_enough(real_server: RedisServer, allow: Any) -> None:
    _everything(allow(RULE.split()), real_server.client())


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"+time"}))
def test_no_permission_can_be_left_out(real_server: RedisServer, allow: Any, command: str) -> None:
    client = allow([word for word in RULE.split() if word != command])
    with pytest.raises((NoPermissionError, ResponseError)):
        _everything(client, real_server.client())


def test_the_servers_own_clock_needs_its_permission(allow: Any) -> None:
    client = allow([word for word in RULE.split() if word != "+time"])
    with pytest.raises((NoPermissionError, ResponseError)):
        StrictInstanceAwareCounter(client, "my_app").heartbeat()


def test_another_prefix_is_out_of_reach(allow: Any) -> None:
    client = allow(RULE.split())
    with pytest.raises((NoPermissionError, ResponseError)):
        StrictInstanceAwareCounter(client, "other_app").heartbeat()


def test_a_prefix_that_is_divided_needs_another_pattern(
    allow: Any, real_server: RedisServer
) -> None:
    (pattern,) = re.findall(r"divided \(R21\) needs the pattern `(~[^`]+)` too", PAGE)
    admin = real_server.client()
    for rule in (RULE.split(), [*RULE.split(), pattern]):
        admin.flushall()
        counter = StrictInstanceAwareCounter(allow(rule), "my_app", partitions=3)
        if pattern in rule:
            with counter:
                counter.inc_all([(f"k{number}", 1) for number in range(9)])
                counter.clear()
        else:
            with pytest.raises(NoPermissionError):
                counter.inc("k")
