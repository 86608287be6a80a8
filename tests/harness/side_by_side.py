"""Runs production and the oracle side by side: many instances, one Redis, a clock, and faults.

Everything that happens here happens to both. Production's requests go through redis-py's own
connections and retries, into which the faults are built. The oracle's requests go to its state
machine, with the same faults in the same places. After every step these must be equal: each request
as it was sent, each reply, the outcome of each call, and everything that is stored. As long as
nothing has failed, R13's formula must give the same results too.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple

import fakeredis
import redis
import redis.asyncio
import redis.asyncio.retry
from fakeredis import aioredis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.retry import Retry

import distkit.asyncio
from distkit import Comparator, DistkitError, StrictInstanceAwareCounter
from distkit.base import Driver
from distkit.core.instance import Call, Kind, Outcome
from distkit.core.operations import LOOK
from distkit.core.operations import Step as ProductionStep
from distkit.redis.script import COUNTER, Script
from distkit.testing import driver_of, use_script
from oracle import model
from oracle.check.meaning import Meaning
from tests.harness import wire
from tests.harness.servers import RedisServer

PREFIX = "world"
INSTANCES, KEYS = "instances", "keys"
"""The two Redis keys that every prefix has, as `lose` and `restore` call them."""

RETRIES = 2
"""How often redis-py retries a request before the call gives up."""


class Fate(Enum):
    """What happens to one transmission of a request."""

    DELIVERED = "delivered"
    REQUEST_LOST = "lost before it ran"
    REPLY_LOST = "reply lost after it ran"
    TWICE = "ran twice in a row"
    DELAYED = "held up: lost now, delivered later"
    COPIED = "delivered, and a copy arrives later"
    COPIED_REPLY_LOST = "ran, reply lost, and a copy arrives later"
    EMPTIED = "ran, reply lost, and then Redis is emptied"
    HURT = "ran, reply lost, and then its first counter is lost, and not listed any more"
    REAPED = "ran, reply lost, and then its instance is presumed dead"

    @property
    def runs(self) -> int:
        """How often the server runs the request."""
        if self in (Fate.REQUEST_LOST, Fate.DELAYED):
            return 0
        return 2 if self is Fate.TWICE else 1

    @property
    def answers(self) -> bool:
        """Whether the reply reaches the caller."""
        return self in (Fate.DELIVERED, Fate.TWICE, Fate.COPIED)

    @property
    def leaves_a_copy(self) -> bool:
        """Whether a copy of the request can still arrive later."""
        return self in (Fate.DELAYED, Fate.COPIED, Fate.COPIED_REPLY_LOST)


class Network:
    """Decides the fate of each transmission, in order, and records what happens."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.down = False
        self.copies: list[tuple[Any, ...]] = []
        self.aftermath: Callable[[Fate, tuple[str, ...]], None] = lambda *_: None
        self.begin(())

    def begin(self, fates: Iterable[Fate]) -> None:
        self.fates = deque(fates)
        self.log: list[object] = []

    def next_fate(self) -> Fate:
        return self.fates.popleft() if self.fates else Fate.DELIVERED

    def note(self, command: tuple[Any, ...], fate: Fate, replies: list[Any]) -> None:
        words = tuple(wire.text(word) for word in command[wire.FIRST_ARG :])
        self.log += [words, *replies]
        if fate.leaves_a_copy:
            self.copies.append(command)
        self.aftermath(fate, words)


def script_call_in(packed: Any) -> tuple[bytes, ...] | None:
    """The words of a packed command, if it runs a script."""
    stream = io.BytesIO(packed if isinstance(packed, bytes) else b"".join(packed))
    count = int(stream.readline()[1:])
    words = tuple(stream.read(int(stream.readline()[1:]) + 2)[:-2] for _ in range(count))
    return words if words[0] in (b"EVALSHA", b"EVAL") else None


class FaultyConnection:
    """Mixed into a redis-py connection. Script calls meet their fates, other commands pass."""

    network: Network
    pack_command: Callable[..., Any]

    def connect(self) -> None:
        if self.network.down:
            raise RedisConnectionError("connection refused")
        super().connect()  # type: ignore[misc]

    def send_packed_command(self, packed: Any, check_health: bool = True) -> None:
        self.script_call = script_call_in(packed)
        if self.script_call is None:
            super().send_packed_command(packed, check_health)  # type: ignore[misc]

    def read_response(self, *args: Any, **options: Any) -> Any:
        if self.script_call is None:
            return super().read_response(*args, **options)  # type: ignore[misc]
        command, self.script_call = self.script_call, None
        fate = self.network.next_fate()
        replies: list[Any] = []
        try:
            for _ in range(fate.runs):
                super().send_packed_command(self.pack_command(*command))  # type: ignore[misc]
                replies.append(super().read_response(*args, **options))  # type: ignore[misc]
        except NoScriptError:
            self.network.fates.appendleft(fate)  # nothing ran; the whole script is sent next
            raise
        self.network.note(command, fate, replies)
        if not fate.answers:
            raise RedisConnectionError(fate.value)
        return replies[0]


class FaultyAsyncConnection:
    """The same mixin for a connection class of redis.asyncio."""

    network: Network
    pack_command: Callable[..., Any]

    async def connect(self) -> None:
        if self.network.down:
            raise RedisConnectionError("connection refused")
        await super().connect()  # type: ignore[misc]

    async def send_packed_command(self, packed: Any, check_health: bool = True) -> None:
        self.script_call = script_call_in(packed)
        if self.script_call is None:
            await super().send_packed_command(packed, check_health)  # type: ignore[misc]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        if self.script_call is None:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        command, self.script_call = self.script_call, None
        fate = self.network.next_fate()
        replies: list[Any] = []
        try:
            for _ in range(fate.runs):
                await super().send_packed_command(self.pack_command(*command))  # type: ignore[misc]
                replies.append(await super().read_response(*args, **options))  # type: ignore[misc]
        except NoScriptError:
            self.network.fates.appendleft(fate)
            raise
        self.network.note(command, fate, replies)
        if not fate.answers:
            raise RedisConnectionError(fate.value)
        return replies[0]


class Place(NamedTuple):
    """How to reach a Redis: the connection classes of redis-py, and their options."""

    name: str
    connection: type
    async_connection: type
    options: dict[str, Any]


def fake_place() -> Place:
    options = {"server": fakeredis.FakeServer()}
    connections = fakeredis.FakeRedisConnection, aioredis.FakeAsyncRedisConnection
    return Place("fakeredis", *connections, options)


def real_place(server: RedisServer) -> Place:
    connections = redis.UnixDomainSocketConnection, redis.asyncio.UnixDomainSocketConnection
    return Place(server.binary.name, *connections, {"path": server.socket})


def _prepare(counter: Any, script: Script) -> None:
    """Not at random: production and oracle have to use the same numbers."""
    driver_of(counter).instance.seq = 0
    use_script(counter, script)


class Backend:
    """A Redis that one history after the other runs on, with the counter to be tested.

    Here it is the synchronous counter.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.network = Network()
        self.admin: redis.Redis = redis.Redis(
            connection_pool=redis.ConnectionPool(connection_class=place.connection, **place.options)
        )
        self.client: Any = self._client()

    def _faulty(self, mixin: type, connection: type) -> type:
        return type("Faulty", (mixin, connection), {"network": self.network})

    def _client(self) -> Any:
        connection = self._faulty(FaultyConnection, self.place.connection)
        retry = Retry(NoBackoff(), RETRIES)
        pool: Any = redis.ConnectionPool
        return redis.Redis(
            connection_pool=pool(connection_class=connection, retry=retry, **self.place.options)
        )

    def reset(self) -> None:
        self.network.reset()
        self.admin.flushall()

    def hang_up(self) -> None:
        """Close the client's connections."""
        self.client.connection_pool.disconnect()

    def counter(self, script: Script, clock_ms: Callable[[], int], **options: Any) -> Any:
        """A new instance, on production's script or on a defective one."""
        counter = StrictInstanceAwareCounter(self.client, PREFIX, clock_ms=clock_ms, **options)
        _prepare(counter, script)
        return counter

    def close(self) -> None:
        self.client.close()


class AsyncBackend(Backend):
    """The same for the asyncio counter. Each call runs in an event loop until it is done."""

    def _client(self) -> Any:
        self.loop = asyncio.new_event_loop()
        connection = self._faulty(FaultyAsyncConnection, self.place.async_connection)
        retry = redis.asyncio.retry.Retry(NoBackoff(), RETRIES)
        pool: Any = redis.asyncio.ConnectionPool
        return redis.asyncio.Redis(
            connection_pool=pool(connection_class=connection, retry=retry, **self.place.options)
        )

    def hang_up(self) -> None:
        self.loop.run_until_complete(self.client.connection_pool.disconnect())

    def counter(self, script: Script, clock_ms: Callable[[], int], **options: Any) -> Any:
        counter = distkit.asyncio.StrictInstanceAwareCounter(
            self.client, PREFIX, clock_ms=clock_ms, **options
        )
        _prepare(counter, script)
        return Blocking(counter, self.loop)

    def close(self) -> None:
        self.loop.run_until_complete(self.client.aclose())
        self.loop.close()


class Blocking:
    """An asyncio counter, or its driver, whose calls are made as if it were synchronous."""

    def __init__(self, counter: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.counter, self._loop = counter, loop

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.counter, name)
        if isinstance(attribute, Driver):
            return Blocking(attribute, self._loop)
        if not callable(attribute):
            return attribute

        async def call(*args: Any, **options: Any) -> Any:
            return await attribute(*args, **options)

        return lambda *args, **options: self._loop.run_until_complete(call(*args, **options))

    def together(self, callers: Sequence[Sequence[ProductionStep]]) -> list[list[Outcome]]:
        """Run several callers at the same time. Each makes its calls one after the other."""

        async def caller(steps: Sequence[ProductionStep]) -> list[Outcome]:
            return [(await driver_of(self.counter).run((step,)))[0] for step in steps]

        async def everybody() -> list[list[Outcome]]:
            return list(await asyncio.gather(*map(caller, callers)))

        return self._loop.run_until_complete(everybody())


def fake_backend() -> Backend:
    return Backend(fake_place())


def real_backend(server: RedisServer) -> Backend:
    return Backend(real_place(server))


class Pair(NamedTuple):
    """One instance, in production and in the oracle."""

    counter: Any
    instance: model.Instance
    rounds: model.Rounds = model.Rounds()


class SideBySide:
    """Production and oracle in the same state, and everything that can happen to them."""

    def __init__(self, backend: Backend, threshold: int, script: Script = COUNTER) -> None:
        backend.reset()
        self.backend = backend
        self.network = backend.network
        self.script = script
        self.threshold = threshold
        self.wall = 1_000_000
        self.server = model.Server()
        self.instances: dict[str, Pair] = {}
        self.network.aftermath = self._production_aftermath
        self.copies: list[model.Message] = []
        self.snapshots: list[tuple[dict[bytes, Any], model.Server]] = []
        self.meaning: Meaning | None = Meaning()  # R13, until something has failed
        self.born = 0
        self.labels: dict[int, str] = {}  # of all sessions that Redis has opened
        self._reaped: deque[list[int]] = deque()  # what Redis answered to reapers

    # --- Instances -------------------------------------------------------------------------------

    def join(self, name: str = "", threshold: int = 0) -> str:
        """A new instance joins, or a new life of an id. Returns its name."""
        self.born += 1
        name = name or f"i{self.born}"
        threshold = threshold or self.threshold
        counter = self.backend.counter(
            self.script,
            lambda: self.wall,
            dead_instance_threshold_ms=threshold,
            instance_id=name,
            label=f"the {self.born}th",
        )
        self.instances[name] = Pair(counter, model.Instance(name, threshold))
        return name

    def promise(self, name: str, ms: int) -> None:
        """R19: from now on the instance says that it will be heard again within so many ms."""
        counter, instance, _ = self.instances[name]
        driver_of(counter).instance.promise_ms = ms
        self.instances[name] = self.instances[name]._replace(instance=instance._replace(promise=ms))

    def die(self, name: str) -> None:
        """The process crashes; nobody is told."""
        del self.instances[name]

    def live_again(self, name: str) -> None:
        """The process crashes, and a new one starts under the same id (R17)."""
        self._distrust()
        threshold = self.instances[name].instance.threshold
        del self.instances[name]
        self.join(name, threshold)

    # --- Calls -----------------------------------------------------------------------------------

    def call(
        self,
        name: str,
        key: str,
        kind: str,
        count: int = 0,
        fates: Sequence[Fate] = (),
        condition: model.Condition | None = None,
    ) -> object:
        """Call one public operation. Returns its result, or the name of its error."""
        counter = self.instances[name].counter
        method = model.method(kind, condition)
        args: tuple[Any, ...] = (key,)
        args += (Comparator(*condition),) if condition else ()
        args += (count,) if method.operation.takes_count else ()
        step = method.step(count, condition)
        self._begin(fates)
        try:
            mine: object = getattr(counter, method.name)(*args)
        except DistkitError as error:
            mine = type(error).__name__
        (right,) = self._check_call(name, ((key, step),), fates)
        assert mine == right, f"{name}.{method.name}{args}: {mine}, not {right}"
        return mine

    def call_many(
        self, name: str, steps: Sequence[tuple[str, model.Step]], fates: Sequence[Fate] = ()
    ) -> list[object]:
        """Run several steps in one request. Returns their outcomes."""
        counter = self.instances[name].counter
        self._begin(fates)
        mine = [
            _plain(outcome) for outcome in driver_of(counter).run([_production(*s) for s in steps])
        ]
        right = self._check_call(name, tuple(steps), fates)
        assert mine == list(right), f"{name}: {steps}: {mine}, not {right}"
        return mine

    def together(
        self,
        name: str,
        callers: Sequence[Sequence[tuple[str, model.Step]]],
        fates: Sequence[Fate] = (),
    ) -> None:
        """Run several callers of one instance at the same time.

        The driver decides which callers share a request. Its groups are recorded, and the oracle
        gets the same groups. Each caller's steps must be in them once, in the caller's order, and
        each step must have the oracle's result.
        """
        counter = self.instances[name].counter
        made = [[(_production(*item), item) for item in steps] for steps in callers]
        whose = {id(step): (who, item) for who, steps in enumerate(made) for step, item in steps}
        groups = _written_down(driver_of(counter))
        self._begin(fates)
        answers = counter.together([[step for step, _ in steps] for steps in made])
        self.wall, left = self._wall_before, deque(fates)
        given: list[list[object]] = [[] for _ in callers]
        order: list[list[tuple[str, model.Step]]] = [[] for _ in callers]
        for group in groups:
            todo = [whose[id(step)] for step in group]
            begun = model.begin(self.instances[name].instance, tuple(item for _, item in todo))
            outcomes, _ = self._oracle_call(name, begun, left)
            if self.meaning is not None:
                meant = tuple(self._meant(name, *item) for _, item in todo)
                assert outcomes == meant, f"R13: {todo} by {name}: {outcomes}, not {meant}"
            for (who, item), outcome in zip(todo, outcomes, strict=True):
                order[who].append(item)
                given[who].append(outcome)
        assert order == [list(steps) for steps in callers], "each step once, in its caller's order"
        assert [list(map(_plain, answer)) for answer in answers] == given
        self._compare()

    def heartbeat(self, name: str, fates: Sequence[Fate] = ()) -> str:
        """Send a heartbeat. Returns the name of its error, or nothing."""
        self._begin(fates)
        mine = ""
        try:
            self.instances[name].counter.heartbeat()
        except DistkitError as error:
            mine = type(error).__name__
        self.wall, left = self._wall_before, deque(fates)
        pair = self.instances[name]
        made, rounds = model.make_heartbeat(pair.instance, pair.rounds, self._maker(name, left))
        self.instances[name] = self.instances[name]._replace(rounds=rounds)
        self._hear(name)
        self._compare()
        assert mine == made.failure, f"{name}.heartbeat(): {mine}, not {made.failure}"
        return mine

    def look(self, name: str, keys: Sequence[str]) -> list[object]:
        """Look at counters, remembered or not, as the sweep does (R18). Returns the outcomes."""
        driver = driver_of(self.instances[name].counter)
        self._begin(())
        looks = [ProductionStep(key, LOOK) for key in keys]
        mine = [_plain(outcome) for outcome in driver.run(looks, Kind.LOOKS)]
        self.wall = self._wall_before
        begun = model.begin_looking(self.instances[name].instance, tuple(keys), ())
        right = self._maker(name, deque())(begun).outcomes
        self._hear(name)
        self._compare()
        assert mine == list(right), f"{name} looks at {keys}: {mine}, not {right}"
        return mine

    def _hear(self, name: str) -> None:
        if self.meaning is not None:
            threshold = self.instances[name].instance.threshold
            self.meaning = self.meaning.hear(name, self.now, threshold)

    def clear(self, name: str) -> None:
        steps = model.clear_steps(
            self.instances[name].instance, model.existing_counters(self.server)
        )
        self._begin(())
        self.instances[name].counter.clear()
        self._check_call(name, steps, ())

    def clear_on_instance(self, name: str) -> None:
        keys = sorted(self.instances[name].instance.memory)
        self._begin(())
        error = ""
        try:
            self.instances[name].counter.clear_on_instance()
        except DistkitError as refused:  # R2: taking a slice away can move the total out of range
            error = type(refused).__name__
        steps = tuple((key, model.Step("set_on_instance", 0)) for key in keys)
        outcomes = self._check_call(name, steps, ())
        assert error == (model.REFUSED if model.REFUSED in outcomes else "")

    def leave(self, name: str, fates: Sequence[Fate] = ()) -> str:
        """The instance leaves (R16). Returns the name of its error, or nothing."""
        counter, instance, _ = self.instances[name]
        self._begin(fates)
        error = ""
        try:
            driver_of(counter).leave()
        except DistkitError as unfinished:
            error = type(unfinished).__name__
        self.wall = self._wall_before
        made = model.make_leave(instance, self._maker(name, deque(fates)))
        self._compare()
        if self.meaning:
            self.meaning = self.meaning.leave(name)
        assert error == made.failure, f"{name} leaves: {error}, not {made.failure}"
        return error

    def _begin(self, fates: Sequence[Fate]) -> None:
        if any(fate is not Fate.DELIVERED for fate in fates) or self.network.down:
            self._distrust()
        self.network.begin(fates)
        self.log: list[object] = []
        self._wall_before = self.wall

    def _check_call(
        self, name: str, steps: tuple[tuple[str, model.Step], ...], fates: Sequence[Fate]
    ) -> tuple[object, ...]:
        """Make the same call in the oracle, and compare. Returns the oracle's outcomes."""
        self.wall = self._wall_before
        begun = model.begin(self.instances[name].instance, steps)
        outcomes, _ = self._oracle_call(name, begun, deque(fates))
        self._compare()
        if self.meaning is not None:
            self._hear(name)
            meant = tuple(self._meant(name, key, step) for key, step in steps)
            assert outcomes == meant, f"R13: {steps} by {name}: {outcomes}, not {meant}"
        return outcomes

    def _maker(self, name: str, left: deque[Fate]) -> model.Make:
        """Makes an oracle's call that has begun; its transmissions meet the fates that are left."""

        def make(begun: model.Instance) -> model.Made:
            outcomes, failure = self._oracle_call(name, begun, left)
            return model.Made(self.instances[name].instance, outcomes, failure)

        return make

    def _oracle_call(
        self, name: str, instance: model.Instance, left: deque[Fate]
    ) -> tuple[tuple[model.Outcome, ...], str]:
        """Complete a call that has begun; its transmissions meet the fates that are left."""
        while instance.call is not None and not instance.call.done:
            instance = self._oracle_send(model.speak(instance), left)
        failure = instance.call.failure if instance.call else ""
        instance, outcomes = model.finish(instance)
        self.instances[name] = self.instances[name]._replace(instance=instance)
        return outcomes, failure

    def _oracle_send(self, instance: model.Instance, fates: deque[Fate]) -> model.Instance:
        assert instance.sent is not None
        if self.network.down:
            return model.give_up(instance, arrived=False)
        for attempt in range(1 + RETRIES):
            fate = fates.popleft() if fates else Fate.DELIVERED
            label = driver_of(self.instances[instance.name].counter).instance.label
            self.log.append(wire.request(instance.sent, PREFIX, self.wall, label))
            replies = []
            for _ in range(fate.runs):
                answered = self._answered(len(self.log))
                replies.append(self._serve(instance.sent, answered, label))
                self.log.append(wire.reply(replies[-1]))
            if fate.leaves_a_copy:
                self.copies.append(instance.sent)
            self._oracle_aftermath(fate, instance.sent)
            if fate.answers:
                return model.hear(instance, replies[0], resent=attempt > 0)
        return model.give_up(instance, arrived=True)

    def _answered(self, place: int) -> list[int]:
        """What Redis answered at this place of the log."""
        answer = self.network.log[place] if place < len(self.network.log) else ()
        return answer if isinstance(answer, list) else []

    def _production_aftermath(self, fate: Fate, words: tuple[str, ...]) -> None:
        """Do what the fate says should happen before the request is sent again."""
        if fate is Fate.EMPTIED:
            self.backend.admin.flushall()
        counters = [word for word in words if ":counter:" in word]
        if fate is Fate.HURT and counters:
            self.backend.admin.delete(counters[0])
            self.backend.admin.hdel(_redis_key(KEYS), counters[0].split(":")[-1])
        if fate is Fate.REAPED:
            self.wall += self.threshold
            keys = [word.split(":")[-1] for word in words if ":counter:" in word]
            reaper = model.Open(f"reaper{self.wall}", 1, 0, self.threshold)
            opened = self._send_raw(reaper)
            self._reaped.append(opened)
            self._send_raw(_visit(reaper, opened[1], keys))

    def _oracle_aftermath(self, fate: Fate, sent: model.Message) -> None:
        if fate is Fate.EMPTIED:
            self._lose_all()
        if fate is Fate.HURT and isinstance(sent, model.Request) and sent.parts:
            key = sent.parts[0].key
            self._take_part(key, model.Server())
            self.server = self.server._replace(keys=self.server.keys.without(key))
        if fate is Fate.REAPED:
            self.wall += self.threshold
            keys = [part.key for part in sent.parts] if isinstance(sent, model.Request) else []
            reaper = model.Open(f"reaper{self.wall}", 1, 0, self.threshold)
            opened = self._serve(reaper, self._reaped.popleft())
            assert isinstance(opened, model.Opened)
            self._serve(_visit(reaper, opened.session, keys), [])

    def _send_raw(self, request: model.Message) -> list[int]:
        """Send a request straight to Redis, as another program would."""
        words = wire.request(request, PREFIX, self.wall)
        keys = sum(word.startswith("distkit:") for word in words)
        execute: Any = self.backend.admin.execute_command
        reply: list[int] = execute("EVAL", self.script.text, keys, *words)
        return reply

    def _serve(self, request: model.Message, answered: list[int], label: str = "") -> model.Reply:
        """Have the oracle answer a request that Redis has answered already: Redis numbers the
        sessions by its own clock, so the oracle takes the number from its answer."""
        server = wire.numbered_by_redis(self.server, request, answered)
        self.server, reply = model.serve(server, request, self.wall)
        if isinstance(reply, model.Opened) and self.server.opened > server.opened:
            assert reply.session not in self.labels, "a session number is used twice"
            self.labels[reply.session] = label
        return reply

    def _lose_all(self) -> None:
        """The oracle's numbers survive, as Redis's clock does."""
        self.server = model.Server(opened=self.server.opened)

    def _meant(self, name: str, key: str, step: model.Step) -> object:
        assert self.meaning is not None
        threshold = self.instances[name].instance.threshold
        self.meaning, result = self.meaning.call(name, key, step, self.now, threshold)
        return model.REFUSED if result is None else result

    def _distrust(self) -> None:
        self.meaning = None

    @property
    def now(self) -> int:
        assert self.server.clock is not None
        return self.server.clock

    # --- Time, faults ----------------------------------------------------------------------------

    def advance(self, ms: int) -> None:
        self.wall += ms

    def server_down(self) -> None:
        """Refuse every connection until `server_up`."""
        self.backend.hang_up()
        self.network.down = True

    def server_up(self) -> None:
        self.network.down = False

    def deliver_copy(self, which: int) -> None:
        """A copy that was under way arrives now. Nobody gets its reply."""
        self._distrust()
        copy = self.copies.pop(which)
        command = wire.with_wall(self.network.copies.pop(which), self.wall)
        execute: Any = self.backend.admin.execute_command
        try:
            mine = execute(*command)
        except NoScriptError:
            mine = execute("EVAL", self.script.text, *command[2:])
        right = wire.reply(self._serve(copy, mine, wire.text(command[-1])))
        assert mine == right, f"late {copy}: {mine}, not {right}"
        self.check_state()

    def flush(self) -> None:
        """Somebody runs FLUSHALL."""
        self._distrust()
        self.backend.admin.flushall()
        self._lose_all()

    def lose(self, name: str) -> None:
        """One Redis key is lost: `instances`, `keys`, or a counter's."""
        self._distrust()
        self.backend.admin.delete(_redis_key(name))
        self._take_part(name, model.Server())

    def restore(self, name: str, which: int) -> None:
        """One Redis key is as it was in a snapshot; the others stay.

        If `instances` alone is older, a counter's bound of its expiries may be too late: leases
        that were renewed since then are shorter again, and nothing in Redis tells. A dead instance
        is then noticed only when it would have been without the loss. So that this can be compared,
        its head says that a session was closed, and every counter is searched.
        """
        self._distrust()
        content, server = self.snapshots[which]
        key, admin = _redis_key(name), self.backend.admin
        admin.delete(key)
        if key.encode() in content:
            admin.hset(key, mapping=content[key.encode()])
            if name == INSTANCES:
                head: Any = admin.hget(key, ":")
                layout, clock, wall, opened, _, due = head.split()
                words = (layout, clock, wall, opened, b"%d" % (time.time_ns() // 1000), due)
                admin.hset(key, ":", b" ".join(words))
        self._take_part(name, server)
        self.check_state()

    def _take_part(self, name: str, server: model.Server) -> None:
        """The oracle's part of what one Redis key holds is as it is there."""
        if name == INSTANCES:
            self.server = self.server._replace(
                clock=server.clock, wall=server.wall, due=server.due, sessions=server.sessions
            )
        elif name == KEYS:
            self.server = self.server._replace(keys=server.keys)
        else:
            counters = self.server.counters.without(name)
            if name in server.counters:
                counters = counters.put(name, server.counters[name])
            self.server = self.server._replace(counters=counters)

    def flush_scripts(self) -> None:
        self.backend.admin.script_flush()

    def snapshot(self) -> None:
        admin = self.backend.admin
        names: Any = admin.keys("*")
        content = {name: admin.hgetall(name) for name in names}
        self.snapshots.append((content, self.server))

    def roll_back(self, which: int) -> None:
        """A replica without the latest writes takes over."""
        self._distrust()
        content, server = self.snapshots[which]
        self.server = server._replace(opened=self.server.opened)
        admin = self.backend.admin
        admin.flushall()
        for name, fields in content.items():
            admin.hset(name, mapping=fields)
        self.check_state()

    # --- Comparison ------------------------------------------------------------------------------

    def _compare(self) -> None:
        assert self.network.log == self.log, _first_difference(self.network.log, self.log)
        assert len(self.network.copies) == len(self.copies)
        self.check_state()

    def stored(self) -> wire.Stored:
        """What Redis holds."""
        return wire.Stored(self.backend.admin, PREFIX)

    def check_state(self) -> None:
        """Compare what Redis holds with the oracle's state, and check the fields of its own."""
        stored = self.stored()
        # After a loss Redis has an older number; it takes the next one from its clock.
        assert stored.server.opened <= self.server.opened
        assert stored.server._replace(opened=self.server.opened) == self.server
        stored.check_what_only_redis_keeps()
        labels = {name: self.labels[s.number] for name, s in self.server.sessions.items()}
        assert stored.labels == labels


def _redis_key(name: str) -> str:
    root = f"distkit:{{{PREFIX}}}:"
    return f"{root}{name}" if name in (INSTANCES, KEYS) else f"{root}counter:{name}"


def _visit(who: model.Open, session: int, keys: Sequence[str]) -> model.Request:
    """A request that reads some keys, from an instance that has just opened its session."""
    parts = tuple(model.Part(key, model.Memory(0, 0, who.seq)) for key in keys)
    return model.Request(who.instance, session, who.seq + 1, who.seq, who.threshold, parts)


def _production(key: str, step: model.Step) -> ProductionStep:
    when = Comparator(*step.condition) if step.condition else None
    letter = model.OPERATIONS[step.op].letter
    return ProductionStep(key, letter, step.count, step.op == "delete_on_instance", when)


def _written_down(driver: Any) -> list[list[ProductionStep]]:
    """Record the steps of each group of callers that is served from now on: the steps that the
    callers brought, since a call may repeat one of them instead. Returns the record."""
    groups: list[list[ProductionStep]] = []
    session = driver.instance
    begin = type(session).begin

    def beginning(call: Call) -> None:
        if call is not session.call:
            groups.append([step for steps, _, _ in driver.queue.group for step in steps])
            assert groups[-1] == list(call.steps)
        begin(session, call)

    session.begin = beginning
    return groups


def _plain(outcome: Outcome) -> object:
    return type(outcome).__name__ if isinstance(outcome, Exception) else outcome


def _first_difference(mine: list[object], right: list[object]) -> str:
    for i, (a, b) in enumerate(zip(mine, right, strict=False)):
        if a != b:
            return f"message {i}: production {a}, oracle {b}"
    more = mine[len(right) :] or right[len(mine) :]
    return f"production sent and got {len(mine)} messages, oracle {len(right)}: {more}"
