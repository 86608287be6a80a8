"""How hard Hypothesis tries: HYPOTHESIS_PROFILE is `default`, `quick` (0.1 x), `nightly` (20 x)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = 80
"""Histories of each stateful test in the default profile; there are 12, on four servers."""

HUNT = 300
"""Histories within which the state machine alone must find a planted defect, on one server."""

STEPS = 50
"""The most steps of a history."""

FACTORS = {"default": 1.0, "quick": 0.1, "nightly": 20.0}


def load() -> str:
    """Register the profiles, load the one that is asked for, and return its name."""
    for name, factor in FACTORS.items():
        settings.register_profile(
            name,
            max_examples=int(EXAMPLES * factor),
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
    profile = _asked_for()
    settings.load_profile(profile)
    return profile


def scaled(examples: int) -> int:
    """So many examples in the default profile, and accordingly in the others."""
    return max(1, int(examples * FACTORS[_asked_for()]))


def _asked_for() -> str:
    profile = os.environ.get("HYPOTHESIS_PROFILE", "default")
    if profile not in FACTORS:
        raise ValueError(f"HYPOTHESIS_PROFILE must be one of {', '.join(FACTORS)}, not {profile}")
    return profile
