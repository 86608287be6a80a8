"""What histories are drawn from: the same for our own suite and for `verify`. Needs Hypothesis.

Everything here is small on purpose. Few keys and few instances meet each other again and again;
counts lie around 0 or at the ends of the range; the clock jumps to the millisecond around the
threshold, which is where mistakes are.
"""

from __future__ import annotations

import hypothesis.strategies as st

from oracle import model

KEYS = ("k", "другой", "a b")
MOST_INSTANCES = 5
HOUR = 3_600_000

small_counts: st.SearchStrategy[int] = st.integers(-20, 20)
_edges = st.sampled_from([model.LIMIT, model.LIMIT - 1, model.LIMIT // 2 + 1])
counts: st.SearchStrategy[int] = st.one_of(
    small_counts, small_counts, small_counts, _edges, _edges.map(lambda n: -n)
)

keys: st.SearchStrategy[str] = st.sampled_from([KEYS[0], *KEYS])
"""The first one twice: things happen where others were."""

bad_keys: st.SearchStrategy[str] = st.sampled_from(["a:b", "", "x" * 256])
"""R1 refuses them."""

any_keys: st.SearchStrategy[str] = st.one_of(*[keys] * 6, bad_keys)

conditions: st.SearchStrategy[model.Condition] = st.builds(
    model.Condition, st.sampled_from(model.RELATIONS), st.one_of(st.integers(-3, 3), counts)
)
"""R15: now and then with an operand that is likely to be met exactly."""

steps: st.SearchStrategy[model.Step] = st.one_of(
    st.just(model.Step("get")),
    st.builds(model.Step, st.sampled_from(["inc", "set_on_instance", "set"]), counts, st.none()),
    st.builds(model.Step, st.sampled_from(model.CONDITIONAL), counts, conditions),
    st.sampled_from([model.Step("delete"), model.Step("delete_on_instance")]),
)
"""What several steps of one request are drawn from."""

KINDS = (
    "inc",
    "inc",
    "dec",
    "get",
    "get",
    "set",
    "set_on_instance",
    "delete",
    "delete_on_instance",
)
CONDITIONAL_KINDS = ("inc_if", "set_if", "set_on_instance_if")
"""R15."""
kinds: st.SearchStrategy[str] = st.sampled_from(KINDS)
"""The operations on one key, by name."""

PLAIN_KINDS = ("inc", "get")
plain_kinds: st.SearchStrategy[str] = st.sampled_from(PLAIN_KINDS)
"""The ordinary, to be drawn more often, so that what went wrong has somebody to see it."""

thresholds: st.SearchStrategy[int] = st.sampled_from([30_000, 30_000, 1_000, 3, 1])

jumps: st.SearchStrategy[str] = st.sampled_from(
    ["threshold", "half", "half", "ms", "hours", "back"]
)
"""How far the wall clock goes; `jump` says it in ms."""

offsets: st.SearchStrategy[int] = st.sampled_from([0, 0, 0, -1, 1])
"""Ms more or less than a jump."""

touches: st.SearchStrategy[int] = st.sampled_from([0, 0, -1, 1])
"""Ms more or less than the threshold, when one falls silent for about that long."""


def jump(how: str, threshold: int) -> int:
    """A jump of the wall clock in ms, for instances with this threshold."""
    far = {"threshold": threshold, "half": threshold // 2, "ms": 2, "hours": 5 * HOUR}
    return -HOUR if how == "back" else far[how]
