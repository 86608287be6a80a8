"""The oracle as a port, right or wrong on purpose: `python -m tests.ports.oracle_port [WORDS]`.

`WORDS` are those of a variant (oracle/conform/variants.py). It needs no Redis, starts fast, and has
everything that a port can have. With `--old`, it has what the first line protocol had.
"""

from __future__ import annotations

import json
import sys

from oracle.conform.judge import Judge
from oracle.conform.lines import FAULTS, FEATURES, OPERATIONS, Line
from oracle.conform.variants import VARIANTS

OLD = {
    "protocol": 1, "port": "the oracle as it was", "clock": "virtual", "instances": "many",
    "operations": [name for name in OPERATIONS if name not in ("batch", "together")],
    "faults": ["lose_reply", "give_up", "empty"],
}  # fmt: skip
"""The `hello` of a port that was written for the first version of the line protocol."""

HELLO = {
    "protocol": 1, "port": "the oracle", "clock": "virtual", "instances": "many",
    "operations": list(OPERATIONS), "faults": list(FAULTS), "features": list(FEATURES),
}  # fmt: skip


class OldJudge(Judge):
    """Does not say whether a condition held."""

    def answer(self, line: Line) -> Line:
        answer = super().answer(line)
        return {name: answer[name] for name in answer if name != "applied"}


def main(kind: type[Judge]) -> None:
    judge = kind(0)
    for text in sys.stdin:
        message: Line = json.loads(text)
        if message["op"] == "hello":
            answer: Line = OLD if kind is OldJudge else HELLO
        elif message["op"] == "reset":
            judge, answer = kind(message["threshold_ms"]), {}
        else:
            answer = judge.answer(message)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    words = sys.argv[1] if len(sys.argv) > 1 else ""
    main(OldJudge if words == "--old" else VARIANTS[words].kind if words else Judge)
