"""The page that `python -m benchmarks.capacity` writes."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from benchmarks.capacity_model import Constants, Load, Need, predict

HEAD = """\
# Capacity: what a redis-server needs for so many instances, keys and calls

`python -m benchmarks.capacity --to benchmarks/CAPACITY.md` writes this page. It measures the
constants on the machine at hand, and checks the model against a simulation of 100,000 instances
on the real script.

A Redis runs one script at a time, so what counts is the processor time of scripts on one core.
All quantities are of one prefix, or of one partition of a prefix that is divided (R21); those of
the partitions that a shard serves add up.

## The model

| quantity | what it is |
|---|---|
| I | instances that live |
| K, S | counters, and slices in all of them together |
| c | requests each second that carry a call |
| D | the threshold, in seconds; each instance sends a heartbeat every D / 3 |
| l | at how many counters a heartbeat looks: what the instance remembers, at most 10 |
| j, d, x | instances that join; that leave or die; and of these, that die; each second |

The busy part of one core is the sum of five causes:

* **calls**: c × *call*. A request with more steps takes *step* for each on the same counter, or
  *key* for each further counter. Callers of one process that wait share requests, so c is less
  than the calls.
* **heartbeats**: (3 I / D) × (*beat* + l × *look*).
* **joins**: j × *open*. An open looks at 64 sessions, however many there are (R14).
* **departures**: d × K' × *departure*. After a session was closed, the first request on each
  counter looks whether that instance has a slice in it (R8). K' = K (1 − exp(−r / (d K)))
  counters are touched between two departures, when there are r = c + 3 I l / D requests on
  counters each second.
* **searches**: (3 K / (2 D) + x S / I) × (S / K) × *slice*. When the earliest lease has ended
  that was found in a counter, all its slices are searched (R8). In a counter whose instances live,
  that is every 2 D / 3; in one where an instance has died, once for each.

Memory is I × *session* + (S − K) × *slice* + K × *counter* bytes.
"""

QUESTIONS = (
    ("10,000 instances, each on 10 keys", Load(10_000, 10_000, 100_000, 5_000, 30.0, 10, 10, 9, 1)),
    (
        "100,000 instances, each on 10 keys",
        Load(100_000, 10**6, 10**6, 20_000, 30.0, 10, 100, 90, 10),
    ),
    (
        "1 million instances, 10 million keys",
        Load(1_000_000, 10**7, 10**7, 100_000, 30.0, 10, 1_000, 900, 100),
    ),
    (
        "the same, D = 300 s",
        Load(1_000_000, 10**7, 10**7, 100_000, 300.0, 10, 1_000, 900, 100),
    ),
)


def page(constants: Constants, simulated: Load, cores: float, memory: float, is_right: bool) -> str:
    """The whole page.

    Args:
        constants: what was measured.
        simulated: the load of the simulation.
        cores: the busy part of a core that it took.
        memory: the bytes that it took.
        is_right: whether all totals were right at its end.
    """
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    lines = [HEAD, f"## The constants, measured on {machine}", "", *_constants(constants)]
    lines += ["", "## The check", "", *_check(constants, simulated, cores, memory, is_right)]
    lines += ["", "## What it says", "", *_answers(constants)]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]


def _constants(c: Constants) -> list[str]:
    return _table(
        ("constant", "µs of one core", "bytes"),
        (
            ("*call*: a request with one `inc`", f"{c.call:.1f}", ""),
            ("*step*: a further step on the same counter", f"{c.step:.2f}", ""),
            ("*key*: a further counter", f"{c.key:.1f}", ""),
            ("*beat*: a heartbeat that looks at nothing", f"{c.beat:.1f}", ""),
            ("*look*: each counter that it looks at", f"{c.look:.1f}", ""),
            ("*open*: a session is opened", f"{c.open:.0f}", ""),
            ("*departure*: a closing is noticed", f"{c.departure:.1f}", ""),
            ("*session*", "", _b(c.session_bytes)),
            ("*slice*: in a search; in memory", f"{c.slice_in_search:.2f}", _b(c.slice_bytes)),
            ("*counter* with one slice", "", _b(c.counter_bytes)),
        ),
    )


def _b(number: float) -> str:
    return f"{number:.0f}"


def _check(c: Constants, load: Load, cores: float, memory: float, is_right: bool) -> list[str]:
    need = predict(c, load)
    return [
        f"{load.instances:,} instances with a slice each in {load.counters:,} counters, "
        f"{load.calls_s:,.0f} calls a second, a heartbeat of each instance every "
        f"{load.threshold_s / 3:.0f} s, {load.joins_s:.0f} join and {load.leaves_s:.0f} leave a "
        "second, for 10 s of a simulated clock. Every total was "
        + ("right at the end." if is_right else "**not right** at the end."),
        "",
        *_table(
            ("", "predicted", "measured", "measured / predicted"),
            (
                ("busy part of a core", *_pair(need.cores, cores, "{:.2f}")),
                ("memory, MB", *_pair(need.memory / 1e6, memory / 1e6, "{:.0f}")),
            ),
        ),
        "",
        f"Of the predicted time, calls take {_share(need.calls, need)}, heartbeats "
        f"{_share(need.beats, need)}, joins {_share(need.joins, need)}, departures "
        f"{_share(need.departures, need)}, searches {_share(need.searches, need)}.",
    ]


def _pair(predicted: float, measured: float, form: str) -> tuple[str, str, str]:
    return form.format(predicted), form.format(measured), f"{measured / predicted:.2f}"


def _share(part: float, need: Need) -> str:
    return f"{part / need.cores:.0%}"


def _answers(c: Constants) -> list[str]:
    rows = []
    for name, load in QUESTIONS:
        need = predict(c, load)
        parts = {
            "calls": need.calls,
            "heartbeats": need.beats,
            "joins": need.joins,
            "departures": need.departures,
            "searches": need.searches,
        }
        first = max(parts, key=lambda cause: parts[cause])
        rows.append(
            (
                name,
                *(f"{each:.2f}" for each in parts.values()),
                f"{need.cores:.1f}",
                f"{need.memory / 1e9:.1f}",
                first,
            )
        )
    causes = ("calls", "heartbeats", "joins", "departures", "searches")
    return [
        *_table(("load of one prefix", *causes, "cores", "GB", "most"), rows),
        "",
        "Calls a second are 5,000, 20,000, 100,000 and 100,000; as many instances come as go: "
        "10, 100, 1,000 and 1,000 a second, a tenth of them without leaving.",
        "",
        "**The first bottleneck** for 1 million instances and 10 million keys is the heartbeats: "
        "100,000 a second, each of which looks at ten counters. A threshold of 300 s makes them a "
        "tenth; what is left is calls and departures, and fits on a few shards. Partitions divide "
        "calls, counters and slices. But an instance that uses keys of every partition has a "
        "session, heartbeats and an open in each of them. So let an instance use few partitions, "
        "or divide the instances among several prefixes.",
    ]
