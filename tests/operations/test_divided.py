"""R21: the commands of `distkit`, and `inspect`, on a prefix that is divided.

They show all partitions as one prefix, on one server and over the shards of a cluster.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from click.testing import CliRunner, Result
from prometheus_client import CollectorRegistry

from distkit import PartitionsError, StrictInstanceAwareCounter
from distkit.cli.checks import Finding, Patient
from distkit.cli.doctor import diagnose
from distkit.cli.main import main
from distkit.core.partitions import name_of, partition_of
from distkit.inspection import inspect, inspect_async, pages, pages_async, partitions_of
from distkit.keys import Keyspace
from distkit.metrics.prometheus import PrefixCollector
from tests.conftest import REAL
from tests.harness.deployments import HOST, Cluster
from tests.harness.servers import RedisServer, server_for

PREFIX = "seen"
PARTITIONS = 3
KEYS = [f"k{char}" for char in "0123456789ab"]
SPACES = [Keyspace(PREFIX, name_of(PREFIX, number, PARTITIONS)) for number in range(PARTITIONS)]


class Place:
    """Where the prefix is.

    Attributes:
        servers: a client of each server.
        client: of all of them.
        url: of one of them.
    """

    def __init__(self, servers: list[redis.Redis], client: Any, url: str) -> None:
        self.servers, self.client, self.url = servers, client, url

    def counter(self, name: str, partitions: int = PARTITIONS) -> StrictInstanceAwareCounter:
        hour = 3_600_000  # nobody is presumed dead, however slow the machine is
        return StrictInstanceAwareCounter(
            self.client,
            PREFIX,
            instance_id=name,
            partitions=partitions,
            dead_instance_threshold_ms=hour,
        )

    def dump(self) -> dict[bytes, bytes]:
        """Everything that is in Redis."""
        found: dict[bytes, bytes] = {}
        for server in self.servers:
            names: Any = server.keys("*")
            found |= {name: server.dump(name) for name in names}
        return found

    def distkit(self, command: str, *words: str, **options: Any) -> Result:
        environment = {"COLUMNS": "80", "TERM": "dumb"}
        return CliRunner(env=environment).invoke(
            main, [command, self.url, PREFIX, *words], catch_exceptions=False, **options
        )

    def findings(self) -> list[Finding]:
        """Of the doctor, who changes nothing."""
        before = self.dump()
        diagnosis = diagnose(Patient(self.client, PREFIX))
        assert not diagnosis.unchecked
        assert self.dump() == before
        return diagnosis.findings


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(REAL[-1], replicas=0)
    yield cluster
    cluster.stop()


@pytest.fixture(params=["one server", "a cluster"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Two live instances. Each of twelve counters has 1 of A, and 10, 20, ... of B."""
    nodes: list[RedisServer]
    if request.param == "a cluster":
        whole: Cluster = request.getfixturevalue("cluster")
        nodes, port = whole.servers, whole.servers[1].port
        client: Any = redis.RedisCluster(host=HOST, port=port)
        found = Place([node.client() for node in nodes], client, f"redis://{HOST}:{port}")
    else:
        server = server_for(REAL[-1])
        client = server.client()
        found = Place([client], client, f"unix://{server.socket}")
    for each in found.servers:
        each.flushall()
    a, b = found.counter("A"), found.counter("B")
    a.inc_all([(key, 1) for key in KEYS])
    b.inc_all([(key, 10 * (1 + place)) for place, key in enumerate(KEYS)])
    yield found
    for each in found.servers:
        each.config_set("maxmemory-policy", "noeviction")


def test_the_keys_are_in_all_partitions() -> None:
    """Or the tests below would test little."""
    found = [partition_of(key, PARTITIONS) for key in KEYS]
    assert all(found.count(number) >= 3 for number in range(PARTITIONS))


# --- show, top, export ---------------------------------------------------------------------------


def test_show_is_one_table(place: Place) -> None:
    result = place.distkit("show")
    assert result.exit_code == 0
    assert result.stdout.startswith("seen: 2 live instances, 12 keys; last request ")
    shown = [line.split() for line in result.stdout.splitlines()]
    assert sorted(line[0] for line in shown if line[2:3] == ["live"] and line[0] != "seen:") == [
        "A",
        "B",
    ]
    expected = [[key, str(10 * (1 + n) + 1), "0", "2", "2"] for n, key in enumerate(KEYS)]
    assert [line for line in shown if line and line[0] in KEYS] == expected


def test_show_has_the_slices_of_counters_in_several_partitions(place: Place) -> None:
    result = place.distkit("show", *KEYS, "nothing")
    for n, key in enumerate(KEYS):
        assert f"{key}: total {10 * (1 + n) + 1}, epoch 0, 2 slices" in result.stdout
    assert result.stdout.count("nothing does not exist") == 1
    assert result.exit_code == 1
    assert place.distkit("show", KEYS[0]).exit_code == 0


def test_top_ranks_over_all_partitions(place: Place) -> None:
    def keys(*words: str) -> list[str]:
        return re.findall(r"^(k\w)", place.distkit("top", *words).stdout, re.M)

    assert keys() == KEYS[::-1]
    assert keys("--sort", "key") == KEYS
    assert keys("--filter", "k[28]") == ["k8", "k2"]


@pytest.mark.parametrize("command", ["show", "top", "export"])
def test_json_has_the_whole_prefix(place: Place, command: str) -> None:
    document = json.loads(place.distkit(command, "--json").stdout)
    assert document["prefix"] == PREFIX
    assert document["listed"] == 12
    assert sorted(each["id"] for each in document["instances"]) == ["A", "B"]
    totals = {each["key"]: each["total"] for each in document["counters"]}
    assert totals == {key: 10 * (1 + n) + 1 for n, key in enumerate(KEYS)}
    assert all(s["counts"] for each in document["counters"] for s in each["slices"])


def test_a_partition_that_nobody_has_used_is_no_news(place: Place) -> None:
    """The clock is that of the partition that was used last."""
    for each in place.servers:
        each.flushall()
    (key, *_) = [key for key in KEYS if partition_of(key, PARTITIONS) == 0]
    place.counter("A").inc(key)
    assert place.distkit("show").stdout.startswith("seen: 1 live instance, 1 key; last request ")


def test_seeing_changes_nothing(place: Place) -> None:
    before = place.dump()
    for command in ("show", "top", "export", "doctor"):
        assert place.distkit(command).exit_code == 0
    assert place.dump() == before


# --- doctor --------------------------------------------------------------------------------------


def test_the_doctor_finds_nothing_where_all_is_well(place: Place) -> None:
    assert place.findings() == []
    shown = place.distkit("doctor").stdout
    assert f"partitions: 3, on {len(place.servers)} server" in shown
    assert "counters: 12, and 0 tombstones" in shown
    assert "instances: 2 live, 0 dead" in shown


@pytest.mark.parametrize("number", range(PARTITIONS))
def test_the_doctor_looks_into_each_partition(place: Place, number: int) -> None:
    space = SPACES[number]
    lost, unlisted, *_ = [key for key in KEYS if partition_of(key, PARTITIONS) == number]
    place.client.delete(space.counter(lost))
    place.client.hdel(space.keys, unlisted)
    place.client.hset(space.instances.replace(b"instances", b"backup"), "a", "1")
    place.client.hdel(space.instances, "B")
    found = {each.check: each.problem for each in place.findings()}
    assert found.keys() == {"lost writes", "unlisted", "garbage"}
    assert f"1 counter of the list do not exist, {lost}:" in found["lost writes"]
    assert "2 Redis keys of the prefix are not in its list" in found["unlisted"]
    assert "slice" in found["garbage"]


def test_the_doctor_finds_what_another_division_left(place: Place) -> None:
    left = Keyspace(PREFIX, name_of(PREFIX, 1, 2))
    place.client.hset(left.counter(KEYS[0]), ":", "whatever")
    (finding,) = place.findings()
    assert finding.check == "unlisted"
    assert name_of(PREFIX, 1, 2) in finding.problem


def test_the_doctor_says_which_server_is_ill(place: Place) -> None:
    place.servers[-1].config_set("maxmemory-policy", "allkeys-lru")
    (finding,) = place.findings()
    assert finding.check == "eviction"
    port: Any = place.servers[-1].config_get("port")
    assert (f"{HOST}:{port['port']}: " in finding.problem) == (len(place.servers) > 1)
    for server in place.servers:
        server.config_set("maxmemory-policy", "allkeys-lru")
    (finding,) = place.findings()
    assert HOST not in finding.problem


def test_the_doctor_tries_the_names_of_all_partitions() -> None:
    server = server_for(REAL[-1])
    client: Any = server.client()
    client.flushall()
    StrictInstanceAwareCounter(client, PREFIX, partitions=PARTITIONS).inc("k0")
    roots = [name.decode().removesuffix("instances") for name in (s.instances for s in SPACES)]
    mark = f"distkit:{{{PREFIX}}}:"
    try:
        for left_out in (mark, *roots):
            patterns = [f"~{root}*" for root in (mark, *roots) if root != left_out]
            client.execute_command(
                "ACL", "SETUSER", "somebody", "reset", "on", ">secret", "+@all", *patterns
            )
            user = server.client(username="somebody", password="secret")
            found = diagnose(Patient(user, PREFIX)).findings
            (finding,) = (each for each in found if each.check == "permissions")
            # Without the mark, nobody can tell that there are partitions.
            assert f"~{mark}*" in finding.remedy
            assert (f" ~distkit:{{{PREFIX}:* " in finding.remedy) == (left_out != mark)
    finally:
        client.execute_command("ACL", "DELUSER", "somebody")


# --- purge ---------------------------------------------------------------------------------------

OTHERS = ("distkit:{seen2}:keys", "distkit:{seen2:0/3:1}:keys", "distkit:{see}:keys", "other")


def test_purge_refuses_while_an_instance_is_live_in_some_partition(place: Place) -> None:
    for number in (0, 1):
        place.client.delete(SPACES[number].instances)
    place.client.hdel(SPACES[2].instances, "B")
    before = place.dump()
    result = place.distkit("purge", "--yes")
    assert (result.exit_code, place.dump()) == (1, before)
    assert "1 instance of the prefix may be live (A)" in result.stderr


def test_purge_removes_all_partitions_and_nothing_else(place: Place) -> None:
    for name in OTHERS:
        place.client.set(name, "mine")
    for space in SPACES:
        place.client.delete(space.instances)
        place.client.hset(space.counter("unlisted"), ":", "whatever")
    place.client.hset(Keyspace(PREFIX, name_of(PREFIX, 1, 2)).keys, "left", 0)
    result = place.distkit("purge", input="y\n")
    # The mark, 3 lists, 12 counters, 3 that no list names, and what another division left.
    assert "Remove 20 Redis keys of the prefix 'seen'?" in result.stdout
    assert "Removed 20 Redis keys." in result.stdout
    assert place.dump().keys() == {name.encode() for name in OTHERS}


def test_a_prefix_can_be_divided_anew_when_all_have_left(place: Place) -> None:
    for each in place.servers:
        each.flushall()
    with place.counter("A") as counter:
        counter.inc_all([(key, 1) for key in KEYS])
    with pytest.raises(PartitionsError):
        place.counter("C", 5).inc("k")
    assert place.distkit("purge", "--yes").exit_code == 0
    assert place.counter("C", 5).inc("k") == (1, 1)


def test_purge_forced_removes_what_is_in_use(place: Place) -> None:
    assert place.distkit("purge", "--yes", "--force").exit_code == 0
    assert place.dump() == {}


# --- inspect, pages, metrics ---------------------------------------------------------------------


def test_pages_are_of_the_whole_prefix(place: Place) -> None:
    assert partitions_of(place.client, PREFIX) == PARTITIONS
    assert partitions_of(place.client, "another") == 1
    found = [*pages(place.client, PREFIX, partitions=PARTITIONS)]
    assert sorted(key for page in found for key in page.counters) == KEYS
    for page in found:
        assert (page.prefix, page.listed) == (PREFIX, 12)
        assert sorted(page.instances) == ["A", "B"]
    some = inspect(place.client, PREFIX, keys=["k1", "k5"], partitions=PARTITIONS)
    assert sorted(some.counters) == ["k1", "k5"]
    for wrong in (1, 2):
        with pytest.raises(PartitionsError):
            next(pages(place.client, PREFIX, partitions=wrong))


def test_asyncio_reads_the_same(place: Place) -> None:
    async def read() -> None:
        kind = redis.asyncio.RedisCluster if len(place.servers) > 1 else redis.asyncio.Redis
        client: Any = kind.from_url(place.url)
        try:
            found = await inspect_async(client, PREFIX, partitions=PARTITIONS)
            there = [page async for page in pages_async(client, PREFIX, partitions=PARTITIONS)]
        finally:
            await client.aclose()
        expected = inspect(place.client, PREFIX, partitions=PARTITIONS)
        assert found.counters.keys() == expected.counters.keys()
        assert [found.counters[key].total for key in KEYS] == [
            expected.counters[key].total for key in KEYS
        ]
        assert sorted(key for page in there for key in page.counters) == KEYS

    asyncio.run(read())


def test_metrics_are_of_the_whole_prefix(place: Place) -> None:
    registry = CollectorRegistry()
    registry.register(PrefixCollector(place.client, PREFIX))
    sample: Callable[..., float | None] = registry.get_sample_value
    assert sample("distkit_up", {"prefix": PREFIX}) == 1
    for n, key in enumerate(KEYS):
        labels = {"prefix": PREFIX, "key": key}
        assert sample("distkit_counter_value", labels) == 10 * (1 + n) + 1
