"""The capacity model: what a number of instances, keys and calls needs of a redis-server."""

from __future__ import annotations

import math
from typing import NamedTuple


class Constants(NamedTuple):
    """What the server spends: microseconds of the script, and bytes.

    Attributes:
        call: one `inc`, alone in its request.
        step: each further step on the same counter in the request.
        key: each further counter in the request.
        beat: a heartbeat of an instance that remembers nothing.
        look: each counter at which a heartbeat looks (at most 10).
        open: opening a session among many, of which it looks at a few (R14).
        departure: the first call on a counter after a session was closed (R8), beyond any call.
        slice_in_search: each slice of a counter, when a lease has ended (R8).
        session_bytes, slice_bytes, counter_bytes: in Redis; a counter has one slice.
    """

    call: float
    step: float
    key: float
    beat: float
    look: float
    open: float
    departure: float
    slice_in_search: float
    session_bytes: float
    slice_bytes: float
    counter_bytes: float


class Load(NamedTuple):
    """What a prefix, or a partition, has to bear.

    Attributes:
        instances: how many live.
        counters, slices: how many there are altogether.
        calls_s: requests with one `inc`, each second.
        threshold_s: of every instance.
        looks: at how many counters a heartbeat looks.
        joins_s, leaves_s, crashes_s: how many instances open a session, leave, and die each second.
    """

    instances: int
    counters: int
    slices: int
    calls_s: float
    threshold_s: float
    looks: int
    joins_s: float
    leaves_s: float
    crashes_s: float


class Need(NamedTuple):
    """What it takes: the busy part of one core for each cause, and bytes."""

    calls: float
    beats: float
    joins: float
    departures: float
    searches: float
    memory: float

    @property
    def cores(self) -> float:
        return self.calls + self.beats + self.joins + self.departures + self.searches


def predict(constants: Constants, load: Load) -> Need:
    """What a load needs of the server. The formulas are on the page."""
    beats_s = load.instances / (load.threshold_s / 3)
    requests_s = load.calls_s + beats_s * load.looks
    gone_s = load.leaves_s + load.crashes_s
    touched = load.counters * (1 - math.exp(-requests_s / gone_s / load.counters))
    crowd = load.slices / load.counters
    searches_s = load.counters * 1.5 / load.threshold_s
    searches_s += load.crashes_s * load.slices / load.instances
    return Need(
        load.calls_s * constants.call / 1e6,
        beats_s * (constants.beat + load.looks * constants.look) / 1e6,
        load.joins_s * constants.open / 1e6,
        gone_s * touched * constants.departure / 1e6,
        searches_s * crowd * constants.slice_in_search / 1e6,
        load.instances * constants.session_bytes
        + (load.slices - load.counters) * constants.slice_bytes
        + load.counters * constants.counter_bytes,
    )
