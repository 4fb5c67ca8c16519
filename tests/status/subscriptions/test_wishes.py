"""What a subscriber wishes is what it gets, at its hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from holdfast.status.graph import default
from holdfast.status.notices.archive import Written, touched
from holdfast.status.subscriptions.wishes import Wishes, WishesInvalid, check_address

NOON = datetime(2026, 11, 11, 12, 0, tzinfo=UTC)


def notice(**more: Any) -> Written:
    one = Written(
        "upd_1", NOON, "HF-0000-0000", "inc_1", "incident", "technical", "major", False,
        ("north", "pay-card"), {}, {}, {}, {},
    )  # fmt: skip
    return msgspec.structs.replace(one, **more)


@pytest.mark.parametrize(
    ("wishes", "one", "wanted"),
    [
        (Wishes(), notice(), True),
        (Wishes(components=("pay-card",)), notice(), True),
        (Wishes(components=("refund",)), notice(), False),
        (Wishes(causes=("security",)), notice(), False),
        (Wishes(causes=("security", "technical")), notice(), True),
        (Wishes(least="critical"), notice(), False),
        (Wishes(least="major"), notice(), True),
        (
            Wishes(least="critical"),
            notice(kind="maintenance", cause="maintenance", impact="maintenance"),
            True,
        ),
        (Wishes(maintenance=False), notice(kind="maintenance", cause="maintenance"), False),
        (Wishes(causes=("security",)), notice(kind="maintenance", cause="maintenance"), False),
    ],
)
def test_only_what_is_wished_is_sent(wishes: Wishes, one: Written, wanted: bool) -> None:
    assert wishes.wants(one) is wanted


def test_who_pays_by_card_hears_of_a_card_provider_also_while_another_does_it() -> None:
    found = touched(("north",), default())
    assert "pay-card" in found
    assert "top-up" in found
    assert "pay-balance" not in found


@pytest.mark.parametrize(
    ("at", "impact", "due"),
    [
        ("2026-11-11T13:59:00+00:00", "major", None),
        ("2026-11-11T14:00:00+00:00", "major", "2026-11-11T23:00:00+00:00"),
        ("2026-11-11T22:59:00+00:00", "major", "2026-11-11T23:00:00+00:00"),
        ("2026-11-11T23:00:00+00:00", "major", None),
        ("2026-11-11T15:00:00+00:00", "critical", None),
    ],
)
def test_quiet_hours_hold_what_is_not_so_bad_until_the_morning(at: str, impact: Any, due: str | None) -> None:
    """22:00 to 07:00 in Shanghai is 14:00 to 23:00 UTC."""
    wishes = Wishes(quiet_from="22:00", quiet_to="07:00", zone="Asia/Shanghai")
    now = datetime.fromisoformat(at)
    found = wishes.due(notice(impact=impact), now)
    assert found == ((now, False) if due is None else (datetime.fromisoformat(due), True))


def test_quiet_hours_within_one_day_and_digests_are_due_at_their_hours() -> None:
    nap = Wishes(quiet_from="12:00", quiet_to="14:00")
    assert nap.due(notice(), NOON) == (NOON + timedelta(hours=2), True)
    assert nap.due(notice(), NOON + timedelta(hours=2)) == (NOON + timedelta(hours=2), False)
    assert Wishes(digest="hourly").due(notice(), NOON + timedelta(minutes=20)) == (
        NOON + timedelta(hours=1),
        True,
    )
    daily = Wishes(digest="daily", zone="Asia/Shanghai").due(notice(), NOON)
    assert daily == (datetime(2026, 11, 12, 0, 0, tzinfo=UTC), True)


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(quiet_from="25:00", quiet_to="07:00"),
        Wishes(quiet_from="22:00"),
        Wishes(zone="Mars/Olympus"),
        Wishes(zone="../../etc/passwd"),
    ],
)
def test_wishes_that_cannot_be_are_refused(wishes: Wishes) -> None:
    with pytest.raises(WishesInvalid):
        wishes.check()


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("email", "nobody"),
        ("email", "a@b"),
        ("email", "a b@example.org"),
        ("email", "a@example.org\r\nBcc: all@example.org"),
        ("email", "a@example.org,b@example.org"),
        ("email", "x" * 65 + "@example.org"),
        ("webhook", "ftp://example.org/x"),
        ("webhook", "example.org/x"),
        ("webhook", "https://example.org/" + "x" * 1_000),
        ("apprise", "no scheme"),
    ],
)
def test_v5_0_0_2_2_1_an_address_that_is_none_is_refused(kind: Any, address: str) -> None:
    with pytest.raises(WishesInvalid):
        check_address(kind, address)


def test_an_address_is_kept_in_one_way_of_writing() -> None:
    assert check_address("email", " Ann@Example.ORG ") == "Ann@example.org"
