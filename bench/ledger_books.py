"""What the ledger's benchmark measures with: a server, pgbench beside it, books, and traffic for them."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

import numpy as np
import psycopg

import holdfast.domains
from holdfast.base.ids import AccountId, IdSource, TransferId
from holdfast.base.limits import BATCH_TRANSFERS_MAX, CLOCK_AHEAD_MS_MAX
from holdfast.domains.ledger.checks import chains
from holdfast.domains.ledger.model import Group, NewAccount, NewTransfer, Outcome, Unit
from holdfast.domains.ledger.operations import Columns, PostgresLedger, Seat
from holdfast.platform import migrate
from holdfast.platform.db import Database
from holdfast.platform.postgres import EmbeddedPostgres, binaries, unprivileged_account

SETTINGS = {"shared_buffers": "1GB"}
"""For both sides alike.

Everything that durability rests on is as the product sets it (fsync, synchronous_commit, full pages).
"""
WORLD = AccountId(1)
MERCHANT = AccountId(2)
OPENING_MINOR = 10**9
"""More than an account spends in any run; a million times that still fits one account."""
CALLERS = 2
AWAITING = 512
DRAWN_PER_S = 450_000
"""Transfers drawn beforehand for each second of measuring: more than are posted."""


@dataclass
class Measured:
    """One workload: rate of each round, all latencies, and WAL."""

    rates: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    wal_bytes: int = 0
    transfers: int = 0

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


class Traffic:
    """Draws transfers between accounts, as objects or as arrays."""

    def __init__(self, accounts: list[AccountId], seed: int) -> None:
        self.accounts = accounts
        self._numbers = np.array(accounts, np.int64)
        self._random = Random(seed)
        self._draw = np.random.default_rng(seed)
        self._ids = IdSource(lambda: time.time_ns() // 1_000_000)

    def id(self) -> TransferId:
        return TransferId(self._ids.new())

    def funding(self) -> Iterator[Columns]:
        size = BATCH_TRANSFERS_MAX
        for start in range(0, len(self.accounts), size):
            to = self._numbers[start : start + size]
            yield self._columns(np.full(len(to), WORLD), to, np.full(len(to), OPENING_MINOR))

    def columns(self, size: int, *, hot: bool = False) -> Columns:
        draw, count = self._draw, len(self.accounts)
        debits = self._numbers[draw.integers(0, count, size)]
        credits_ = self._numbers[draw.integers(0, count, size)]
        if hot:
            credits_[1::2] = MERCHANT
        credits_[credits_ == debits] = WORLD
        return self._columns(debits, credits_, draw.integers(1, 1000, size))

    def _columns(self, debits: object, credits_: object, amounts: object) -> Columns:
        count = len(np.asarray(debits))
        ids = np.empty((count, 2), ">u8")
        ids[:, 0] = np.uint64(time.time_ns() // 1_000_000 << 16 | 0x7000) | self._draw.integers(
            0, 4096, count, dtype=np.uint64
        )
        ids[:, 1] = self._draw.integers(0, 2**62, count, dtype=np.uint64) | np.uint64(2 << 62)
        columns = [np.asarray(c, np.int64) for c in (debits, credits_, amounts)]
        return Columns(ids.tobytes(), columns[0], columns[1], columns[2], "CNY")

    def batch(self, size: int, *, hot: bool = False) -> list[NewTransfer]:
        draw = self._random.random
        accounts, count = self.accounts, len(self.accounts)
        made = []
        for position in range(size):
            debit = accounts[int(draw() * count)]
            credit = MERCHANT if hot and position & 1 else accounts[int(draw() * count)]
            if credit == debit:
                credit = WORLD
            made.append(NewTransfer(self.id(), debit, credit, "CNY", 1 + int(draw() * 1000)))
        return made


def account_numbers(count: int) -> list[AccountId]:
    """Numbers as the product makes them: the first 63 bits of a hash of the account's name."""
    return [
        AccountId(int.from_bytes(hashlib.blake2b(b"bench:%d" % i, digest_size=8).digest(), "big") >> 1)
        for i in range(count)
    ]


@contextmanager
def server() -> Iterator[EmbeddedPostgres]:
    folder = Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    folder.chmod(0o755)
    postgres = EmbeddedPostgres(folder / "pg", settings=SETTINGS)
    postgres.start()
    postgres.make_log_ready()
    try:
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


class TpcB:
    """pgbench's built-in TPC-B, what most would measure a database by: 8 clients, prepared statements."""

    def __init__(self, postgres: EmbeddedPostgres, scale: int) -> None:
        self._command = str(binaries(unprivileged_account()) / "pgbench")
        self._environment = {
            **os.environ,
            "PGPASSWORD": postgres.password,
            "PGHOST": str(postgres.folder),
            "PGUSER": "postgres",
        }
        self._run("-i", "-q", "-s", str(scale))

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._command, *arguments, "tpcb"],
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=900,
        )
        return done.stdout

    def rate(self, seconds: float) -> float:
        text = self._run("-n", "-c", "8", "-j", "2", "-M", "prepared", "-T", str(max(1, round(seconds))))
        line = next(line for line in text.splitlines() if line.startswith("tps = "))
        return float(line.split()[2])


T = TypeVar("T")


class Books:
    """One ledger to measure."""

    def __init__(self, postgres: EmbeddedPostgres, name: str, accounts: int, seed: int) -> None:
        self.dsn = postgres.dsn(name)
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute(f"create database {name}".encode())
        domains = Path(holdfast.domains.__file__).parent
        migrate.apply(self.dsn, [m for m in migrate.find(domains) if m.domain == "ledger"])
        self.traffic = Traffic(account_numbers(accounts), seed)

    @asynccontextmanager
    async def seat(self, size: int = BATCH_TRANSFERS_MAX) -> AsyncIterator[Seat]:
        """Take the seat, and wait until its writer looks up no id any more that it need not."""
        database = Database(self.dsn, connections_min=1, connections_max=4)
        await database.open()
        seat = Seat(database, batch_transfers_max=size)
        try:
            await seat.submit(Unit(), 60.0)
            await asyncio.sleep(1.1 * CLOCK_AHEAD_MS_MAX / 1000)
            yield seat
        finally:
            await seat.close()
            await database.close()

    async def fill(self, transfers: int, tick: Callable[[int], None]) -> None:
        """Open and fund the accounts, then post `transfers` in all, by the real path in large commits."""
        accounts = self.traffic.accounts
        async with self.seat() as seat:
            ledger = PostgresLedger(Database(self.dsn), seat)
            await ledger.open_accounts(
                [NewAccount(WORLD, "world", "CNY"), NewAccount(MERCHANT, "merchant", "CNY")]
            )
            for start in range(0, len(accounts), 5000):
                await ledger.open_accounts(
                    [
                        NewAccount(n, f"payer:{start + i}", "CNY", "debits_must_not_exceed_credits")
                        for i, n in enumerate(accounts[start : start + 5000])
                    ]
                )
            for columns in self.traffic.funding():
                await _all_posted(seat, columns)
                tick(len(columns))
            left = transfers - len(accounts)

            async def post() -> None:
                nonlocal left
                while left > 0:
                    size = min(left, BATCH_TRANSFERS_MAX)
                    left -= size
                    await _all_posted(seat, self.traffic.columns(size))
                    tick(size)

            await asyncio.gather(*(post() for _ in range(CALLERS)))
        self.settle()

    def settle(self) -> None:
        """Leave nothing to vacuum or write back that belongs to the filling."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("vacuum analyze")
            connection.execute("checkpoint")

    async def lists(self, into: Measured, size: int, seconds: float, *, hot: bool) -> None:
        """Post lists of `size` objects, one to a commit."""
        async with self.seat(size) as seat:
            drawn = iter([chains(self.traffic.batch(size, hot=hot)) for _ in _draws(seconds, size)])

            async def post(groups: Sequence[Group]) -> int:
                return sum(p.outcome == 0 for p in await seat.post(groups))

            await self._measure(into, seconds, CALLERS, lambda: next(drawn, None), post)

    async def arrays(self, into: Measured, size: int, seconds: float, *, hot: bool) -> None:
        """Post columns of `size`, one to a commit."""
        async with self.seat(size) as seat:
            drawn = iter([self.traffic.columns(size, hot=hot) for _ in _draws(seconds, size)])

            async def post(columns: Columns) -> int:
                return int(((await seat.post_columns(columns)).outcomes == 0).sum())

            await self._measure(into, seconds, CALLERS + 1, lambda: next(drawn, None), post)

    async def awaited(self, into: Measured, seconds: float) -> None:
        """Post single transfers, each of many callers waiting for its own."""
        async with self.seat() as seat:
            count = int(seconds * 150_000)
            drawn = iter([Unit((t,)) for t in self.traffic.batch(count)])

            async def post(unit: Unit) -> int:
                return int((await seat.submit(unit)).status == "committed")

            await self._measure(into, seconds, AWAITING, lambda: next(drawn, None), post)

    async def _measure(
        self,
        into: Measured,
        seconds: float,
        callers: int,
        draw: Callable[[], T | None],
        post: Callable[[T], Awaitable[int]],
    ) -> None:
        gc.collect()
        gc.freeze()  # what was drawn is not the ledger's to look through
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            before = _wal_position(connection)
            started = time.perf_counter()
            posted = 0

            async def caller() -> None:
                nonlocal posted
                while (one := draw()) is not None and time.perf_counter() - started < seconds:
                    sent = time.perf_counter()
                    made = await post(one)
                    posted += made  # not in one line: others add to it while this one waits
                    into.latencies_ms.append((time.perf_counter() - sent) * 1000)

            await asyncio.gather(*(caller() for _ in range(callers)))
            into.rates.append(posted / (time.perf_counter() - started))
            into.wal_bytes += _wal_position(connection) - before
            into.transfers += posted
        gc.unfreeze()


async def _all_posted(seat: Seat, columns: Columns) -> None:
    refused = np.unique((await seat.post_columns(columns, 60.0)).outcomes)
    if refused.any():
        raise SystemExit(f"transfers of the filling were refused: {[Outcome(o).name for o in refused if o]}")


def _draws(seconds: float, size: int) -> range:
    return range(max(CALLERS, int(seconds * DRAWN_PER_S / size)))


def _wal_position(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute("select (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    return int(str(row[0])) if row else 0
