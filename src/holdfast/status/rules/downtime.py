"""Downtime against an allowance: how much of, say, four hours in any twelve months a system has used.

A window is half open: it holds what lies after the same moment twelve months ago. Periods that overlap count
once; planned ones do not count. Months are calendar months: 29 February a year on is 28 February.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec
from dateutil.relativedelta import relativedelta

from holdfast.status.rules.errors import RecordInvalid

MONTHS: Final = 12


class Stop(msgspec.Struct, frozen=True):
    """One period without the system. `end` None: still. Raises: `RecordInvalid`."""

    start: datetime
    end: datetime | None = None
    planned: bool = False

    def __post_init__(self) -> None:
        if self.start.utcoffset() is None or (self.end is not None and self.end.utcoffset() is None):
            raise RecordInvalid("stop: the time has no zone. Give it in UTC.")
        if self.end is not None and self.end < self.start:
            raise RecordInvalid("stop: it ends before it starts. Correct one of the two.")


class Ledger(msgspec.Struct, frozen=True):
    """How an allowance stands at one moment. Seconds.

    `relief_at`: from then on the oldest period begins to fall out of the window; `oldest_out_at`: it is out.
    Both are None where nothing counts.
    """

    window_from: datetime
    allowance_s: float
    used_s: float
    left_s: float
    exceeded: bool
    relief_at: datetime | None
    oldest_out_at: datetime | None


def merged(stops: Iterable[Stop], now: datetime) -> tuple[tuple[datetime, datetime], ...]:
    """Return the unplanned periods until now, oldest first, those that overlap or touch made one."""
    spans = sorted(
        (stop.start, min(stop.end or now, now)) for stop in stops if not stop.planned and stop.start < now
    )
    joined: list[tuple[datetime, datetime]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return tuple(joined)


def ledger(stops: Iterable[Stop], now: datetime, allowance_s: float, months: int = MONTHS) -> Ledger:
    """Return how much of an allowance (seconds) the window of some months up to now has used."""
    window_from = later(now, -months)
    inside = [(max(start, window_from), end) for start, end in merged(stops, now) if end > window_from]
    used_s = sum((end - start).total_seconds() for start, end in inside)
    return Ledger(
        window_from,
        allowance_s,
        used_s,
        max(allowance_s - used_s, 0),
        used_s > allowance_s,
        later(inside[0][0], months) if inside else None,
        later(inside[0][1], months) if inside else None,
    )


def worst(stops: Iterable[Stop], now: datetime, allowance_s: float, months: int = MONTHS) -> Ledger:
    """Return the fullest of all windows that end up to now: the most was used where a period ended."""
    given = tuple(stops)
    ends = {end for _, end in merged(given, now)} | {now}
    return max((ledger(given, end, allowance_s, months) for end in sorted(ends)), key=lambda one: one.used_s)


def later(moment: datetime, months: int) -> datetime:
    """Return the moment some calendar months on (or back), at the end of a month that is too short."""
    moved: datetime = moment + relativedelta(months=months)
    return moved
