"""What makes the explorer fast. It does what `oracle.check.search` does, and is tested against it.

* `search.py`: the breadth-first search, on many states at a time. Read this first.
* `space.py`: the states of a bounded world and the successors of each, as arrays of numbers. It is
  put together from `parts.py` (numbers for the parts of worlds, and one number for a whole world),
  `successors.py` (what can happen next), `forgetting.py` and `symmetry.py` (which states are the
  same), and `quiescence.py` (what is checked when no call is under way).
* `reductions.py`: why states that differ may count as the same. `forgetting.py` and `symmetry.py`
  apply its functions to arrays.
* `tables.py`: functions that are computed once for each argument, and looked up for many at a time.
* `parallel.py`: one exploration on several cores.
"""
