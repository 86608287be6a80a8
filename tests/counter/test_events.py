"""An instance says what happens to it: `on_event`, and the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import distkit.asyncio
from distkit import (
    Event,
    EventKind,
    NotExecutedError,
    OutcomeUnknownError,
    StrictInstanceAwareCounter,
)
from tests.harness.servers import RedisServer, find_binaries


@pytest.fixture
def mortal() -> Iterator[RedisServer]:
    server = RedisServer(find_binaries().binaries[-1])
    yield server
    server.stop()


def _counter(
    client: redis.Redis, events: list[Event], **options: Any
) -> StrictInstanceAwareCounter:
    return StrictInstanceAwareCounter(client, "p", on_event=events.append, **options)


def _kinds(events: list[Event]) -> list[str]:
    return [event.kind.name for event in events]


def test_a_false_death_is_told(
    newest_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that took longer than the threshold, outside `with`."""
    caplog.set_level(logging.INFO, "distkit")
    events: list[Event] = []
    client = newest_server.client()
    slow = _counter(client, events, dead_instance_threshold_ms=100, instance_id="i", label="job 7")
    slow.inc("k", 3)
    assert events == []
    time.sleep(0.15)
    assert StrictInstanceAwareCounter(client, "p").get("k") == (0, 0)
    assert slow.get("k") == (3, 3)
    assert _kinds(events) == ["PRESUMED_DEAD", "PUT_BACK"]
    assert (events[0].instance_id, events[0].label) == ("i", "job 7")
    assert events[0].silent_s >= 0.15
    assert "instance i: presumed dead after 0." in caplog.text


def test_lost_writes_are_told(newest_server: RedisServer) -> None:
    events: list[Event] = []
    counter = _counter(newest_server.client(), events)
    counter.inc("k")
    newest_server.client().flushall()
    assert counter.get("k") == (1, 1)
    assert _kinds(events) == ["LOST_WRITES", "PUT_BACK"]


def test_an_outage_is_told_once_and_what_was_owed_and_paid(mortal: RedisServer) -> None:
    events: list[Event] = []
    client = mortal.client(retry=Retry(NoBackoff(), 0), socket_timeout=0.2)
    with _counter(client, events) as counter:
        with counter.held("k"):
            mortal.crash()
            for _ in range(3):
                with pytest.raises((NotExecutedError, OutcomeUnknownError)):
                    counter.get("l")
        assert _kinds(events) == ["UNREACHABLE", "OWED"]
        assert events[0].error is not None
        assert events[1].key == "k"
        mortal.restart()
        counter.heartbeat()
        assert _kinds(events)[2:] == ["REACHABLE", "LOST_WRITES", "PUT_BACK", "PAID"]
        assert counter.get("k") == (0, 0)
    assert _kinds(events)[-1] == "LEFT"
    assert events[-1].error is None


def test_leaving_that_failed_is_told(mortal: RedisServer) -> None:
    events: list[Event] = []
    client = mortal.client(retry=Retry(NoBackoff(), 0), socket_timeout=0.2)
    with _counter(client, events) as counter:
        counter.inc("k")
        mortal.crash()
    assert _kinds(events) == ["UNREACHABLE", "LEFT"]
    assert events[-1].error is not None


def test_tasks_are_told_too_and_a_failing_hook_harms_nobody(
    newest_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []

    def hook(event: Event) -> None:
        events.append(event)
        raise ZeroDivisionError

    async def main() -> None:
        client = redis.asyncio.Redis(unix_socket_path=newest_server.socket)
        async with client:
            counter = distkit.asyncio.StrictInstanceAwareCounter(client, "p", on_event=hook)
            async with counter:
                await counter.inc("k")
                await client.flushall()
                assert await counter.get("k") == (1, 1)

    asyncio.run(main())
    assert _kinds(events) == ["LOST_WRITES", "PUT_BACK", "LEFT"]
    assert "on_event failed" in caplog.text


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="on_event must be callable"):
        StrictInstanceAwareCounter(fakeredis.FakeRedis(), "p", on_event=3)  # type: ignore[arg-type]


def test_every_kind_is_told_by_some_test() -> None:
    text = Path(__file__).read_text("utf-8")
    assert all(f'"{kind.name}"' in text for kind in EventKind)
