"""What is right: the oracle's answer to each line of a history.

`Judge` stands where a port stands. It runs the model's instances against the model's server, over a
network in which the faults of each line happen. Its methods are small, so that an oracle that is
wrong in one way on purpose (oracle/conform/variants.py) overrides one of them.
"""

from __future__ import annotations

from oracle import model
from oracle.conform import lines
from oracle.conform.lines import BATCH, OPERATIONS, TOGETHER, Line, parts, result_line
from oracle.conform.traces import History
from oracle.model import LIMIT, Instance, Made, Message, Reply, Step, Steps

REFUSED_BY_REDIS = "refused"
"""A failure beside the model's: Redis answered with an error, and executed nothing."""

_ERRORS = {
    model.REFUSED: "overflow",
    model.UNKNOWN: "unknown",
    model.NOT_EXECUTED: "not_executed",
    REFUSED_BY_REDIS: "refused",
}
"""The failures of a call by their names in the line protocol."""


class Faults:
    """What becomes of the requests of one call, counted from 1. A request that is sent again is
    still the same request."""

    def __init__(self, line: Line) -> None:
        self.lost = {
            *line.get(lines.LOSE_REPLIES, ()),
            *([1] if line.get(lines.LOSE_REPLY) else []),
        }
        given_up = 1 if line.get(lines.GIVE_UP) else line.get(lines.GIVE_UP_FROM)
        self._given_up_from: int | None = given_up
        self._refused: int | None = line.get(lines.REFUSE)
        self._copied: int | None = line.get(lines.COPY)
        self.number = 0

    @property
    def loses_reply(self) -> bool:
        return self.number in self.lost

    @property
    def gives_up(self) -> bool:
        return self._given_up_from is not None and self.number >= self._given_up_from

    @property
    def refuses(self) -> bool:
        return self.number == self._refused

    @property
    def copies(self) -> bool:
        return self.number == self._copied


class Judge:
    """The oracle in the place of a port: `answer` takes the lines of one history, in order.

    Args:
        threshold_ms: R5's D, for every instance.
    """

    def __init__(self, threshold_ms: int) -> None:
        self.threshold_ms = threshold_ms
        self.instances: dict[str, Instance] = {}
        self.lives = 0
        self.server = model.Server()
        self.rounds: dict[str, model.Rounds] = {}
        self.wall_ms = 0
        self.copies: list[Message] = []
        self.snapshot = self.server

    def answer(self, line: Line) -> Line:
        """The right answer to this line."""
        op = line["op"]
        self.wall_ms = line.get("wall_ms", self.wall_ms)
        if op in OPERATIONS:
            return self.call(line)
        event = {
            "die": self.die,
            "empty": self.lose_everything,
            "lose_key": self.lose_key,
            "snapshot": self.take_snapshot,
            "roll_back": self.roll_back,
            "late_copy": self.deliver_copies,
        }[op]
        event(line)
        return {}

    # --- Events ----------------------------------------------------------------------------------

    def die(self, line: Line) -> None:
        self.instances.pop(line["instance"], None)
        self.rounds.pop(line["instance"], None)

    def lose_everything(self, _: Line) -> None:
        """The number of the newest session survives: it comes from the server's own clock."""
        self.server = model.Server(opened=self.server.opened)

    def lose_key(self, line: Line) -> None:
        """The counter is gone; the list of keys still names it."""
        counters = self.server.counters.without(line["key"])
        self.server = self.server._replace(counters=counters)

    def take_snapshot(self, _: Line) -> None:
        self.snapshot = self.server

    def roll_back(self, _: Line) -> None:
        self.server = self.snapshot._replace(opened=self.server.opened)

    def deliver_copies(self, _: Line) -> None:
        copies, self.copies = self.copies, []
        for copy in copies:
            self.serve(copy)

    # --- Calls -----------------------------------------------------------------------------------

    def call(self, line: Line) -> Line:
        """The answer to an operation."""
        if line["op"] == TOGETHER:
            rest = {name: line[name] for name in line if name not in ("op", "calls")}
            answers = []
            for asked in line["calls"]:  # one after the other, which is one of the right orders
                answers.append(self.call({**rest, **asked}))
                rest = {name: rest[name] for name in rest if name not in lines.CALL_FAULTS}
            return {"answers": answers}
        name = line["instance"]
        instance = self.instances.get(name) or self.join(name)
        refused = self.refusal(line)
        if refused:
            return {"error": refused}
        made = self.make(instance, line, Faults(line))
        self.instances[name] = made.instance
        if line["op"] == BATCH:
            return {"answers": [_answer(outcome) for outcome in made.outcomes]}
        if made.error:
            return {"error": _ERRORS[made.error]}
        return result_line(made.outcomes[0]) if OPERATIONS[line["op"]].answer != "nothing" else {}

    def join(self, name: str) -> Instance:
        """A new instance. Its first number is above those of any earlier life of its name, as if it
        had been drawn so."""
        self.lives += 1
        instance = Instance(name, self.threshold_ms, seq=self.lives << 20)
        self.instances[name] = instance
        return instance

    def refusal(self, line: Line) -> str:
        """Why nothing is sent at all (R1, R2): the first bad argument, the key before the numbers;
        in a batch, of the first bad step."""
        for call in parts(line) or (line,):
            if model.name_error(call.get("key", "k")):
                return "invalid_key"
            if any(abs(call.get(field, 0)) > LIMIT for field in ("count", "value")):
                return "overflow"
        return ""

    def make(self, instance: Instance, line: Line, faults: Faults) -> Made:
        """The whole call of this line."""

        def make(begun: Instance) -> Made:
            return self.converse(begun, faults)

        if line["op"] == "leave":
            return model.make_leave(instance, make)
        if line["op"] == "heartbeat":
            rounds = self.rounds.get(instance.name, model.Rounds())
            made, self.rounds[instance.name] = model.make_heartbeat(instance, rounds, make)
            return made._replace(outcomes=())
        return model.make_steps(instance, self.steps(instance, line), make)

    def steps(self, instance: Instance, line: Line) -> Steps:
        """What the call of this line is made of."""
        op = line["op"]
        if op == "clear_on_instance":
            return model.clear_on_instance_steps(instance)
        if op == "clear":
            return model.clear_steps(instance, model.existing_counters(self.server))
        return tuple((call["key"], self.step(call)) for call in parts(line) or (line,))

    def step(self, call: Line) -> Step:
        """The step of a single operation."""
        method = model.METHODS[call["op"]]
        count = call.get("count", method.operation.default_count or 0)
        return method.step(count, self.condition(call))

    def condition(self, call: Line) -> model.Condition | None:
        """R15."""
        relation = call.get("comparator")
        if relation is None:
            return None
        return (
            model.ALWAYS if relation == lines.ALWAYS else model.Condition(relation, call["value"])
        )

    # --- Requests --------------------------------------------------------------------------------

    def converse(self, begun: Instance, faults: Faults) -> Made:
        """One call of the instance, request by request, until it is done."""
        assert begun.call is not None
        instance, refused = begun, False
        while instance.call is not None and not instance.call.done:
            instance = self.speak(instance)
            faults.number += 1
            instance, refused = self.exchange(instance, faults)
        assert instance.call is not None
        failure = instance.call.failure
        instance, outcomes = model.finish(instance)
        made = Made(instance, outcomes, failure)
        return _refused_by_redis(made) if refused else made

    def exchange(self, instance: Instance, faults: Faults) -> tuple[Instance, bool]:
        """Send the instance's request, and take what comes. Returns the instance, and whether Redis
        refused the request."""
        assert instance.sent is not None
        if faults.copies:
            self.copies.append(instance.sent)
        if faults.gives_up:
            self.serve(instance.sent)
            return self.give_up(instance, arrived=True), False
        if faults.loses_reply:
            self.serve(instance.sent)
        if faults.refuses:
            return self.give_up(instance, arrived=faults.loses_reply), not faults.loses_reply
        return self.hear(instance, self.serve(instance.sent), resent=faults.loses_reply), False

    def serve(self, message: Message) -> Reply:
        self.server, reply = model.serve(self.server, message, self.wall_ms)
        return reply

    def speak(self, instance: Instance) -> Instance:
        return model.speak(instance)

    def hear(self, instance: Instance, reply: Reply, *, resent: bool) -> Instance:
        return model.hear(instance, reply, resent)

    def give_up(self, instance: Instance, *, arrived: bool) -> Instance:
        return model.give_up(instance, arrived)


def _answer(outcome: model.Outcome) -> Line:
    return {"error": _ERRORS[outcome]} if isinstance(outcome, str) else result_line(outcome)


def _refused_by_redis(made: Made) -> Made:
    """The call that ended with an error of Redis: that is what its steps come to, where nothing
    else is known of them."""

    def renamed(failure: model.Outcome) -> model.Outcome:
        return REFUSED_BY_REDIS if failure == model.NOT_EXECUTED else failure

    failure = REFUSED_BY_REDIS if made.failure == model.NOT_EXECUTED else made.failure
    return made._replace(outcomes=tuple(map(renamed, made.outcomes)), failure=failure)


def judge(history: History, kind: type[Judge] = Judge) -> list[Line]:
    """The right answer to each line; or, by a judge that is wrong on purpose, a wrong one."""
    oracle = kind(history.threshold_ms)
    return [oracle.answer(line) for line in history.lines]
