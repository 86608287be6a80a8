"""The proxy alone: it handles whole messages, and closing it neither hangs nor fails."""

from __future__ import annotations

import io
import socket
import struct
import threading

import pytest
import redis

from tests.harness.proxy import HOST, Faults, FaultyProxy, read_message
from tests.harness.servers import RedisServer

PING = b"*1\r\n$4\r\nPING\r\n"


@pytest.mark.parametrize(
    "message",
    [
        *(b"+OK\r\n", b"-ERR no\r\n", b":1\r\n", b"$3\r\na\r\n\r\n", b"$0\r\n\r\n", b"$-1\r\n"),
        *(
            b"*-1\r\n",
            b"*0\r\n",
            b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n",
            b"_\r\n",
            b"#t\r\n",
            b",1.5\r\n",
        ),
        *(b"(123\r\n", b"!5\r\nERR x\r\n", b"=7\r\ntxt:abc\r\n", b"%1\r\n+k\r\n*1\r\n:1\r\n"),
        *(b"~2\r\n:1\r\n:2\r\n", b">2\r\n+a\r\n+b\r\n"),
    ],
)
def test_a_message_is_read_whole_and_no_further(message: bytes) -> None:
    assert read_message(io.BytesIO(message + b"+next\r\n")) == message


@pytest.mark.parametrize("protocol", [2, 3])
def test_without_faults_it_changes_nothing(real_server: RedisServer, protocol: int) -> None:
    with FaultyProxy(real_server.port, Faults(), 1) as proxy:
        client = redis.Redis(port=proxy.port, protocol=protocol)
        client.hset("h", mapping={"a": "1\r\n", "b": ""})
        assert client.hgetall("h") == {b"a": b"1\r\n", b"b": b""}
        assert client.eval("return {1, {2, 'x'}, false}", 0) == [1, [2, b"x"], None]
        client.close()


def test_a_copy_comes_later_and_once(real_server: RedisServer) -> None:
    faults = Faults(copies=1.0, commands=frozenset({b"INCRBY"}))
    with FaultyProxy(real_server.port, faults, 1) as proxy:
        client = redis.Redis(port=proxy.port)
        client.incrby("k")
        proxy.drain()
        assert client.get("k") == b"2"
        client.close()
    assert proxy.late_copies == 1


def test_it_closes_while_clients_come_and_go(real_server: RedisServer) -> None:
    """Some clients have only just been accepted. Others have hung up already, with a reset."""
    for seed in range(50):
        proxy = FaultyProxy(real_server.port, Faults(), seed)
        silent = socket.create_connection((HOST, proxy.port))
        rude = socket.create_connection((HOST, proxy.port))
        rude.sendall(PING)
        assert rude.recv(7) == b"+PONG\r\n"
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leaving = threading.Thread(target=rude.close)
        leaving.start()
        proxy.close()
        leaving.join()
        silent.close()
        assert not any(thread.is_alive() for thread in proxy._threads)
