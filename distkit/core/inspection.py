"""What Redis holds of a prefix, as those who look after it want to see it: fields in, facts out.

No I/O, and nothing that a request does: the functions parse what was read and judge it as the next
request would. spec/PROTOCOL.md ("Keys") defines the fields; R1, R2, ... are the rules of
spec/RULES.md.

The rules this file keeps:
  * Live and dead are judged by the server's time at the reading (R3, R19), with each instance's own
    threshold (R5).
  * A total is what the next call would be told: the sum of the slices that count (R7, R8, R17).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from distkit.core.instance import DIVIDED, LAYOUT
from distkit.core.operations import SPAN
from distkit.errors import DistkitError, InvalidKeyError, LayoutError, PartitionsError

HEAD: Final = ":"
"""The field of a hash that is its head; no instance id contains a colon."""

HERE: Final = 0
"""In the list of counters: the counter exists. Any other number is the epoch of a tombstone."""


class Unreadable(DistkitError, ValueError):
    """A field that this layout cannot contain."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The server's time, and what else the head of `instances` says.

    Attributes:
        wall_ms: the server's wall clock at the reading.
        now_ms: T, as the next request would find it (R3); the wall clock if there is no head yet.
        last_wall_ms: the wall clock at the last request; None if there was none.
        due_ms: the T by which an instance has promised to be heard (R19); None if none has.
        outage_ms: how much silence an outage explains: nobody was heard who had promised to be, so
            T stands at the promised moment (R19).
        opened: the number of the newest session.
        closed: the stamp of the last closing of sessions.
    """

    wall_ms: int
    now_ms: int
    last_wall_ms: int | None = None
    due_ms: int | None = None
    outage_ms: int = 0
    opened: int = 0
    closed: int = 0


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """An instance that has a session.

    Attributes:
        id, label: what it is called.
        session: the number of its session (R17).
        threshold_ms: for how long it may be silent (R5).
        last_heard_ms: T at its last heartbeat (R4).
        silent_ms: for how long it has been silent.
        seq: the number of its last request.
        is_live: False if it is presumed dead: it has been silent for its threshold.
    """

    id: str
    label: str
    session: int
    threshold_ms: int
    last_heard_ms: int
    silent_ms: int
    seq: int
    is_live: bool


@dataclass(frozen=True, slots=True)
class SliceInfo:
    """One instance's slice of a counter.

    Attributes:
        instance: whose it is.
        label: the instance's label; empty if it has no session.
        count: what it counts, if it counts.
        epoch, session: in which it was made.
        seq: the request that made it.
        is_current: whether it is of the counter's epoch. Otherwise it is stale (R6).
        is_of_this_session: whether it belongs to the session that its instance has now (R17).
        is_live: whether the instance has a session, and is not presumed dead.
        silent_ms: for how long the instance has been silent; None if it has no session.
    """

    instance: str
    label: str
    count: int
    epoch: int
    session: int
    seq: int
    is_current: bool
    is_of_this_session: bool
    is_live: bool
    silent_ms: int | None

    @property
    def counts(self) -> bool:
        """Whether the total contains it."""
        return self.is_current and self.is_of_this_session and self.is_live

    @property
    def goes(self) -> bool:
        """Whether the next call on the counter removes it (R8)."""
        return not (self.is_live and self.is_of_this_session)


@dataclass(frozen=True, slots=True)
class CounterInfo:
    """A counter.

    Attributes:
        key: its name.
        epoch: its epoch (R6).
        stored_total: the total as Redis keeps it: with the slices that the next call removes.
        slice_count: how many slices it has.
        needs_search: whether slices may be among them that no longer count.
        slices: the slices by instance id; None if they were not read.
    """

    key: str
    epoch: int
    stored_total: int
    slice_count: int
    needs_search: bool
    slices: Mapping[str, SliceInfo] | None = None

    @property
    def total(self) -> int:
        """What the next call would be told (R13); `stored_total` if the slices were not read."""
        if self.slices is None:
            return self.stored_total
        return sum(each.count for each in self.slices.values() if each.counts)


@dataclass(frozen=True, slots=True)
class PrefixInfo:
    """A prefix, or the page of it that was read.

    Attributes:
        prefix: its name.
        clock: the server's time.
        instances: those that have a session, by id.
        listed: how many counters and tombstones the prefix has altogether.
        counters: by key.
        tombstones: the epochs of vanished counters, by key (R18).
        missing: keys of counters that are listed and do not exist: lost writes that nobody has
            noticed (R10).
        unreadable: what is wrong with a Redis key that should hold a counter, by the counter's key.
    """

    prefix: str
    clock: Clock
    instances: Mapping[str, InstanceInfo]
    listed: int
    counters: Mapping[str, CounterInfo] = field(default_factory=dict)
    tombstones: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)


# --- Fields --------------------------------------------------------------------------------------


def _numbers(text: str, names: int) -> list[int]:
    """So many decimal numbers with one space between them."""
    words = text.split(" ")
    if len(words) == names and all(map(_is_number, words)):
        return [int(word) for word in words]
    raise Unreadable(f"{names} numbers were expected, not {text[:80]!r}")


def _is_number(word: str) -> bool:
    return word.removeprefix("-").isdecimal()


def clock_of(prefix: str, head: str | None, wall_ms: int) -> Clock:
    """R3, R19: the time that a request would find now.

    Args:
        prefix: for the error.
        head: the head of `instances`; None if there is none.
        wall_ms: the server's wall clock.

    Raises:
        LayoutError: the prefix has another layout.
        InvalidKeyError: this is no head.
    """
    if head is None:
        return Clock(wall_ms, wall_ms)
    first = head.partition(" ")[0]
    words = [int(word) for word in head.split(" ") if _is_number(word)]
    if _is_number(first) and len(words) == 4 == head.count(" ") + 1:
        raise LayoutError(0, LAYOUT, prefix)  # heads of that time had no number of the layout
    if _is_number(first) and words[0] != LAYOUT:
        if words[0] == DIVIDED and len(words) == 2:
            raise PartitionsError(prefix, words[1], 1)
        raise LayoutError(words[0], LAYOUT, prefix)
    if len(words) != 6 or head.count(" ") != 5:
        raise InvalidKeyError(
            f"the Redis key 'distkit:{{{prefix}}}:instances' holds something else: {head[:80]!r}"
        )
    _, then, last_wall, opened, closed, due = words
    now, stood = then + max(0, wall_ms - last_wall), 0
    if due and now > due:
        until = max(then, due)
        now, stood = until, now - until
    return Clock(wall_ms, now, last_wall, due or None, stood, opened, closed)


def instance_of(name: str, entry: str, now_ms: int) -> InstanceInfo:
    """Parse an instance's entry. Raises Unreadable."""
    words = entry.split(" ", 5)
    numbers = _numbers(" ".join(words[:5]), 5)
    expires, threshold, session, _, seq = numbers
    heard = expires - threshold
    return InstanceInfo(
        id=name,
        label=words[5] if len(words) > 5 else "",
        session=session,
        threshold_ms=threshold,
        last_heard_ms=heard,
        silent_ms=now_ms - heard,
        seq=seq,
        is_live=now_ms < expires,
    )


def slice_of(name: str, text: str, epoch: int, owner: InstanceInfo | None) -> SliceInfo:
    """Parse a slice of a counter that has this epoch. Raises Unreadable.

    Args:
        name: the instance's id.
        text: the field.
        epoch: the counter's epoch.
        owner: the instance; None if it has no session.
    """
    count, made_in, seq, session, *_ = _numbers(text, 8)
    return SliceInfo(
        instance=name,
        label=owner.label if owner else "",
        count=count,
        epoch=made_in,
        session=session,
        seq=seq,
        is_current=made_in == epoch,
        is_of_this_session=owner is not None and owner.session == session,
        is_live=owner is not None and owner.is_live,
        silent_ms=owner.silent_ms if owner else None,
    )


def session_in(slice_text: str) -> int:
    """The session to which a slice belongs. Raises Unreadable."""
    return _numbers(slice_text, 8)[3]


def counter_of(
    key: str,
    head: str,
    slice_count: int,
    slices: Mapping[str, str] | None,
    instances: Mapping[str, InstanceInfo],
    clock: Clock,
) -> CounterInfo:
    """Parse a counter. Raises Unreadable.

    Args:
        key: its name.
        head: the head of its hash.
        slice_count: how many slices it has.
        slices: the fields of its slices; None if they were not read.
        instances: at least the owners of these slices that have a session.
        clock: the server's time.
    """
    if head.partition(" ")[0] != str(LAYOUT) or head.count(" ") != 5:
        raise Unreadable(f"it is not a counter of layout {LAYOUT}: {head[:80]!r}")
    _, epoch, high, low, expires, closed = _numbers(head, 6)
    return CounterInfo(
        key=key,
        epoch=epoch,
        stored_total=high * SPAN + low,
        slice_count=slice_count,
        needs_search=clock.now_ms >= expires or closed != clock.closed,
        slices=None
        if slices is None
        else {
            name: slice_of(name, text, epoch, instances.get(name)) for name, text in slices.items()
        },
    )


# --- Pages ---------------------------------------------------------------------------------------


def merged(found: Sequence[PrefixInfo]) -> PrefixInfo:
    """All pages as one."""
    last = found[-1]
    return PrefixInfo(
        last.prefix,
        last.clock,
        last.instances,
        last.listed,
        {key: counter for page in found for key, counter in page.counters.items()},
        {key: epoch for page in found for key, epoch in page.tombstones.items()},
        tuple(dict.fromkeys(key for page in found for key in page.missing)),
        {key: why for page in found for key, why in page.unreadable.items()},
    )


def combined(prefix: str, partitions: Sequence[PrefixInfo]) -> PrefixInfo:
    """All partitions of a prefix as one (R21). Of an instance that has sessions in several of them
    there is the one in which it was heard last."""
    instances: dict[str, InstanceInfo] = {}
    for each in partitions:
        for name, instance in each.instances.items():
            known = instances.get(name)
            if known is None or instance.silent_ms < known.silent_ms:
                instances[name] = instance
    together = merged(partitions)
    listed = sum(each.listed for each in partitions)
    return replace(together, prefix=prefix, instances=instances, listed=listed)


def first_pages(found: Iterable[PrefixInfo], most: int | None) -> Iterator[PrefixInfo]:
    """Pages, until they have so many counters; all if None."""
    have = 0
    for page in found:
        yield page
        have += len(page.counters)
        if most is not None and have >= most:
            return
