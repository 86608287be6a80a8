"""What befalls the servers and the instances while they count, one fault a function.

A fault gets the site, does its harm for a few seconds, and undoes what would not heal by itself.
`rows` lists them all.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import cycle
from typing import Any, Final

from redis.exceptions import RedisError

from tests.chaos.clock import Clock
from tests.chaos.fleet import ROOT, THRESHOLD_MS, Fleet
from tests.harness.bus import Bus
from tests.harness.deployments import (
    HOST,
    MASTER_NAME,
    NODE_TIMEOUT_MS,
    Cluster,
    Deployment,
    Replicated,
    command,
    info,
    slot_of,
    until,
)
from tests.harness.servers import RedisServer

THRESHOLD_S: Final = THRESHOLD_MS / 1000
YEAR_S: Final = 365 * 24 * 3600
SERVES_ALONE_MS: Final = 30_000
"""After how long a master that is cut off would notice it, and refuse its clients."""
GIVES_UP_MS: Final = 4_000
"""A server that does not answer for so long is given up: `clients` waits for less."""
CROWD: Final = 300
"""How many processes come and go."""


class Site:
    """Where a fault happens.

    Args:
        deployment: the servers.
        fleet: the instances, which are counting.
        clock: the servers' wall clock.
        pace: how long the fault lasts: 1.0 in the full suite, less in the short one.

    Attributes:
        wrong: what was found wrong before the end.
    """

    def __init__(self, deployment: Any, fleet: Fleet, clock: Clock, pace: float) -> None:
        self.deployment: Any = deployment
        self.fleet, self.clock, self.pace = fleet, clock, pace
        self.chance = random.Random(fleet.prefix)
        self.wrong: list[dict[str, Any]] = []

    def at_pace(self, pace: float) -> Site:
        """The same, for a fault that lasts for so long."""
        return Site(self.deployment, self.fleet, self.clock, pace)

    @property
    def server(self) -> RedisServer:
        """The master that serves the prefix."""
        deployment: Deployment = self.deployment
        return deployment.serving(self.fleet.place)

    def rounds(self, seconds: float, every: float) -> Iterable[int]:
        """Do something again and again, for so many seconds at full pace."""
        deadline, number = time.monotonic() + seconds * self.pace, 0
        while number == 0 or time.monotonic() < deadline:
            yield number
            time.sleep(every)
            number += 1

    def redis_keys(self) -> list[bytes]:
        found: list[bytes] = command(self.server, "KEYS", f"distkit:{{{self.fleet.prefix}}}:*")
        return sorted(found)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds * self.pace)

    def await_the_dead(self) -> None:
        """Until instances that have crashed no longer count (R5, R19)."""
        time.sleep(THRESHOLD_S * 2.5)


# --- The network and the processes ---------------------------------------------------------------


def nothing(site: Site) -> None:
    site.wait(8)


def clients_are_killed(site: Site) -> None:
    for _ in site.rounds(8, every=0.1):
        command(site.server, "CLIENT", "KILL", "TYPE", "normal")


def clients_are_paused(site: Site) -> None:
    """For shorter and for longer than they wait for a reply, and for longer than they try again:
    then what they sent is executed after they have given up (R12)."""
    for number in site.rounds(12, every=1.0):
        pause_ms = (300, 800, GIVES_UP_MS)[number % 3]
        command(site.server, "CLIENT", "PAUSE", pause_ms)
        time.sleep(pause_ms / 1000)


def the_server_is_frozen(site: Site) -> None:
    """For as long."""
    for number in site.rounds(12, every=0.7):
        site.server.freeze()
        time.sleep((400, 2000, GIVES_UP_MS)[number % 3] / 1000)
        site.deployment.servers[0].thaw()


def instances_are_frozen(site: Site) -> None:
    """For longer than their threshold: a false death."""
    for _ in site.rounds(12, every=0.5):
        chosen = site.chance.sample(site.fleet.workers, 2)
        for worker in chosen:
            worker.freeze()
        time.sleep(THRESHOLD_S * 1.5)
        for worker in chosen:
            worker.thaw()


def instances_are_frozen_briefly(site: Site) -> None:
    """For less than their threshold, in the middle of calls."""
    for number in site.rounds(8, every=0.2):
        worker = site.fleet.workers[number % len(site.fleet.workers)]
        worker.freeze()
        time.sleep(0.5)
        worker.thaw()


def instance_ids_are_reused(site: Site) -> None:
    """A killed instance's id goes to a new process at once."""
    for _ in site.rounds(10, every=0.5):
        worker = site.chance.choice(site.fleet.workers)
        site.fleet.kill(worker)
        site.fleet.revive(worker)


def processes_come_and_go(site: Site) -> None:
    """Some leave, some crash."""
    crowd = max(30, int(CROWD * site.pace))
    address, prefix = site.fleet.address, site.fleet.prefix
    ran = [sys.executable, "-m", "tests.chaos.crowd", address["kind"], prefix, str(crowd)]
    subprocess.run([*ran, *map(str, address["ports"])], cwd=ROOT, check=True)
    site.await_the_dead()


# --- Lost data -----------------------------------------------------------------------------------


def everything_is_flushed(site: Site) -> None:
    for _ in site.rounds(8, every=0.25):
        command(site.server, "FLUSHALL")


def each_key_is_evicted(site: Site) -> None:
    for _ in site.rounds(8, every=0.1):
        names = site.redis_keys()
        site.chance.shuffle(names)
        for name in names:
            command(site.server, "UNLINK", name)
            time.sleep(0.02)


def redis_evicts(site: Site) -> None:
    """maxmemory with a policy that evicts any key."""
    server = site.server
    command(server, "CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    for _ in site.rounds(8, every=0.3):
        used = int(info(server, "memory")["used_memory"])
        command(server, "CONFIG", "SET", "maxmemory", used - 4096)
        time.sleep(0.1)
        command(server, "CONFIG", "SET", "maxmemory", 0)
    command(server, "CONFIG", "SET", "maxmemory-policy", "noeviction")


def the_memory_is_full(site: Site) -> None:
    for _ in site.rounds(8, every=0.5):
        command(site.server, "CONFIG", "SET", "maxmemory", 1)
        time.sleep(0.3)
        command(site.server, "CONFIG", "SET", "maxmemory", 0)


def the_server_restarts_empty(site: Site) -> None:
    for _ in site.rounds(8, every=2.0):
        server = site.server
        server.crash()
        time.sleep(0.3)
        server.restart()


def the_server_restarts_from_an_old_snapshot(site: Site) -> None:
    for _ in site.rounds(10, every=0.5):
        server = site.server
        command(server, "SAVE")
        time.sleep(2.0)
        server.crash()
        server.restart()


def the_clock_jumps_by_a_year(site: Site) -> None:
    """Ahead, back to the true time, back behind it, and to the true time again."""
    for offset in (YEAR_S, 0, -YEAR_S, 0):
        site.clock.shift(offset)
        site.wait(3)


# --- Failovers behind Sentinel -------------------------------------------------------------------


def the_master_is_killed(site: Site) -> None:
    """kill -9; a replica is promoted, and the master returns as a replica."""
    killed = site.server
    killed.crash()
    until(lambda: site.server is not killed, "a replica is promoted")
    site.wait(3)
    killed.restart()


def a_frozen_master_returns(site: Site) -> None:
    """It does not know that it was replaced, and serves until it learns of it."""
    frozen = site.server
    frozen.freeze()
    until(lambda: site.server is not frozen, "a replica is promoted")
    frozen.thaw()
    site.wait(4)


def sentinel_fails_over(site: Site) -> None:
    replaced, sentinels = site.server, cycle(site.deployment.sentinels)

    def is_replaced() -> bool:
        """Sentinel refuses, or gives up, while its news of the replicas are old: ask it again."""
        with contextlib.suppress(RedisError):
            command(next(sentinels), "SENTINEL", "FAILOVER", MASTER_NAME)
        time.sleep(2)
        return site.server is not replaced

    until(is_replaced, "another master serves")
    site.wait(4)


def a_lagging_replica_is_promoted(site: Site) -> None:
    """It has missed the last seconds, and it becomes the master all the same."""
    deployment: Replicated = site.deployment
    master = site.server
    lagging = deployment.replica_of(master)
    (other,) = (each for each in deployment.servers if each not in (master, lagging))
    for sentinel in deployment.sentinels:
        sentinel.freeze()
    command(lagging, "REPLICAOF", HOST, 1)  # nobody is there
    site.wait(3)
    master.crash()
    command(lagging, "REPLICAOF", "NO", "ONE")
    command(other, "REPLICAOF", HOST, lagging.port)
    for sentinel in deployment.sentinels:
        sentinel.thaw()
    deployment.watch(lagging)
    site.wait(3)
    master.restart()
    command(master, "REPLICAOF", HOST, lagging.port)


def the_brain_is_split(site: Site) -> None:
    """Two masters for a while, each with a half of the instances; then one of them yields."""
    deployment: Replicated = site.deployment
    first = site.server
    second = deployment.replica_of(first)
    for sentinel in deployment.sentinels:
        sentinel.freeze()
    command(second, "REPLICAOF", "NO", "ONE")
    site.fleet.divide([first.port, second.port])
    _await_two_brains(site, first, second)
    site.wait(4)
    command(second, "REPLICAOF", HOST, first.port)
    site.fleet.unite()
    command(second, "CLIENT", "KILL", "TYPE", "normal")
    for sentinel in deployment.sentinels:
        sentinel.thaw()


def _await_two_brains(site: Site, *masters: RedisServer) -> None:
    """Until both masters serve instances, each without the other's knowledge. Clients that go where
    they were redirected to before lose their connections, so that they ask again."""

    def heads() -> list[bytes]:
        sessions = f"distkit:{{{site.fleet.place}}}:instances"
        return [command(master, "HGET", sessions, ":") for master in masters]

    def both_serve() -> bool:
        for master in masters:
            command(master, "CLIENT", "KILL", "TYPE", "normal")
        before = heads()
        time.sleep(0.3)
        return all(now != then for now, then in zip(heads(), before, strict=True))

    until(both_serve, "both masters serve instances")


# --- A cluster -----------------------------------------------------------------------------------


def a_slot_moves_sessions_first(site: Site) -> None:
    _move_to_and_fro(site, lambda name: not name.endswith(b":instances"))


def a_slot_moves_counters_first(site: Site) -> None:
    _move_to_and_fro(site, lambda name: b":counter:" not in name)


def _move_to_and_fro(site: Site, order: Callable[[bytes], Any]) -> None:
    cluster: Cluster = site.deployment
    slot = slot_of(site.fleet.place)
    for number in range(max(2, int(4 * site.pace))):
        source = site.server
        target = cluster.another_master(source)
        cluster.move(slot, target, order=order, pause_s=0.02)
        site.wait(1 + number % 2)


def the_cluster_fails_over_gracefully(site: Site) -> None:
    for _ in range(2):
        replaced = site.server
        command(site.deployment.replica_of(replaced), "CLUSTER", "FAILOVER")
        until(lambda was=replaced: site.server is not was, "the replica serves")  # type: ignore[misc]
        site.wait(3)


def a_replica_takes_over(site: Site) -> None:
    """Without asking anybody, while its master is frozen; then the old master returns."""
    frozen = site.server
    replica = site.deployment.replica_of(frozen)
    frozen.freeze()
    time.sleep(0.3)
    command(replica, "CLUSTER", "FAILOVER", "TAKEOVER")
    site.wait(1)
    frozen.thaw()
    site.wait(3)


def a_master_is_cut_off(site: Site) -> None:
    """From all other nodes: a replica is elected in its place. It still serves a half of the
    instances for a while, and yields when it hears of the others again."""
    cluster: Cluster = site.deployment
    first = site.server
    second = cluster.replica_of(first)
    command(first, "CONFIG", "SET", "cluster-node-timeout", SERVES_ALONE_MS)
    with Bus(cluster) as bus:
        bus.cut_off(first)
        until(lambda: info(second, "replication")["role"] == "master", "a replica is elected")
        site.fleet.divide([first.port, second.port])
        _await_two_brains(site, first, second)
        site.wait(4)
        bus.heal()
        until(lambda: info(first, "replication")["role"] == "slave", "the old master yields")
        site.fleet.unite()
        command(first, "CONFIG", "SET", "cluster-node-timeout", NODE_TIMEOUT_MS)
        site.wait(3)
