"""What tools see: one report for every request, and spans made of them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import fakeredis
import pytest
import redis
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.backoff import NoBackoff
from redis.retry import Retry

import distkit.asyncio
from distkit import NotExecutedError, RequestReport, StrictInstanceAwareCounter
from examples.opentelemetry_spans import span_for_each_request
from tests.harness.proxy import Faults, FaultyProxy
from tests.harness.servers import RedisServer, free_port


def test_every_request_is_reported(client: redis.Redis) -> None:
    reports: list[RequestReport] = []
    counter = StrictInstanceAwareCounter(client, "p", instance_id="a", on_request=reports.append)
    counter.inc_all([("k", 1), ("j", 1), ("k", 1)])
    counter.heartbeat()
    client.flushall()
    counter.get("k")
    assert [(r.purpose, r.keys, r.steps) for r in reports] == [
        ("open", (), 0),
        ("call", ("k", "j"), 3),
        ("heartbeat", ("j", "k"), 2),
        ("call", ("k",), 1),
        ("open", (), 0),
        ("restore", ("j", "k"), 2),
        ("call", ("k",), 1),
    ]
    for report in reports:
        assert (report.instance_id, report.transmissions, report.error) == ("a", 1, None)
        assert 0 < report.began_ns <= report.ended_ns


def test_retries_and_failures_are_reported(real_server: RedisServer) -> None:
    reports: list[RequestReport] = []
    with FaultyProxy(real_server.port, Faults(), 20) as proxy:
        client = redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 2))
        counter = StrictInstanceAwareCounter(client, "p", on_request=reports.append)
        counter.inc("k")
        proxy.faults = Faults(drop_replies=1.0)
        with pytest.raises(redis.exceptions.ConnectionError):
            counter.inc("k")
    assert [r.transmissions for r in reports] == [1, 1, 3]
    assert isinstance(reports[-1].error, redis.exceptions.ConnectionError)


def test_what_was_never_sent_has_no_transmission() -> None:
    reports: list[RequestReport] = []
    nowhere = redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 0))
    counter = StrictInstanceAwareCounter(nowhere, "p", on_request=reports.append)
    with pytest.raises(NotExecutedError):
        counter.inc("k")
    assert [r.transmissions for r in reports] == [0]


def test_a_hook_that_fails_harms_no_call(
    client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: RequestReport) -> None:
        raise ZeroDivisionError

    counter = StrictInstanceAwareCounter(client, "p", on_request=broken)
    assert counter.inc("k") == (1, 1)
    assert "on_request failed" in caplog.text
    assert all(record.levelno == logging.ERROR for record in caplog.records)


@pytest.mark.parametrize(
    "counter_class", [StrictInstanceAwareCounter, distkit.asyncio.StrictInstanceAwareCounter]
)
def test_a_hook_that_cannot_be_called_is_refused(counter_class: Any) -> None:
    fakes = {StrictInstanceAwareCounter: fakeredis.FakeRedis}
    client = fakes.get(counter_class, fakeredis.FakeAsyncRedis)()
    with pytest.raises(TypeError, match="on_request must be callable, not int"):
        counter_class(client, "p", on_request=5)


def test_the_example_makes_a_span_of_each_request() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")

    async def main() -> None:
        counter = distkit.asyncio.StrictInstanceAwareCounter(
            fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer()),
            "p",
            on_request=span_for_each_request(tracer),
        )
        with tracer.start_as_current_span("request of the program"):
            await counter.inc("k")

    asyncio.run(main())
    opened, call, outer = exporter.get_finished_spans()
    assert [opened.name, call.name] == ["distkit open", "distkit call"]
    assert call.attributes is not None
    assert call.attributes["distkit.keys"] == ("k",)
    assert (call.attributes["distkit.steps"], call.attributes["distkit.retries"]) == (1, 0)
    assert call.parent is not None
    assert outer.context is not None
    assert call.parent.span_id == outer.context.span_id
