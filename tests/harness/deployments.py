"""The three ways in which Redis is deployed, as real servers that a test starts, breaks and heals.

Each deployment knows its `servers`, which of them serves a prefix, and when it is whole again after
a fault. A deployment is started by the main thread: its servers end with the thread that made them.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypedDict

import redis
from redis.crc import key_slot

from tests.harness.servers import Binary, RedisServer

HOST = "127.0.0.1"
SLOTS = 16_384
MASTERS = 3
NODE_TIMEOUT_MS = 1_000
"""After how long a silent master is replaced, in a cluster and by Sentinel."""
PATIENCE_S = 120.0
"""On a busy machine, Sentinels wait for 30 s before they do anything (TILT), or for twice that."""
ANSWER_S = 1.5
"""How long a server that is not frozen may take."""
MASTER_NAME = "main"
UNREACHABLE = (redis.exceptions.RedisError, OSError, LookupError)
"""What a server that is down or frozen comes to, or a cluster in which nobody serves."""


class Address(TypedDict):
    """Where clients find a deployment."""

    kind: str
    ports: list[int]


def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait until this holds. An unreachable server means that it does not hold yet."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if is_so():
                return
        except UNREACHABLE:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not within {PATIENCE_S:.0f} s")


def info(server: RedisServer, section: str) -> dict[str, Any]:
    with server.client(socket_timeout=ANSWER_S) as client:
        found: dict[str, Any] = client.info(section)
        return found


def command(server: RedisServer, *words: str | int | bytes) -> Any:
    """Run a command and return its reply as Redis sends it, in bytes."""
    with server.client(socket_timeout=ANSWER_S) as client:
        return client.execute_command(*words, NEVER_DECODE=True)


def is_linked(server: RedisServer) -> bool:
    """Whether it is a master, or a replica that is up to date with its master."""
    found = info(server, "replication")
    return bool(found["role"] == "master" or found["master_link_status"] == "up")


class Deployment(ABC):
    """What all deployments have in common.

    Attributes:
        servers: the redis-servers that keep data.
        address: where clients find it.
    """

    servers: list[RedisServer]
    address: Address

    @abstractmethod
    def serving(self, prefix: str) -> RedisServer:
        """The master that serves this prefix."""

    @abstractmethod
    def is_whole(self) -> bool:
        """Whether every server runs, and every replica follows its master."""

    def replica_of(self, master: RedisServer) -> RedisServer:
        """A replica that follows this master."""
        for server in self.servers:
            found = info(server, "replication")
            if found["role"] == "slave" and found["master_port"] == master.port:
                return server
        raise LookupError(f"no replica follows port {master.port}")

    def wait(self) -> None:
        """Until it is whole."""
        until(self.is_whole, f"{self.address['kind']} is whole")

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


class Standalone(Deployment):
    """One server."""

    def __init__(self, binary: Binary, environment: Mapping[str, str] | None = None) -> None:
        self.servers = [RedisServer(binary, tcp=True, environment=environment)]
        self.address = Address(kind="standalone", ports=[self.servers[0].port])

    def serving(self, prefix: str) -> RedisServer:
        return self.servers[0]

    def is_whole(self) -> bool:
        return bool(command(self.servers[0], "PING"))


class Replicated(Deployment):
    """A master, two replicas, and three Sentinels of which two have to agree."""

    def __init__(self, binary: Binary, environment: Mapping[str, str] | None = None) -> None:

        def make(*options: str) -> RedisServer:
            at_once = ("--repl-diskless-sync-delay", "0")
            return RedisServer(binary, *at_once, *options, tcp=True, environment=environment)

        master = make()
        follow = ("--replicaof", f"{HOST} {master.port}")
        self.servers = [master, make(*follow), make(*follow)]
        self.sentinels = [
            RedisServer(binary, "--sentinel", tcp=True, config="# Sentinel writes here\n")
            for _ in range(3)
        ]
        self.watch(master)
        self.address = Address(kind="sentinel", ports=[each.port for each in self.sentinels])
        self.wait()

    def watch(self, master: RedisServer) -> None:
        """Tell the Sentinels which server is the master. They forget what they knew."""
        for sentinel in self.sentinels:
            with suppress(redis.exceptions.ResponseError):  # they knew none
                command(sentinel, "SENTINEL", "REMOVE", MASTER_NAME)
            command(sentinel, "SENTINEL", "MONITOR", MASTER_NAME, HOST, master.port, 2)
            after = ("down-after-milliseconds", NODE_TIMEOUT_MS, "failover-timeout", 4000)
            command(sentinel, "SENTINEL", "SET", MASTER_NAME, *after)

    def serving(self, prefix: str) -> RedisServer:
        _, port = command(self.sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
        return next(server for server in self.servers if server.port == int(port))

    def is_whole(self) -> bool:
        masters = {
            int(command(each, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)[1])
            for each in self.sentinels
        }
        found = [info(server, "replication") for server in self.servers]
        roles = [(each["role"], each.get("master_port")) for each in found]
        expected = {("master", None), *(("slave", port) for port in masters)}
        known = [
            len(command(each, "SENTINEL", kind, MASTER_NAME))
            for each in self.sentinels
            for kind in ("REPLICAS", "SENTINELS")
        ]
        return (
            len(masters) == 1
            and set(roles) == expected
            and [role for role, _ in roles].count("master") == 1
            and set(known) == {2}
            and all(map(is_linked, self.servers))
        )

    def stop(self) -> None:
        for sentinel in self.sentinels:
            sentinel.stop()
        super().stop()


class Cluster(Deployment):
    """Three masters, each with a replica.

    Args:
        binary: which redis-server.
        replicas: how many replicas each master has.
        masters: how many nodes own slots.
        environment: further variables of the servers' environment.
    """

    def __init__(
        self,
        binary: Binary,
        environment: Mapping[str, str] | None = None,
        *,
        masters: int = MASTERS,
        replicas: int = 1,
    ) -> None:
        options = (
            *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
            *("--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"),
            *("--cluster-replica-validity-factor", "0"),
        )
        self.servers = [
            RedisServer(binary, *options, tcp=True, environment=environment)
            for _ in range(masters * (1 + replicas))
        ]
        self.address = Address(kind="cluster", ports=[server.port for server in self.servers])
        self.ids = {
            server.port: command(server, "CLUSTER", "MYID").decode() for server in self.servers
        }
        first, *others = self.servers
        for index, server in enumerate(self.servers[:masters]):
            bounds = (index * SLOTS // masters, (index + 1) * SLOTS // masters)
            command(server, "CLUSTER", "ADDSLOTS", *range(*bounds))
        for number, server in enumerate(self.servers, start=1):
            command(server, "CLUSTER", "SET-CONFIG-EPOCH", number)
        for server in others:
            command(first, "CLUSTER", "MEET", HOST, server.port)
        until(self._all_know_each_other, "the nodes of the cluster know each other")
        for index, server in enumerate(self.servers[masters:]):
            master = self.servers[index % masters]
            command(server, "CLUSTER", "REPLICATE", self.ids[master.port])
        self.wait()

    def _all_know_each_other(self) -> bool:
        for server in self.servers:
            known = command(server, "CLUSTER", "NODES")
            if known.count(b"\n") != len(self.servers) or b"handshake" in known:
                return False
        return True

    def serving(self, prefix: str) -> RedisServer:
        slot = slot_of(prefix)
        for server in self.servers:
            try:
                ranges = command(server, "CLUSTER", "SLOTS")
                owners = [node[1] for low, high, node, *_ in ranges if low <= slot <= high]
                owner = self.at(int(owners[0]))
                if info(owner, "replication")["role"] == "master":
                    return owner
            except UNREACHABLE:
                continue
        raise LookupError(f"no master serves slot {slot}")

    def at(self, port: int) -> RedisServer:
        for server in self.servers:
            if server.port == port:
                return server
        raise LookupError(f"no server has port {port}")

    def is_whole(self) -> bool:
        for server in self.servers:
            if b"cluster_state:ok" not in command(server, "CLUSTER", "INFO"):
                return False
            nodes = command(server, "CLUSTER", "NODES")
            if b"fail" in nodes.replace(b"nofailover", b"") or b"[" in nodes:  # a slot moves
                return False
        return self._all_know_each_other() and all(map(is_linked, self.servers))

    def another_master(self, than: RedisServer) -> RedisServer:
        """A master that owns slots, other than this one."""
        ranges = command(than, "CLUSTER", "SLOTS")
        return next(self.at(node[1]) for _, _, node, *_ in ranges if node[1] != than.port)

    def move(
        self,
        slot: int,
        target: RedisServer,
        *,
        order: Callable[[bytes], Any],
        pause_s: float = 0.0,
    ) -> None:
        """Move a slot to another master key by key, as `redis-cli --cluster reshard` does.

        Args:
            slot: which.
            target: the master that owns the slot afterwards.
            order: a key function: in which order its keys move.
            pause_s: how long to wait after each key.
        """
        source = self.owner_of(slot)
        self.begin_moving(slot, source, target)
        for name in sorted(command(source, "CLUSTER", "GETKEYSINSLOT", slot, 100_000), key=order):
            self.move_keys(source, target, [name])
            time.sleep(pause_s)
        while left := command(source, "CLUSTER", "GETKEYSINSLOT", slot, 100_000):
            self.move_keys(source, target, left)  # keys that were made meanwhile
        self.end_moving(slot, source, target)

    def owner_of(self, slot: int) -> RedisServer:
        ranges = command(self.servers[0], "CLUSTER", "SLOTS")
        return self.at(next(node[1] for low, high, node, *_ in ranges if low <= slot <= high))

    def begin_moving(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """The slot is about to move; no key has yet."""
        command(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.ids[source.port])
        command(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.ids[target.port])

    def move_keys(self, source: RedisServer, target: RedisServer, names: Sequence[Any]) -> None:
        command(source, "MIGRATE", HOST, target.port, "", 0, 5000, "KEYS", *names)

    def end_moving(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """The other node owns the slot."""
        for server in (target, source):
            command(server, "CLUSTER", "SETSLOT", slot, "NODE", self.ids[target.port])


def slot_of(prefix: str) -> int:
    slot: int = key_slot(f"distkit:{{{prefix}}}:keys".encode())
    return slot
