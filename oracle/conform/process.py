"""A port as a child process: started, asked, and ended. The messages are oracle/conform/lines.py's.

Every answer has a time limit, and whatever goes wrong becomes `Broke`, with what the port wrote to
stderr. A port that has one instance to a process gets a process for each, and a death is then a
real one.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from oracle.conform import lines
from oracle.conform.lines import Capabilities, Line, Malformed

TAIL = 4000
"""The most bytes of stderr that are shown."""

GRACE_S = 2.0
"""How long a port may take to end by itself once its stdin is closed."""


class Broke(Exception):
    """The port crashed, hung, or said what is no answer.

    Attributes:
        stderr: the end of what it had written there.
        hung: it did not answer within the time limit.
    """

    def __init__(self, what: str, stderr: str = "", *, hung: bool = False) -> None:
        super().__init__(what)
        self.stderr = stderr
        self.hung = hung


class Process:
    """One child that speaks the line protocol.

    Args:
        command: the program and its arguments.
        timeout_s: how long it may take to answer.

    Raises:
        Broke: it cannot be started, or does not answer `hello` as it should.
    """

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it
        try:
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
                start_new_session=True,  # Ctrl-C is for the runner: the port must still clean up
            )  # fmt: skip
        except OSError as error:
            self._stderr.close()
            raise Broke(f"it could not be started: {error}") from None
        self._said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._unanswered: deque[Line] = deque()
        assert self._child.stdout is not None
        threading.Thread(target=self._listen, args=(self._child.stdout,), daemon=True).start()
        try:
            self.capabilities: Capabilities = self._introduce()
        except Broke:
            self.end()
            raise

    def _listen(self, stdout: IO[bytes]) -> None:
        for line in stdout:
            self._said.put(line)
        self._said.put(b"")

    def _introduce(self) -> Capabilities:
        answer = self.ask(lines.hello())
        try:
            return lines.capabilities(answer)
        except Malformed as error:
            raise self._broke(str(error)) from None

    def ask(self, message: Line) -> Line:
        """Send one message, and wait for its answer. Answers that nobody has heard are dropped.

        Raises:
            Broke: there is none in time, it is not a JSON object, or the port had said something
                that it was not asked for.
        """
        while self._unanswered:
            self.hear()
        if not self._said.empty():
            raise self._unasked(self._said.get())
        self.send([message])
        return self.hear()

    def send(self, messages: Sequence[Line]) -> None:
        """Send messages without waiting; `hear` gives their answers, in order.

        Raises:
            Broke: the port does not read any more.
        """
        self._unanswered.extend(messages)
        try:
            assert self._child.stdin is not None
            text = "".join(lines.encode(message) + "\n" for message in messages)
            self._child.stdin.write(text.encode())
            self._child.stdin.flush()
        except OSError:
            raise self._gone() from None

    def hear(self) -> Line:
        """The answer to the first message that has none yet.

        Raises:
            Broke: there is none in time, or it is not a JSON object.
        """
        message = self._unanswered.popleft()
        try:
            said = self._said.get(timeout=self._timeout_s)
        except queue.Empty:
            limit = f"within {self._timeout_s:g} s"
            raise self._broke(
                f"it did not answer {limit}: {lines.encode(message)}", hung=True
            ) from None
        if not said:
            raise self._gone()
        try:
            return lines.decode(said.decode())
        except (Malformed, UnicodeDecodeError) as error:
            raise self._broke(str(error)) from None

    def _unasked(self, said: bytes) -> Broke:
        return self._broke(f"it said what was not asked for: {said!r}") if said else self._gone()

    def _gone(self) -> Broke:
        try:
            status = self._child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return self._broke("it closed its stdout or its stdin, and went on running")
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return self._broke(f"it ended before it had answered ({how})")

    def _broke(self, what: str, *, hung: bool = False) -> Broke:
        return Broke(what, self._written(), hung=hung)

    def _written(self) -> str:
        size = self._stderr.seek(0, 2)
        self._stderr.seek(max(0, size - TAIL))
        return self._stderr.read().decode(errors="replace")

    def malformed(self, error: Malformed) -> Broke:
        """What it answered was JSON, and no answer."""
        return self._broke(str(error))

    def end(self, *, at_once: bool = True) -> None:
        """End it: by closing its stdin and waiting a little, or without a word."""
        if self._child.poll() is None and not at_once:
            assert self._child.stdin is not None
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._child.stdin.close()
                self._child.wait(GRACE_S)
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._stderr):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what is still to be written has no reader
                pipe.close()


class Port:
    """All processes of one port: one, or one for each instance, as its `hello` says.

    Args:
        command: the program and its arguments.
        timeout_s: how long it may take for each answer.

    Raises:
        Broke: it cannot be started, or does not answer `hello` as it should.
    """

    def __init__(self, command: Sequence[str], timeout_s: float) -> None:
        self._command = tuple(command)
        self._timeout_s = timeout_s
        self._idle = [Process(self._command, timeout_s)]
        self._busy: dict[str, Process] = {}
        self._reset: Line = {}
        self.capabilities: Capabilities = self._idle[0].capabilities

    def reset(self, threshold_ms: int, instances: Iterable[str]) -> None:
        """A new history, under a prefix that was never used: nothing of the old one matters.

        Processes that it needs are started now, not when time has begun to count.

        Raises:
            Broke: one of them cannot be started, or says what is no answer.
        """
        self.remove_keys()
        self._reset = lines.reset(f"conform-{secrets.token_hex(8)}", threshold_ms)
        self._idle += self._busy.values()
        self._busy.clear()
        names = [ANY] if self.capabilities.many_instances else instances
        try:
            for name in names:
                self._process_for(name)
        except Broke:
            self.end()
            raise

    def answer(self, line: Line) -> Line:
        """What the port says to a line of a history.

        Raises:
            Broke: whatever it says is no answer; the processes are then ended.
        """
        try:
            process = self._process_for(line.get("instance", ANY))
            if line["op"] == "die" and not self.capabilities.many_instances:
                self._busy.pop(line["instance"]).end()
                return {}
            return self._checked(process, line, process.ask(self._without_ours(line)))
        except Broke:
            self.end()
            raise

    def answers(self, asked: Sequence[Line]) -> Iterator[Line]:
        """What the port says to lines of a history, one after the other.

        Where there is one process, the lines are sent ahead: it works on them while its first
        answers are compared.

        Raises:
            Broke: whatever it says is no answer; the processes are then ended.
        """
        if not self.capabilities.many_instances:
            yield from map(self.answer, asked)
            return
        try:
            process = self._process_for(ANY)
            for first in range(0, len(asked), AHEAD):
                some = asked[first : first + AHEAD]
                process.send([self._without_ours(line) for line in some])
                for line in some:
                    yield self._checked(process, line, process.hear())
        except Broke:
            self.end()
            raise

    def _without_ours(self, line: Line) -> Line:
        ours = _OURS if self.capabilities.virtual_clock else _OURS | {"wall_ms"}
        return {name: line[name] for name in line if name not in ours}

    def _checked(self, process: Process, line: Line, said: Line) -> Line:
        try:
            return lines.checked_answer(line, said, self.capabilities.features)
        except Malformed as error:
            raise process.malformed(error) from None

    def _process_for(self, instance: str) -> Process:
        """The process of this instance: its own, or that of all."""
        name = ANY if self.capabilities.many_instances else instance
        if name not in self._busy:
            process = self._idle.pop() if self._idle else Process(self._command, self._timeout_s)
            self._busy[name] = process
            process.ask(self._reset)
        return self._busy[name]

    def remove_keys(self) -> None:
        """Remove what the last history left in Redis, if the port can."""
        if self._busy and lines.EMPTY in self.capabilities.faults:
            try:
                next(iter(self._busy.values())).ask({"op": lines.EMPTY})
            except Broke:
                self.end()
                raise

    def end(self) -> None:
        """End every process. The next line starts what it needs again."""
        for process in (*self._idle, *self._busy.values()):
            process.end(at_once=False)
        self._idle.clear()
        self._busy.clear()


AHEAD = 200
"""How many lines are sent before their answers are heard."""

ANY = ""
"""In the place of an instance: whatever process there is."""

_OURS = frozenset({"answer", "said", "comment", "rules"})
"""Fields of a trace that are not for the port."""
