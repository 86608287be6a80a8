"""The numbers for OpenTelemetry. Needs the extra `metrics`.

from distkit.metrics.opentelemetry import RequestMetrics
counter = StrictInstanceAwareCounter(client, "my_app", on_request=RequestMetrics("my_app"))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import redis

from distkit.core.inspection import first_pages
from distkit.inspection import pages, partitions_of
from distkit.metrics import numbers
from distkit.metrics.numbers import Measure, Tally, Value
from distkit.tracing import RequestReport

try:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "distkit.metrics.opentelemetry needs opentelemetry-api: pip install "
        "'distkit-counter[metrics]'",
        name=_missing.name,
    ) from None

SAME_READING_S = 1.0
"""The instruments of a prefix are observed one after the other: one reading serves all of them."""


class RequestMetrics:
    """What a process's instances send. Give it to counters as `on_request`.

    Args:
        prefix: the attribute `prefix` of the values.
        meter: what makes the instruments; by default the program's own.
    """

    def __init__(self, prefix: str, meter: Meter | None = None) -> None:
        self._prefix = {"prefix": prefix}
        self._tally = Tally()
        meter = meter or get_meter("distkit")
        self._instruments: dict[Measure, Any] = {
            measure: _instrument(meter, measure) for measure in numbers.OF_WORK
        }

    def __call__(self, report: RequestReport) -> None:
        work, of, prefix = self._tally.of(report), self._instruments, self._prefix
        purpose = {**prefix, "purpose": work.purpose}
        of[numbers.REQUESTS].add(1, {**purpose, "outcome": work.outcome})
        of[numbers.RETRIES].add(work.retries, prefix)
        of[numbers.LOSSES].add(int(work.lost), prefix)
        of[numbers.RESTORED].add(work.restored, prefix)
        of[numbers.STEPS].add(work.steps, prefix)
        of[numbers.DURATION].record(work.seconds, purpose)
        if work.is_call:
            of[numbers.STEPS_PER_REQUEST].record(work.steps, prefix)


def _instrument(meter: Meter, measure: Measure) -> Any:
    bounds = {
        numbers.DURATION: numbers.DURATION_BOUNDS,
        numbers.STEPS_PER_REQUEST: numbers.STEP_BOUNDS,
    }.get(measure)
    unit = "s" if measure.unit == "seconds" else "1"
    if bounds is None:
        return meter.create_counter(measure.name, unit, measure.about)
    return meter.create_histogram(
        measure.name, unit, measure.about, explicit_bucket_boundaries_advisory=list(bounds)
    )


def observe_prefix(
    client: redis.Redis | redis.RedisCluster,
    prefix: str,
    *,
    meter: Meter | None = None,
    match: str | None = None,
    most_counters: int = 1000,
) -> None:
    """Have the meter observe the counters and instances of a prefix at each collection.

    Args:
        client: the client. If it cannot read, `distkit.up` is 0, and the other values are missing.
        prefix: the namespace.
        meter: what makes the instruments; by default the program's own.
        match: only counters whose keys match this glob pattern.
        most_counters: how many counters are read; the pattern chooses among more.
    """
    meter = meter or get_meter("distkit")
    reading = _Reading(client, prefix, match, most_counters)
    for measure in numbers.OF_A_PREFIX:
        unit = "s" if measure.unit == "seconds" else "1"
        meter.create_observable_gauge(
            measure.name, [reading.callback(measure)], unit, measure.about
        )


class _Reading:
    """The last reading of a prefix."""

    def __init__(self, client: Any, prefix: str, match: str | None, most: int) -> None:
        self._client, self._prefix, self._match, self._most = client, prefix, match, most
        self._mutex = threading.Lock()
        self._values: list[Value] = []
        self._read_at = -SAME_READING_S

    def callback(self, measure: Measure) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            for of, labels, value in self._current():
                if of == measure:
                    named = dict(zip(measure.labels, labels, strict=True))
                    yield Observation(value, {"prefix": self._prefix, **named})

        return observe

    def _current(self) -> list[Value]:
        with self._mutex:
            if time.monotonic() - self._read_at >= SAME_READING_S:
                try:
                    partitions = partitions_of(self._client, self._prefix)
                    every = pages(
                        self._client, self._prefix, match=self._match, partitions=partitions
                    )
                    found = list(first_pages(every, self._most))
                except (redis.RedisError, OSError):
                    found = []
                self._values = list(numbers.values_of(found))
                self._read_at = time.monotonic()
            return self._values
