"""`verify` says that untouched books are sound, and names what was touched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from random import Random

import psycopg
import pytest

from holdfast.domains.ledger.operations import PostgresLedger
from holdfast.domains.ledger.verify import verify
from holdfast.platform.db import Database
from holdfast.platform.postgres import EmbeddedPostgres
from tests.ledger.workload import StillClock, Workload, accounts


async def filled(database: Database, seed: int, lists: int = 120) -> None:
    clock = StillClock()
    opened = accounts(30)
    work = Workload(seed, opened, clock.now)
    ledger = PostgresLedger(database, clock)
    await ledger.open_accounts(opened)
    for step in range(lists):
        await ledger.post(work.lists())
        if step % 20 == 19:
            clock.at += timedelta(seconds=30)
            await ledger.expire_due()


async def test_books_that_nobody_touched_are_sound(database: Database, dsn: str) -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    await filled(database, seed)
    seen: list[tuple[int, int]] = []
    report = verify(dsn, lambda done, total: seen.append((done, total)))
    assert report.findings == []
    assert report.transfers > 500
    assert report.refusals > 50
    assert report.accounts == 30
    assert seen[-1] == (report.transfers, report.transfers)


NEWEST = "(select max(seq) from ledger.transfers)"
OLDEST = "(select min(seq) from ledger.transfers)"
FIRST_REFUSAL = "(select min(seq) from ledger.refusals)"
WITH_METADATA = "(select id from ledger.transfers where metadata is not null limit 1)"
WITH_EXPIRY = "(select id from ledger.transfers where expires_at is not null limit 1)"
A_HOLD = "(select id from ledger.open_holds limit 1)"
TAMPERINGS = {
    "an amount": (
        f"update ledger.transfers set amount = amount + 1 where seq = {NEWEST}",
        "altered",
    ),
    "an account of a transfer": (
        f"update ledger.transfers set debit = credit, credit = debit where seq = {OLDEST}",
        "altered",
    ),
    "a transfer's metadata": (
        f"""update ledger.transfers set metadata = '{{"order": "no"}}' where id = {WITH_METADATA}""",
        "altered",
    ),
    "a transfer's code": (
        f"update ledger.transfers set code = 77 where seq = {OLDEST}",
        "altered",
    ),
    "an expiry": (
        f"update ledger.transfers set expires_at = expires_at + interval '1 s' where id = {WITH_EXPIRY}",
        "altered",
    ),
    "a transfer's time": (
        f"update ledger.transfers set at = at + interval '1 s' where seq = {OLDEST}",
        "another time",
    ),
    "a transfer removed": (
        f"delete from ledger.transfers where seq = {NEWEST}",
        "altered",
    ),
    "a refusal": (
        f"update ledger.refusals set outcome = outcome % 20 + 2 where seq = {FIRST_REFUSAL}",
        "altered",
    ),
    "a refusal removed": (
        f"delete from ledger.refusals where seq = {FIRST_REFUSAL}",
        "refusals",
    ),
    "a batch removed": (
        "delete from ledger.batches where number = (select min(number) + 3 from ledger.batches)",
        "missing",
    ),
    "a batch's time": ("update ledger.batches set at = at + interval '1 s' where number = 2", "altered"),
    "a hash": ("update ledger.batches set hash = sha256('x') where number = 2", "altered"),
    "a balance": (
        "update ledger.balances set credits_posted = credits_posted + 5 where number = 1000",
        "credits_posted is",
    ),
    "both sides of a balance": (
        "update ledger.balances set credits_posted = credits_posted + 5, debits_posted = debits_posted + 5 "
        "where number = 1000",
        "its transfers give",
    ),
    "a pointer": (
        f"update ledger.transfers set debit_prev = id where seq = {NEWEST}",
        "does not name",
    ),
    "a newest transfer": (
        "update ledger.balances set last_transfer = prior_transfer where number = 1000",
        "newest",
    ),
    "an account's rule": ("update ledger.balances set rule = 1 - rule where number = 1000", "differently"),
    "a hold dropped": (
        f"delete from ledger.open_holds where id = {A_HOLD}",
        "hold",
    ),
    "a hold's amount": (
        f"update ledger.open_holds set amount = amount + 1 where id = {A_HOLD}",
        "hold",
    ),
}


@pytest.fixture(scope="module")
def untouched(postgres: EmbeddedPostgres, template: str) -> str:
    """A filled database to clone."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"create database ledger_untouched template {template}".encode())

    async def fill() -> None:
        database = Database(postgres.dsn("ledger_untouched"))
        await database.open()
        await filled(database, seed=7, lists=25)
        await database.close()

    asyncio.run(fill())
    return "ledger_untouched"


@pytest.fixture
def touched(postgres: EmbeddedPostgres, untouched: str) -> Iterator[str]:
    """The DSN of a clone to tamper with."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"create database ledger_touched template {untouched}".encode())
    yield postgres.dsn("ledger_touched")
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("drop database ledger_touched with (force)")


@pytest.mark.parametrize("what", TAMPERINGS)
def test_what_was_touched_is_named(touched: str, what: str) -> None:
    sql, words = TAMPERINGS[what]
    with psycopg.connect(touched) as connection:
        assert connection.execute(sql.encode()).rowcount == 1
    report = verify(touched)
    assert not report.sound
    assert any(words in finding.words for finding in report.findings), report.findings


def test_the_first_broken_batch_is_named(touched: str) -> None:
    with psycopg.connect(touched) as connection:
        connection.execute("update ledger.transfers set amount = amount + 1 where seq >> 13 in (5, 9)")
    assert verify(touched).first_broken_batch == 5
