"""`holdfast ledger` shows what is there and exits with 1 when the books are not sound."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import psycopg
import pytest

from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.platform.db import Database
from tests.ledger.workload import StillClock, Workload, accounts


def run(dsn: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "ledger", *arguments],
        env={**os.environ, "HOLDFAST_DSN": dsn}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def books(emptied: Database, shared_dsn: str) -> str:
    async def fill() -> None:
        database = Database(shared_dsn)
        await database.open()
        clock = StillClock()
        opened = accounts(12)
        seat = Seat(database, clock)
        ledger = PostgresLedger(database, seat)
        await ledger.open_accounts(opened)
        work = Workload(3, opened, clock.now)
        for _ in range(20):
            await ledger.post(work.lists((20,)))
        await seat.close()
        await database.close()

    assert emptied
    with asyncio.Runner() as runner:
        runner.run(fill())
    return shared_dsn


def test_the_commands_show_the_books_and_their_soundness(books: str) -> None:
    code, text = run(books, "verify")
    assert (code, "Sound" in text) == (0, True), text
    assert text[0].isdigit(), "no empty line before the figures where nobody watches"
    assert "Keep this head elsewhere" in text
    code, text = run(books, "trial-balance")
    assert code == 0
    assert text.count(" balanced") == 3
    code, text = run(books, "balance", "account:0")
    assert (code, "credits less debits" in text, "CNY" in text) == (0, True, True)
    code, text = run(books, "balance", "1000", "--at", "2026-01-01")
    assert (code, text.count("0.00")) == (0, 5), text
    code, text = run(books, "statement", "account:0", "--limit", "3")
    assert (code, len(text.splitlines())) == (0, 5)
    assert text.splitlines()[0].split("  ")[0] == "time (UTC)"
    assert "amount CNY" in text.splitlines()[0]
    cursor = text.splitlines()[-1].removeprefix("More: --before ")
    code, text = run(books, "statement", "account:0", "--limit", "3", "--before", cursor)
    assert code == 0
    code, text = run(books, "balance", "nobody")
    assert (code, "no ledger account nobody" in text) == (1, True), text
    code, text = run(books, "statement", "acount:1")
    assert (code, "Give a name or a number, such as account:1" in text) == (1, True), text
    with psycopg.connect(books) as connection:
        connection.execute(
            "update ledger.transfers t set amount = amount + 1 from ledger.batches b "
            "where b.number = 4 and t.seq >= b.first_seq and t.seq < b.first_seq + b.transfers"
        )
    code, text = run(books, "verify")
    assert (code, "the first broken batch is 4" in text) == (1, True), text
