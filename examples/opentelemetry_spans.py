"""OpenTelemetry spans for the requests of a counter: one span each, with keys, steps and retries.

    counter = StrictInstanceAwareCounter(client, "my_app", on_request=span_for_each_request(tracer))

A request is shared by the calls that wait for it, so its span belongs to none of them. It is a span
of its own, in the trace of the call that happened to send it.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from distkit import RequestReport


def span_for_each_request(tracer: Tracer) -> Callable[[RequestReport], None]:
    def make_span(report: RequestReport) -> None:
        span = tracer.start_span(
            f"distkit {report.purpose}",
            kind=SpanKind.CLIENT,
            start_time=report.began_ns,
            attributes={
                "db.system.name": "redis",
                "distkit.instance": report.instance_id,
                "distkit.keys": report.keys,
                "distkit.steps": report.steps,
                "distkit.retries": report.transmissions - 1,
            },
        )
        if report.error is not None:
            span.record_exception(report.error)
            span.set_status(Status(StatusCode.ERROR, str(report.error)))
        span.end(report.ended_ns)

    return make_span
