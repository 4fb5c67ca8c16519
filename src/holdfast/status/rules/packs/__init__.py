"""The packs: one module for each place whose rules are known."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from holdfast.status.rules.assessment import Assessment, Pack
from holdfast.status.rules.firm import Firm
from holdfast.status.rules.packs import china, eu_dora, india, malaysia, singapore, uk
from holdfast.status.rules.record import Record

PACKS: Final[dict[str, Pack]] = {pack.ID: pack for pack in (eu_dora, uk, singapore, malaysia, india, china)}
"""Each pack by its id."""


def assess_all(record: Record, now: datetime, firm: Firm) -> tuple[Assessment, ...]:
    """Return what every pack says of a record. Raises: `CountryUnknown`."""
    return tuple(pack.assess(record, now, firm) for pack in PACKS.values())
