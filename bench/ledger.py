"""`python -m bench.ledger`: durable transfers/s of the ledger, beside pgbench's TPC-B on the same server.

One embedded PostgreSQL serves everything, fully durable. Rounds are interleaved: in each, TPC-B runs, then
each workload of the ledger, so that a slow moment of the machine hits all alike; a ratio is the median of the
rounds' own ratios.

    uniform   10,000 accounts, debit and credit drawn evenly; no account may be overdrawn
    hot       the same, with one merchant credited in half of all transfers
    large     1,000,000 accounts and 10,000,000 transfers there already, drawn evenly

each with 100 and with 1,000 transfers to a commit, posted through the writer's lane by two callers, each
waiting for its answer before it posts again. Marks, indexes of the history and hash chain are on: they
cannot be switched off.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psycopg
from rich.progress import Progress

import holdfast.domains
from bench.report import report
from holdfast.base.ids import AccountId, IdSource, TransferId
from holdfast.base.limits import CLOCK_AHEAD_MS_MAX
from holdfast.domains.ledger.checks import chains
from holdfast.domains.ledger.model import NewAccount, NewTransfer
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.ledger.verify import verify
from holdfast.platform import migrate
from holdfast.platform.db import Database
from holdfast.platform.postgres import EmbeddedPostgres, binaries, unprivileged_account

SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "15min"}
"""For both sides alike.

Everything that durability rests on is as the product sets it (fsync, synchronous_commit, full pages).
"""
WORLD = AccountId(1)
MERCHANT = AccountId(2)
OPENING_MINOR = 10**9
CALLERS = 2
SIZES = (100, 1000)
DRAWN_PER_S = 350_000
"""Transfers drawn beforehand for each second of measuring: more than are posted."""


@dataclass(frozen=True)
class Settings:
    rounds: int
    seconds: float
    scale: int
    small_accounts: int
    large_accounts: int
    large_transfers: int
    seed: int


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
    """Draws transfers between accounts."""

    def __init__(self, accounts: list[AccountId], seed: int) -> None:
        self.accounts = accounts
        self._random = Random(seed)
        self._ids = IdSource(lambda: time.time_ns() // 1_000_000)

    def id(self) -> TransferId:
        return TransferId(self._ids.new())

    def funding(self, size: int) -> Iterator[list[NewTransfer]]:
        for start in range(0, len(self.accounts), size):
            some = self.accounts[start : start + size]
            yield [NewTransfer(self.id(), WORLD, account, "CNY", OPENING_MINOR) for account in some]

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
    async def lane(self, size: int) -> AsyncIterator[Seat]:
        database = Database(self.dsn, connections_min=1, connections_max=4)
        await database.open()
        seat = Seat(database, batch_transfers_max=size)
        try:
            yield seat
        finally:
            await seat.close()
            await database.close()

    async def fill(self, transfers: int, tick: Callable[[int], None]) -> None:
        """Open and fund the accounts, then post `transfers` in all, by the real path in large commits."""
        database = Database(self.dsn, connections_min=1, connections_max=4)
        await database.open()
        seat = Seat(database)
        ledger = PostgresLedger(database, seat)
        accounts = self.traffic.accounts
        await ledger.open_accounts(
            [NewAccount(WORLD, "world", "CNY"), NewAccount(MERCHANT, "merchant", "CNY")]
        )
        for start in range(0, len(accounts), 5000):
            some = accounts[start : start + 5000]
            await ledger.open_accounts(
                [
                    NewAccount(n, f"payer:{start + i}", "CNY", "debits_must_not_exceed_credits")
                    for i, n in enumerate(some)
                ]
            )
        await seat.close()
        await database.close()
        left = transfers - len(accounts)
        lists = self.traffic.funding(8192)
        async with self.lane(8192) as lane:

            async def post() -> None:
                nonlocal left
                while True:
                    transfers = next(lists, None)
                    if transfers is None and left > 0:
                        transfers = self.traffic.batch(min(left, 8192))
                        left -= len(transfers)
                    if transfers is None:
                        return
                    await lane.post(chains(transfers))
                    tick(len(transfers))

            await asyncio.gather(*(post() for _ in range(CALLERS)))
        self.settle()

    def settle(self) -> None:
        """Leave nothing to vacuum or write back that belongs to the filling."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("vacuum analyze")
            connection.execute("checkpoint")

    async def measure(self, into: Measured, size: int, seconds: float, *, hot: bool) -> None:
        """Post for `seconds` and note the rate; lists are drawn before the clock starts.

        They are drawn once the writer has been at work for a moment, since an id that is older than its
        writer is looked up in the tables: in the product that is the first two seconds of a writer.
        """
        async with self.lane(size) as lane:
            await lane.post(chains(self.traffic.batch(size, hot=hot)))
            await asyncio.sleep(1.1 * CLOCK_AHEAD_MS_MAX / 1000)
            estimate = max(CALLERS, int(seconds * DRAWN_PER_S / size))
            lists = iter([chains(self.traffic.batch(size, hot=hot)) for _ in range(estimate)])
            gc.collect()
            gc.freeze()  # what was drawn is not the ledger's to look through
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                before = _wal_position(connection)
                started = time.perf_counter()
                posted = 0

                async def post() -> None:
                    nonlocal posted
                    for groups in lists:
                        if time.perf_counter() - started > seconds:
                            return
                        sent = time.perf_counter()
                        postings = await lane.post(groups)
                        into.latencies_ms.append((time.perf_counter() - sent) * 1000)
                        posted += sum(p.outcome == 0 for p in postings)

                await asyncio.gather(*(post() for _ in range(CALLERS)))
                into.rates.append(posted / (time.perf_counter() - started))
                into.wal_bytes += _wal_position(connection) - before
                into.transfers += posted
        gc.unfreeze()


def _wal_position(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute("select (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    return int(str(row[0])) if row else 0


Workload = tuple[str, int, Books, bool]


async def run(settings: Settings) -> None:
    with server() as postgres, Progress(transient=True) as progress:
        task = progress.add_task("TPC-B tables", total=None)
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute("create database tpcb")
        tpcb = TpcB(postgres, settings.scale)
        small = Books(postgres, "small", settings.small_accounts, settings.seed)
        await small.fill(2 * settings.small_accounts, lambda _count: None)
        progress.update(task, description="filling", total=settings.large_transfers, completed=0)
        large = Books(postgres, "large", settings.large_accounts, settings.seed + 1)
        fill_started = time.perf_counter()
        await large.fill(settings.large_transfers, lambda count: progress.advance(task, count))
        fill_rate = settings.large_transfers / (time.perf_counter() - fill_started)
        workloads: list[Workload] = [
            (name, size, books, hot)
            for size in SIZES
            for name, books, hot in (("uniform", small, False), ("hot", small, True), ("large", large, False))
        ]
        measured = {(name, size): Measured() for name, size, _, _ in workloads}
        rates: list[float] = []
        progress.update(
            task, description="warming up", total=settings.rounds * (len(workloads) + 1), completed=0
        )
        tpcb.rate(1)
        for _, size, books, hot in workloads:
            await books.measure(Measured(), size, 1.0, hot=hot)
        for number in range(settings.rounds):
            progress.update(task, description=f"round {number + 1} of {settings.rounds}")
            rates.append(tpcb.rate(settings.seconds))
            progress.advance(task)
            for name, size, books, hot in workloads:
                await books.measure(measured[name, size], size, settings.seconds, hot=hot)
                progress.advance(task)
        progress.update(task, description="verifying")
        proofs = [verify(small.dsn), verify(large.dsn)]
    _report(settings, rates, measured, fill_rate, [(p.sound, p.transfers, p.seconds) for p in proofs])


def _report(
    settings: Settings, rates: list[float], measured: dict[tuple[str, int], Measured], fill_rate: float,
    proofs: list[tuple[bool, int, float]],
) -> None:  # fmt: skip
    def ratio(one: list[float], other: list[float]) -> float:
        return statistics.median(a / b for a, b in zip(one, other, strict=True))

    ratios = {f"vs_tpcb_{size}": ratio(measured["uniform", size].rates, rates) for size in SIZES}
    ratios["hot_vs_uniform"] = min(
        ratio(measured["hot", size].rates, measured["uniform", size].rates) for size in SIZES
    )
    ratios["large_vs_small"] = max(
        ratio(measured["uniform", size].rates, measured["large", size].rates) for size in SIZES
    )
    figures: dict[str, float | str] = {
        "tpcb_per_s": statistics.median(rates),
        "fill_per_s": fill_rate,
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "seed": settings.seed,
        "verify_per_s": proofs[-1][1] / proofs[-1][2],
        "verified": "sound" if all(sound for sound, _, _ in proofs) else "NOT SOUND",
    }
    table: list[tuple[str, ...]] = [
        ("workload", "per commit", "transfers/s", "× TPC-B", "p50 ms", "p99 ms", "WAL B/transfer")
    ]
    table.append(("TPC-B, 8 clients", "1", f"{statistics.median(rates):,.0f}", "1.0", "", "", ""))
    for (name, size), m in measured.items():
        wal = m.wal_bytes / max(1, m.transfers)
        p50, p99 = m.percentile(0.5), m.percentile(0.99)
        times = ratio(m.rates, rates)
        table.append(
            (name, str(size), f"{m.rate:,.0f}", f"{times:.1f}", f"{p50:.1f}", f"{p99:.1f}", f"{wal:.0f}")
        )
        key = f"{name}_{size}"
        figures |= {
            f"{key}_per_s": m.rate,
            f"{key}_p50_ms": p50,
            f"{key}_p99_ms": p99,
            f"{key}_wal_bytes": wal,
        }
    report(
        "ledger", ratios=ratios, figures=figures, table=table,
        notes=[
            f"{CALLERS} callers; latency from posting a list to its durable answer; the other's turn too",
            f"large: {settings.large_accounts:,} accounts and {settings.large_transfers:,} transfers before",
            f"large_vs_small: how many times slower; verify read {proofs[-1][1]:,} in {proofs[-1][2]:.1f} s",
            f"server settings for both sides: {', '.join(f'{k}={v}' for k, v in SETTINGS.items())}",
        ],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ledger", description="Measure the ledger beside pgbench's TPC-B."
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: small tables, one short round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="per workload and round")
    parser.add_argument(
        "--transfers", type=int, default=10_000_000, help="there before the large workload is measured"
    )
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.quick:
        settings = Settings(1, 2.0, 5, 10_000, 50_000, 200_000, given.seed)
    else:
        settings = Settings(
            given.rounds,
            given.seconds,
            50,
            10_000,
            min(1_000_000, given.transfers),
            given.transfers,
            given.seed,
        )
    asyncio.run(run(settings))


if __name__ == "__main__":
    main()
