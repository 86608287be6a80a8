"""Failures of Redis, one after the other, and what the calls of an instance come to meanwhile.

Two instances count; one of them, A, makes a call every 50 ms, and each call adds 1 or takes 1 away.
The other, B, makes no call: it has its background heartbeat. Both have a threshold of 2 s. What A's
calls return or raise is written down, with the events of both instances.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from redis.backoff import NoBackoff
from redis.retry import Retry

from distkit import Event, StrictInstanceAwareCounter
from tests.harness.servers import RedisServer, find_binaries

THRESHOLD_MS = 2_000
REPLY_TIMEOUT_MS = 300
EVERY_S = 0.05
BEFORE_S, FAILS_S, AFTER_S = 1.0, 3.0, 2.0
B_COUNTS = 3


class Server(RedisServer):
    """A server that gets signals."""

    def signal(self, number: int) -> None:
        self._process.send_signal(number)


class Failure(NamedTuple):
    """A failure: what is done to the server at its beginning and at its end."""

    title: str
    begin: Callable[[Server], object]
    end: Callable[[Server], object]
    options: tuple[str, ...] = ()


def _config(name: str, value: str) -> Callable[[Server], object]:
    return lambda server: server.client().config_set(name, value)


def _fill(server: Server) -> None:
    """Set the limit to what is used already: no further write fits."""
    used: Any = server.client().info("memory")
    server.client().config_set("maxmemory", str(used["used_memory"] // 2))


def _signal(number: int) -> Callable[[Server], object]:
    return lambda server: server.signal(number)


def _permit(rule: str) -> Callable[[Server], object]:
    def change(server: Server) -> None:
        admin: Any = server.client(username="admin", password="x")
        admin.execute_command("ACL", "SETUSER", "default", rule)

    return change


FAILURES = {
    "restart": Failure(
        "Redis crashes, and comes back empty",
        lambda server: server.crash(),
        lambda server: server.restart(),
    ),
    "hangs": Failure(
        "Redis hangs (SIGSTOP), and goes on",
        _signal(signal.SIGSTOP),
        _signal(signal.SIGCONT),
    ),
    "flushall": Failure("FLUSHALL", lambda server: server.client().flushall(), lambda server: None),
    "full": Failure("Memory is full (maxmemory, noeviction)", _fill, _config("maxmemory", "0")),
    "read-only": Failure(
        "The server has become a replica",
        lambda server: server.client().replicaof("127.0.0.1", 1),
        lambda server: server.client().replicaof("NO", "ONE"),
    ),
    "permission": Failure(
        "The user may not run scripts any more", _permit("-evalsha"), _permit("+evalsha")
    ),
}


class Caller:
    """Instance A: makes calls, and writes down what each comes to."""

    def __init__(self, counter: StrictInstanceAwareCounter, begin: float) -> None:
        self._counter, self._begin = counter, begin
        self._stop = threading.Event()
        self.calls: list[list[Any]] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        up = True
        while not self._stop.is_set():
            at = time.monotonic() - self._begin
            try:
                outcome: Any = self._counter.inc("k", 1 if up else -1)
                said: list[Any] = ["ok", *outcome]
            except Exception as error:  # whatever it is: it is what we want to know
                said = [type(error).__name__]
            up = not up
            took = time.monotonic() - self._begin - at
            self.calls.append([round(at, 3), round(took, 4), *said])
            self._stop.wait(EVERY_S)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def _instance(
    server: Server, label: str, events: list[list[Any]], begin: float
) -> Iterator[StrictInstanceAwareCounter]:
    def note(event: Event) -> None:
        events.append([round(time.monotonic() - begin, 3), event.label, event.kind.name])

    client = server.client(retry=Retry(NoBackoff(), 1))
    with StrictInstanceAwareCounter(
        client,
        "my_app",
        label=label,
        dead_instance_threshold_ms=THRESHOLD_MS,
        reply_timeout_ms=REPLY_TIMEOUT_MS,
        on_event=note,
    ) as counter:
        yield counter


def _play(failure: Failure) -> dict[str, Any]:
    server = Server(find_binaries().binaries[-1], *failure.options)
    client: Any = server.client()
    client.execute_command("ACL", "SETUSER", "admin", "on", ">x", "~*", "&*", "+@all")
    events: list[list[Any]] = []
    begin = time.monotonic()
    with (
        _instance(server, "B", events, begin) as b,
        _instance(server, "A", events, begin) as a,
    ):
        b.inc("k", B_COUNTS)
        with Caller(a, begin) as caller:
            time.sleep(BEFORE_S)
            began = time.monotonic() - begin
            failure.begin(server)
            time.sleep(FAILS_S)
            failure.end(server)
            ended = time.monotonic() - begin
            time.sleep(AFTER_S)
    server.stop()
    return {
        "title": failure.title,
        "began": round(began, 3),
        "ended": round(ended, 3),
        "calls": caller.calls,
        "events": sorted(events),
    }


def measure() -> dict[str, Any]:
    return {
        "threshold_ms": THRESHOLD_MS,
        "reply_timeout_ms": REPLY_TIMEOUT_MS,
        "b_counts": B_COUNTS,
        "failures": {name: _play(failure) for name, failure in FAILURES.items()},
    }
