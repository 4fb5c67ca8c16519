"""Personal texts are sealed for whom they are about, open while the key is there, and are noise after."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from holdfast.base.limits import METADATA_SEALED_CHARS_MAX, METADATA_VALUE_CHARS_MAX
from holdfast.base.sealed import ERASED, is_sealed
from holdfast.platform import seals
from holdfast.platform.db import Database
from holdfast.platform.seals import Note

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HERE, THERE = UUID(int=1), UUID(int=2)
TEXTS = {"reference": "rent for Mei, flat 3", "note": "午餐 🍜", "empty": ""}


async def sealed(database: Database, subject: str = "pyr_1", context: UUID = HERE) -> dict[str, str]:
    [found] = await seals.seal(database, [Note(subject, context, TEXTS)], now=NOW)
    return found


async def test_what_is_sealed_opens_and_the_same_again_seals_to_the_same(database: Database) -> None:
    found = await sealed(database)
    assert all(map(is_sealed, found.values()))
    assert not any(text and text in found[name] for name, text in TEXTS.items())
    assert await seals.opened(database, [(HERE, found), (HERE, {"plain": "as it is"})]) == [
        TEXTS,
        {"plain": "as it is"},
    ]
    assert await sealed(database) == found, "so that a request that comes again is recognised"
    elsewhere, another = await sealed(database, context=THERE), await sealed(database, "pyr_2")
    assert len({*found.values(), *elsewhere.values(), *another.values()}) == 9


async def test_the_longest_text_fits_once_it_is_sealed(database: Database) -> None:
    longest = {"n" * 40: "🍜" * METADATA_VALUE_CHARS_MAX}
    [found] = await seals.seal(database, [Note("pyr_1", HERE, longest)], now=NOW)
    assert len(found["n" * 40]) <= METADATA_SEALED_CHARS_MAX
    assert await seals.opened(database, [(HERE, found)]) == [longest]


async def test_without_the_key_nothing_opens_and_others_are_not_touched(database: Database, dsn: str) -> None:
    found, other = await sealed(database), await sealed(database, "pyr_2")
    assert await seals.erase(database, "pyr_1", now=NOW)
    assert not await seals.erase(database, "pyr_1", now=NOW)
    assert not await seals.erase(database, "nobody", now=NOW)
    assert await seals.opened(database, [(HERE, found), (HERE, other)]) == [
        dict.fromkeys(TEXTS, ERASED),
        TEXTS,
    ]
    again = await sealed(database)
    assert set(again.values()) & set(found.values()) == set()
    assert await seals.opened(database, [(HERE, again), (HERE, found)]) == [
        TEXTS,
        dict.fromkeys(TEXTS, ERASED),
    ]
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "select subject, key from seals.keys where erased_at is not null"
        ).fetchall()
    assert rows == [(None, None)]


async def test_a_key_that_was_destroyed_is_not_in_the_table_s_pages_any_more(
    database: Database, dsn: str
) -> None:
    await sealed(database)
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("select key from seals.keys").fetchone()
        assert row is not None
        await seals.erase(database, "pyr_1", now=NOW)
        connection.execute("checkpoint")
        path = connection.execute("select pg_relation_filepath('seals.keys')").fetchone()
        assert path is not None
        page = connection.execute("select pg_read_binary_file(%s)", path).fetchone()
    assert page is not None
    assert bytes(row[0]) not in bytes(page[0])


async def test_what_was_altered_moved_or_forged_does_not_open(database: Database) -> None:
    found = await sealed(database)
    text = found["reference"]
    key_id = text.split(":")[1]
    forged = {
        "note": found["reference"],
        "reference": text[:-6] + ("A" if text[-6] != "A" else "B") + text[-5:],
        "short": f"sealed:{key_id}:AAAA",
        "odd": f"sealed:{key_id}:A",
        "strange": f"sealed:{key_id}:💥",
        "no key": "sealed:",
        "another key": "sealed:" + base64.urlsafe_b64encode(bytes(12)).decode() + ":AAAA",
    }
    assert await seals.opened(database, [(HERE, forged)]) == [dict.fromkeys(forged, ERASED)]
    assert (await seals.opened(database, [(THERE, found)]))[0]["reference"] == ERASED


async def test_many_who_seal_for_one_person_at_once_use_one_key(database: Database, dsn: str) -> None:
    found = await asyncio.gather(*(sealed(database, "pyr_9") for _ in range(12)))
    assert all(one == found[0] for one in found)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select count(*) from seals.keys").fetchall() == [(1,)]


async def test_nothing_to_seal_asks_nobody() -> None:
    nowhere = Database("postgresql://nowhere.invalid/")
    assert await seals.seal(nowhere, [Note("pyr_1", HERE, {})], now=NOW) == [{}]
    assert await seals.opened(nowhere, [(HERE, {"plain": "x"})]) == [{"plain": "x"}]


@pytest.mark.parametrize("role", ["public"])
def test_keys_are_closed_to_everybody_else(dsn: str, role: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("create role curious")
        connection.execute("set role curious")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from seals.keys")
