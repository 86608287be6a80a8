"""Counters whose prefix is divided into partitions (R21)."""
