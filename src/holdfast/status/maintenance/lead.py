"""How long beforehand a window has to be told, and when people are reminded of it.

Working days are those of the countries of the policy: neither weekends nor public holidays, but for weekends
that are worked instead (the library `holidays` knows them).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import msgspec

from holdfast.status.holidays import holidays_of
from holdfast.status.words import Words

_DAY: Final = timedelta(days=1)


class Lead(msgspec.Struct, frozen=True):
    """One rule: so many working days, or hours, between the notice and the start."""

    id: str
    words: Words
    working_days: int = 0
    hours: int = 0
    country: str = ""
    """Whose working days count (ISO 3166, two letters); none: Monday to Friday."""
    source: str = ""
    sure: bool = True


LEADS: Final[dict[str, Lead]] = {
    "default": Lead("default", Words("5 working days", "5 个工作日"), working_days=5, source="our own habit"),
    "CN": Lead(
        "CN", Words("5 working days (China)", "5 个工作日（中国）"), working_days=5, country="CN",
        source="网络支付业务管理办法 (2015 No. 43); not confirmed that it still says so", sure=False,
    ),
    "IT-pagopa": Lead(
        "IT-pagopa", Words("72 hours (pagoPA)", "72 小时（pagoPA）"), hours=72, source="pagoPA service levels"
    ),
}  # fmt: skip
"""Rules that are known, by jurisdiction."""


class Reminder(msgspec.Struct, frozen=True):
    """A moment before the start at which people are reminded."""

    name: str
    words: Words
    working_days: int = 0
    hours: float = 0


def reminder(name: str) -> Reminder:
    """Read a reminder, as `5wd`, `24h` or `30min`. Raises: `ValueError`."""
    for unit, en, zh, hours in (("min", "minutes", "分钟", 1 / 60), ("h", "hours", "小时", 1.0)):
        if name.endswith(unit) and name.removesuffix(unit).isdecimal():
            many = int(name.removesuffix(unit))
            if not 0 < many * hours <= 24 * 60:
                break
            return Reminder(name, Words(f"in {many} {en}", f"{many} {zh}后"), hours=many * hours)
    if name.endswith("wd") and name.removesuffix("wd").isdecimal() and 0 < int(name[:-2]) <= 60:
        many = int(name[:-2])
        return Reminder(name, Words(f"in {many} working days", f"{many} 个工作日后"), working_days=many)
    raise ValueError(f"{name!r} is not a time before the start, as 5wd, 24h or 30min.")


def works(day: date, countries: Sequence[str]) -> bool:
    """Tell whether a day is worked in every one of some countries; with none, Monday to Friday."""
    if not countries:
        return day.weekday() < 5
    return all(holidays_of(country).is_working_day(day) for country in countries)


def before(starts_at: datetime, working_days: int, countries: Sequence[str], zone: ZoneInfo) -> datetime:
    """Return the same time of day so many working days before a start."""
    local = starts_at.astimezone(zone)
    day, left = local.date(), working_days
    while left:
        day -= _DAY
        if works(day, countries):
            left -= 1
    return datetime.combine(day, local.time(), zone)


def tell_by(starts_at: datetime, leads: Sequence[Lead], zone: ZoneInfo) -> tuple[datetime, Lead]:
    """Return by when a window has to be told, and by which rule: the strictest of some."""
    found = []
    for lead in leads:
        countries = (lead.country,) if lead.country else ()
        at = before(starts_at, lead.working_days, countries, zone) if lead.working_days else starts_at
        found.append((at - timedelta(hours=lead.hours), lead))
    return min(found, key=lambda both: both[0])


def remind_at(starts_at: datetime, one: Reminder, countries: Sequence[str], zone: ZoneInfo) -> datetime:
    """Return when a reminder is due."""
    if one.working_days:
        return before(starts_at, one.working_days, countries, zone)
    return starts_at - timedelta(hours=one.hours)


class Avoid(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Days of one's own on which nothing is planned."""

    name: Words
    first: date
    last: date


_Day = Annotated[int, msgspec.Meta(ge=-1, le=31)]


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator settles for all windows.

    `paydays` and `bills_due`: days of the month, -1 the last one. `objective`: the share of time that each
    capability should work, over 30 days.
    """

    zone: str = "UTC"
    leads: tuple[str, ...] = ("default",)
    countries: tuple[str, ...] = ()
    reminders: tuple[str, ...] = ("5wd", "24h", "1h")
    paydays: tuple[_Day, ...] = ()
    bills_due: tuple[_Day, ...] = ()
    festivals: tuple[str, ...] = ("618", "singles_day", "double_twelve", "black_friday")
    avoid: Annotated[tuple[Avoid, ...], msgspec.Meta(max_length=500)] = ()
    objective: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.999
    drain_s: Annotated[int, msgspec.Meta(ge=0, le=3_600)] = 120
    """So long before the start nothing new is begun on what will be cut."""

    def time_zone(self) -> ZoneInfo:
        """Return the zone in which days are counted. Raises: `ValueError`."""
        try:
            return ZoneInfo(self.zone)
        except (KeyError, OSError, ValueError):
            raise ValueError(f"{self.zone!r} is not a time zone, as Asia/Shanghai.") from None

    def all_leads(self) -> list[Lead]:
        """Return the rules that apply. Raises: `ValueError`."""
        for name in self.leads:
            if name not in LEADS:
                raise ValueError(f"{name!r} is not a lead time that is known: {', '.join(LEADS)}.")
        return [LEADS[name] for name in self.leads] or [LEADS["default"]]

    def all_reminders(self) -> list[Reminder]:
        """Return the reminders. Raises: `ValueError`."""
        return [reminder(name) for name in self.reminders]

    def check(self) -> None:
        """Refuse what cannot be used. Raises: `ValueError`."""
        self.time_zone()
        self.all_leads()
        self.all_reminders()
        for country in self.countries:
            holidays_of(country)
