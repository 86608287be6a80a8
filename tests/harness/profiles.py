"""How many examples Hypothesis tries. HYPOTHESIS_PROFILE is `default`, `quick` (0.1 x), `nightly`
(20 x), or `mutants`: as `quick`, but without shrinking, since nobody reads what fails."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

EXAMPLES = 80
"""How many histories each stateful test tries in the default profile. There are 12 such tests, on
four servers."""

HUNT = 300
"""Within how many histories the state machine alone must find a planted defect, on one server."""

STEPS = 50
"""How many steps a history has at the most."""

FACTORS = {"default": 1.0, "quick": 0.1, "nightly": 20.0, "mutants": 0.1}
NOT_SHRUNK = Phase.explicit, Phase.reuse, Phase.generate, Phase.target


def load() -> str:
    """Register the profiles, load the requested one, and return its name."""
    for name, factor in FACTORS.items():
        settings.register_profile(
            name,
            max_examples=int(EXAMPLES * factor),
            phases=NOT_SHRUNK if name == "mutants" else tuple(Phase),
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
    profile = _requested()
    settings.load_profile(profile)
    return profile


def scaled(examples: int) -> int:
    """Scale a number of examples, given for the default profile, to the requested profile."""
    return max(1, int(examples * FACTORS[_requested()]))


def _requested() -> str:
    profile = os.environ.get("HYPOTHESIS_PROFILE", "default")
    if profile not in FACTORS:
        raise ValueError(f"HYPOTHESIS_PROFILE must be one of {', '.join(FACTORS)}, not {profile}")
    return profile


def is_nightly() -> bool:
    """Whether the run may take hours."""
    return _requested() == "nightly"
