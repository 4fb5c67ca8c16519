"""What Singapore and Malaysia count alike: the unplanned downtime of a critical system in twelve months."""

from __future__ import annotations

from datetime import datetime

from holdfast.status.rules.downtime import Stop, ledger
from holdfast.status.rules.record import Bounds, Record


def rolling(record: Record, now: datetime) -> Bounds:
    """Return the seconds used up to now, this incident with them. Earlier ones not known: a least value."""
    stops = list(record.earlier or ())
    if record.partly_unavailable_from is not None:
        stops.append(Stop(record.partly_unavailable_from, record.restored, record.planned))
    used = ledger(stops, now, 0).used_s
    known = record.earlier is not None and (
        record.partly_unavailable_from is not None or record.unavailable is False or record.planned
    )
    return Bounds(used if stops or known else None, used if known else None)
