"""Which call needs which Redis command: each call is made by a user who lacks one command."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoPermissionError, ResponseError

from distkit import StrictInstanceAwareCounter, inspection, lt
from distkit.testing import driver_of
from tests.harness.servers import RedisServer, find_binaries

PAGE = (Path(__file__).parents[2] / "SECURITY.md").read_text("utf-8")
(RULE,) = re.findall(r"^    ACL SETUSER my_app (.*)$", PAGE, re.M)
COMMANDS = [word[1:] for word in RULE.split() if word.startswith("+")]

Counter = StrictInstanceAwareCounter
Call = Callable[[Counter, redis.Redis], object]


def _after_a_death(counter: Counter, client: redis.Redis) -> None:
    """The next call on a key after an instance died there."""
    counter.get("dead")


def _restored(counter: Counter, client: redis.Redis) -> None:
    """The next call after Redis lost everything."""
    counter.get("k")


def _leave(counter: Counter, client: redis.Redis) -> None:
    driver_of(counter).leave()


CALLS: dict[str, Call] = {
    "the first call": lambda counter, client: Counter(client, "my_app").get("k"),
    "`get`": lambda counter, client: counter.get("k"),
    "`inc`, `dec`": lambda counter, client: counter.inc("k"),
    "`inc_if`, `set_if`, ...": lambda counter, client: counter.inc_if("k", lt(99)),
    "`set`": lambda counter, client: counter.set("k", 5),
    "`set_on_instance`": lambda counter, client: counter.set_on_instance("k", 5),
    "`delete`": lambda counter, client: counter.delete("k"),
    "`delete_on_instance`": lambda counter, client: counter.delete_on_instance("k"),
    "`heartbeat`": lambda counter, client: counter.heartbeat(),
    "`clear_on_instance`": lambda counter, client: counter.clear_on_instance(),
    "`clear`": lambda counter, client: counter.clear(),
    "removing the dead": _after_a_death,
    "restoring after a loss": _restored,
    "the end of `with`": _leave,
    "`inspect`": lambda counter, client: inspection.inspect(client, "my_app"),
}


def _prepared(server: RedisServer, call: str) -> tuple[Counter, redis.Redis]:
    """A counter with a session, as a user who may do everything that it needs."""
    admin: Any = server.client()
    admin.flushall()
    admin.script_flush()
    admin.execute_command("ACL", "SETUSER", "my_app", "reset", *RULE.split())
    clock = [10_000_000]
    client = server.client(username="my_app", password="secret")
    counter = Counter(
        client, "my_app", clock_ms=None if call == "the first call" else clock_read(clock)
    )
    if call == "removing the dead":
        dead = Counter(client, "my_app", clock_ms=clock_read(clock))
        dead.inc("dead")
        clock[0] += 20_000
    counter.inc("k")
    counter.inc("j")
    if call == "removing the dead":
        clock[0] += 15_000
    if call == "restoring after a loss":
        admin.flushall()
    if call == "the first call":
        admin.script_flush()
    return counter, client


def clock_read(clock: list[int]) -> Callable[[], int]:
    return lambda: clock[0]


def _is_refused(server: RedisServer, call: str, command: str) -> bool:
    counter, client = _prepared(server, call)
    admin: Any = server.client()
    admin.execute_command("ACL", "SETUSER", "my_app", f"-{command}")
    try:
        CALLS[call](counter, client)
    except (NoPermissionError, ResponseError):
        return True
    return False


def measure() -> dict[str, Any]:
    server = RedisServer(find_binaries().binaries[-1])
    needed = {
        call: [command for command in COMMANDS if _is_refused(server, call, command)]
        for call in CALLS
    }
    server.stop()
    return {"rule": RULE, "commands": COMMANDS, "calls": needed}
