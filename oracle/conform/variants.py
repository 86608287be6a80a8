"""Oracles that are wrong in one way on purpose, each with the rule that it breaks.

They explain failures: where a port answers a whole history as one of these does, its mistake is
likely the same (oracle/conform/explain.py). And they show that the suite can fail: each of them,
run as a port, must be found (tests/ports/).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from oracle import model
from oracle.conform.judge import Faults, Judge
from oracle.conform.lines import BATCH, TOGETHER, Line, parts
from oracle.model import (
    Done,
    Instance,
    Late,
    Leave,
    Made,
    Map,
    Memory,
    Message,
    NoSession,
    Open,
    Opened,
    Reply,
    Request,
    Step,
)
from oracle.model.state import HERE


class Variant(NamedTuple):
    """A wrong oracle: the rules that it breaks, what it does in words, and itself."""

    rules: str
    words: str
    kind: type[Judge]


VARIANTS: dict[str, Variant] = {}
"""Every one, by its words."""


def _variant(rules: str, words: str) -> Callable[[type[Judge]], type[Judge]]:
    def register(kind: type[Judge]) -> type[Judge]:
        VARIANTS[words] = Variant(rules, words, kind)
        return kind

    return register


# --- Names and numbers ---------------------------------------------------------------------------


@_variant("R1", "a key may contain a colon")
class _AnyKey(Judge):
    def call(self, line: Line) -> Line:
        if "key" in line:
            line = {**line, "key": line["key"].replace(":", "")}
        return super().call(line)


@_variant("R1", "a key's length is counted in characters, not in bytes")
class _LengthInCharacters(Judge):
    def call(self, line: Line) -> Line:
        if "key" in line and len(line["key"]) < 256:
            line = {**line, "key": line["key"].replace("ж", "z")}
        return super().call(line)


@_variant("R1 R2", "of a bad key and a bad count the count is reported")
class _CountFirst(Judge):
    def refusal(self, line: Line) -> str:
        numbers = {name: line[name] for name in line if name != "key"}
        return super().refusal(numbers) or super().refusal(line)


@_variant("R2", "a count out of range is rounded into it")
class _RoundsCounts(Judge):
    def call(self, line: Line) -> Line:
        limit = model.LIMIT
        numbers: Line = {
            name: max(-limit, min(limit, line[name])) for name in ("count", "value") if name in line
        }
        return super().call({**line, **numbers})


@_variant("R2", "totals are added up as doubles")
class _Doubles(Judge):
    def hear(self, instance: Instance, reply: Reply, *, resent: bool) -> Instance:
        if isinstance(reply, Done):
            views = (view._replace(total=int(float(view.total))) for view in reply.views)
            reply = Done(tuple(views))
        return super().hear(instance, reply, resent=resent)


@_variant("R2", "a refused step of a batch stops the steps after it")
class _RefusedStepStops(Judge):
    def call(self, line: Line) -> Line:
        answer = super().call(line)
        if line["op"] == BATCH and "answers" in answer:
            answers = answer["answers"]
            errors = [at for at, part in enumerate(answers) if "error" in part]
            if errors:
                rest = [{"error": "overflow"}] * (len(answers) - errors[0])
                return {"answers": [*answers[: errors[0]], *rest]}
        return answer


# --- Time ----------------------------------------------------------------------------------------


@_variant("R3", "time goes on when the clock jumps back")
class _BackIsForward(Judge):
    _now = 0
    _last: int | None = None

    def serve(self, message: Message) -> Reply:
        real = self.wall_ms
        self._now += abs(real - self._last) if self._last is not None else real
        self._last = real
        self.wall_ms = self._now
        reply = super().serve(message)
        self.wall_ms = real
        return reply


@_variant("R3", "time jumps back with the clock")
class _TimeJumpsBack(Judge):
    def serve(self, message: Message) -> Reply:
        clock, wall = self.server.clock, self.server.wall
        if clock is not None and self.wall_ms < wall:
            self.server = self.server._replace(clock=clock + self.wall_ms - wall, wall=self.wall_ms)
        return super().serve(message)


@_variant("R4", "a read is no heartbeat")
class _ReadIsNoHeartbeat(Judge):
    def serve(self, message: Message) -> Reply:
        before = self.server.sessions.get(message.instance)
        reply = super().serve(message)
        after = self.server.sessions.get(message.instance)
        parts = message.parts if isinstance(message, Request) else ()
        reads = parts and not any(model.writes(part.steps) for part in parts)
        if reads and before and after:
            kept = after._replace(heartbeat=before.heartbeat)
            sessions = self.server.sessions.put(message.instance, kept)
            self.server = self.server._replace(sessions=sessions)
        return reply


@_variant("R4", "a heartbeat does nothing")
class _NoHeartbeat(Judge):
    def call(self, line: Line) -> Line:
        return {} if line["op"] == "heartbeat" else super().call(line)


@_variant("R5", "an instance is dead 1 ms too late")
class _DeadTooLate(Judge):
    def join(self, name: str) -> Instance:
        self.instances[name] = Instance(name, self.threshold_ms + 1)
        return self.instances[name]


@_variant("R5", "an instance is dead 1 ms too early")
class _DeadTooEarly(Judge):
    def join(self, name: str) -> Instance:
        self.instances[name] = Instance(name, max(1, self.threshold_ms - 1))
        return self.instances[name]


@_variant("R5", "nobody is ever dead")
class _NeverDead(Judge):
    def join(self, name: str) -> Instance:
        self.instances[name] = Instance(name, model.LIMIT)
        return self.instances[name]


# --- Counters ------------------------------------------------------------------------------------


@_variant("R6", "a set or delete leaves the slices of the others")
class _SetKeepsOthers(Judge):
    def step(self, call: Line) -> Step:
        step = super().step(call)
        local = {"set": "set_on_instance", "delete": "delete_on_instance"}
        return step._replace(op=local.get(step.op, step.op))


@_variant("R6 R9", "a read makes the caller's stale slice current")
class _ReadRevives(Judge):
    def hear(self, instance: Instance, reply: Reply, *, resent: bool) -> Instance:
        sent, memory = instance.sent, instance.memory
        if isinstance(sent, Request) and isinstance(reply, Done):
            seen = zip(sent.parts, reply.views, strict=True)
            views = [
                view._replace(count=memory[part.key].count)
                if part.key in memory and not model.writes(part.steps)
                else view
                for part, view in seen
            ]
            reply = Done(tuple(views))
        return super().hear(instance, reply, resent=resent)


@_variant("R7 R8", "a dead slice that was stale is taken from the total")
class _DeadStaleSubtracted(Judge):
    _missing: Map[str, int] = Map()

    def serve(self, message: Message) -> Reply:
        before = self.server.counters
        reply = super().serve(message)
        for part in message.parts if isinstance(message, Request) else ():
            was = before.get(part.key, model.Counter())
            now = self.server.counters.get(part.key, model.Counter())
            gone = [s for name, s in was.slices.items() if name not in now.slices]
            stale = sum(s.count for s in gone if s.epoch != was.epoch)
            self._missing = self._missing.put(part.key, self._missing.get(part.key, 0) + stale)
        if isinstance(reply, Done) and isinstance(message, Request):
            views = zip(message.parts, reply.views, strict=True)
            less = (v._replace(total=v.total - self._missing.get(p.key, 0)) for p, v in views)
            return Done(tuple(less))
        return reply


@_variant("R8", "a slice of a dead instance is not removed")
class _DeadStay(Judge):
    def serve(self, message: Message) -> Reply:
        if isinstance(message, Request | Open):
            message = message._replace(threshold=model.LIMIT)
        return super().serve(message)


# --- Operations ----------------------------------------------------------------------------------


class _Answers(Judge):
    """Answers something else to a single operation that worked."""

    def changed(self, call: Line, answer: Line) -> Line:
        raise NotImplementedError

    def call(self, line: Line) -> Line:
        answer = super().call(line)
        return answer if "error" in answer or parts(line) else self.changed(line, answer)


@_variant("R9", "dec adds")
class _DecAdds(Judge):
    def step(self, call: Line) -> Step:
        return super().step({**call, "op": "inc"} if call["op"] == "dec" else call)


@_variant("R9", "delete answers what is there after it")
class _DeleteAnswersAfter(_Answers):
    def changed(self, call: Line, answer: Line) -> Line:
        return dict.fromkeys(answer, 0) if call["op"] == "delete" else answer


@_variant("R9", "delete_on_instance answers the new slice, not what was removed")
class _DeleteOnInstanceAnswersAfter(_Answers):
    def changed(self, call: Line, answer: Line) -> Line:
        return answer | {"instance_count": 0} if call["op"] == "delete_on_instance" else answer


@_variant("R9", "total and slice are swapped in answers")
class _Swapped(_Answers):
    def changed(self, call: Line, answer: Line) -> Line:
        if "cumulative" not in answer:
            return answer
        return dict(zip(answer, reversed(answer.values()), strict=True))


@_variant("R9", "clear takes the caller's counters only")
class _ClearsOwn(Judge):
    def steps(self, instance: Instance, line: Line) -> model.Steps:
        if line["op"] == "clear":
            return model.clear_steps(instance, ())
        return super().steps(instance, line)


@_variant("R9 R10", "clear skips the counters that Redis has lost")
class _ClearSkipsLost(Judge):
    def steps(self, instance: Instance, line: Line) -> model.Steps:
        if line["op"] == "clear":
            existing = model.existing_counters(self.server)
            return model.clear_steps(instance._replace(memory=Map()), existing)
        return super().steps(instance, line)


@_variant("R9", "clear_on_instance takes the first 100 counters only")
class _ClearsFirst100(Judge):
    def steps(self, instance: Instance, line: Line) -> model.Steps:
        steps = super().steps(instance, line)
        return steps[:100] if line["op"] == "clear_on_instance" else steps


@_variant("R2 R9", "clear_on_instance hides that a step was refused")
class _ClearHidesRefusal(Judge):
    def call(self, line: Line) -> Line:
        answer = super().call(line)
        hides = line["op"] == "clear_on_instance" and answer.get("error") == "overflow"
        return {} if hides else answer


@_variant("R9 R12", "clear hides that its outcome is unknown")
class _ClearHidesUnknown(Judge):
    def call(self, line: Line) -> Line:
        answer = super().call(line)
        return {} if line["op"] == "clear" and answer.get("error") == "unknown" else answer


# --- Conditions ----------------------------------------------------------------------------------


class _Conditions(Judge):
    """Has another condition than it was given."""

    def other(self, condition: model.Condition) -> model.Condition:
        raise NotImplementedError

    def condition(self, call: Line) -> model.Condition | None:
        condition = super().condition(call)
        return self.other(condition) if condition else None


@_variant("R15", "lt means less than or equal")
class _LtOrEqual(_Conditions):
    def other(self, condition: model.Condition) -> model.Condition:
        lt = condition.relation == "lt"
        return condition._replace(operand=condition.operand + 1) if lt else condition


@_variant("R15", "gt means greater than or equal")
class _GtOrEqual(_Conditions):
    def other(self, condition: model.Condition) -> model.Condition:
        gt = condition.relation == "gt"
        return condition._replace(operand=condition.operand - 1) if gt else condition


@_variant("R15", "lt and gt are swapped")
class _LtIsGt(_Conditions):
    def other(self, condition: model.Condition) -> model.Condition:
        swapped = {"lt": "gt", "gt": "lt"}.get(condition.relation, condition.relation)
        return condition._replace(relation=swapped)


@_variant("R15", "conditions are not looked at")
class _AlwaysHolds(_Conditions):
    def other(self, condition: model.Condition) -> model.Condition:
        return model.ALWAYS


@_variant("R15", "ne holds always")
class _NeHolds(_Conditions):
    def other(self, condition: model.Condition) -> model.Condition:
        return model.ALWAYS if condition.relation == "ne" else condition


class _OtherSubject(Judge):
    """Looks at another number than it should; `on_total` says at which, for which operation."""

    op, on_total = "", False

    def step(self, call: Line) -> Step:
        step = super().step(call)
        if step.condition and step.op == self.op and step.condition != model.ALWAYS:
            view = self.server.counters.get(call["key"], model.Counter()).view(self.caller)
            right, wrong = (view.count, view.total) if self.on_total else (view.total, view.count)
            operand = step.condition.operand + right - wrong
            return step._replace(condition=step.condition._replace(operand=operand))
        return step

    caller = ""

    def call(self, line: Line) -> Line:
        self.caller = line["instance"]
        return super().call(line)


@_variant("R15", "the condition of set_on_instance is on the total")
class _SliceOnTotal(_OtherSubject):
    op, on_total = "set_on_instance", True


@_variant("R15", "the condition of inc is on the caller's slice")
class _IncOnSlice(_OtherSubject):
    op, on_total = "inc", False


@_variant("R15", "applied says whether anything changed")
class _AppliedIsChanged(_Answers):
    def changed(self, call: Line, answer: Line) -> Line:
        return answer | {"applied": answer["new"] != answer["old"]} if "new" in answer else answer


@_variant("R15", "after and before are swapped")
class _NewIsOld(_Answers):
    def changed(self, call: Line, answer: Line) -> Line:
        if "new" not in answer:
            return answer
        return answer | {"new": answer["old"], "old": answer["new"]}


# --- Coming back ---------------------------------------------------------------------------------


class _Restores(Judge):
    """Comes back with another memory than it had."""

    def remembered(self, memory: Map[str, Memory]) -> Map[str, Memory]:
        raise NotImplementedError

    def hear(self, instance: Instance, reply: Reply, *, resent: bool) -> Instance:
        if isinstance(reply, Opened):
            memory = self.remembered(instance.memory)
            instance = instance._replace(memory=memory)
        return super().hear(instance, reply, resent=resent)


@_variant("R10", "an instance comes back with nothing")
class _ComesBackWithNothing(_Restores):
    def remembered(self, memory: Map[str, Memory]) -> Map[str, Memory]:
        return Map()


@_variant("R10", "only positive slices are restored")
class _OnlyPositive(_Restores):
    def remembered(self, memory: Map[str, Memory]) -> Map[str, Memory]:
        return Map({k: m._replace(count=max(0, m.count)) for k, m in memory.items()})


@_variant("R10", "slices of 0 are not restored, nor their epochs")
class _OnlyNonZero(_Restores):
    def remembered(self, memory: Map[str, Memory]) -> Map[str, Memory]:
        return Map({key: mine for key, mine in memory.items() if mine.count})


@_variant("R10", "only the first 100 slices are restored")
class _First100(Judge):
    def hear(self, instance: Instance, reply: Reply, *, resent: bool) -> Instance:
        instance = super().hear(instance, reply, resent=resent)
        return instance._replace(restoring=instance.restoring[:100])


@_variant("R10", "only the slices that the call names are restored")
class _OnlyTheCalls(Judge):
    def hear(self, instance: Instance, reply: Reply, *, resent: bool) -> Instance:
        instance = super().hear(instance, reply, resent=resent)
        return instance._replace(restoring=())


@_variant("R10", "what the replies to a restoring request say is not remembered")
class _RestoredNotRemembered(Judge):
    def hear(self, instance: Instance, reply: Reply, *, resent: bool) -> Instance:
        memory, restored = instance.memory, bool(instance.restoring)
        instance = super().hear(instance, reply, resent=resent)
        return instance._replace(memory=memory) if restored else instance


@_variant("R10", "the epoch that was remembered is not restored")
class _EpochNotRestored(_Restores):
    def remembered(self, memory: Map[str, Memory]) -> Map[str, Memory]:
        return Map({key: mine._replace(epoch=0) for key, mine in memory.items()})


@_variant("R10", "acked is always 0, so that lost writes are not found")
class _AckedIsZero(Judge):
    def speak(self, instance: Instance) -> Instance:
        return super().speak(instance._replace(acked=0))


@_variant("R10", "an open names no last session, so that it finds no lost writes")
class _LastIsZero(Judge):
    def speak(self, instance: Instance) -> Instance:
        return super().speak(instance._replace(last=0))


@_variant("R10", "lost writes close only the session of the instance that found them")
class _ClosesOnlyItsOwn(Judge):
    def serve(self, message: Message) -> Reply:
        before = self.server.sessions
        reply = super().serve(message)
        if before and not self.server.sessions and isinstance(reply, NoSession):
            self.server = self.server._replace(sessions=before.without(message.instance))
        return reply


class _Forgets(Judge):
    """Does not remember what became of some calls."""

    def forgets(self, instance: Instance, reply: Done) -> bool:
        raise NotImplementedError

    def hear(self, instance: Instance, reply: Reply, *, resent: bool) -> Instance:
        before = instance
        instance = super().hear(instance, reply, resent=resent)
        if isinstance(reply, Done) and not before.restoring and self.forgets(before, reply):
            kept = {key: before.memory[key] for key in before.memory}
            instance = instance._replace(memory=Map({**instance.memory, **kept}))
        return instance


@_variant("R2 R10", "a call that was refused is not remembered: what it saw is forgotten")
class _ForgetsRefused(_Forgets):
    def forgets(self, instance: Instance, reply: Done) -> bool:
        assert isinstance(instance.sent, Request)
        parts = zip(instance.sent.parts, reply.views, strict=True)
        return any(None in model.run_steps(view, part.steps)[1] for part, view in parts)


@_variant("R10", "what a read saw is not remembered")
class _ForgetsReads(_Forgets):
    def forgets(self, instance: Instance, reply: Done) -> bool:
        assert isinstance(instance.sent, Request)
        return not any(model.writes(part.steps) for part in instance.sent.parts)


@_variant("R10", "a delete is not remembered")
class _ForgetsDelete(_Forgets):
    def forgets(self, instance: Instance, reply: Done) -> bool:
        assert isinstance(instance.sent, Request)
        return any(step.op == "delete" for part in instance.sent.parts for step in part.steps)


@_variant("R10 R12", "a session that was only partly restored is kept")
class _KeepsPartialSession(Judge):
    def give_up(self, instance: Instance, *, arrived: bool) -> Instance:
        session, partial = instance.session, bool(instance.restoring)
        instance = super().give_up(instance, arrived=arrived)
        return instance._replace(session=session) if partial else instance


@_variant("R10 R12", "a counter's first write is remembered only when its reply has come")
class _RemembersWithReply(Judge):
    def speak(self, instance: Instance) -> Instance:
        memory = instance.memory
        return super().speak(instance)._replace(memory=memory)


@_variant("R10", "a slice is restored into whichever epoch there is")
class _IntoAnyEpoch(Judge):
    def serve(self, message: Message) -> Reply:
        if isinstance(message, Request) and message.restores:
            parts = []
            for part in message.parts:
                epoch = max(self.server.counter(part.key).epoch, part.memory.epoch)
                parts.append(part._replace(memory=part.memory._replace(epoch=epoch)))
            message = message._replace(parts=tuple(parts))
        return super().serve(message)


@_variant("R10", "a counter that is older than the memory of it is no proof of lost writes")
class _RestoresAsItGoes(Judge):
    def serve(self, message: Message) -> Reply:
        if isinstance(message, Request):
            message = message._replace(restores=True)
        return super().serve(message)


@_variant("R10", "a counter that is listed and not there is no proof of lost writes")
class _ListProvesNothing(Judge):
    def serve(self, message: Message) -> Reply:
        parts = message.parts if isinstance(message, Request) else ()
        lost = [part.key for part in parts if part.key not in self.server.counters]
        lost = [key for key in lost if self.server.keys.get(key) == HERE]
        self.server = self.server._replace(keys=self.server.keys.without(*lost))
        return super().serve(message)


@_variant("R10 R18", "a heartbeat looks at no counter")
class _HeartbeatIsBlind(Judge):
    def make(self, instance: Instance, line: Line, faults: Faults) -> Made:
        if line["op"] != "heartbeat":
            return super().make(instance, line, faults)
        return model.make_steps(instance, (), lambda begun: self.converse(begun, faults))


@_variant("R18", "a heartbeat forgets at once every counter in which the instance counts 0")
class _ForgetsZeros(Judge):
    def make(self, instance: Instance, line: Line, faults: Faults) -> Made:
        made = super().make(instance, line, faults)
        if line["op"] == "heartbeat":
            counted = Map({key: m for key, m in made.instance.memory.items() if m.count})
            made = made._replace(instance=made.instance._replace(memory=counted))
        return made


@_variant("R6 R18", "the epoch of a counter that has vanished is forgotten")
class _NoTombstones(Judge):
    def serve(self, message: Message) -> Reply:
        reply = super().serve(message)
        listed = Map({key: epoch for key, epoch in self.server.keys.items() if epoch == HERE})
        self.server = self.server._replace(keys=listed)
        return reply


@_variant("R17", "a slice of an earlier session of its owner counts")
class _SlicesOutliveSessions(Judge):
    def serve(self, message: Message) -> Reply:
        reply = super().serve(message)
        if isinstance(message, Open) and isinstance(reply, Opened):
            counters = {}
            for key, counter in self.server.counters.items():
                mine = counter.slices.get(message.instance)
                if mine:
                    kept = mine._replace(session=reply.session, seq=message.seq)
                    slices = counter.slices.put(message.instance, kept)
                    counter = counter._replace(slices=slices)
                counters[key] = counter
            self.server = self.server._replace(counters=Map(counters))
        return reply


# --- Leaving -------------------------------------------------------------------------------------


@_variant("R16", "leaving keeps the session")
class _LeaveKeepsSession(Judge):
    def serve(self, message: Message) -> Reply:
        if isinstance(message, Leave):
            return model.Left()
        return super().serve(message)


@_variant("R16", "leaving keeps the slices")
class _LeaveKeepsSlices(Judge):
    def call(self, line: Line) -> Line:
        return {} if line["op"] == "leave" else super().call(line)


@_variant("R16", "an instance that has left still remembers its counts")
class _LeaveRemembers(Judge):
    def make(self, instance: Instance, line: Line, faults: Faults) -> Made:
        made = super().make(instance, line, faults)
        if line["op"] == "leave":
            made = made._replace(instance=made.instance._replace(memory=instance.memory))
        return made


@_variant("R16", "without a session, leaving does not forget the counts")
class _LeaveWithoutSession(Judge):
    def make(self, instance: Instance, line: Line, faults: Faults) -> Made:
        if line["op"] == "leave" and not instance.session:
            return Made(instance)
        return super().make(instance, line, faults)


@_variant("R16", "leaving ends where a request for the slices gets no reply")
class _LeaveStops(Judge):
    def give_up(self, instance: Instance, *, arrived: bool) -> Instance:
        call = instance.call
        if call is not None and call.leaving and isinstance(instance.sent, Request):
            call = call._replace(todo=(), done=True)
            return instance._replace(session=0, sent=None, call=call)
        return super().give_up(instance, arrived=arrived)


# --- Exactly once --------------------------------------------------------------------------------


@_variant("R11", "a retry is executed again")
class _RetriesRun(Judge):
    def exchange(self, instance: Instance, faults: Faults) -> tuple[Instance, bool]:
        sent = instance.sent
        if isinstance(sent, Request) and faults.loses_reply and sent.parts:
            self.serve(sent)
            faults.lost.discard(faults.number)
            seq = instance.seq + 1
            instance = instance._replace(seq=seq, sent=sent._replace(seq=seq))
        return super().exchange(instance, faults)


@_variant("R11", "a late copy is executed")
class _LateCopiesRun(Judge):
    def deliver_copies(self, line: Line) -> None:
        for at, copy in enumerate(self.copies):
            known = self.server.sessions.get(copy.instance)
            if isinstance(copy, Request) and known:
                later = copy._replace(session=known.number, seq=known.seq + 1, acked=0)
                self.copies[at] = later
        super().deliver_copies(line)


@_variant("R11", "seq is not raised after late")
class _SeqNotRaised(Judge):
    def join(self, name: str) -> Instance:
        self.instances[name] = Instance(name, self.threshold_ms)
        return self.instances[name]

    def hear(self, instance: Instance, reply: Reply, *, resent: bool) -> Instance:
        seq = instance.seq
        instance = super().hear(instance, reply, resent=resent)
        return instance._replace(seq=seq) if isinstance(reply, Late) else instance


@_variant("R12", "a set whose session was lost is sent again and not called unknown")
class _SetAgain(Judge):
    def hear(self, instance: Instance, reply: Reply, *, resent: bool) -> Instance:
        return super().hear(instance, reply, resent=False)


@_variant("R12", "a step on the caller's own slice is unknown, too, when its session was lost")
class _LocalUnknown(Judge):
    def hear(self, instance: Instance, reply: Reply, *, resent: bool) -> Instance:
        carried = isinstance(instance.sent, Request) and not instance.restoring
        if resent and carried and not isinstance(reply, Done):
            return super().give_up(instance, arrived=True)
        return super().hear(instance, reply, resent=resent)


@_variant("R12", "a call that got no reply is not executed, though it may have arrived")
class _GivenUpIsNotExecuted(Judge):
    def give_up(self, instance: Instance, *, arrived: bool) -> Instance:
        return super().give_up(instance, arrived=False)


@_variant("R12", "a call is unknown even if only its opening or restoring got no reply")
class _OpenIsUnknown(Judge):
    def call(self, line: Line) -> Line:
        answer = super().call(line)
        return {"error": "unknown"} if answer.get("error") == "not_executed" else answer


@_variant("R12", "a call that is given up after its session was lost forgets that it was sent")
class _ForgetsIndeterminate(Judge):
    def speak(self, instance: Instance) -> Instance:
        if instance.call is not None:
            instance = instance._replace(call=instance.call._replace(indeterminate=False))
        return super().speak(instance)


@_variant("R11 R12", "after giving up the next call sends the same number again")
class _NumberAgain(Judge):
    def give_up(self, instance: Instance, *, arrived: bool) -> Instance:
        carried = isinstance(instance.sent, Request) and not instance.restoring
        instance = super().give_up(instance, arrived=arrived)
        return instance._replace(seq=instance.seq - 1) if carried else instance


@_variant("R12", "an error of Redis is called not executed, though the first copy may have been")
class _RefusedRetry(Judge):
    def exchange(self, instance: Instance, faults: Faults) -> tuple[Instance, bool]:
        if faults.refuses and faults.loses_reply and instance.sent is not None:
            self.serve(instance.sent)
            return self.give_up(instance, arrived=False), True
        return super().exchange(instance, faults)


# --- Batches, and callers at the same time -------------------------------------------------------


@_variant("R9", "a batch answers in the order of its keys")
class _BatchByKey(Judge):
    def call(self, line: Line) -> Line:
        answer = super().call(line)
        if line["op"] != BATCH or "answers" not in answer:
            return answer
        keys = list(dict.fromkeys(step["key"] for step in line["steps"]))
        both = list(zip(line["steps"], answer["answers"], strict=True))
        return {"answers": [a for key in keys for step, a in both if step["key"] == key]}


@_variant("R9", "a batch runs its steps in the reverse order")
class _BatchBackwards(Judge):
    def call(self, line: Line) -> Line:
        if line["op"] != BATCH:
            return super().call(line)
        answer = super().call({**line, "steps": line["steps"][::-1]})
        return {"answers": answer["answers"][::-1]} if "answers" in answer else answer


@_variant("R9", "two callers at the same time get each other's results")
class _CallersSwapped(Judge):
    def call(self, line: Line) -> Line:
        answer = super().call(line)
        if line["op"] != TOGETHER:
            return answer
        first, second, *rest = answer["answers"]
        return {"answers": [second, first, *rest]}


@_variant("R9", "of callers at the same time, the last one's step is lost")
class _CallerLost(Judge):
    def call(self, line: Line) -> Line:
        if line["op"] != TOGETHER:
            return super().call(line)
        *calls, last = line["calls"]
        answers = super().call({**line, "calls": calls})["answers"]
        look = super().call({**line, **last, "op": "get"})
        return {"answers": [*answers, look]}
