"""How the number of states grows with the bounds: the worlds of `spec/explored.json`."""

from __future__ import annotations

import math
from typing import Any

from docs.pictures import svg
from oracle.cli.manifest import read_manifest
from oracle.conform.shipped import SPEC

MANIFEST = SPEC / "explored.json"
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 720, 360, 70, 24, 310, 700


def _faults(bounds: dict[str, Any]) -> int:
    """How many events there can be besides calls: clock moves, crashes, losses and so on."""
    names = ("ticks", "crashes", "joins", "reuses", "give_ups", "losses", "key_losses",
             "rollbacks", "key_rollbacks")  # fmt: skip
    return sum(bounds[name] for name in names)


def draw() -> str:
    """A dot for each world: its states against its depth, on a logarithmic scale."""
    worlds = [world for world in read_manifest(MANIFEST) if world["finished"]]
    deepest = max(world["depth"] for world in worlds) + 1
    decades = math.ceil(math.log10(max(world["distinct_states"] for world in worlds)))

    def x(depth: float) -> float:
        return LEFT + (RIGHT - LEFT) * depth / deepest

    def y(states: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * math.log10(max(states, 1)) / decades

    drawn = []
    for decade in range(decades + 1):
        height = y(10**decade)
        drawn.append(svg.line(LEFT, height, RIGHT, height, "grid"))
        drawn.append(svg.text(LEFT - 8, height + 4, f"{10**decade:,}", "small", "end"))
    depths = range(0, deepest + 1, 4)
    drawn += [svg.text(x(d), BOTTOM + 18, str(d), "small", "middle") for d in depths]
    drawn.append(
        svg.text(RIGHT, BOTTOM + 36, "depth: events in the longest history", "small", "end")
    )
    drawn.append(svg.text(LEFT - 60, TOP - 8, "distinct states", "small"))
    for world in worlds:
        operations = world["bounds"]["operations"]
        drawn.append(
            svg.element(
                "circle",
                svg.element("title", f"{world['command']}: {world['distinct_states']:,} states"),
                cx=x(world["depth"]), cy=y(world["distinct_states"]),
                r=3 + _faults(world["bounds"]), class_=f"world calls-{min(operations, 3)}",
            )
        )  # fmt: skip
    for calls in (1, 2, 3):
        left = LEFT + 20 + (calls - 1) * 90
        drawn.append(
            svg.element("circle", cx=left, cy=BOTTOM + 34, r=5, class_=f"world calls-{calls}")
        )
        drawn.append(svg.text(left + 10, BOTTOM + 38, f"{calls} call{'s' * (calls > 1)}", "small"))
    return svg.picture(WIDTH, HEIGHT, "States of the explored worlds against their depth", *drawn)
