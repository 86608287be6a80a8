"""The counter as a port: the line protocol of spec/PORTS.md on stdin and stdout.

    python -m oracle conform -- python -m distkit.port

`DISTKIT_URL` is the URL of the Redis; without it, there is a fake in this process (extra `demo`).
This is all of the glue that a port needs, to be copied. The faults happen between the counter and
its client: the counter does not know that it is being tested.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

import distkit
from distkit import Change, DistkitError, StrictInstanceAwareCounter
from distkit.core import operations
from distkit.testing import driver_of

URL = "DISTKIT_URL"

ON_A_KEY = ("get", "inc", "dec", "set", "set_on_instance", "delete", "delete_on_instance",
            "inc_if", "set_if", "set_on_instance_if")  # fmt: skip
OTHERS = ("heartbeat", "clear_on_instance", "clear", "leave", "batch", "together")
FAULTS = ("lose_reply", "give_up", "lose_replies", "give_up_from", "refuse", "late_copy", "empty",
          "lose_key", "rollback", "reuse")  # fmt: skip
ERRORS = {"InvalidKeyError": "invalid_key", "CounterOverflowError": "overflow",
          "OutcomeUnknownError": "unknown", "NotExecutedError": "not_executed"}  # fmt: skip

Message = dict[str, Any]


class Faults:
    """What becomes of the requests of one call, counted from 1. A request that is sent again keeps
    its number."""

    lost: set[int]
    given_up_from: int | None
    refused: int | None
    copied: int | None
    together: bool
    number: int
    is_answered: bool

    def __init__(self, message: Message) -> None:
        self.lost = {*message.get("lose_replies", ()), *([1] if message.get("lose_reply") else [])}
        self.given_up_from = 1 if message.get("give_up") else message.get("give_up_from")
        self.refused = message.get("refuse")
        self.copied = message.get("copy")
        self.together = message["op"] == "together"
        self.number = 0
        self.is_answered = True

    def begin(self) -> None:
        """A request is sent, or sent again."""
        if self.is_answered:
            self.number += 1
            self.is_answered = False
            if self.together and self.number == 1:
                time.sleep(0.002)  # let the other callers queue meanwhile

    def refuses(self) -> bool:
        """Whether Redis answers with an error. If the reply to a copy is lost, that comes first."""
        return self.number == self.refused and self.number not in self.lost

    def loses_reply(self) -> bool:
        """Whether the reply that has come is lost."""
        if self.number in self.lost:
            self.lost.remove(self.number)
            return True
        return self.given_up_from is not None and self.number >= self.given_up_from


class Port:
    """Answers the messages, one by one."""

    counter_class: Any = StrictInstanceAwareCounter
    faults: Faults
    client: Any
    admin: Any
    prefix: str
    threshold_ms: int
    wall_ms: int

    def __init__(self) -> None:
        self.faults = Faults({"op": "nothing"})
        self.client, self.admin = _clients(self)
        self.prefix, self.threshold_ms, self.wall_ms = "", 0, 0
        self.instances: dict[str, Any] = {}
        self.named: set[str] = set()
        self.copies: list[list[bytes]] = []
        self.kept: dict[Any, Any] = {}

    def hello(self, message: Message) -> Message:
        return {"protocol": 1, "port": "distkit for Python", "clock": "virtual",
                "instances": "many", "operations": [*ON_A_KEY, *OTHERS], "faults": self.possible(),
                "features": ["applied", "always"]}  # fmt: skip

    def possible(self) -> list[str]:
        """The faults that can happen on this server: some do not let a client restore a key."""
        try:
            self.admin.restore("distkit:{conform}:nothing", 0, b"this is no dump")
        except ResponseError as error:
            if isinstance(error, NoPermissionError) or "unknown command" in str(error):
                return [fault for fault in FAULTS if fault != "rollback"]
        return [*FAULTS]

    # --- Events ----------------------------------------------------------------------------------

    def reset(self, message: Message) -> Message:
        self.prefix, self.threshold_ms = message["prefix"], message["threshold_ms"]
        self.instances, self.copies, self.kept, self.named = {}, [], {}, set()
        return {}

    def die(self, message: Message) -> Message:
        self.instances.pop(message["instance"], None)
        return {}

    def empty(self, message: Message) -> Message:
        self.admin.delete(*self.redis_keys())
        return {}

    def lose_key(self, message: Message) -> Message:
        self.admin.delete(f"distkit:{{{self.prefix}}}:counter:{message['key']}")
        return {}

    def snapshot(self, message: Message) -> Message:
        dumped = {name: self.admin.dump(name) for name in self.redis_keys()}
        self.kept = {name: content for name, content in dumped.items() if content is not None}
        return {}

    def roll_back(self, message: Message) -> Message:
        self.empty(message)
        for name, content in self.kept.items():
            self.admin.restore(name, 0, content)
        return {}

    def late_copy(self, message: Message) -> Message:
        copies, self.copies = self.copies, []
        for words in copies:
            wall = 3 + int(words[2]) + 6  # EVALSHA, hash, how many keys, the keys; then ARGV[7]
            self.admin.execute_command(*words[:wall], message["wall_ms"], *words[wall + 1 :])
        return {}

    def redis_keys(self) -> list[str]:
        """Every Redis key that this history may have made. The server is not searched for them: it
        may hold many others."""
        root = f"distkit:{{{self.prefix}}}:"
        return [f"{root}instances", f"{root}keys", *(f"{root}counter:{key}" for key in self.named)]

    # --- Calls -----------------------------------------------------------------------------------

    def call(self, message: Message) -> Message:
        counter = self.instances.get(message["instance"]) or self.join(message["instance"])
        self.wall_ms, self.faults = message.get("wall_ms", 0), Faults(message)
        calls = (message, *message.get("steps", ()), *message.get("calls", ()))
        self.named.update(call["key"] for call in calls if "key" in call)
        if message["op"] == "together":
            with ThreadPoolExecutor(len(message["calls"])) as threads:
                answers = threads.map(lambda asked: self.single(counter, asked), message["calls"])
                return {"answers": list(answers)}
        return self.single(counter, message)

    def single(self, counter: Any, message: Message) -> Message:
        try:
            if message["op"] == "batch":
                return {"answers": self.batch(counter, message["steps"])}
            if message["op"] == "leave":
                return answered(driver_of(counter).leave())
            return answered(getattr(counter, message["op"])(*arguments(message)))
        except (DistkitError, ResponseError) as error:
            return answered(error)

    def batch(self, counter: Any, asked: list[Message]) -> list[Message]:
        steps = [getattr(operations, part["op"])(*arguments(part)) for part in asked]
        try:
            outcomes: Any = driver_of(counter).batch(steps)
        except (DistkitError, ResponseError) as error:
            outcomes = error.outcomes  # type: ignore[union-attr]
        return [answered(outcome) for outcome in outcomes]

    def join(self, name: str) -> Any:
        counter = self.instances[name] = self.counter_class(
            self.client, self.prefix, instance_id=name,
            dead_instance_threshold_ms=self.threshold_ms, clock_ms=lambda: self.wall_ms,
        )  # fmt: skip
        return counter

    def answer(self, message: Message) -> Message:
        is_call = message["op"] in (*ON_A_KEY, *OTHERS)
        answer: Message = (self.call if is_call else getattr(self, message["op"]))(message)
        return answer

    def run(self) -> None:
        try:
            self.admin.ping()
        except RedisError as error:
            place = os.environ.get(URL, "").rpartition("@")[2]  # no password on the screen
            sys.exit(f"no Redis answers at {place}, which {URL} names: {error}")
        for line in sys.stdin:
            print(json.dumps(self.answer(json.loads(line))), flush=True)


def arguments(message: Message) -> list[Any]:
    given = {name: message[name] for name in ("key", "comparator", "count") if name in message}
    if "comparator" in given:
        operand = [message["value"]] if "value" in message else []
        given["comparator"] = getattr(distkit, given["comparator"])(*operand)
    return list(given.values())


def answered(result: Any) -> Message:
    """A result, or an error, as an answer."""
    if isinstance(result, Exception):
        return {"error": ERRORS.get(type(result).__name__, "refused"), "message": str(result)}
    if isinstance(result, Change):
        states = {"new": result.new._asdict(), "old": result.old._asdict()}
        return {**states, "applied": result.applied}
    return result._asdict() if result else {}


def _words(packed: bytes) -> list[bytes]:
    """The words of a command as it goes over the wire: `*3`, and for each word `$5`, `hello`."""
    many, _, rest = packed[1:].partition(b"\r\n")
    words = []
    for _ in range(int(many)):
        size, _, rest = rest[1:].partition(b"\r\n")
        words.append(rest[: int(size)])
        rest = rest[int(size) + 2 :]
    return words


def _clients(port: Port) -> tuple[Any, Any]:
    """A client whose script calls meet the port's faults, and one without faults."""
    url = os.environ.get(URL)
    if url:
        parse: Any = redis.connection.parse_url
        place: dict[str, Any] = parse(url)
        plain: Any = place.pop("connection_class", redis.Connection)
    else:
        try:
            import fakeredis
        except ModuleNotFoundError:
            sys.exit(f"{URL} is not set: it must be the URL of a Redis, such as redis://localhost")
        plain, place = fakeredis.FakeRedisConnection, {"server": fakeredis.FakeServer()}

    class Faulty(plain):  # type: ignore[misc]
        """Script calls meet the port's faults; all else passes."""

        of_script = refused = False

        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            packed = command if isinstance(command, bytes) else b"".join(command)
            self.of_script = b"\r\nEVAL" in packed[:20]
            faults = port.faults
            if self.of_script:
                faults.begin()
                if faults.number == faults.copied:
                    faults.copied = None
                    port.copies.append(_words(packed))
                self.refused = faults.refuses()
            if not (self.of_script and self.refused):
                super().send_packed_command(command, check_health)

        def read_response(self, *args: Any, **options: Any) -> Any:
            if not self.of_script:
                return super().read_response(*args, **options)
            faults = port.faults
            if self.refused:
                faults.is_answered = True
                raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'")
            try:
                reply = super().read_response(*args, **options)
            except NoScriptError:  # nothing ran: the whole script is sent next
                raise
            except ResponseError:
                faults.is_answered = True
                raise
            if faults.loses_reply():
                raise RedisConnectionError("the reply was lost")
            faults.is_answered = True
            return reply

    def client(kind: Any, retries: int) -> Any:
        pool: Any = redis.ConnectionPool
        retry = Retry(NoBackoff(), retries)
        return redis.Redis(connection_pool=pool(connection_class=kind, retry=retry, **place))

    return client(Faulty, 2), client(plain, 0)


if __name__ == "__main__":
    Port().run()
