"""A TCP proxy on loopback that does to whole messages what networks do to packets.

It reads the client's stream as RESP commands, one at a time, and the server's as RESP replies. To
the commands named in `Faults.commands` it may: drop the reply after the server ran it, drop the
command before, or deliver a second copy of it later, over a connection of its own. After a drop it
closes the client's connection, as a broken network would. Everything else gets by, so that
connections can be set up.
"""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress
from typing import BinaryIO, NamedTuple

HOST = "127.0.0.1"


class Faults(NamedTuple):
    """How often, from 0 to 1; how late a copy comes, in seconds; and to which commands."""

    drop_replies: float = 0.0
    drop_requests: float = 0.0
    copies: float = 0.0
    delay: tuple[float, float] = (0.005, 0.05)
    commands: frozenset[bytes] = frozenset({b"EVALSHA", b"EVAL"})


class FaultyProxy:
    """Listens on a port of its own until `close`; counts the faults that it made."""

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
        """Wait until every copy that is still under way has been delivered."""
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
        """One client, one connection to the server, command by command."""
        with client, socket.create_connection(self._target) as server:
            with self._lock:
                # Else one that was accepted just before would be missed by `close`, and stay.
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
    """End what a thread waits for; the other side may have gone first."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def read_message(stream: BinaryIO) -> bytes:
    """One whole RESP value, as it came; empty at the end of the stream."""
    line = stream.readline()
    kind, rest = line[:1], line[1:].strip()
    if kind in b"$!=" and kind and rest != b"-1":
        return line + stream.read(int(rest) + 2)
    if kind in b"*~>%|" and kind and rest != b"-1":
        values = int(rest) * (2 if kind in b"%|" else 1)
        return line + b"".join(read_message(stream) for _ in range(values))
    return line
