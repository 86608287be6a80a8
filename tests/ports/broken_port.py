"""Ports that break: `python -m tests.ports.broken_port FAULT`. They use the standard library alone,
and so start fast: they are started often.

Until it breaks, a port knows `get` alone, of counters that nobody changes: (0, 0) is right.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

HELLO: dict[str, Any] = {
    "protocol": 1, "port": "broken", "clock": "virtual", "instances": "many", "operations": ["get"],
}  # fmt: skip
ZERO = {"cumulative": 0, "instance_count": 0}
WORKS = 3
"""How many messages are answered before it breaks."""


def say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def crash() -> None:
    raise RuntimeError("the port's own last words")


def leave() -> None:
    sys.exit(3)


def hang() -> None:
    time.sleep(600)


def talk() -> None:
    print("OK, done", flush=True)


def list_it() -> None:
    say([0, 0])


def answer_in_words() -> None:
    say(ZERO | {"cumulative": "none"})


def answer_twice() -> None:
    print(f"{json.dumps(ZERO)}\n{json.dumps(ZERO)}", flush=True)
    time.sleep(0.02)


FAULTS = {
    "crashes": crash,
    "leaves": leave,
    "hangs": hang,
    "says no JSON": talk,
    "says no object": list_it,
    "says no number": answer_in_words,
    "says too much": answer_twice,
}

ONCE = "is wrong once"
"""It does not break: it answers wrongly once, and never again."""

HELLOS: dict[str, dict[str, Any]] = {
    "is of the future": HELLO | {"protocol": 2},
    "has no clock": {name: HELLO[name] for name in HELLO if name != "clock"},
    "can do nothing": HELLO | {"operations": ["fly"]},
}


def answer(message: dict[str, Any]) -> dict[str, Any]:
    key = message["key"]
    allowed = ":" not in key and 1 <= len(key.encode()) <= 255
    return ZERO if allowed else {"error": "invalid_key"}


def main(fault: str) -> None:
    for count, line in enumerate(sys.stdin):
        op = json.loads(line)["op"]
        if op == "hello":
            say(HELLOS.get(fault, HELLO))
        elif fault == ONCE and count == WORKS:
            say({"cumulative": 1, "instance_count": 0})
        elif count >= WORKS and fault in FAULTS:
            FAULTS[fault]()
        else:
            say(answer(json.loads(line)) if op == "get" else {})


if __name__ == "__main__":
    main(sys.argv[1])
