"""`inspect` says what the oracle knows, changes nothing, and never keeps the server for long.

R3, R5, R6, R7, R8, R17, R18 and R19, on states at random that are written into Redis.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio

import distkit.asyncio
from distkit import StrictInstanceAwareCounter
from distkit.core import inspection as parse
from distkit.errors import InvalidKeyError, LayoutError
from distkit.inspection import PrefixInfo, inspect, inspect_async, pages
from distkit.redis import reading
from oracle import model
from tests.equivalence.states import Chance
from tests.harness import wire
from tests.harness.profiles import scaled
from tests.harness.servers import Binary, RedisServer

PREFIX = "seen"
ROOT = f"distkit:{{{PREFIX}}}:"
OBSERVER = "somebody who only reads"
SEED = 5


def states() -> list[tuple[model.Server, dict[str, str], int]]:
    exchanges = Chance(SEED).exchanges(scaled(400))
    return [(each.before, each.labels, each.wall) for each in exchanges]


def read_total(server: model.Server, key: str, wall: int) -> int | None:
    """What the oracle answers to somebody who reads; None if it finds out that writes are lost."""
    opened, reply = model.serve(server, model.Open(OBSERVER, 1, 0, 1000, 0, 0), wall)
    assert isinstance(reply, model.Opened)
    part = model.Part(key, model.Memory(), ())
    request = model.Request(OBSERVER, reply.session, 2, 1, 1000, (part,), 0)
    _, answer = model.serve(opened, request, wall)
    return answer.views[0].total if isinstance(answer, model.Done) else None


def check(info: PrefixInfo, server: model.Server, labels: dict[str, str], wall: int) -> None:
    """AssertionError unless this is the state, as the next request would judge it."""
    ticked = model.tick(server, wall)
    now = ticked.clock
    assert info.clock.now_ms == now
    assert info.clock.due_ms == (server.due or None)
    assert info.instances.keys() == server.sessions.keys()
    for name, session in server.sessions.items():
        seen = info.instances[name]
        assert now is not None
        assert seen.is_live == (now - session.heartbeat < session.threshold)
        assert (seen.silent_ms, seen.label) == (now - session.heartbeat, labels[name])
        assert (seen.session, seen.threshold_ms) == (session.number, session.threshold)
    assert info.counters.keys() == {
        key for key in server.counters if server.keys.get(key) == model.HERE
    }
    for key, counter in info.counters.items():
        held = server.counters[key]
        assert (counter.epoch, counter.stored_total) == (held.epoch, held.total)
        assert counter.total == read_total(server, key, wall)
        assert counter.slices is not None
        assert {n: (s.count, s.epoch, s.session, s.seq) for n, s in counter.slices.items()} == {
            n: (s.count, s.epoch, s.session, s.seq) for n, s in held.slices.items()
        }
        if not counter.needs_search:
            assert not any(s.goes for s in counter.slices.values())
    known = {key: epoch for key, epoch in server.keys.items() if key not in info.counters}
    assert info.tombstones == {key: epoch for key, epoch in known.items() if epoch != model.HERE}
    assert set(info.missing) == known.keys() - info.tombstones.keys()


def test_it_sees_what_the_oracle_knows(place_client: redis.Redis) -> None:
    client = place_client
    for server, labels, wall in states():
        client.flushall()
        wire.store(client, PREFIX, server, labels)
        before = dump(client)
        check(inspect(client, PREFIX, clock_ms=at(wall)), server, labels, wall)
        assert dump(client) == before, "it changed something"


def test_it_sees_the_same_in_small_pages(
    newest_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if everything were large: each page, chunk and hash takes several commands."""
    for name in ("PAGE", "CHUNK", "SMALL"):
        monkeypatch.setattr(reading, name, 2)
    test_it_sees_what_the_oracle_knows(newest_server.client())


def test_asyncio_sees_the_same(newest_server: RedisServer) -> None:
    async def see(wall: int) -> PrefixInfo:
        async with redis.asyncio.Redis(unix_socket_path=newest_server.socket) as client:
            return await inspect_async(client, PREFIX, clock_ms=at(wall))

    client = newest_server.client()
    for server, labels, wall in states()[:50]:
        client.flushall()
        wire.store(client, PREFIX, server, labels)
        seen = asyncio.run(see(wall))
        check(seen, server, labels, wall)
        assert seen == inspect(client, PREFIX, clock_ms=at(wall))


def test_it_takes_nobody_for_dead_who_opened_a_session_meanwhile(
    newest_server: RedisServer,
) -> None:
    """Between the reading of the instances and that of the slices, A opens a session, and B another
    one."""
    client = newest_server.client()
    live = model.Session(heartbeat=1000, threshold=100, number=1, seq=1)
    mine = model.Slice(5, 0, 1, 1, model.View())
    old = model.Server(
        1000, 1000, None, 1, model.Map({"B": live}),
        model.Map({"k": model.Counter(0, model.Map({"B": mine}))}), model.Map({"k": model.HERE}),
    )  # fmt: skip
    back = live._replace(number=2)
    new = old._replace(
        sessions=model.Map({"A": back, "B": back._replace(number=3)}),
        counters=model.Map(
            {
                "k": model.Counter(
                    0, model.Map({"A": mine._replace(session=2), "B": mine._replace(session=3)})
                )
            }
        ),
    )

    class Between(redis.Redis):
        def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
            pipe = super().pipeline(transaction, shard_hint)
            send = pipe.execute

            def execute(raise_on_error: bool = True) -> list[Any]:
                words = [command[0][0] for command in pipe.command_stack]
                if "HGETALL" in words:
                    client.flushall()
                    wire.store(client, PREFIX, new)
                return send(raise_on_error)

            pipe.execute = execute  # type: ignore[method-assign]
            return pipe

    wire.store(client, PREFIX, old)
    info = inspect(Between(unix_socket_path=newest_server.socket), PREFIX, clock_ms=at(1000))
    slices = info.counters["k"].slices
    assert slices is not None
    assert (slices["A"].counts, slices["B"].counts) == (True, True)
    assert info.counters["k"].total == 10


def test_both_counters_show_their_prefix(newest_server: RedisServer) -> None:
    client = newest_server.client()
    counter = StrictInstanceAwareCounter(client, PREFIX, instance_id="A")
    counter.inc("k", 5)
    before = dump(client)
    info = counter.inspect()
    assert info.counters["k"].total == 5
    assert info.instances["A"].is_live
    assert dump(client) == before, "it is no heartbeat"

    async def see() -> PrefixInfo:
        async with redis.asyncio.Redis(unix_socket_path=newest_server.socket) as client:
            other = distkit.asyncio.StrictInstanceAwareCounter(client, PREFIX)
            return await other.inspect(["k"])

    assert asyncio.run(see()).counters["k"].total == 5


def test_chosen_keys(newest_server: RedisServer) -> None:
    """One that is there, one that is a tombstone, one that is lost, one that never was, one that is
    no counter, and one that the list has lost."""
    client = newest_server.client()
    for key in ("here", "lost", "unlisted", "other"):
        StrictInstanceAwareCounter(client, PREFIX).inc(key)
    client.hset(ROOT + "keys", "gone", "3")
    client.delete(ROOT + "counter:lost", ROOT + "counter:other")
    client.set(ROOT + "counter:other", "a string")
    client.hdel(ROOT + "keys", "unlisted")
    info = inspect(client, PREFIX, keys=["here", "gone", "lost", "never", "other", "unlisted"])
    assert info.counters.keys() == {"here", "unlisted"}
    assert info.tombstones == {"gone": 3}
    assert info.missing == ("lost",)
    assert info.unreadable == {"other": "it is not a hash"}
    assert inspect(client, PREFIX, match="h*").counters.keys() == {"here"}


def test_a_replica_and_clients_of_all_kinds(
    replica: redis.Redis, newest_server: RedisServer
) -> None:
    assert inspect(replica, PREFIX).counters["k"].total == 2
    with pytest.raises(redis.exceptions.ReadOnlyError):
        replica.delete(ROOT + "keys")
    client = newest_server.client()
    StrictInstanceAwareCounter(client, PREFIX, instance_id="é").inc("ключ", 5)
    for options in ({"decode_responses": True}, {"protocol": 3}, {"encoding": "latin-1"}):
        other = newest_server.client(**options)
        assert inspect(other, PREFIX, keys=["ключ"]).counters["ключ"].total == 5, options
    with pytest.raises(TypeError, match="client must be"):
        inspect(redis.asyncio.Redis(), PREFIX)  # type: ignore[arg-type]


def test_a_cluster(cluster: RedisServer) -> None:
    client = redis.RedisCluster(host="127.0.0.1", port=cluster.port)
    StrictInstanceAwareCounter(client, PREFIX).inc("k", 5)
    assert inspect(client, PREFIX).counters["k"].total == 5

    async def see() -> PrefixInfo:
        async with redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster.port) as client:
            return await inspect_async(client, PREFIX)

    assert asyncio.run(see()).counters["k"].total == 5


@pytest.mark.parametrize(
    ("head", "error", "match"),
    [
        ("2 some later layout", LayoutError, "layout 2"),
        ("1000 1000 1 0", LayoutError, "layout 0"),
        ("hello", InvalidKeyError, "holds something else"),
        ("1 2 3", InvalidKeyError, "holds something else"),
    ],
)
def test_another_layout(
    newest_server: RedisServer, head: str, error: type[Exception], match: str
) -> None:
    client = newest_server.client()
    client.hset(ROOT + "instances", ":", head)
    with pytest.raises(error, match=match):
        inspect(client, PREFIX)


def test_another_layout_without_instances(newest_server: RedisServer) -> None:
    newest_server.client().sadd(ROOT + "keys", "k")
    with pytest.raises(LayoutError):
        inspect(newest_server.client(), PREFIX)


def test_a_counter_that_cannot_be_read_does_not_hide_the_others(
    newest_server: RedisServer,
) -> None:
    client = newest_server.client()
    StrictInstanceAwareCounter(client, PREFIX).inc_all([("k", 1), ("a", 1), ("b", 1), ("c", 1)])
    client.hset(ROOT + "counter:a", ":", "0 0 1 5 5")
    client.hset(ROOT + "counter:b", "somebody", "nonsense")
    client.hdel(ROOT + "counter:c", ":")
    info = inspect(client, PREFIX)
    assert info.counters.keys() == {"k"}
    assert info.unreadable.keys() == {"a", "b", "c"}
    assert "layout 1" in info.unreadable["a"]


def test_a_large_prefix_takes_many_small_commands(newest_server: RedisServer) -> None:
    """No command reads more than about a page: the sizes of the replies, not times, which depend
    on the machine."""
    client, many = newest_server.client(), 3 * reading.PAGE
    sessions = {f"i{n}": model.Session(1000, 100, n + 1, 1) for n in range(many)}
    slices = {name: model.Slice(1, 0, 1, sessions[name].number, model.View()) for name in sessions}
    counters = {f"k{n}": model.Counter(0, model.Map({"i0": slices["i0"]})) for n in range(many)}
    counters["wide"] = model.Counter(0, model.Map(slices))
    wire.store(
        client, PREFIX,
        model.Server(1000, 1000, None, many, model.Map(sessions), model.Map(counters),
                     model.Map(dict.fromkeys(counters, model.HERE))),
    )  # fmt: skip
    largest = watch_replies(client)
    found = list(pages(client, PREFIX, clock_ms=at(1000)))
    assert len(found) >= 3
    seen = inspect(client, PREFIX, clock_ms=at(1000))
    assert (len(seen.instances), len(seen.counters)) == (many, many + 1)
    assert seen.counters["wide"].total == many
    assert 0 < largest() <= 2 * reading.PAGE


def watch_replies(client: redis.Redis) -> Callable[[], int]:
    """How many fields the largest reply of a pipeline had, all its commands together."""
    make, sizes = client.pipeline, [0]

    def pipeline(*args: Any, **options: Any) -> Any:
        pipe = make(*args, **options)
        send = pipe.execute

        def execute(raise_on_error: bool = True) -> list[Any]:
            replies: list[Any] = send(raise_on_error)
            fields = [reply[1] if isinstance(reply, tuple) else reply for reply in replies]
            sizes.append(sum(len(each) for each in fields if isinstance(each, dict)))
            return replies

        pipe.execute = execute  # type: ignore[method-assign]
        return pipe

    client.pipeline = pipeline  # type: ignore[method-assign]
    return lambda: max(sizes)


# --- Tools ---------------------------------------------------------------------------------------


def at(wall: int) -> Callable[[], int]:
    return lambda: wall


def dump(client: redis.Redis) -> dict[Any, Any]:
    """Everything that the prefix has in Redis."""
    names: Any = client.keys(ROOT + "*")
    return {
        name: client.hgetall(name) if client.type(name) == b"hash" else client.dump(name)
        for name in names
    }


@pytest.fixture(params=["fakeredis", "real"])
def place_client(request: pytest.FixtureRequest) -> redis.Redis:
    if request.param == "fakeredis":
        return fakeredis.FakeRedis(server=fakeredis.FakeServer())
    server: RedisServer = request.getfixturevalue("newest_server")
    return server.client()


@pytest.fixture
def replica() -> Any:
    """A replica of a server that has the counter k at 2."""
    from tests.conftest import REAL

    binary: Binary = REAL[-1]
    master = RedisServer(binary, "--repl-diskless-sync-delay", "0", tcp=True)
    follower = RedisServer(binary, "--replicaof", f"127.0.0.1 {master.port}", tcp=True)
    StrictInstanceAwareCounter(master.client(), PREFIX).inc("k", 2)
    client = follower.client()
    for _ in range(500):
        if client.exists(ROOT + "counter:k"):
            break
        client.client_pause(1)
        master.client().wait(1, 20)
    yield client
    follower.stop()
    master.stop()


def test_the_example_of_the_readme_runs_as_pasted(
    newest_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    codes = re.findall(r"```python\n(.*?)```", readme, re.S)
    (example,) = (code for code in codes if "distkit.inspection" in code)
    here = f"redis.Redis(unix_socket_path={newest_server.socket!r})"
    StrictInstanceAwareCounter(newest_server.client(), "my_app").inc("k", 5)
    exec(example.replace("redis.Redis()", here), {})
    assert re.fullmatch(r"k 5 \['.*'\]\n", capsys.readouterr().out)


# --- What cannot be parsed -----------------------------------------------------------------------

NOW = parse.Clock(2_000, 2_000)
PARSED: dict[str, tuple[str, Callable[[str], Any]]] = {
    "a slice": ("5 0 7 1 0 0 0 0", lambda text: parse.slice_of("a", text, 0, None)),
    "the session of a slice": ("5 0 7 1 0 0 0 0", parse.session_in),
    "a session": ("2000 1000 1 0 7", lambda text: parse.instance_of("a", text, 0)),
    "the head of a counter": (
        "1 0 0 5 2000 0", lambda text: parse.counter_of("k", text, 1, None, {}, NOW)
    ),
}  # fmt: skip
UNREADABLE: dict[str, Callable[[str], str]] = {
    "a number is missing": lambda text: text.rpartition(" ")[0],
    "nothing is there": lambda _: "",
    "a word": lambda text: text.rpartition(" ")[0] + " x",
    "a fraction": lambda text: text + ".5",
    "two spaces": lambda text: text.replace(" ", "  ", 1),
}


@pytest.mark.parametrize("damage", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("kind", PARSED)
def test_a_field_that_is_not_so_many_numbers_is_unreadable(
    kind: str, damage: Callable[[str], str]
) -> None:
    good, read = PARSED[kind]
    read(good)
    with pytest.raises(parse.Unreadable):
        read(damage(good))


@pytest.mark.parametrize("kind", ["a slice", "the session of a slice", "the head of a counter"])
def test_a_number_too_many_is_unreadable(kind: str) -> None:
    """After the numbers of a session comes its label, so there is nothing too many there."""
    good, read = PARSED[kind]
    with pytest.raises(parse.Unreadable):
        read(good + " 0")


def test_a_prefix_of_which_nothing_is_there_has_a_clock_that_never_stood() -> None:
    """R3: the next request would find the server's wall clock."""
    clock = parse.clock_of("p", None, 7)
    assert (clock.wall_ms, clock.now_ms) == (7, 7)
    assert (clock.last_wall_ms, clock.due_ms, clock.outage_ms) == (None, None, 0)
    assert (clock.opened, clock.closed) == (0, 0)
