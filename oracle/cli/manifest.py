"""The manifest of what was explored: `spec/explored.json`, whose schema is beside it.

It has one entry for each world, found again by the world's bounds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from oracle.check.fast.search import Exploration
from oracle.check.state import Bounds
from oracle.check.trace import encode_bounds
from oracle.model import VERSION

Entry = dict[str, Any]


class NotAManifest(ValueError):
    """The file is not a manifest. The message says why."""


def entry(bounds: Bounds, command: str, found: Exploration) -> Entry:
    """One exploration as the manifest has it."""
    return {
        "command": command,
        "bounds": encode_bounds(bounds),
        "distinct_states": found.states,
        "states_before_symmetry": found.states_before_symmetry,
        "transitions": found.transitions,
        "depth": found.depth,
        "seconds": round(found.seconds, 1),
        "finished": found.finished,
        "found": found.violation,
        "protocol": VERSION,
    }


def read_manifest(path: Path) -> list[Entry]:
    """The entries of a manifest. A file that does not exist has none.

    Raises:
        NotAManifest: the file holds something else.
    """
    if not path.exists():
        return []
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise NotAManifest(f"{path} is not JSON: {error}") from None
    worlds = manifest.get("worlds") if isinstance(manifest, dict) else None
    if not isinstance(worlds, list) or not all(
        isinstance(world, dict) and "bounds" in world for world in worlds
    ):
        raise NotAManifest(f'{path} needs "worlds": a list of objects with "bounds"')
    return worlds


def write_manifest(path: Path, worlds: list[Entry], new: Entry) -> None:
    """Write the entries with the new one, in place of the entry of the same world if there is one.
    Each stands on a line of its own."""
    places = [place for place, world in enumerate(worlds) if world["bounds"] == new["bounds"]]
    worlds = list(worlds)
    if places:
        worlds[places[0]] = new
    else:
        worlds.append(new)
    lines = ",\n".join(json.dumps(world) for world in worlds)
    path.write_text(f'{{"worlds": [\n{lines}\n]}}\n', "utf-8")
