"""Ways to break the protocol, one rule each: what the invariants must notice."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Final

from holdfast.domains.payments.rules.settings import Rules

EVERY: Final = tuple(field.name for field in fields(Rules))


def without(rule: str) -> Rules:
    """Return the protocol without one rule."""
    return replace(Rules(), **{rule: False})
