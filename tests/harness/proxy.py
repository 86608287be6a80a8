"""A TCP proxy on loopback that drops, duplicates and delays whole messages.

It reads RESP commands from the client, one at a time, and RESP replies from the server. For a
command that is listed in `Faults.commands`, it may

* drop the command before the server runs it,
* drop the reply after the server has run it, or
* deliver a second copy of the command later, over a connection of its own.

After a drop it closes the client's connection, as a broken network would. All other commands pass,
so that clients can set up their connections.
"""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress
from typing import BinaryIO, NamedTuple

HOST = "127.0.0.1"


class Faults(NamedTuple):
    """Which faults the proxy makes.

    Attributes:
        drop_replies: the rate of dropped replies, from 0 to 1.
        drop_requests: the rate of dropped commands.
        copies: the rate of commands that are delivered again later.
        delay: how much later, in seconds: the least and the most.
        commands: the commands that are affected.
    """

    drop_replies: float = 0.0
    drop_requests: float = 0.0
    copies: float = 0.0
    delay: tuple[float, float] = (0.005, 0.05)
    commands: frozenset[bytes] = frozenset({b"EVALSHA", b"EVAL"})


class FaultyProxy:
    """Listens on a port of its own until it is closed. It counts the faults that it has made."""

    def __init__(self, target_port: int, faults: Faults, seed: int) -> None:
        self.faults = faults
        self.dropped_replies = self.dropped_requests = self.late_copies = 0
        self._target = (HOST, target_port)
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._closing = False
        self._copies: list[threading.Timer] = []
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept)

    def drain(self) -> None:
        """Wait until every delayed copy has been delivered."""
        for copy in self._copies:
            copy.join()

    def close(self) -> None:
        self.drain()
        with self._lock:
            self._closing = True
            for connection in (self._listener, *self._open):
                _hang_up(connection)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self.drain()

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        """Serve one client, command by command, over a server connection of its own."""
        with client, socket.create_connection(self._target) as server:
            with self._lock:
                # `close` would miss a connection that was accepted just before it, and leak it.
                if self._closing:
                    return
                self._open |= {client, server}
            try:
                commands, replies = client.makefile("rb"), server.makefile("rb")
                while self._exchange(client, server, commands, replies):
                    pass
            except OSError:
                pass
            finally:
                with self._lock:
                    self._open -= {client, server}

    def _exchange(
        self, client: socket.socket, server: socket.socket, commands: BinaryIO, replies: BinaryIO
    ) -> bool:
        command = read_message(commands)
        if not command:
            return False
        faulty = command.split(b"\r\n", 3)[2].upper() in self.faults.commands
        if faulty and self._happens(self.faults.copies):
            self._send_later(command)
        if faulty and self._happens(self.faults.drop_requests):
            self.dropped_requests += 1
            return False
        server.sendall(command)
        reply = read_message(replies)
        if faulty and self._happens(self.faults.drop_replies):
            self.dropped_replies += 1
            return False
        client.sendall(reply)
        return bool(reply)

    def _happens(self, rate: float) -> bool:
        with self._lock:
            return self._random.random() < rate

    def _send_later(self, command: bytes) -> None:
        with self._lock:
            delay = self._random.uniform(*self.faults.delay)
            copy = threading.Timer(delay, self._deliver, (command,))
            self._copies.append(copy)
            self.late_copies += 1
        copy.daemon = True
        copy.start()

    def _deliver(self, command: bytes) -> None:
        with socket.create_connection(self._target) as server:
            server.sendall(command)
            read_message(server.makefile("rb"))


def _hang_up(connection: socket.socket) -> None:
    """Wake a thread that waits on this socket. The other side may have hung up already."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def read_message(stream: BinaryIO) -> bytes:
    """Read one whole RESP value, unparsed. Returns nothing at the end of the stream."""
    line = stream.readline()
    kind, rest = line[:1], line[1:].strip()
    if kind in b"$!=" and kind and rest != b"-1":
        return line + stream.read(int(rest) + 2)
    if kind in b"*~>%|" and kind and rest != b"-1":
        values = int(rest) * (2 if kind in b"%|" else 1)
        return line + b"".join(read_message(stream) for _ in range(values))
    return line
