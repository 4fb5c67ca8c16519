"""Merchants and their keys, as the operations promise them."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from uuid import UUID

import pytest

from holdfast.base.ids import IdSource, MerchantId
from holdfast.domains.merchants import (
    KeyId,
    KeyInvalid,
    MerchantInvalid,
    MerchantRules,
    Merchants,
    Role,
    digest,
    key_id,
)
from holdfast.domains.merchants.rules import check_merchant
from holdfast.platform.db import Database

NOW = datetime(2026, 3, 1, tzinfo=UTC)
IDS = IdSource(lambda: time.time_ns() // 1_000_000)


@pytest.fixture
def merchants(database: Database) -> Merchants:
    return Merchants(database, time.monotonic, os.urandom)


async def test_of_many_that_make_the_same_half_of_a_business_at_once_one_does(merchants: Merchants) -> None:
    business = IDS.new()
    asked = [merchants.enrol(IDS.new(), business, f"Shop {i}", NOW, live=i % 2 == 0) for i in range(16)]
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, MerchantInvalid) for one in done) == 14, done
    test, live = await merchants.of_business(business)
    assert (test.live, live.live) == (False, True)
    assert [one for one in done if not isinstance(one, BaseException)] in ([test, live], [live, test])


async def test_a_merchant_that_is_there_already_stays_as_it_is(merchants: Merchants) -> None:
    id_, business = IDS.new(), IDS.new()
    first = await merchants.enrol(id_, business, "Shop", NOW, live=False)
    assert await merchants.enrol(id_, business, "Another name", NOW, live=False) == first


async def test_merchants_of_one_moment_are_still_listed_once_each(merchants: Merchants) -> None:
    made = {(await merchants.enrol(IDS.new(), IDS.new(), "Shop", NOW, live=False)).id for _ in range(7)}
    seen: list[MerchantId] = []
    while page := await merchants.merchants(after=seen[-1] if seen else None, limit=3):
        seen += [one.id for one in page]
    assert len(seen) == 7
    assert set(seen) == made


async def test_a_key_is_found_by_an_id_that_does_not_open_anything(merchants: Merchants) -> None:
    shop = await merchants.enrol(IDS.new(), IDS.new(), "Shop", NOW, live=True)
    keys = [(await merchants.issue_key(shop, Role.FULL, NOW)).reveal() for _ in range(5)]
    for key in keys:
        found = await merchants.key(key_id(digest(key)))
        assert (found.digest, found.merchant, found.id) == (digest(key), shop.id, key_id(digest(key)))
    listed = await merchants.keys(shop.id)
    assert {one.id for one in listed} == {key_id(digest(key)) for key in keys}
    for id_ in (KeyId(UUID(int=0)), KeyId(UUID(int=2**128 - 1))):
        with pytest.raises(KeyInvalid):
            await merchants.key(id_)


NAMES: list[tuple[str, str, bool]] = [
    ("a name in any script", "海港咖啡 ☕ كافيه", True),
    ("a name of the greatest length", "x" * 120, True),
    ("a name that is too long", "x" * 121, False),
    ("an empty name", "", False),
    ("a name of spaces", "  ", False),
    ("a name with an escape that a terminal obeys", "\x1b[2JShop", False),
    ("a name with a NUL, which PostgreSQL cannot keep", "a\0", False),
    ("a name with half a character, which UTF-8 cannot write", "a\udcff", False),
    ("a name of two lines", "a\nb", False),
]


@pytest.mark.parametrize(("name", "kept"), [row[1:] for row in NAMES], ids=[row[0] for row in NAMES])
def test_a_name_can_be_kept_and_shown_or_is_refused(name: str, kept: bool) -> None:
    if kept:
        check_merchant(name, MerchantRules())
    else:
        with pytest.raises(MerchantInvalid):
            check_merchant(name, MerchantRules())
