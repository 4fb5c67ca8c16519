"""What a subscriber wishes: of what, from how bad on, at which hours, one by one or gathered."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from holdfast.base.errors import Refused
from holdfast.status.model import Cause, Impact
from holdfast.status.notices.archive import Written
from holdfast.status.words import Tag

Kind = Literal["email", "webhook", "apprise"]
"""How a notice reaches a subscriber. `apprise`: any service that the library of this name knows."""
Digest = Literal["", "hourly", "daily"]
Rank = Literal["maintenance", "minor", "major", "critical"]

RANKS: Final[dict[Impact, int]] = {"none": 0, "maintenance": 0, "minor": 1, "major": 2, "critical": 3}
ADDRESS_CHARS_MAX: Final = 320
"""Longest e-mail address (RFC 5321: 64 + 1 + 255); links may be longer."""
LINK_CHARS_MAX: Final = 1_000
DAILY_AT: Final = 8
"""Hour at which a daily digest is sent, in the subscriber's zone."""
_EMAIL: Final = re.compile(r"[^@\s,;<>\"\\]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}")
_HOUR: Final = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d")


class WishesInvalid(Refused):
    """The wishes of a subscription cannot be met; the message says which."""

    code = "status_subscription_invalid"


class Wishes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to send, and when.

    `components` and `causes`: none means all. `least`: impact from which on incidents are told; maintenance
    is told if `maintenance`. Between `quiet_from` and `quiet_to` (as 22:00 and 07:00, in `zone`) only what is
    as bad as `wakes` is sent at once, the rest in the morning, together.
    """

    tag: Tag = "en"
    components: Annotated[tuple[str, ...], msgspec.Meta(max_length=500)] = ()
    causes: Annotated[tuple[Cause, ...], msgspec.Meta(max_length=10)] = ()
    maintenance: bool = True
    least: Rank = "minor"
    quiet_from: str = ""
    quiet_to: str = ""
    wakes: Rank = "critical"
    zone: str = "UTC"
    digest: Digest = ""

    def check(self) -> None:
        """Refuse what cannot be. Raises: `WishesInvalid`."""
        for hour in (self.quiet_from, self.quiet_to):
            if hour and not _HOUR.fullmatch(hour):
                raise WishesInvalid(f"{hour[:20]!r} is not a time of day, as 22:00.")
        if bool(self.quiet_from) != bool(self.quiet_to):
            raise WishesInvalid("Quiet hours have a beginning and an end.")
        try:
            ZoneInfo(self.zone)
        except (KeyError, OSError, ValueError):
            raise WishesInvalid(f"{self.zone[:60]!r} is not a time zone, as Asia/Shanghai.") from None

    def wants(self, notice: Written) -> bool:
        """Tell whether a notice is to be sent."""
        if notice.kind == "maintenance":
            if not self.maintenance:
                return False
        elif RANKS[notice.impact] < RANKS[self.least]:
            return False
        if self.causes and notice.cause not in self.causes:
            return False
        return not self.components or any(one in self.components for one in notice.components)

    def due(self, notice: Written, now: datetime) -> tuple[datetime, bool]:
        """Return when a notice is to be sent, and whether it then goes together with others."""
        if self.quiet_from and RANKS[notice.impact] < RANKS[self.wakes]:
            until = self._quiet_until(now)
            if until is not None:
                return until, True
        if self.digest == "hourly":
            return now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1), True
        if self.digest == "daily":
            return self._next(now, DAILY_AT, 0), True
        return now, False

    def _quiet_until(self, now: datetime) -> datetime | None:
        local = now.astimezone(ZoneInfo(self.zone))
        at, start, end = f"{local:%H:%M}", self.quiet_from, self.quiet_to
        inside = start <= at < end if start < end else at >= start or at < end
        return self._next(now, int(end[:2]), int(end[3:])) if inside else None

    def _next(self, now: datetime, hour: int, minute: int) -> datetime:
        zone = ZoneInfo(self.zone)
        local = now.astimezone(zone)
        at = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
        if at <= local:
            at = (at.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=zone)
        return at.astimezone(now.tzinfo)


def check_address(kind: Kind, address: str) -> str:
    """Return an address as it is kept. Raises: `WishesInvalid`."""
    text = address.strip()
    if kind == "email":
        if len(text) > ADDRESS_CHARS_MAX or not _EMAIL.fullmatch(text):
            raise WishesInvalid("That is not an e-mail address, as name@example.org.")
        name, _, domain = text.rpartition("@")
        return f"{name}@{domain.lower()}"
    if len(text) > LINK_CHARS_MAX or "://" not in text or any(each.isspace() for each in text):
        raise WishesInvalid("That is not an address, as https://example.org/hook.")
    if kind == "webhook" and not text.startswith(("https://", "http://")):
        raise WishesInvalid("A webhook's address begins with https://.")
    return text
