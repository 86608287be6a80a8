"""`make bench`: measure what a call costs, against raw redis-py on the same server in the same run.

The rounds are interleaved: each measures the raw command and then ours, so that whatever else the
machine does affects both. The table shows medians, with the lowest and the highest round in
brackets. Machines are shared and noisy, so trust the ratios rather than the microseconds. Where it
says so, the figure is processor time of this process for each call, which sharing affects less.

The benchmark starts a redis-server of its own on a unix socket, 7.0 if there is one. It writes
benchmarks/RESULTS.md and a plot, throughput.svg. With BENCH_QUICK=1 the rounds are short, and
nothing is written.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import redis
import redis.asyncio
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import distkit.asyncio
from benchmarks import instead, scene
from distkit.core.batching import MOST_KEYS, MOST_STEPS
from distkit.testing import driver_of
from tests.harness.servers import Binary, RedisServer, find_binaries

HERE = Path(__file__).parent
QUICK = bool(os.environ.get("BENCH_QUICK"))
ROUNDS = 3 if QUICK else 9
SCALE = 0.1 if QUICK else 1.0
CALLERS = (1, 8, 64, 512)
PREFERRED = "redis-7.0"


class Row(NamedTuple):
    """One line of the table. `raw` and `ours` have one number for each round."""

    figure: str
    raw: Sequence[float]
    ours: Sequence[float]
    unit: str
    target: str = ""

    @property
    def ratios(self) -> list[float]:
        return [ours / raw for ours, raw in zip(self.ours, self.raw, strict=True)]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, with the lowest and the highest in brackets."""
    if not values:
        return ""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}..{high:,.{digits}f})"


def some(number: int) -> int:
    """This many, or a tenth of it in a quick run."""
    return max(1, int(number * SCALE))


def plural(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _per_ms(program: instead.Rust, tasks: int, calls: int) -> float:
    """How many calls a program makes in a millisecond."""
    return 1_000 / program.us_a_call(tasks, some(calls))


def us_a_call(call: Callable[[], object], calls: int) -> float:
    """The mean time of a call, in µs."""
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls * 1e6


def interleaved(
    raw: Callable[[], float], ours: Callable[[], float]
) -> tuple[list[float], list[float]]:
    raws, others = [], []
    for _ in range(ROUNDS):
        raws.append(raw())
        others.append(ours())
    return raws, others


class Bench:
    """The server, its clients, and a method for each group of rows."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.client = server.client()
        self.rows: list[Row] = []
        self.throughput: dict[str, list[float]] = {}

    # --- One caller ------------------------------------------------------------------------------

    def one_caller(self) -> None:
        counter, n = scene.counter_on(self.client), some(2_000)
        raw = lambda: us_a_call(lambda: self.client.incrby("raw", 1), n)  # noqa: E731
        sync = interleaved(raw, lambda: us_a_call(lambda: counter.inc("k"), n))
        self.rows.append(Row("sequential inc / INCRBY", *sync, "µs", "≤ 1.5"))
        above = [ours - raw for raw, ours in zip(*sync, strict=True)]
        self.rows.append(Row("sequential inc: above INCRBY", [], above, "µs", "≤ 12"))
        raw = lambda: us_a_call(lambda: self.client.get("raw"), n)  # noqa: E731
        got = interleaved(raw, lambda: us_a_call(lambda: counter.get("k"), n))
        self.rows.append(Row("sequential get / GET", *got, "µs"))

    def competitors(self) -> None:
        """What a user might pick instead; one caller, and calls one after the other."""
        counter, n, client = scene.counter_on(self.client), some(1_000), self.client
        ours = lambda: us_a_call(lambda: counter.inc("k"), n)  # noqa: E731
        for name, call in instead.candidates(client).items():
            theirs = lambda call=call: us_a_call(call, n)  # noqa: E731
            self.rows.append(Row(f"sequential inc / {name}", *interleaved(theirs, ours), "µs"))

    def crate(self) -> None:
        """The published Rust crate, where cargo is found."""
        crate = instead.Rust.start(self.server, instead.CRATE)
        if crate is None:
            return
        counter = scene.counter_on(self.client)
        one = interleaved(
            lambda: crate.us_a_call(1, some(2_000)),
            lambda: us_a_call(lambda: counter.inc("k"), some(2_000)),
        )
        self.rows.append(Row("sequential inc / the Rust crate's", *one, "µs"))
        asyncio.run(self._crate_callers(crate))
        self._rust_port(crate)
        crate.stop()

    def _rust_port(self, crate: instead.Rust) -> None:
        """This counter in Rust, beside the crate: both in Rust, so what differs is the counter."""
        port = instead.Rust.start(self.server, instead.RUST_PORT)
        assert port is not None
        for tasks, calls in ((1, 4_000), (64, 400), (512, 100)):
            theirs, ours = interleaved(
                partial(_per_ms, crate, tasks, calls), partial(_per_ms, port, tasks, calls)
            )
            tasks_text = "1 task" if tasks == 1 else f"{tasks} tasks"
            name = f"in Rust, {tasks_text}: the port of this counter / the Rust crate"
            self.rows.append(Row(name, theirs, ours, "1000/s"))
        port.stop()

    async def _crate_callers(self, crate: instead.Rust) -> None:
        client = redis.asyncio.Redis(unix_socket_path=self.server.socket)
        counter = distkit.asyncio.StrictInstanceAwareCounter(client, "crate")
        theirs, ours = [], []
        for _ in range(ROUNDS):
            theirs.append(1_000 / crate.us_a_call(64, some(200)))
            measured = await throughput(counter.inc, 64, 1, some(30_000))
            ours.append(measured.calls_a_second / 1000)
        self.rows.append(Row("64 callers / the Rust crate's 64 tasks", theirs, ours, "1000/s"))
        await client.aclose()

    # --- Many callers ----------------------------------------------------------------------------

    def asyncio_callers(self) -> None:
        asyncio.run(self._asyncio_callers())

    async def _asyncio_callers(self) -> None:
        path = self.server.socket
        pool = redis.asyncio.BlockingConnectionPool.from_url(f"unix://{path}", max_connections=100)
        shared, blocking = (
            redis.asyncio.Redis(unix_socket_path=path),
            redis.asyncio.Redis(connection_pool=pool),
        )
        counter = distkit.asyncio.StrictInstanceAwareCounter(shared, "callers")
        targets = {1: "≥ 0.67", 8: "", 64: "≥ 12", 512: "≥ 20"}
        for keys, mixed in ((1, False), (1, True), (64, False)):
            for callers in CALLERS if not mixed else CALLERS[-1:]:
                client = shared if callers < 100 else blocking
                raws, ours = [], []
                for _ in range(ROUNDS):
                    raws.append(await throughput(client.incrby, callers, keys, some(4_000), mixed))
                    ours.append(await throughput(counter.inc, callers, keys, some(30_000), mixed))
                label = f"{callers} asyncio callers, {keys} {'key' if keys == 1 else 'keys'}"
                label += ", different counts" if mixed else ""
                self._add_throughput(label, raws, ours, targets[callers] if keys == 1 else "")
                if not mixed:
                    self._note_for_plot(keys, raws, ours)
        await shared.aclose()
        await blocking.aclose()

    def _add_throughput(
        self, label: str, raws: list[Measured], ours: list[Measured], target: str
    ) -> None:
        self.rows.append(
            Row(
                label,
                [measured.calls_a_second / 1000 for measured in raws],
                [measured.calls_a_second / 1000 for measured in ours],
                "1000/s",
                target,
            )
        )
        cpu = [measured.cpu_us for measured in raws], [measured.cpu_us for measured in ours]
        self.rows.append(Row(f"  its processor time a call: {label}", *cpu, "µs"))

    def _note_for_plot(self, keys: int, raws: list[Measured], ours: list[Measured]) -> None:
        def middle(measured: list[Measured]) -> float:
            return statistics.median(one.calls_a_second for one in measured)

        if keys == 1:
            self.throughput.setdefault("INCRBY", []).append(middle(raws))
        name = "inc, one key" if keys == 1 else "inc, 64 keys"
        self.throughput.setdefault(name, []).append(middle(ours))

    def holding(self) -> None:
        asyncio.run(self._holding())

    async def _holding(self) -> None:
        """`held`, against `inc` on entering and `dec` on leaving."""
        client = redis.asyncio.Redis(unix_socket_path=self.server.socket)
        counter = distkit.asyncio.StrictInstanceAwareCounter(client, "holding")

        async def by_hand(key: str, count: int) -> None:
            await counter.inc(key, count)
            await counter.dec(key, count)

        async def held(key: str, count: int) -> None:
            async with counter.held(f"held {key}", count):
                pass

        raws, ours = [], []
        for _ in range(ROUNDS):
            measured = await throughput(by_hand, 512, 1, some(15_000))
            raws.append(measured.calls_a_second / 1000)
            measured = await throughput(held, 512, 1, some(15_000))
            ours.append(measured.calls_a_second / 1000)
        self.rows.append(Row("512 tasks: held / our inc and dec", raws, ours, "1000/s", "≥ 1"))
        await client.aclose()

    def threads(self) -> None:
        counter = scene.counter_on(self.client)
        raw = lambda: in_threads(lambda: self.client.incrby("raw", 1), some(300))  # noqa: E731
        ours = lambda: in_threads(lambda: counter.inc("k"), some(1_000))  # noqa: E731
        self.rows.append(Row("16 threads", *interleaved(raw, ours), "1000/s", "≥ 3"))

    # --- The server's time -----------------------------------------------------------------------

    def server_us(self, calls: Callable[[], object], times: int, steps: int = 1) -> float:
        """The server's time for a step in µs, from `INFO commandstats`."""
        self.client.config_resetstat()
        for _ in range(times):
            calls()
        stats: Any = self.client.info("commandstats")
        return float(stats["cmdstat_evalsha"]["usec"]) / times / steps

    def server_time(self) -> None:
        counter, n = scene.counter_on(self.client), some(1_000)
        one_key, keys = [("k", 1)] * 64, [(f"k{i}", 1) for i in range(64)]
        counter.inc_all(keys)
        figures: dict[str, tuple[Callable[[], object], int, int, str]] = {
            "alone": (lambda: counter.inc("k"), n, 1, "≤ 13 µs"),
            "64 on one key": (lambda: counter.inc_all(one_key), n // 10, 64, "≤ 1 µs"),
            "64 keys": (lambda: counter.inc_all(keys), n // 10, 64, "≤ 5 µs"),
            "get": (lambda: counter.get("k"), n, 1, ""),
        }
        measured: dict[str, list[float]] = {name: [] for name in figures}
        for _ in range(ROUNDS):
            for name, (calls, times, steps, _) in figures.items():
                measured[name].append(self.server_us(calls, times, steps))
        for name, values in measured.items():
            label = name if name == "get" else f"inc, {name}"
            self.rows.append(Row(f"server time: {label}", [], values, "µs", figures[name][3]))

    def largest_request(self) -> None:
        """The largest request that shared calls may add up to."""
        counter = scene.counter_on(self.client)
        updates = [(f"k{i % MOST_KEYS}", 1) for i in range(MOST_STEPS)]
        counter.inc_all(updates)
        calls = lambda: counter.inc_all(updates)  # noqa: E731
        values = [self.server_us(calls, some(50)) / 1000 for _ in range(ROUNDS)]
        label = f"server time: the largest request, {MOST_STEPS} steps on {MOST_KEYS} keys"
        self.rows.append(Row(label, [], values, "ms", "about 1 ms"))

    def independence(self) -> None:
        """One call among few and among many."""
        for what, make, sizes in (
            ("instances", scene.among_instances, (100, 10_000)),
            ("keys", scene.among_keys, (1_000, some(1_000_000))),
        ):
            for size in sizes:
                alone, among = make(self.client, 0), make(self.client, size)
                timed = interleaved(
                    lambda alone=alone: self.server_us(lambda: alone.inc("k"), some(500)),  # type: ignore[misc]
                    lambda among=among: self.server_us(lambda: among.inc("k"), some(500)),  # type: ignore[misc]
                )
                label = f"server time of inc: {size:,} {what} / 1"
                self.rows.append(Row(label, *timed, "µs", "≤ 1.2"))

    def deaths(self) -> None:
        values = []
        for _ in range(ROUNDS):
            counter = scene.among_instances(self.client, 1_000, silent=True)
            values.append(self.server_us(lambda counter=counter: counter.inc("k"), 1) / 1000)  # type: ignore[misc]
        self.rows.append(
            Row("server time: the inc that removes 1,000 dead slices", [], values, "ms", "≤ 5 ms")
        )

    def memory(self) -> None:
        sizes = []
        for others in (0, 1_000):
            counter = scene.among_instances(self.client, others)
            used: Any = self.client.memory_usage(driver_of(counter).space.counter("k"), samples=0)
            used += self.client.memory_usage(driver_of(counter).space.instances, samples=0)
            sizes.append(used)
        each = (sizes[1] - sizes[0]) / 1_000
        self.rows.append(Row("memory per slice, with its instance's entry", [], [each], "bytes"))

    def return_after_loss(self) -> None:
        counter = scene.counter_on(self.client)
        counter.inc_all((f"k{i}", 1) for i in range(10_000))
        values = []
        for _ in range(ROUNDS):
            self.client.flushall()
            values.append(us_a_call(counter.heartbeat, 1) / 1000)
        self.rows.append(Row("a heartbeat that restores 10,000 slices", [], values, "ms"))


class Measured(NamedTuple):
    """One round of many callers."""

    calls_a_second: float
    cpu_us: float


async def throughput(
    call: Callable[[str, int], Awaitable[object]],
    callers: int,
    keys: int,
    calls: int,
    mixed: bool = False,
) -> Measured:
    """Callers that each make one call after the other. If `mixed`, their counts differ."""
    each = max(3, calls // max(callers, 4))

    async def work(number: int) -> None:
        key = f"k{number % keys}"
        for turn in range(each):
            await call(key, 1 + (number + turn) % 7 if mixed else 1)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(work, range(callers)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Measured(callers * each / seconds, cpu / callers / each * 1e6)


def in_threads(call: Callable[[], object], each: int, count: int = 16) -> float:
    """Thousands of calls a second, of `count` threads that make `each` calls."""

    def work() -> None:
        for _ in range(each):
            call()

    threads = [threading.Thread(target=work) for _ in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count * each / (time.perf_counter() - began) / 1000


# --- Output --------------------------------------------------------------------------------------

COLUMNS = ("figure", "raw redis-py", "distkit", "unit", "ratio", "target")


def cells(row: Row) -> tuple[str, ...]:
    ratio = spread(row.ratios, 2) if row.raw else ""
    digits = 2 if statistics.median(row.ours) < 10 else 1
    raw, ours = spread(row.raw, digits), spread(row.ours, digits)
    return row.figure, raw, ours, row.unit, ratio, row.target


def show(console: Console, rows: Sequence[Row]) -> None:
    table = Table()
    for column in COLUMNS:
        table.add_column(column)
    for row in rows:
        table.add_row(*cells(row))
    console.print(table)


def write_results(binary: Binary, bench: Bench) -> None:
    version = ".".join(map(str, binary.version))
    lines = [
        "# What a call costs",
        "",
        "Written by `make bench`, which measures raw redis-py and distkit in turns, in one run.",
        "The numbers are medians, with the lowest and the highest round in brackets. More is",
        "better for throughput, less is better for everything else.",
        "",
        f"Redis {version} on a unix socket, Python {platform.python_version()}, redis-py "
        f"{redis.__version__} with hiredis, {os.cpu_count()} shared cores.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(cells(row)) + " |" for row in bench.rows),
        "",
        "![Throughput against asyncio callers](throughput.svg)",
        "",
        (HERE / "NOTES.md").read_text("utf-8").strip(),
        "",
    ]
    (HERE / "RESULTS.md").write_text("\n".join(lines), "utf-8")


def plot(throughputs: dict[str, list[float]]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "distkit"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, values in throughputs.items():
        axes.plot(CALLERS, values, marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="asyncio callers", ylabel="calls a second")
    axes.set_xticks(CALLERS, [str(callers) for callers in CALLERS])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(HERE / "throughput.svg", metadata={"Date": None}, bbox_inches="tight")


def choose_server() -> Binary:
    found = {binary.name: binary for binary in find_binaries().binaries}
    if not found:
        raise SystemExit("found no redis-server to measure on")
    return found.get(PREFERRED) or next(iter(found.values()))


def main() -> None:
    console = Console(width=150)
    binary = choose_server()
    server = RedisServer(binary)
    bench = Bench(server)
    parts = (
        bench.one_caller,
        bench.competitors,
        bench.crate,
        bench.asyncio_callers,
        bench.holding,
        bench.threads,
        bench.server_time,
        bench.largest_request,
        bench.independence,
        bench.deaths,
        bench.memory,
        bench.return_after_loss,
    )
    try:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(f"on {binary.name}", total=len(parts))
            for part in parts:
                progress.update(task, description=part.__name__.replace("_", " "))
                part()
                progress.advance(task)
        show(console, bench.rows)
        if not QUICK:
            plot(bench.throughput)
            write_results(binary, bench)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
