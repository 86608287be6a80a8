"""Protocols that look right and are wrong: the explorer has to find the fault of each.

Each is a small change to the machine. Some are designs that were considered and rejected; `spec/`
gives the history that breaks each. The others are one for each rule and each idea that the machine
depends on, so that every property of `oracle.check.properties` is broken by some protocol.
"""

from oracle.check.broken.losses import LOSSES
from oracle.check.broken.protocol import Broken
from oracle.check.broken.requests import REQUESTS
from oracle.check.broken.slices import SLICES

BROKEN: dict[str, Broken] = {**REQUESTS, **LOSSES, **SLICES}
"""Every broken protocol, by a sentence that says what is wrong with it. Each has a world in which
the fault shows, and the property that it breaks there."""

__all__ = ["BROKEN", "Broken"]
