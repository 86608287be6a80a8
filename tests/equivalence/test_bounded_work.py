"""R5, R14, R17: what the script does when sessions are closed does not grow with their number.

It keeps a list of the last closings, and looks only at the slices of those; and an open looks at a
bounded number of sessions. However short the list is, the counter is the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import fakeredis
import pytest
import redis

from distkit import StrictInstanceAwareCounter
from distkit.redis.script import Script
from tests.equivalence.machine import explore, machine_on
from tests.equivalence.mutants import Mutant
from tests.equivalence.scenarios import SCENARIOS, Scenario, play
from tests.harness.servers import RedisServer
from tests.harness.side_by_side import fake_backend, real_backend

FEW = 64
INSTANCES = "distkit:{p}:instances"
KEEPS_ONE = Mutant(
    "the list of closings keeps one", "local FEW = 64", "local FEW = 1", ("FEW + 3", "64 + 3")
)


@pytest.fixture(scope="module")
def short() -> Script:
    """The script with a list of one closing. It is right, too."""
    return KEEPS_ONE.script()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_history_is_the_same_however_short_the_list_is(scenario: Scenario, short: Script) -> None:
    play(scenario, fake_backend(), short)


def test_the_counter_equals_the_oracle_however_short_the_list_is(
    newest_server: RedisServer, short: Script
) -> None:
    explore(machine_on(lambda: real_backend(newest_server), short))


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _instance(client: redis.Redis, clock: Clock, name: str) -> StrictInstanceAwareCounter:
    return StrictInstanceAwareCounter(
        client, "p", instance_id=name, dead_instance_threshold_ms=1_000, clock_ms=clock
    )


@pytest.fixture(params=[1, 5, FEW, FEW + 1, 3 * FEW])
def crowd(request: pytest.FixtureRequest) -> int:
    """How many close their sessions between two looks at a counter."""
    number: int = request.param
    return number


def test_any_number_of_closings_is_noticed(crowd: int, clock: Clock) -> None:
    """R17: each of them lives again under its id, and has forgotten the counter."""
    client = fakeredis.FakeRedis()
    stays = _instance(client, clock, "stays")
    stays.inc("k", 1_000)
    for number in range(crowd):
        _instance(client, clock, f"{number}").inc("k")
    assert stays.get("k") == (1_000 + crowd, 1_000)
    for number in range(crowd):
        _instance(client, clock, f"{number}").inc("j")
        clock.now += 1
    assert stays.get("k") == (1_000, 1_000)
    assert client.hlen("distkit:{p}:counter:k") == 2


def test_any_number_of_deaths_at_once_is_noticed(crowd: int, clock: Clock) -> None:
    """R8: the request that finds them dead closes all their sessions, and the next ones know."""
    client = fakeredis.FakeRedis()
    stays = _instance(client, clock, "stays")
    stays.inc_all([("k", 1_000), ("j", 5)])
    for number in range(crowd):
        _instance(client, clock, f"{number}").inc_all([("k", 1), ("j", 1)])
    clock.now += 999
    stays.heartbeat()
    clock.now += 1
    assert stays.get("k") == (1_000, 1_000)
    assert client.hlen(INSTANCES) == 3, "the head, the list, and one session"
    assert stays.get("j") == (5, 5)


@pytest.fixture
def crowded(newest_server: RedisServer, clock: Clock) -> Iterator[redis.Redis]:
    """A Redis in which a thousand instances count on `k`."""
    with newest_server.client() as client:
        for number in range(1_000):
            _instance(client, clock, f"{number}").inc("k")
        yield client


def _calls(client: redis.Redis) -> dict[str, int]:
    stats: dict[str, dict[str, int]] = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): of["calls"] for name, of in stats.items()}


def test_a_departure_makes_nobody_look_through_all_slices(
    crowded: redis.Redis, clock: Clock
) -> None:
    stays, leaves = _instance(crowded, clock, "stays"), _instance(crowded, clock, "7")
    stays.inc("k", 5)
    leaves.inc("j")  # a new life of it: its slice in `k` is of the old one
    crowded.config_resetstat()
    assert stays.get("k") == (1_004, 5)
    with leaves:
        pass
    assert stays.get("k") == (1_004, 5)
    assert "hgetall" not in _calls(crowded)


def test_an_open_looks_at_a_bounded_number_of_sessions(crowded: redis.Redis, clock: Clock) -> None:
    """R14: and they do not accumulate, because each open removes more of the dead than itself."""
    clock.now += 1_000
    before = crowded.hlen(INSTANCES)
    _instance(crowded, clock, "new").inc("j")
    assert before - crowded.hlen(INSTANCES) <= FEW + 3 - 1
    left = list[int]()
    for number in range(150):
        _instance(crowded, clock, f"new {number}").inc("j")
        clock.now += 100  # the newest ten live
        left.append(crowded.hlen(INSTANCES))
    assert max(left[100:]) <= 10 + FEW, "of 1,200 sessions"


def test_an_open_closes_every_dead_session_if_there_are_few(clock: Clock) -> None:
    client = fakeredis.FakeRedis()
    for number in range(FEW):
        _instance(client, clock, f"{number}").inc("k")
    clock.now += 1_000
    new = _instance(client, clock, "new")
    new.inc("j")
    assert client.hlen(INSTANCES) == 3, "the head, the list, and its own"
