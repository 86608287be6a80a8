"""The faults of `make chaos`: where each happens, and what it may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from tests.chaos.faults import (
    Site,
    a_frozen_master_returns,
    a_lagging_replica_is_promoted,
    a_master_is_cut_off,
    a_replica_takes_over,
    a_slot_moves_counters_first,
    a_slot_moves_sessions_first,
    clients_are_killed,
    clients_are_paused,
    each_key_is_evicted,
    everything_is_flushed,
    instance_ids_are_reused,
    instances_are_frozen,
    instances_are_frozen_briefly,
    nothing,
    processes_come_and_go,
    redis_evicts,
    sentinel_fails_over,
    the_brain_is_split,
    the_clock_jumps_by_a_year,
    the_cluster_fails_over_gracefully,
    the_master_is_killed,
    the_memory_is_full,
    the_server_is_frozen,
    the_server_restarts_empty,
    the_server_restarts_from_an_old_snapshot,
)
from tests.chaos.mixed import at_random


class Row(NamedTuple):
    """A fault, where it happens, and what it may do.

    Attributes:
        name: as the report has it.
        deployment: "standalone", "sentinel" or "cluster".
        fault: the function.
        loses: whether Redis may lose acknowledged writes.
        partitions: into how many the prefix is divided.
        is_ordered: whether the calls have to be linearizable: nothing is lost, and no instance is
            presumed dead.
    """

    name: str
    deployment: str
    fault: Callable[[Site], None]
    loses: bool = False
    partitions: int = 1
    is_ordered: bool = False


FAULTS: Final = (
    Row("none", "standalone", nothing, is_ordered=True),
    Row("CLIENT KILL storm", "standalone", clients_are_killed, is_ordered=True),
    Row("CLIENT PAUSE storm", "standalone", clients_are_paused, is_ordered=True),
    Row("server stopped and continued", "standalone", the_server_is_frozen, is_ordered=True),
    Row("instances stopped for 0.5 s", "standalone", instances_are_frozen_briefly, is_ordered=True),
    Row("instances stopped past their threshold", "standalone", instances_are_frozen),
    Row("instance ids reused after kill -9", "standalone", instance_ids_are_reused),
    Row("hundreds of processes come and go", "standalone", processes_come_and_go),
    Row("maxmemory reached, noeviction", "standalone", the_memory_is_full, is_ordered=True),
    Row("maxmemory reached, allkeys-random", "standalone", redis_evicts, loses=True),
    Row("each key evicted, one by one", "standalone", each_key_is_evicted, loses=True),
    Row("FLUSHALL storm", "standalone", everything_is_flushed, loses=True),
    Row("kill -9, restart empty", "standalone", the_server_restarts_empty, loses=True),
    Row(
        "kill -9, restart from an old RDB",
        "standalone",
        the_server_restarts_from_an_old_snapshot,
        loses=True,
    ),
    Row("clock a year ahead and back", "standalone", the_clock_jumps_by_a_year, is_ordered=True),
    Row(
        "five faults at random",
        "standalone",
        at_random(
            clients_are_killed,
            the_server_is_frozen,
            instances_are_frozen,
            instance_ids_are_reused,
            redis_evicts,
            each_key_is_evicted,
            everything_is_flushed,
            the_server_restarts_empty,
            the_server_restarts_from_an_old_snapshot,
        ),
        loses=True,
    ),
    Row("no fault", "sentinel", nothing, is_ordered=True),
    Row("kill -9 of the master", "sentinel", the_master_is_killed, loses=True),
    Row("frozen master returns", "sentinel", a_frozen_master_returns, loses=True),
    Row("SENTINEL FAILOVER", "sentinel", sentinel_fails_over, loses=True),
    Row("lagging replica promoted", "sentinel", a_lagging_replica_is_promoted, loses=True),
    Row("split brain for 4 s", "sentinel", the_brain_is_split, loses=True),
    Row(
        "five faults at random",
        "sentinel",
        at_random(
            the_master_is_killed,
            a_frozen_master_returns,
            sentinel_fails_over,
            everything_is_flushed,
        ),  # without those that freeze Sentinels, which then do nothing for 30 s (TILT)
        loses=True,
    ),
    Row("no fault", "cluster", nothing, is_ordered=True),
    Row(
        "slot moved key by key, sessions first",
        "cluster",
        a_slot_moves_sessions_first,
        is_ordered=True,
    ),
    Row(
        "slot moved key by key, counters first",
        "cluster",
        a_slot_moves_counters_first,
        is_ordered=True,
    ),
    Row("kill -9 of the master", "cluster", the_master_is_killed, loses=True),
    Row("graceful failover", "cluster", the_cluster_fails_over_gracefully, is_ordered=True),
    Row("frozen master returns", "cluster", a_frozen_master_returns, loses=True),
    Row("takeover, old master returns", "cluster", a_replica_takes_over, loses=True),
    Row("split brain for 4 s", "cluster", a_master_is_cut_off, loses=True),
    Row(
        "five faults at random",
        "cluster",
        at_random(
            a_slot_moves_sessions_first,
            a_slot_moves_counters_first,
            the_master_is_killed,
            the_cluster_fails_over_gracefully,
            a_frozen_master_returns,
            a_replica_takes_over,
            a_master_is_cut_off,
            instances_are_frozen,
        ),
        loses=True,
    ),
    Row("6 partitions, no fault", "cluster", nothing, partitions=6, is_ordered=True),
    Row(
        "6 partitions, one slot moved key by key",
        "cluster",
        a_slot_moves_sessions_first,
        partitions=6,
        is_ordered=True,
    ),
    Row(
        "6 partitions, kill -9 of a master",
        "cluster",
        the_master_is_killed,
        loses=True,
        partitions=6,
    ),
    Row(
        "6 partitions, a frozen master returns",
        "cluster",
        a_frozen_master_returns,
        loses=True,
        partitions=6,
    ),
    Row(
        "6 partitions, split brain of one shard for 4 s",
        "cluster",
        a_master_is_cut_off,
        loses=True,
        partitions=6,
    ),
)
