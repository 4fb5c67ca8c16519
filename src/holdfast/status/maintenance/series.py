"""Windows that recur, by a rule of RFC 5545 (RRULE), in the hours of a time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from dateutil.rrule import DAILY, rrule, rrulestr

from holdfast.status.maintenance.book import MaintenanceInvalid
from holdfast.status.maintenance.plan import Series

HORIZON: Final = timedelta(days=60)
"""Windows of a series are planned so long beforehand: more than any lead time."""
RULE_CHARS_MAX: Final = 200
WINDOWS_MAX: Final = 70
"""Windows of one series planned at a time."""


def rule_of(series: Series) -> rrule:
    """Return the rule of a series, in local time without a zone. Raises: `MaintenanceInvalid`."""
    text = series.rule.removeprefix("RRULE:")
    if len(text) > RULE_CHARS_MAX or "\n" in text:
        raise MaintenanceInvalid(f"A rule has at most {RULE_CHARS_MAX} characters, on one line.")
    try:
        zone = ZoneInfo(series.zone)
        start = series.starts_at.astimezone(zone).replace(tzinfo=None)
        made = rrulestr(text, dtstart=start)
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise MaintenanceInvalid(f"{text!r} is not a rule, as FREQ=WEEKLY;BYDAY=TU: {error}.") from None
    if not isinstance(made, rrule) or made._freq > DAILY:  # noqa: SLF001 - there is no public name of it
        raise MaintenanceInvalid("A rule is YEARLY, MONTHLY, WEEKLY or DAILY.")
    return made


def windows(series: Series, now: datetime) -> list[tuple[datetime, datetime]]:
    """Return the windows of a series that start from now until the horizon, with an offset."""
    if series.ended:
        return []
    zone, lasts = ZoneInfo(series.zone), series.ends_at - series.starts_at
    from_, to = (at.astimezone(zone).replace(tzinfo=None) for at in (now, now + HORIZON))
    found = []
    for local in rule_of(series).between(from_, to)[:WINDOWS_MAX]:
        starts_at = local.replace(tzinfo=zone).astimezone(UTC)
        found.append((starts_at, starts_at + lasts))
    return found
