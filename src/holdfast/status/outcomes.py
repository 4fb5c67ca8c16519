"""What is measured: outcomes of payments as the wallet tells them, and what probes from outside find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

BUCKET_S: Final = 10
"""Outcomes are kept in buckets of so many seconds."""
COUNTS_KEEP_DAYS: Final = 56
"""Eight of each hour of the week, from which it is learned what is normal."""
PROBES_KEEP_DAYS: Final = 90


class Count(msgspec.Struct, frozen=True):
    """Outcomes of one leaf in one bucket, each payment counted once.

    `failed` is technical: errors and silence of the other side. `declined` is the payer's bank or funds
    saying no, which counts against no rail.
    """

    bucket_s: int
    capability: str
    rail: str
    bank: str
    country: str
    succeeded: int
    failed: int
    declined: int


def belongs(facts: Mapping[str, str], count: Count) -> bool:
    """Tell whether outcomes belong to a component with some facts."""
    return all(getattr(count, name, None) == value for name, value in facts.items())


Outcome = Literal["ok", "failed", "unmeasured"]
"""What a probe found. `unmeasured`: it could not try, or was refused, which says nothing of the wallet."""


class Probed(msgspec.Struct, frozen=True):
    """What a probe found. `target` is a component."""

    at_s: float
    target: str
    outcome: Outcome
    took_ms: int
