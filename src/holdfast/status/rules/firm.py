"""The firm that reports, and the working days of where it is."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from holdfast.status.holidays import holidays_of
from holdfast.status.rules.errors import CountryUnknown, LeiWrong
from holdfast.status.rules.record import Figure


class Contact(msgspec.Struct, frozen=True):
    """A person whom the authority can reach."""

    name: str = ""
    email: str = ""
    telephone: str = ""


class Firm(msgspec.Struct, frozen=True, kw_only=True):
    """Who reports. `kinds` uses the words of field 1.4 of the EU template; `currency` is that of all values.

    `eur_per_unit`: euros for one unit of the currency; not needed for EUR. `nis2`: an essential or important
    entity (Directive (EU) 2022/2555, Article 3). `designated`: the authority decided that weekends do not
    count for it (Regulation (EU) 2025/301, Article 5(6)). `micro`, `simplified`: a microenterprise, or a firm
    of Article 16(1) of Regulation (EU) 2022/2554. `india_size`: of a payment system operator.
    Raises: `LeiWrong`.
    """

    name: str = ""
    lei: str = ""
    kinds: tuple[str, ...] = ()
    country: str = ""
    subdivision: str = ""
    zone: str = "UTC"
    currency: str = "EUR"
    eur_per_unit: Figure | None = None
    affected_name: str = ""
    affected_lei: str = ""
    parent_name: str = ""
    parent_lei: str = ""
    contacts: tuple[Contact, ...] = ()
    nis2: bool = False
    designated: bool = False
    micro: bool = False
    simplified: bool = False
    india_size: str = "large"
    tier1_eur: Figure | None = None
    """Tier 1 capital in EUR, for the economic threshold of the former EBA guidelines."""

    def __post_init__(self) -> None:
        for lei in (self.lei, self.affected_lei, self.parent_lei):
            if lei and not lei_holds(lei):
                raise LeiWrong(
                    f"{lei}: 20 capital letters and digits, whose check digits hold. Copy it again."
                )

    def rate(self) -> Figure | None:
        """Return euros for one unit of the reporting currency. None: not known."""
        return Figure(1.0) if self.currency == "EUR" else self.eur_per_unit


def lei_holds(lei: str) -> bool:
    """Say whether a legal entity identifier holds (ISO 17442-1, check digits ISO 7064 MOD 97-10)."""
    if (
        len(lei) != 20
        or not lei.isascii()
        or not lei.isalnum()
        or lei != lei.upper()
        or not lei[18:].isdigit()
    ):
        return False
    if re.fullmatch("[0-9A-Z]{18}[0-9]{2}", lei) is None:
        return False
    return int("".join(str(int(letter, 36)) for letter in lei)) % 97 == 1


def zone_of(firm: Firm) -> ZoneInfo:
    """Return the zone whose noon and weekends count. Raises: `CountryUnknown`."""
    try:
        return ZoneInfo(firm.zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise CountryUnknown(f"{firm.zone}: not a time zone. Write it as Europe/Berlin.") from error


def works(day: date, firm: Firm) -> bool:
    """Say whether a day is a working day at the firm: no weekend, no bank holiday.

    Raises: `CountryUnknown`.
    """
    if day.weekday() >= 5:
        return False
    if not firm.country:
        return True
    try:
        return day not in holidays_of(firm.country, firm.subdivision)
    except ValueError as error:
        raise CountryUnknown(f"{error} Check the code.") from None


def moved(due: datetime, firm: Firm) -> datetime:
    """Return noon of the next working day if a time limit falls on a day off, else the limit itself.

    Regulation (EU) 2025/301, Article 5(4). Days and noon are those of the firm's zone; the result keeps UTC.
    """
    zone = zone_of(firm)
    local = due.astimezone(zone)
    if works(local.date(), firm):
        return due
    day = local.date()
    while not works(day, firm):
        day += timedelta(days=1)
    return datetime.combine(day, time(12), zone).astimezone(due.tzinfo)


def working_days_after(moment: datetime, days: int, firm: Firm) -> datetime:
    """Return the same time of day some working days later, in the firm's zone."""
    local = moment.astimezone(zone_of(firm))
    while days > 0:
        local += timedelta(days=1)
        days -= works(local.date(), firm)
    return local.astimezone(moment.tzinfo)
