"""What a property is, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar


class Violation(AssertionError):
    """A property does not hold. The message names the property and its rules."""


class Property(NamedTuple):
    """One property.

    Attributes:
        rules: the rules of `spec/` that it follows from.
        name: its name, in the tables of `spec/` and in the message of a violation.
        statement: what it says, in words.
        check: takes an observation; returns what is wrong with it, or an empty string.
    """

    rules: str
    name: str
    statement: str
    check: Callable[[Any], str]


PROPERTIES: dict[type, list[Property]] = {}
"""Every property that is checked, by the class of the observation that it looks at."""

Check = TypeVar("Check", bound=Callable[[Any], str])


def declare(observed: type, rules: str, name: str) -> Callable[[Check], Check]:
    """Declare the function below as a property of these observations. Its docstring is the
    statement."""

    def register(check: Check) -> Check:
        statement = " ".join((check.__doc__ or "").split())
        PROPERTIES.setdefault(observed, []).append(Property(rules, name, statement, check))
        return check

    return register


def check(observation: NamedTuple) -> None:
    """Raise Violation unless every property of this kind of observation holds."""
    for prop in PROPERTIES[type(observation)]:
        wrong = prop.check(observation)
        if wrong:
            raise Violation(f"{prop.rules}, {prop.name}: {wrong}")
