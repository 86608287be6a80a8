"""The JSON Schema of the line protocol, spec/line-protocol.schema.json: it is shipped, and checks
what is said.

A port's author can check with it too. Unknown fields pass, so that old and new ports and runners
understand each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import fastjsonschema

from oracle.conform.shipped import SPEC

FILE = SPEC / "line-protocol.schema.json"


@cache
def definitions() -> dict[str, Any]:
    """The schema's definitions, by name."""
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))["definitions"]
    return found


@cache
def _validator(definition: str) -> Callable[[Any], Any]:
    schema = {"$ref": f"#/definitions/{definition}", "definitions": definitions()}
    compiled: Callable[[Any], Any] = fastjsonschema.compile(schema)
    return compiled


def problem(definition: str, value: Any) -> str:
    """What keeps a value from being one of this definition, in words; empty if nothing does."""
    try:
        _validator(definition)(value)
    except fastjsonschema.JsonSchemaValueException as error:
        return _words(error)
    return ""


def _words(error: fastjsonschema.JsonSchemaValueException) -> str:
    place = str(error.name).removeprefix("data").removeprefix(".") or "it"
    rule, wanted, value = str(error.rule), error.rule_definition, error.value
    if rule == "required":
        missing = ", ".join(f'"{name}"' for name in wanted if name not in value)
        return f"needs {missing}" if place == "it" else f'"{place}" needs {missing}'
    if rule in ("enum", "const"):
        allowed = wanted if rule == "enum" else [wanted]
        return f'"{place}" must be {" or ".join(map(json.dumps, allowed))}, not {value!r}'
    kinds = {"type": f"of type {wanted}", "minimum": f"at least {wanted}"}
    return f'"{place}" must be {kinds.get(rule, f"as {rule} {wanted} says")}, not {value!r}'
