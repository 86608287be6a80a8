"""The numbers for Prometheus. Needs the extra `metrics`.

from distkit.metrics.prometheus import RequestMetrics
counter = StrictInstanceAwareCounter(client, "my_app", on_request=RequestMetrics("my_app"))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import redis

from distkit.core.inspection import first_pages
from distkit.inspection import pages, partitions_of
from distkit.metrics import numbers
from distkit.metrics.numbers import Measure, Tally
from distkit.tracing import RequestReport

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "distkit.metrics.prometheus needs prometheus_client: pip install "
        "'distkit-counter[metrics]'",
        name=_missing.name,
    ) from None

MOST_COUNTERS = 1000
"""How many counters a scrape reads by default: each has five values."""


class RequestMetrics:
    """What a process's instances send. Give it to counters as `on_request`.

    Args:
        prefix: the label `prefix` of the values.
        registry: where they are registered, once for all prefixes.
    """

    def __init__(self, prefix: str, registry: CollectorRegistry = REGISTRY) -> None:
        self._prefix = prefix
        self._tally = Tally()
        self._metrics = _registered.get(registry) or _registered.setdefault(registry, {})
        if not self._metrics:
            self._metrics.update(_made(registry))

    def __call__(self, report: RequestReport) -> None:
        work, prefix = self._tally.of(report), self._prefix
        of = self._metrics
        of[numbers.REQUESTS].labels(prefix, work.purpose, work.outcome).inc()
        of[numbers.RETRIES].labels(prefix).inc(work.retries)
        of[numbers.LOSSES].labels(prefix).inc(work.lost)
        of[numbers.RESTORED].labels(prefix).inc(work.restored)
        of[numbers.DURATION].labels(prefix, work.purpose).observe(work.seconds)
        of[numbers.STEPS].labels(prefix).inc(work.steps)
        if work.is_call:
            of[numbers.STEPS_PER_REQUEST].labels(prefix).observe(work.steps)


class PrefixCollector(Collector):
    """The counters and instances of a prefix, read at each scrape.

    Register it: `REGISTRY.register(PrefixCollector(client, "my_app"))`. One process for each prefix
    is enough, and every replica of Redis will do; `distkit metrics` is such a process.

    Args:
        client: the client. If it cannot read, `distkit_up` is 0, and the other values are missing.
        prefix: the namespace. If it is divided, all partitions are read.
        match: only counters whose keys match this glob pattern.
        most_counters: how many counters are read; the pattern chooses among more.
    """

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster,
        prefix: str,
        *,
        match: str | None = None,
        most_counters: int = MOST_COUNTERS,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._match = match
        self._most = most_counters

    def describe(self) -> Sequence[GaugeMetricFamily]:
        """What `collect` returns, without values: registering reads nothing."""
        return [self._family(measure) for measure in numbers.OF_A_PREFIX]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            partitions = partitions_of(self._client, self._prefix)
            every = pages(self._client, self._prefix, match=self._match, partitions=partitions)
            found = list(first_pages(every, self._most))
        except (redis.RedisError, OSError):
            found = []
        families: dict[Measure, GaugeMetricFamily] = {}
        for measure, labels, value in numbers.values_of(found):
            if measure not in families:
                families[measure] = self._family(measure)
            families[measure].add_metric([self._prefix, *labels], value)
        yield from families.values()

    def _family(self, measure: Measure) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            name_of(measure), measure.about, labels=["prefix", *measure.labels]
        )


def name_of(measure: Measure) -> str:
    """The name in Prometheus, without the suffixes that the client adds."""
    name = measure.name.replace(".", "_")
    return f"{name}_{measure.unit}" if measure.unit else name


def _made(registry: CollectorRegistry) -> dict[Measure, Any]:
    made: dict[Measure, Any] = {}
    for measure in numbers.OF_WORK:
        arguments: dict[str, Any] = {
            "labelnames": ["prefix", *measure.labels],
            "registry": registry,
        }
        if measure is numbers.DURATION:
            kind: Any = Histogram
            arguments["buckets"] = numbers.DURATION_BOUNDS
        elif measure is numbers.STEPS_PER_REQUEST:
            kind = Histogram
            arguments["buckets"] = numbers.STEP_BOUNDS
        else:
            kind = Counter
        made[measure] = kind(name_of(measure), measure.about, **arguments)
    return made


_registered: WeakKeyDictionary[CollectorRegistry, dict[Measure, Any]] = WeakKeyDictionary()
