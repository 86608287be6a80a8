"""The counter in Python as a port: all the glue that a port needs, to be copied.

One JSON object comes in on a line of stdin, one goes out on stdout; spec/PORTS.md shows them all.
Redis is `DISTKIT_URL`, or a fake in this process.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import fakeredis
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

import distkit
from distkit import Change, DistkitError, StrictInstanceAwareCounter
from distkit.testing import driver_of

ON_A_KEY = ("get", "inc", "dec", "set", "set_on_instance", "delete", "delete_on_instance",
            "inc_if", "set_if", "set_on_instance_if")  # fmt: skip
OTHERS = ("heartbeat", "clear_on_instance", "clear", "leave")
ERRORS = {"InvalidKeyError": "invalid_key", "CounterOverflowError": "overflow",
          "OutcomeUnknownError": "unknown", "NotExecutedError": "not_executed"}  # fmt: skip


# What the counter here has.
FEATURES = [name for name, has in (("applied", hasattr(Change, "applied")),
                                   ("always", hasattr(distkit, "always"))) if has]  # fmt: skip


class Port:
    """Answers the messages, one by one."""

    counter_class: Any = StrictInstanceAwareCounter

    def __init__(self) -> None:
        self.client = _client(self)
        self.lose_reply = self.give_up = False
        self.wall_ms = 0

    def hello(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"protocol": 1, "port": "distkit for Python", "clock": "virtual",
                "instances": "many", "operations": [*ON_A_KEY, *OTHERS],
                "faults": ["lose_reply", "give_up", "empty"], "features": FEATURES}  # fmt: skip

    def reset(self, message: dict[str, Any]) -> dict[str, Any]:
        self.prefix, self.threshold_ms = message["prefix"], message["threshold_ms"]
        self.instances: dict[str, Any] = {}
        return {}

    def die(self, message: dict[str, Any]) -> dict[str, Any]:
        self.instances.pop(message["instance"], None)
        return {}

    def empty(self, message: dict[str, Any]) -> dict[str, Any]:
        for name in self.client.scan_iter(f"distkit:{{{self.prefix}}}:*"):
            self.client.delete(name)
        return {}

    def call(self, message: dict[str, Any]) -> dict[str, Any]:
        counter = self.instances.get(message["instance"]) or self.join(message["instance"])
        self.wall_ms, self.lose_reply = message.get("wall_ms", 0), message.get("lose_reply", False)
        self.give_up = message.get("give_up", False)
        given = {name: message[name] for name in ("key", "comparator", "count") if name in message}
        method = message["op"]
        try:
            if "comparator" in given:
                given["comparator"] = _comparator(message)
            has = driver_of(counter) if method == "leave" else counter
            result = getattr(has, method)(*given.values())
        except DistkitError as error:
            return {"error": ERRORS[type(error).__name__], "message": str(error)}
        if isinstance(result, Change):
            answer = {"new": result.new._asdict(), "old": result.old._asdict()}
            return answer | {name: getattr(result, name) for name in FEATURES if name == "applied"}
        return result._asdict() if result else {}

    def join(self, name: str) -> Any:
        counter = self.instances[name] = self.counter_class(
            self.client, self.prefix, instance_id=name,
            dead_instance_threshold_ms=self.threshold_ms, clock_ms=lambda: self.wall_ms,
        )  # fmt: skip
        return counter

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        events = {"hello": self.hello, "reset": self.reset, "die": self.die, "empty": self.empty}
        return events.get(message["op"], self.call)(message)

    def run(self) -> None:
        for line in sys.stdin:
            print(json.dumps(self.answer(json.loads(line))), flush=True)


def _comparator(message: dict[str, Any]) -> Any:
    operand = [message["value"]] if "value" in message else []
    return getattr(distkit, message["comparator"])(*operand)


def _client(port: Port) -> Any:
    """A client that drops the reply of its next script call when the port says so."""
    url = os.environ.get("DISTKIT_URL")
    plain = redis.Connection if url else fakeredis.FakeRedisConnection

    class Lossy(plain):  # type: ignore[misc, valid-type]
        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            self.of_script = b"\r\nEVAL" in b"".join(command)[:20]
            super().send_packed_command(command, check_health)

        def read_response(self, *args: Any, **options: Any) -> Any:
            reply = super().read_response(*args, **options)  # NOSCRIPT is raised, not lost
            if self.of_script and (port.lose_reply or port.give_up):
                port.lose_reply = False
                raise RedisConnectionError("the reply was lost")
            return reply

    parse_url: Any = redis.connection.parse_url
    place = parse_url(url) if url else {"server": fakeredis.FakeServer()}
    pool = redis.ConnectionPool(connection_class=Lossy, retry=Retry(NoBackoff(), 2), **place)
    return redis.Redis(connection_pool=pool)


if __name__ == "__main__":
    Port().run()
