"""The commands of `distkit`: what they print, their exit statuses, and what they leave alone."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from distkit import StrictInstanceAwareCounter
from distkit.cli import top as top_command
from distkit.cli.main import main
from distkit.cli.text import duration, printable, size
from tests.counter.test_demo import WITHOUT
from tests.harness.servers import RedisServer, free_port
from tests.operations.test_doctor import was_out_of_reach
from tests.operations.test_inspection import dump

PREFIX = "seen"
ROOT = f"distkit:{{{PREFIX}}}:"
Distkit = Callable[..., Result]


@pytest.fixture
def server(newest_server: RedisServer) -> RedisServer:
    """Two live instances; the counters k (5 of A, 2 of B), j (7 of A, stale of B), z (of B)."""
    client = newest_server.client()
    a = StrictInstanceAwareCounter(client, PREFIX, instance_id="A")
    b = StrictInstanceAwareCounter(client, PREFIX, instance_id="B")
    a.inc("k", 5)
    b.inc_all([("k", 2), ("j", 1), ("z", 123_456)])
    a.set("j", 7)
    return newest_server


@pytest.fixture
def distkit(server: RedisServer) -> Distkit:
    """Run a command on this server, as `distkit COMMAND URL PREFIX ...`."""

    def run(command: str, *words: str, prefix: str = PREFIX, **options: Any) -> Result:
        url = f"unix://{server.socket}"
        environment = {"COLUMNS": "80", "TERM": "dumb"}
        return CliRunner(env=environment).invoke(
            main, [command, url, prefix, *words], catch_exceptions=False, **options
        )

    return run


def lines(result: Result) -> list[list[str]]:
    """The words of each line."""
    return [line.split() for line in result.stdout.splitlines() if line]


# --- show, top, export ---------------------------------------------------------------------------


def test_show_has_the_instances_and_the_counters(distkit: Distkit) -> None:
    result = distkit("show")
    shown = lines(result)[1:]
    assert result.stdout.startswith("seen: 2 live instances, 3 keys; last request ")
    assert sorted(line[0] for line in shown if line[2] == "live") == ["A", "B"]
    assert ["k", "7", "0", "2", "2"] in shown
    assert ["j", "7", "1", "2", "1", "1"] in shown
    assert ["z", "123,456", "0", "1", "1"] in shown
    assert result.exit_code == 0


def test_show_has_each_slice_of_a_counter(distkit: Distkit, server: RedisServer) -> None:
    server.client().hdel(ROOT + "instances", "A")
    result = distkit("show", "k", "j", "nothing")
    assert "k: total 2, epoch 0, 2 slices" in result.stdout
    assert re.search(r"^A +5  no session +-$", result.stdout, re.M)
    assert re.search(r"^B .* 1  stale, epoch 0 +\d+", result.stdout, re.M)
    assert "nothing does not exist" in result.stdout
    assert result.exit_code == 1
    assert distkit("show", "k").exit_code == 0


def test_show_says_what_is_damaged_or_has_vanished(distkit: Distkit, server: RedisServer) -> None:
    client = server.client()
    client.delete(ROOT + "counter:k", ROOT + "counter:z")
    client.set(ROOT + "counter:z", "a string")
    client.hset(ROOT + "keys", "old", 4)
    for words in ((), ("k", "z", "old")):
        shown = distkit("show", *words).stdout
        assert "k is listed and does not exist: writes were lost" in shown
        assert "z cannot be read: it is not a hash" in shown
        assert "old has vanished; its epoch was 4" in shown


def test_show_is_short_unless_told(distkit: Distkit, server: RedisServer) -> None:
    counter = StrictInstanceAwareCounter(server.client(), PREFIX)
    counter.inc_all([(f"many{n:04}", 1) for n in range(1000)])
    short, long = distkit("show").stdout, distkit("show", "--all").stdout
    assert "... of 1,003; --all shows all" in short
    assert len(re.findall("^many", short, re.M)) <= 50
    assert len(re.findall("^many", long, re.M)) == 1000


def test_the_screen_is_never_too_wide(distkit: Distkit, server: RedisServer) -> None:
    """A long key and a long label give way to numbers, in 80 columns."""
    client = server.client()
    other = StrictInstanceAwareCounter(client, PREFIX, instance_id="ключ" * 30)
    other.inc("k" * 255, 2**53 - 2)
    for command in (("show",), ("show", "k" * 255), ("top",), ("doctor",)):
        shown = distkit(*command).stdout
        assert max(map(len, shown.splitlines())) <= 80 or command == ("show", "k" * 255)
    assert "9,007,199,254,740,990" in distkit("show").stdout


def test_names_do_nothing_to_a_terminal(distkit: Distkit, server: RedisServer) -> None:
    """Neither escape sequences nor markup in a key, an id or a label."""
    client = server.client()
    evil = "\x1b[2J[bold red]\n\u202ex"
    StrictInstanceAwareCounter(client, PREFIX, instance_id=evil).inc(evil)
    client.hset(ROOT + "counter:" + evil, "A", "nonsense \x1b[2J")
    for command in (("show",), ("show", "--all"), ("top",), ("doctor",), ("purge", "--yes")):
        result = distkit(*command)
        assert not re.search("[\x1b\u202e]", result.stdout + result.stderr), command
    assert r"\x1b[2J[bold red]\n\u202ex" in distkit("show").stdout
    assert json.loads(distkit("export").stdout)["unreadable"].keys() == {evil}


def test_top_sorts_and_filters(distkit: Distkit) -> None:
    def keys(*words: str) -> list[str]:
        shown = lines(distkit("top", *words))
        return [line[0] for line in shown if line[0] in "jkz"]

    assert keys() == ["z", "j", "k"]
    assert keys("--sort", "key") == ["j", "k", "z"]
    assert keys("--sort", "slices") == ["j", "k", "z"]
    assert keys("--sort", "epoch") == ["j", "k", "z"]
    assert keys("--filter", "[jk]") == ["j", "k"]
    assert "only [jk]" in distkit("top", "--filter", "[jk]").stdout


def test_json_can_be_read(distkit: Distkit) -> None:
    for command in (("show", "--json"), ("top", "--json"), ("export", "--json")):
        document = json.loads(distkit(*command).stdout)
        assert {each["id"] for each in document["instances"]} == {"A", "B"}
        counters = {each["key"]: each for each in document["counters"]}
        assert {key: each["total"] for key, each in counters.items()} == {
            "k": 7, "j": 7, "z": 123_456,
        }  # fmt: skip
        stale = [each for each in counters["j"]["slices"] if not each["counts"]]
        assert [(each["instance"], each["is_current"]) for each in stale] == [("B", False)]


def test_export_is_the_whole_prefix(distkit: Distkit, server: RedisServer) -> None:
    counter = StrictInstanceAwareCounter(server.client(), PREFIX)
    counter.inc_all([(f"many{n}", 1) for n in range(1000)])
    document = json.loads(distkit("export").stdout)
    assert len(document["counters"]) == document["listed"] == 1003
    matching = json.loads(distkit("export", "--match", "many1*").stdout)
    assert {each["key"] for each in matching["counters"]} == {
        f"many{n}" for n in range(1000) if str(n).startswith("1")
    }
    empty = json.loads(distkit("export", prefix="nothing").stdout)
    assert (empty["counters"], empty["instances"], empty["listed"]) == ([], [], 0)


def test_seeing_changes_nothing(distkit: Distkit, server: RedisServer) -> None:
    client = server.client()
    client.hdel(ROOT + "instances", "A")
    before = dump(client)
    for command in ("show", "top", "export", "doctor"):
        distkit(command)
    assert dump(client) == before


# --- doctor --------------------------------------------------------------------------------------


def test_the_exit_status_of_doctor(distkit: Distkit, server: RedisServer) -> None:
    well = distkit("doctor")
    assert (well.exit_code, "Nothing was found." in well.stdout) == (0, True)
    assert json.loads(distkit("doctor", "--json").stdout)["findings"] == []
    server.client().delete(ROOT + "counter:k")
    ill = distkit("doctor")
    assert (ill.exit_code, "lost writes: 1 counter" in ill.stdout) == (1, True)
    document = distkit("doctor", "--json")
    assert document.exit_code == 1
    assert [each["check"] for each in json.loads(document.stdout)["findings"]] == ["lost writes"]


# --- purge ---------------------------------------------------------------------------------------


@pytest.fixture
def abandoned(server: RedisServer) -> redis.Redis:
    """Nobody is live any more; beside it, things that look similar and are not of the prefix."""
    client = server.client()
    client.hset(ROOT + "counter:unlisted", ":", "whatever")
    client.delete(ROOT + "instances")
    for name in (f"x{ROOT}keys", "distkit:{seen2}:keys", "distkit:{s*}:keys", "other"):
        client.set(name, "mine")
    return client


def left(client: redis.Redis) -> set[bytes]:
    names: Any = client.keys("*")
    return set(names)


OTHERS = {f"x{ROOT}keys".encode(), b"distkit:{seen2}:keys", b"distkit:{s*}:keys", b"other"}


def test_purge_removes_the_prefix_and_nothing_else(
    distkit: Distkit, abandoned: redis.Redis
) -> None:
    result = distkit("purge", "--yes")
    assert (result.exit_code, result.stdout) == (0, "Removed 5 Redis keys.\n")
    assert left(abandoned) == OTHERS
    assert json.loads(distkit("purge", "--yes", "--json").stdout)["removed"] == 0


def test_a_prefix_is_no_pattern(distkit: Distkit, abandoned: redis.Redis) -> None:
    distkit("purge", "--yes", "--force", prefix="s*")
    assert left(abandoned) > OTHERS - {b"distkit:{s*}:keys"}
    assert b"distkit:{s*}:keys" not in left(abandoned)
    assert len(left(abandoned)) == 3 + 5


def test_purge_asks(distkit: Distkit, abandoned: redis.Redis) -> None:
    before = left(abandoned)
    refused = distkit("purge", input="n\n")
    assert "Remove 5 Redis keys of the prefix 'seen'? [y/N]" in refused.stdout
    assert refused.exit_code == 1
    assert left(abandoned) == before
    assert distkit("purge", input="y\n").exit_code == 0
    assert left(abandoned) == OTHERS
    assert distkit("purge", "--json").exit_code == 2, "a program is not asked"


def test_purge_refuses_while_instances_live(distkit: Distkit, server: RedisServer) -> None:
    client = server.client()
    before = dump(client)
    result = distkit("purge", "--yes")
    assert (result.exit_code, dump(client)) == (1, before)
    assert "2 instances of the prefix may be live" in result.stderr
    assert result.stderr.count("\n") == 1
    assert distkit("purge", "--yes", "--force").exit_code == 0
    assert not dump(client)


def test_purge_says_when_the_live_may_be_dead(distkit: Distkit, server: RedisServer) -> None:
    """R19: they all died an hour ago, and had promised to be heard: time stands still since."""
    was_out_of_reach(server.client())
    result = distkit("purge", "--yes")
    assert result.exit_code == 1
    assert "nobody has been heard for 59 min, though" in result.stderr


def test_purge_refuses_an_instance_that_came_while_it_asked(
    distkit: Distkit, abandoned: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirm(*_: Any, **__: Any) -> None:
        StrictInstanceAwareCounter(abandoned, PREFIX).heartbeat()

    monkeypatch.setattr("click.confirm", confirm)
    before = len(left(abandoned))
    assert distkit("purge").exit_code == 1
    assert len(left(abandoned)) == before + 1


@pytest.mark.parametrize("head", ["2 later", "1000 1000 1 0", "hello"])
def test_purge_of_another_layout_needs_force(
    distkit: Distkit, abandoned: redis.Redis, head: str
) -> None:
    abandoned.hset(ROOT + "instances", ":", head)
    assert distkit("purge", "--yes").exit_code == 1
    assert len(left(abandoned)) == 4 + 6
    assert distkit("purge", "--yes", "--force").exit_code == 0
    assert left(abandoned) == OTHERS


def test_purge_works_in_small_steps(
    distkit: Distkit, abandoned: redis.Redis, server: RedisServer
) -> None:
    for n in range(350):
        abandoned.hset(f"{ROOT}counter:many{n}", "a", 1)
    abandoned.config_resetstat()
    distkit("purge", "--yes")
    assert left(abandoned) == OTHERS
    stats: Any = abandoned.info("commandstats")
    assert stats["cmdstat_unlink"]["calls"] >= 4
    assert "cmdstat_del" not in stats
    assert "cmdstat_keys" in stats, "that was this test"


# --- metrics -------------------------------------------------------------------------------------


def test_metrics_are_served(server: RedisServer) -> None:
    url, listen = f"unix://{server.socket}", f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "distkit", "metrics", "--listen", listen, url, PREFIX],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        where = process.stdout.readline().strip()
        assert where == f"http://{listen}/metrics"
        with urllib.request.urlopen(where, timeout=10) as page:
            served = page.read().decode()
        assert 'distkit_counter_value{key="k",prefix="seen"} 7.0' in served
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1:99999", "127.0.0.1:x"])
def test_a_wrong_address_to_listen_on(distkit: Distkit, listen: str) -> None:
    result = distkit("metrics", "--listen", listen)
    assert result.exit_code == 2
    assert "it must be HOST:PORT" in result.stderr


# --- Errors, extras, clusters --------------------------------------------------------------------

ALL = ("show", "top", "export", "doctor", "purge", "metrics")


@pytest.mark.parametrize("command", ALL)
def test_what_goes_wrong_is_one_line(command: str) -> None:
    for url, said in (
        (f"redis://:topsecret@127.0.0.1:{free_port()}", "onnect"),
        ("http://somewhere", "scheme"),
    ):
        result = CliRunner().invoke(main, [command, url, PREFIX], catch_exceptions=False)
        assert (result.exit_code, result.stdout) == (2, "")
        assert re.fullmatch(r"Error: .*\n", result.stderr)
        assert said in result.stderr
        assert "topsecret" not in result.stderr
    result = CliRunner().invoke(main, [command, "redis://", "a:b"])
    assert (result.exit_code, "must not contain ':'" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", ["show", "top", "export"])
def test_another_layout_is_one_line(distkit: Distkit, server: RedisServer, command: str) -> None:
    server.client().hset(ROOT + "instances", ":", "2 later")
    result = distkit(command)
    assert result.exit_code == 2
    assert re.fullmatch(r"Error: .*has layout 2.*\n", result.stderr)


@pytest.mark.parametrize(
    ("package", "extra", "words"),
    [
        ("click", "cli", ["show", "redis://", PREFIX]),
        ("rich", "cli", ["show", "redis://", PREFIX]),
        ("prometheus_client", "metrics", ["metrics", "redis://", PREFIX]),
    ],
)
def test_a_missing_extra_is_one_line(package: str, extra: str, words: list[str]) -> None:
    program = WITHOUT.format(absent={package}) + (
        f"sys.argv[1:] = {words}\nfrom distkit.__main__ import run\nrun()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 69
    assert done.stderr == (f"distkit needs {package}: pip install 'distkit-counter[{extra}]'\n")


def test_the_counter_needs_no_extra() -> None:
    absent = {"click", "rich", "prometheus_client", "opentelemetry"}
    program = WITHOUT.format(absent=absent) + "import distkit.asyncio, distkit.inspection"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_one_node_of_a_cluster_is_enough(cluster: RedisServer) -> None:
    client = redis.RedisCluster(host="127.0.0.1", port=cluster.port)
    StrictInstanceAwareCounter(client, PREFIX, instance_id="A").inc("k", 5)
    url = f"redis://127.0.0.1:{cluster.port}"
    for command in ("show", "top", "export", "doctor"):
        result = CliRunner().invoke(main, [command, url, PREFIX], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, ["purge", url, PREFIX, "--yes", "--force"])
    assert result.stdout == "Removed 3 Redis keys.\n"


# --- The live table ------------------------------------------------------------------------------


def test_the_live_table_goes_on_after_an_error(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is away for one reading: the last table stays, with the error below it."""
    screens: list[Any] = []

    class Screen:
        def __init__(self, **_: Any) -> None: ...
        def __enter__(self) -> Screen:
            return self

        def __exit__(self, *_: object) -> None: ...
        def update(self, group: Any, refresh: bool) -> None:
            screens.append(group.renderables)

    inspected = iter([None, redis.ConnectionError("away"), None, KeyboardInterrupt()])
    readings = top_command._readings

    def read(*words: Any) -> Iterator[Any]:
        if error := next(inspected):
            raise error
        return readings(*words)

    monkeypatch.setattr(top_command, "Live", Screen)
    monkeypatch.setattr(top_command, "_readings", read)
    watch = top_command.Watch(f"unix://{server.socket}", PREFIX, "total", None, 0.0)
    from rich.console import Console

    top_command._live(Console(width=80, height=30), server.client(), watch)
    said = [str(screen[-1]) for screen in screens]
    assert [text for text in said if text] == ["Redis: away"]
    assert len(screens) == 3
    assert not said[-1]
    assert all(screen[2].row_count == 3 for screen in screens)


# --- Words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ms", "said"),
    [(None, "-"), (0, "0 ms"), (999, "999 ms"), (1000, "1 s"), (1250, "1.2 s"), (30_000, "30 s"),
     (119_000, "119 s"), (120_000, "2 min"), (7_200_000, "2 h"), (180_000_000, "2.1 d"),
     (-1500, "-1.5 s")],
)  # fmt: skip
def test_durations(ms: int | None, said: str) -> None:
    assert duration(ms) == said


def test_sizes_and_names() -> None:
    assert [size(n) for n in (0, 999, 1500, 20_000_000, 3e13)] == [
        "0 B", "999 B", "1.5 kB", "20 MB", "30 TB",
    ]  # fmt: skip
    assert printable("a\tb\u200bé\U0001f600") == "a\\tb\\u200bé\U0001f600"
