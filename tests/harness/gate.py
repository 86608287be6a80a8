"""A TCP proxy on loopback with one fault at a time, switched by the test.

The fault meets the commands that count (`EVALSHA`, `EVAL` and, for comparison, `INCRBY`). It is set
while a client is connected, so that it hits a connection that worked, and lifted afterwards.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import NamedTuple

from tests.harness.proxy import HOST, read_message

COUNTING = frozenset({b"EVALSHA", b"EVAL", b"INCRBY"})


class Fault(NamedTuple):
    """What happens to a command.

    Attributes:
        executes: whether the server gets it.
        then: "answer" it with `text`, "silence", "reset" the connection, or "delay" the reply.
        text: the error that is answered, without the leading `-`.
        seconds: how long a reply is delayed.
        times: how many commands meet the fault; 0: all of them.
        everything: whether connecting and handshakes meet silence too.
    """

    executes: bool
    then: str
    text: str = ""
    seconds: float = 0.0
    times: int = 0
    everything: bool = False


class Gate:
    """Listens on a port of its own; passes everything until `fault` is set or it is closed."""

    def __init__(self, target_port: int) -> None:
        self._target = (HOST, target_port)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._lifted = threading.Event()
        self._fault: Fault | None = None
        self.met = 0
        self.port = 0
        self.admit()

    def meet(self, fault: Fault) -> None:
        """From now on commands meet this fault."""
        self._lifted = threading.Event()
        self.met, self._fault = 0, fault

    def lift(self) -> None:
        """From now on everything passes; what waits for a reply in vain is hung up."""
        self._fault = None
        self._lifted.set()

    def refuse(self) -> None:
        """Close every connection, and refuse new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def admit(self) -> None:
        """Listen, on the same port as before."""
        self._listener = socket.create_server((HOST, self.port))
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._accepting.start()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.lift()
        self.refuse()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            with self._lock:
                self._open |= {client, server}
            try:
                commands, replies = client.makefile("rb"), server.makefile("rb")
                while command := read_message(commands):
                    fault = self._fault_for(command)
                    if fault is None or fault.executes:
                        server.sendall(command)
                        reply = read_message(replies)
                    if fault is not None and not self._inflict(fault, client):
                        return
                    if fault is None or fault.then == "delay":
                        client.sendall(reply)
            except OSError:
                pass
            finally:
                with self._lock:
                    self._open -= {client, server}

    def _fault_for(self, command: bytes) -> Fault | None:
        fault = self._fault
        if fault is None:
            return None
        if command.split(b"\r\n", 3)[2].upper() not in COUNTING:
            return fault._replace(executes=False) if fault.everything else None
        with self._lock:
            self.met += 1
            return None if fault.times and self.met > fault.times else fault

    def _inflict(self, fault: Fault, client: socket.socket) -> bool:
        """Whether the connection lives on."""
        if fault.then == "answer":
            client.sendall(f"-{fault.text}\r\n".encode())
            return True
        if fault.then == "delay":
            self._lifted.wait(fault.seconds)
            return True
        if fault.then == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        self._lifted.wait(60)
        return False
