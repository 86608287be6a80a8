"""What `distkit doctor` looks for. Each check is a function from what was read to findings.

A finding says what is wrong and what to do about it. A check that lacks a permission says so
(`Unchecked`): that is no finding, and no all-clear either. No check changes anything.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import redis
from redis.exceptions import NoPermissionError, ResponseError

from distkit.cli.connection import Client, node_of
from distkit.cli.sweep import hashes_of
from distkit.cli.text import duration, number, plural, printable, size
from distkit.core.inspection import merged
from distkit.core.instance import LAYOUT
from distkit.core.partitions import partition_of, spaces_of
from distkit.errors import InvalidKeyError, LayoutError
from distkit.inspection import PrefixInfo, pages, partitions_of
from distkit.keys import Keyspace

OLDEST: Final = (6, 2)
CLOCK_TOLERANCE_MS: Final = 1000
FULL: Final = 0.9
"""Of maxmemory: then the next writes may be refused."""
EXAMPLES: Final = 3
"""How many names a finding gives."""
SAMPLE: Final = 20
"""How many counters are measured for the estimate of memory."""

READING: Final = (
    ("HGET", "field"), ("HMGET", "field"), ("HGETALL",), ("HRANDFIELD",), ("HLEN",), ("EXISTS",),
    ("TYPE",),
)  # fmt: skip
"""What the script and its clients read with, after the name of a key."""


class Finding(NamedTuple):
    """Something that is wrong.

    Attributes:
        check: which check found it.
        problem: what is wrong.
        remedy: what to do.
    """

    check: str
    problem: str
    remedy: str


class Unchecked(Exception):
    """This check cannot be made; the message says why."""


def _here_ms() -> float:
    return time.time() * 1000


class Server:
    """A server that has a part of the prefix, or all of it.

    Args:
        client: of this server.
        spaces: the Redis keys of the prefix, or of those of its partitions that are here.
        roots: how the Redis keys of the whole prefix begin.
        local_ms: this machine's clock.
    """

    def __init__(
        self,
        client: redis.Redis,
        spaces: list[Keyspace],
        roots: list[str],
        local_ms: Callable[[], float] = _here_ms,
    ) -> None:
        self.client: redis.Redis = client
        self.spaces: list[Keyspace] = spaces
        self.roots: list[str] = roots
        self.local_ms: Callable[[], float] = local_ms
        self._info: dict[str, Any] | None = None

    @property
    def address(self) -> str:
        """Where it is."""
        where: dict[str, Any] = self.client.get_connection_kwargs()
        return str(where.get("path") or f"{where.get('host')}:{where.get('port')}")

    @property
    def info(self) -> dict[str, Any]:
        """What `INFO` says."""
        if self._info is None:
            try:
                self._info = dict(self.client.info())
            except NoPermissionError:
                raise Unchecked("the user may not run INFO") from None
        return self._info


class Patient:
    """A prefix and the servers that have it, read as far as the checks need it.

    Args:
        client: of the server, or of the cluster.
        prefix: the namespace.
        local_ms: this machine's clock.

    Attributes:
        spaces: the Redis keys of the prefix, or of each of its partitions.
        servers: those on which they are, and the mark of a prefix that is divided (R21).
    """

    def __init__(
        self, client: Client, prefix: str, local_ms: Callable[[], float] = _here_ms
    ) -> None:
        self.client: Client = client
        self.prefix: str = prefix
        self._contents: PrefixInfo | Exception | None = None
        partitions = 1
        try:
            partitions = partitions_of(client, prefix)
        except NoPermissionError as error:
            self._contents = error
        self.spaces: list[Keyspace] = spaces_of(prefix, partitions)
        self.servers: list[Server] = _servers(client, prefix, self.spaces, local_ms)

    def space_of(self, key: str) -> Keyspace:
        """The Redis keys of the partition to which a counter belongs."""
        return self.spaces[partition_of(key, len(self.spaces))]

    @property
    def contents(self) -> PrefixInfo:
        """The whole prefix."""
        if self._contents is None:
            try:
                found = pages(self.client, self.prefix, partitions=len(self.spaces))
                self._contents = merged([*found])
            except (LayoutError, InvalidKeyError, NoPermissionError) as error:
                self._contents = error
        if isinstance(self._contents, PrefixInfo):
            return self._contents
        raise Unchecked(f"the prefix cannot be read: {self._contents}")

    @property
    def layout_error(self) -> Exception | None:
        """Why the prefix cannot be read."""
        with contextlib.suppress(Unchecked):
            _ = self.contents
        return self._contents if isinstance(self._contents, Exception) else None


def _servers(
    client: Client, prefix: str, spaces: list[Keyspace], local_ms: Callable[[], float]
) -> list[Server]:
    """Each server that has some of these Redis keys, or the mark."""
    whole = Keyspace(prefix)
    roots = [whole.counters.decode().removesuffix("counter:")]
    if len(spaces) > 1:
        roots.append(f"distkit:{{{prefix}:")
        spaces = [whole, *spaces]
    found: dict[int, Server] = {}
    for space in spaces:
        node = node_of(client, space)
        server = found.setdefault(id(node), Server(node, [], roots, local_ms))
        server.spaces.append(space)
    return [*found.values()]


ServerCheck = Callable[[Server], Iterator[Finding]]
PrefixCheck = Callable[[Patient], Iterator[Finding]]


# --- The server ----------------------------------------------------------------------------------


def version(server: Server) -> Iterator[Finding]:
    found = str(server.info.get("redis_version", ""))
    parts = tuple(int(part) for part in found.split(".")[:2] if part.isdecimal())
    if parts < OLDEST:
        yield Finding("version", f"Redis {found} is too old", "use Redis 6.2 or later")


def eviction(server: Server) -> Iterator[Finding]:
    """Our keys never expire, so that the policies `volatile-*` leave them alone."""
    policy = str(server.info.get("maxmemory_policy", ""))
    if policy.startswith("allkeys"):
        limited = server.info.get("maxmemory")
        when = "when memory is full" if limited else "as soon as maxmemory is set"
        yield Finding(
            "eviction",
            f"maxmemory-policy {policy} lets Redis drop counters and sessions {when}",
            "set maxmemory-policy to noeviction or to volatile-..., or use another Redis",
        )


def memory(server: Server) -> Iterator[Finding]:
    limit, used = int(server.info.get("maxmemory", 0)), int(server.info.get("used_memory", 0))
    if limit and used >= FULL * limit:
        yield Finding(
            "memory",
            f"{size(used)} of maxmemory {size(limit)} are used: once it is full, every call "
            f"fails, get and heartbeats too, and instances are presumed dead",
            "raise maxmemory, or remove what is not needed",
        )


def replication(server: Server) -> Iterator[Finding]:
    info = server.info
    if info.get("role") == "slave":
        yield Finding(
            "replication",
            "this server is a replica: counters cannot be used on it",
            "give the programs the master's address, or a client of Sentinel",
        )
    elif int(info.get("connected_slaves", 0)) and "min_slaves_good_slaves" not in info:
        yield Finding(
            "replication",
            f"the server has {plural(int(info['connected_slaves']), 'replica')} and takes writes "
            f"that none of them has: a master that is cut off goes on counting, and what it "
            f"counted is lost with the failover",
            "set min-replicas-to-write 1 and min-replicas-max-lag 10",
        )


def clock(server: Server) -> Iterator[Finding]:
    """R3 depends on the server's clock alone, unless programs pass one of their own."""
    before = server.local_ms()
    try:
        seconds, micros = server.client.time()
    except NoPermissionError:
        raise Unchecked("the user may not run TIME") from None
    after = server.local_ms()
    there = seconds * 1000 + micros // 1000
    off = round(there - (before + after) / 2)
    if abs(off) > CLOCK_TOLERANCE_MS + (after - before) / 2:
        yield Finding(
            "clock",
            f"the server's clock is {duration(abs(off))} {'ahead of' if off > 0 else 'behind'} "
            f"this machine's",
            "have both synchronized: when a clock is set forward, instances may be presumed dead",
        )


# --- Permissions ---------------------------------------------------------------------------------


def permissions(server: Server) -> Iterator[Finding]:
    """Each command that the script or a counter needs is tried in a form that changes nothing.

    Redis checks the permission before it looks at the rest. The Redis key `...:counter:` belongs to
    no counter, because no key is empty (R1). HSET with a field and no value is refused.
    """
    first, *others = server.spaces
    tried = [*probes(first), *(words for space in others for words in _reads(space))]
    missing = [words[0] for words in tried if _is_forbidden(server, words)]
    commands = list(dict.fromkeys(f"+{word.lower()}" for word in missing))
    if not commands:
        return
    patterns = [f"{root}*" for root in server.roots]
    yield Finding(
        "permissions",
        f"the user may not run what counters need on the Redis keys {' and '.join(patterns)}: "
        f"{' '.join(commands)}",
        f"ACL SETUSER <user> {' '.join('~' + each for each in patterns)} {' '.join(commands)}",
    )


def _reads(space: Keyspace) -> Iterator[tuple[Any, ...]]:
    """For another partition: the commands are the same, only the names are others."""
    for key in (*space.own, space.counters):
        yield ("HMGET", key, "field")


def probes(space: Keyspace) -> Iterator[tuple[Any, ...]]:
    """The commands that are tried."""
    nothing = space.counters
    for words in READING:
        yield (words[0], nothing, *words[1:])
    yield ("HSCAN", nothing, 0)
    yield ("HDEL", nothing, "field")
    yield ("DEL", nothing)
    yield ("TIME",)
    yield ("EVAL", "return 0", 0)
    yield ("EVALSHA", "0" * 40, 0)
    for key in (*space.own, nothing):
        yield ("HMGET", key, "field")
        yield ("HSET", key, "a", "field", "without a value")


def _is_forbidden(server: Server, words: tuple[Any, ...]) -> bool:
    send: Any = server.client.execute_command
    try:
        send(*words)
    except NoPermissionError:
        return True
    except ResponseError:  # it is permitted, and refused for what is wrong with it
        return False
    return False


# --- The prefix ----------------------------------------------------------------------------------


def layout(patient: Patient) -> Iterator[Finding]:
    error = patient.layout_error
    if isinstance(error, LayoutError):
        yield Finding(
            "layout",
            f"the prefix has layout {error.found}; this version of distkit knows {LAYOUT}",
            "update distkit here" if error.found > LAYOUT else
            "stop the programs of the older version and run `distkit purge`, or choose another "
            "prefix",
        )  # fmt: skip
    elif isinstance(error, InvalidKeyError):
        yield Finding(
            "layout", str(error), "choose another prefix, or remove it with `distkit purge`"
        )
    elif error is None and patient.contents.unreadable:
        damaged = patient.contents.unreadable
        yield Finding(
            "layout",
            f"{plural(len(damaged), 'counter')} cannot be read, {_some(damaged)}: "
            f"{next(iter(damaged.values()))}",
            "find out who else writes to these Redis keys; then remove them",
        )


def last_request(patient: Patient) -> Iterator[Finding]:
    """R3: time does not go back, so it stands still until the clock has come so far again."""
    clock = patient.contents.clock
    ahead = (clock.last_wall_ms or 0) - clock.wall_ms
    if ahead > CLOCK_TOLERANCE_MS:
        yield Finding(
            "clock",
            f"the last request came at a time that is {duration(ahead)} ahead of the server's "
            f"clock: until that has passed, nobody is found dead",
            "find out who set the server's clock back, or which program passes clock_ms",
        )


def thresholds(patient: Patient) -> Iterator[Finding]:
    live = [each for each in patient.contents.instances.values() if each.is_live]
    found = Counter(each.threshold_ms for each in live)
    if len(found) > 1:
        each = ", ".join(f"{duration(ms)} ({plural(n, 'instance')})" for ms, n in found.items())
        yield Finding(
            "thresholds",
            f"the live instances have different thresholds: {each}. Those with a small one are "
            f"presumed dead early",
            "give every instance of the prefix the same dead_instance_threshold_ms",
        )


def outage(patient: Patient) -> Iterator[Finding]:
    stood = patient.contents.clock.outage_ms
    if stood:
        yield Finding(
            "outage",
            f"nobody has been heard for {duration(stood)} longer than was promised: all instances "
            f"have died, or cannot reach Redis",
            "look at the programs' logs (logger distkit)",
        )


def lost_writes(patient: Patient) -> Iterator[Finding]:
    missing = patient.contents.missing
    if missing:
        yield Finding(
            "lost writes",
            f"{plural(len(missing), 'counter')} of the list do not exist, {_some(missing)}: "
            f"Redis lost writes, and nobody has noticed yet",
            "the next call on such a counter, or a heartbeat's look, has them restored; if it "
            "happens again, see eviction and replication",
        )


def garbage(patient: Patient) -> Iterator[Finding]:
    info = patient.contents
    dead = [each.id for each in info.instances.values() if not each.is_live]
    if dead:
        yield Finding(
            "garbage",
            f"{plural(len(dead), 'instance')} presumed dead, {_some(dead)}: they crashed, or "
            f"cannot reach Redis",
            "find out why; their sessions go when the next instance starts",
        )
    held = {
        key: sum(slice_.goes for slice_ in (counter.slices or {}).values())
        for key, counter in info.counters.items()
    }
    gone = {key: count for key, count in held.items() if count}
    if gone:
        yield Finding(
            "garbage",
            f"{plural(sum(gone.values()), 'slice')} of dead instances in "
            f"{plural(len(gone), 'counter')}, {_some(gone)}; no total contains them",
            "leave them: the next call on these counters removes them. If no program uses the "
            "prefix any more: `distkit purge`",
        )


def unlisted(patient: Patient) -> Iterator[Finding]:
    """Counters that the list has lost: `clear` does not find them."""
    try:
        names = list(hashes_of(patient.client, patient.prefix))
    except NoPermissionError:
        raise Unchecked("the user may not run SCAN") from None
    info = patient.contents
    known = {name for space in patient.spaces for name in space.own}
    for key in (*info.counters, *info.tombstones, *info.missing, *info.unreadable):
        known.add(patient.space_of(key).counter(key))
    if len(patient.spaces) > 1:
        known.add(Keyspace(patient.prefix).instances)  # the mark
    # Those that were created since the list was read are in the list by now.
    strays = [name for name in names if name not in known and not _is_listed(patient, name)]
    if strays:
        yield Finding(
            "unlisted",
            f"{plural(len(strays), 'Redis key')} of the prefix are not in its list of counters, "
            f"{_some([name.decode('utf-8', 'backslashreplace') for name in strays])}",
            "an instance that remembers such a counter lists it again with a heartbeat; what "
            "stays, remove with UNLINK",
        )


def _is_listed(patient: Patient, name: bytes) -> bool:
    for space in patient.spaces:
        if name.startswith(space.counters):
            return bool(patient.client.hexists(space.keys, name.removeprefix(space.counters)))
    return False


def _some(names: Any) -> str:
    """A few of the names, for a finding."""
    shown = [printable(name) for name in list(names)[:EXAMPLES]]
    return ", ".join(shown) + (", ..." if len(names) > EXAMPLES else "")


SERVER_CHECKS: Final[tuple[ServerCheck, ...]] = (
    *(version, eviction, memory, replication, clock, permissions),
)
PREFIX_CHECKS: Final[tuple[PrefixCheck, ...]] = (
    *(last_request, layout, thresholds, outage, lost_writes, garbage, unlisted),
)


def facts(patient: Patient) -> dict[str, str]:
    """What is good to know, and wrong or right only for those who know the rest."""
    infos, contents = [server.info for server in patient.servers], patient.contents
    live = sum(each.is_live for each in contents.instances.values())
    used = sum(int(info.get("used_memory", 0)) for info in infos)
    known = {
        "Redis": _all(f"{info.get('redis_version')}, {info.get('role')}" for info in infos),
        "eviction policy": _all(str(info.get("maxmemory_policy")) for info in infos),
        "replicas": _all(str(info.get("connected_slaves", 0)) for info in infos),
        "instances": f"{number(live)} live, {number(len(contents.instances) - live)} dead",
        "counters": f"{number(len(contents.counters))}, and "
        f"{plural(len(contents.tombstones), 'tombstone')}",
        "memory": f"about {size(memory_of(patient))} of {size(used)}",
    }
    if len(patient.spaces) > 1:
        where = plural(len(infos), "server")
        known["partitions"] = f"{number(len(patient.spaces))}, on {where}"
    return known


def _all(words: Iterable[str]) -> str:
    """What the servers say: each thing once."""
    return "; ".join(dict.fromkeys(words))


def memory_of(patient: Patient) -> float:
    """An estimate from a sample of the counters, in bytes. Raises Unchecked."""
    contents = patient.contents
    sample = list(contents.counters.values())[:SAMPLE]
    try:
        own = [_usage(patient, name) for space in patient.spaces for name in space.own]
        sizes = [_usage(patient, patient.space_of(each.key).counter(each.key)) for each in sample]
    except NoPermissionError:
        raise Unchecked("the user may not run MEMORY USAGE") from None
    slices = sum(each.slice_count + 1 for each in sample)
    every = sum(each.slice_count + 1 for each in contents.counters.values())
    return sum(own) + (sum(sizes) * every / slices if slices else 0)


def _usage(patient: Patient, key: bytes) -> int:
    found: Any = patient.client.memory_usage(key)
    return int(found or 0)
