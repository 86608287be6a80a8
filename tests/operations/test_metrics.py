"""The metrics count what happened: an instance's own work, and the counters of a prefix."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from distkit import NotExecutedError, RequestReport, StrictInstanceAwareCounter
from distkit.metrics import numbers, opentelemetry, prometheus
from distkit.testing import driver_of
from tests.harness.servers import RedisServer, free_port

ROOT = Path(__file__).parents[2]
PREFIX = "measured"
A_THOUSAND_S = 1_000_000
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def sampled(registry: CollectorRegistry) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted({"prefix": PREFIX, **labels}.items()))))


@pytest.fixture
def meter() -> Iterator[tuple[Any, InMemoryMetricReader]]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    yield provider.get_meter("distkit"), reader
    provider.shutdown()


def observed(reader: InMemoryMetricReader) -> dict[tuple[str, tuple[tuple[str, str], ...]], Any]:
    data: Any = reader.get_metrics_data()
    return {
        (metric.name, tuple(sorted(point.attributes.items()))): getattr(
            point, "value", getattr(point, "sum", None)
        )
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def work(client: redis.Redis, hook: Any) -> None:
    """One session is lost, with two slices; five requests of calls carry six steps."""
    counter = StrictInstanceAwareCounter(client, PREFIX, instance_id="A", on_request=hook)
    counter.inc_all([("k", 1), ("j", 2), ("k", 3)])
    client.hdel(f"distkit:{{{PREFIX}}}:instances", "A")
    counter.inc("k")
    counter.get("k")
    driver_of(counter).leave()
    counter.inc("k")
    driver_of(counter).leave()


def test_what_an_instance_sends(newest_server: RedisServer, meter: Any) -> None:
    registry, seen = CollectorRegistry(), list[RequestReport]()
    mine = prometheus.RequestMetrics(PREFIX, registry)
    theirs = opentelemetry.RequestMetrics(PREFIX, meter[0])

    def hook(report: RequestReport) -> None:
        seen.append(report)
        mine(report)
        theirs(report)

    work(newest_server.client(), hook)
    samples, other = sampled(registry), observed(meter[1])
    calls = [report for report in seen if report.purpose == "call"]
    asked = {"purpose": "call", "outcome": "answered"}
    assert value(samples, "distkit_requests_total", **asked) == len(calls) == 5
    assert value(samples, "distkit_steps_total") == 3 + 2 * 1 + 1 + 1  # the lost one is sent again
    assert value(samples, "distkit_session_losses_total") == 1, "leaving is no loss"
    assert value(samples, "distkit_restored_slices_total") == 2
    assert value(samples, "distkit_retries_total") == 0
    assert value(samples, "distkit_steps_per_request_count") == 5
    duration = value(samples, "distkit_request_duration_seconds_sum", purpose="call")
    assert duration == pytest.approx(sum(r.ended_ns - r.began_ns for r in calls) / 1e9)

    assert {name for name, _ in other} == {measure.name for measure in numbers.OF_WORK}
    for name, labels in other:
        measured = prometheus.name_of(next(m for m in numbers.OF_WORK if m.name == name))
        same = samples.get((f"{measured}_total", labels), samples.get((f"{measured}_sum", labels)))
        assert other[name, labels] == pytest.approx(same), name


def test_housekeeping_is_no_operation(newest_server: RedisServer) -> None:
    """R10, R18: a heartbeat looks at counters, which nobody has called."""
    registry = CollectorRegistry()
    hook = prometheus.RequestMetrics(PREFIX, registry)
    counter = StrictInstanceAwareCounter(newest_server.client(), PREFIX, on_request=hook)
    counter.inc_all([("k", 1), ("j", 1)])
    counter.heartbeat()
    samples = sampled(registry)
    for purpose in ("call", "heartbeat"):
        asked = {"purpose": purpose, "outcome": "answered"}
        assert value(samples, "distkit_requests_total", **asked) == 1
    assert value(samples, "distkit_steps_total") == 2


def test_retries_and_errors(newest_server: RedisServer) -> None:
    registry = CollectorRegistry()
    hook = prometheus.RequestMetrics(PREFIX, registry)
    nobody = redis.Redis(port=free_port())
    with pytest.raises(NotExecutedError):
        StrictInstanceAwareCounter(nobody, PREFIX, on_request=hook).inc("k")
    samples = sampled(registry)
    failed = {"purpose": "open", "outcome": "ConnectionError"}
    assert value(samples, "distkit_requests_total", **failed) == 1
    report = RequestReport("call", "A", ("k",), 1, 4, 0, 1000, None)
    hook(report)
    assert value(sampled(registry), "distkit_retries_total") == 3


def test_two_prefixes_share_a_registry() -> None:
    registry = CollectorRegistry()
    report = RequestReport("call", "A", ("k",), 1, 1, 0, 1000, None)
    for prefix in (PREFIX, "other", PREFIX):
        prometheus.RequestMetrics(prefix, registry)(report)
    samples = sampled(registry)
    assert value(samples, "distkit_steps_total") == 2
    assert value(samples, "distkit_steps_total", prefix="other") == 1


def test_the_counters_of_a_prefix(newest_server: RedisServer, meter: Any) -> None:
    client = newest_server.client()
    a = StrictInstanceAwareCounter(client, PREFIX, instance_id="A")
    b = StrictInstanceAwareCounter(client, PREFIX, instance_id="B")
    a.inc_all([("k", 5), ("j", 1)])
    b.inc("k", 2)
    a.set("j", 7)
    b.inc("j", 1)
    a.set("j", 9)
    client.hdel(f"distkit:{{{PREFIX}}}:instances", "B")
    registry = CollectorRegistry(auto_describe=True)
    registry.register(prometheus.PrefixCollector(client, PREFIX))
    opentelemetry.observe_prefix(client, PREFIX, meter=meter[0])
    samples, other = sampled(registry), observed(meter[1])
    assert value(samples, "distkit_up") == 1
    assert value(samples, "distkit_instances", state="live") == 1
    assert value(samples, "distkit_keys") == value(samples, "distkit_keys_read") == 2
    assert value(samples, "distkit_counter_value", key="k") == 5
    assert value(samples, "distkit_counter_value", key="j") == 9
    assert value(samples, "distkit_counter_epoch", key="j") == 2
    assert value(samples, "distkit_counter_slices", key="k", state="live") == 1
    assert value(samples, "distkit_counter_slices", key="k", state="gone") == 1
    assert {name for name, _ in other} == {measure.name for measure in numbers.OF_A_PREFIX}
    for (name, labels), number in other.items():
        measured = prometheus.name_of(next(m for m in numbers.OF_A_PREFIX if m.name == name))
        if measured != "distkit_longest_silence_seconds":
            assert samples[measured, labels] == number, name
    assert b"distkit_counter_value" in generate_latest(registry)


def test_a_scrape_is_bounded(newest_server: RedisServer) -> None:
    client = newest_server.client()
    counter = StrictInstanceAwareCounter(client, PREFIX)
    counter.inc_all([(f"k{n}", 1) for n in range(1200)])
    registry = CollectorRegistry()
    registry.register(prometheus.PrefixCollector(client, PREFIX, most_counters=100))
    samples = sampled(registry)
    read = value(samples, "distkit_keys_read")
    assert read is not None
    assert 100 <= read < 1200 == value(samples, "distkit_keys")


def test_what_cannot_be_read_is_down() -> None:
    registry = CollectorRegistry()
    registry.register(prometheus.PrefixCollector(redis.Redis(port=free_port()), PREFIX))
    assert sampled(registry) == {("distkit_up", (("prefix", PREFIX),)): 0}


def test_the_dashboard_asks_for_numbers_that_exist() -> None:
    """Every name in its queries is exported, and every number is on it."""
    registry = CollectorRegistry()
    prometheus.RequestMetrics(PREFIX, registry)
    exported = {f.name for f in registry.collect()} | {
        prometheus.name_of(measure) for measure in numbers.OF_A_PREFIX
    }
    board = json.loads((ROOT / "examples" / "grafana-dashboard.json").read_text("utf-8"))
    queries = [t["expr"] for panel in board["panels"] for t in panel.get("targets", ())]
    asked = {
        re.sub(r"_(total|bucket|sum|count)$", "", name)
        for query in queries
        for name in re.findall(r"\bdistkit_\w+", query)
    }
    assert asked == exported
