"""The explorer: visits every state of a bounded world on the machine of `oracle.model`, and checks
every property in each.

Read `search.py` first: it is the whole explorer in its plainest form. Then, in this order:

* `world.py`: what can happen next in a world, and what it leads to. It is made of `state.py` (the
  parts of a world, and its bounds), `call_kinds.py` (what an instance can call), `events.py` (one
  class for each kind of event) and `transitions.py` (what each event does).
* `properties.py`: what must hold, each property once. `linearizability.py` is the search behind one
  of them, and `meaning.py` is R13's formula, which the tests compare with production.
* `broken.py`: protocols that are wrong on purpose. Each breaks a property, so that the explorer is
  known to see it.
* `trace.py`: the events that lead to a violation, for people and for machines.

`fast/` does what `search.py` does, fast enough for millions of states. Only the commands and the
tests use it; nothing here depends on it.
"""
