"""Which numbers there are, and how they follow from reports and from what Redis holds. No I/O.

Each number is one `Measure` here. Prometheus and OpenTelemetry derive their names from it, so that
both have the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from distkit.core.inspection import CounterInfo, PrefixInfo, merged
from distkit.tracing import RequestReport


class Measure(NamedTuple):
    """A number.

    Attributes:
        name: in words with dots between them; without unit.
        about: what it says.
        labels: what its values are told apart by, besides the prefix.
        unit: "" for a plain number, or "seconds".
    """

    name: str
    about: str
    labels: tuple[str, ...] = ()
    unit: str = ""


# --- An instance's own work ----------------------------------------------------------------------

REQUESTS: Final = Measure(
    "distkit.requests",
    "Requests to Redis, by purpose (call, heartbeat, sweep, open, restore, drop, leave) "
    "and outcome (answered, or the class of the error)",
    ("purpose", "outcome"),
)
RETRIES: Final = Measure("distkit.retries", "Transmissions of requests beyond the first")
STEPS: Final = Measure("distkit.steps", "Operations that requests of the purpose call carried")
LOSSES: Final = Measure("distkit.session_losses", "Sessions opened to replace one that was lost")
RESTORED: Final = Measure("distkit.restored_slices", "Slices put back after a lost session")
STEPS_PER_REQUEST: Final = Measure("distkit.steps_per_request", "Operations that shared a request")
DURATION: Final = Measure(
    "distkit.request.duration", "Time from sending a request to its end", ("purpose",), "seconds"
)

STEP_BOUNDS: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 512)
DURATION_BOUNDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)


class Work(NamedTuple):
    """What one request adds to the numbers."""

    purpose: str
    outcome: str
    retries: int
    steps: int
    restored: int
    lost: bool
    seconds: float

    @property
    def is_call(self) -> bool:
        return self.purpose == "call"


class Tally:
    """Sees the reports of a process's instances, and says what each request adds."""

    def __init__(self) -> None:
        self._in_session: set[str] = set()

    def of(self, report: RequestReport) -> Work:
        """A session is lost if its instance opens another without having left."""
        answered = report.error is None
        me, lost = report.instance_id, False
        if report.purpose in ("drop", "leave"):
            self._in_session.discard(me)
        elif report.purpose == "open" and answered:
            lost = me in self._in_session
            self._in_session.add(me)
        return Work(
            report.purpose,
            "answered" if answered else type(report.error).__name__,
            max(0, report.transmissions - 1),
            report.steps if report.purpose == "call" else 0,
            len(report.keys) if report.purpose == "restore" and answered else 0,
            lost,
            max(0, report.ended_ns - report.began_ns) / 1e9,
        )


# --- The counters of a prefix --------------------------------------------------------------------

UP: Final = Measure("distkit.up", "Whether the prefix could be read: 1 or 0")
INSTANCES: Final = Measure("distkit.instances", "Instances, by state: live or dead", ("state",))
KEYS: Final = Measure("distkit.keys", "Counters and tombstones of the prefix")
SHOWN: Final = Measure("distkit.keys_read", "How many of them these numbers include")
TOMBSTONES: Final = Measure("distkit.tombstones", "Tombstones among the keys that were read")
DAMAGED: Final = Measure(
    "distkit.damaged_counters",
    "Counters that are listed and do not exist (missing), or hold something else (unreadable)",
    ("state",),
)
SILENCE: Final = Measure(
    "distkit.longest_silence", "For how long the most silent live instance has been silent", (),
    "seconds",
)  # fmt: skip
OUTAGE: Final = Measure(
    "distkit.outage", "How much silence an outage explains (R19)", (), "seconds"
)
TOTAL: Final = Measure("distkit.counter.value", "The total that a call would be told", ("key",))
SLICES: Final = Measure(
    "distkit.counter.slices",
    "Slices: live, stale (of an earlier epoch), or gone (the next call removes them)",
    ("key", "state"),
)
EPOCH: Final = Measure("distkit.counter.epoch", "The epoch of the counter", ("key",))

OF_A_PREFIX: Final = (
    *(UP, INSTANCES, KEYS, SHOWN, TOMBSTONES, DAMAGED, SILENCE, OUTAGE, TOTAL, SLICES, EPOCH),
)
OF_WORK: Final = (REQUESTS, RETRIES, STEPS, LOSSES, RESTORED, STEPS_PER_REQUEST, DURATION)


class Value(NamedTuple):
    """A value of a measure, and what it is told apart by: its labels, in order."""

    measure: Measure
    labels: tuple[str, ...]
    value: float


def values_of(found: Iterable[PrefixInfo]) -> Iterator[Value]:
    """The numbers of the pages of a prefix. No page means that it could not be read."""
    pages = list(found)
    yield Value(UP, (), float(bool(pages)))
    if not pages:
        return
    info = merged(pages)
    live = [each for each in info.instances.values() if each.is_live]
    yield Value(INSTANCES, ("live",), len(live))
    yield Value(INSTANCES, ("dead",), len(info.instances) - len(live))
    yield Value(SILENCE, (), max((each.silent_ms for each in live), default=0) / 1000)
    yield Value(OUTAGE, (), info.clock.outage_ms / 1000)
    damaged = len(info.missing) + len(info.unreadable)
    yield Value(KEYS, (), info.listed)
    yield Value(SHOWN, (), len(info.counters) + len(info.tombstones) + damaged)
    yield Value(TOMBSTONES, (), len(info.tombstones))
    yield Value(DAMAGED, ("missing",), len(info.missing))
    yield Value(DAMAGED, ("unreadable",), len(info.unreadable))
    for counter in info.counters.values():
        yield from _values_of_counter(counter)


def _values_of_counter(counter: CounterInfo) -> Iterator[Value]:
    yield Value(TOTAL, (counter.key,), counter.total)
    yield Value(EPOCH, (counter.key,), counter.epoch)
    by_state = {"live": 0, "stale": 0, "gone": 0}
    for each in (counter.slices or {}).values():
        by_state["gone" if each.goes else "live" if each.is_current else "stale"] += 1
    for state, count in by_state.items():
        yield Value(SLICES, (counter.key, state), count)
