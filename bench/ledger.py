"""`python -m bench.ledger`: durable transfers/s of the ledger, beside pgbench's TPC-B on the same server.

One embedded PostgreSQL serves everything, fully durable. Rounds are interleaved: in each, TPC-B runs, then
each workload of the ledger, so that a slow moment of the machine hits all alike; a ratio is the median of the
rounds' own ratios.

    uniform   10,000 accounts, debit and credit drawn evenly; no account may be overdrawn
    hot       the same, with one merchant credited in half of all transfers
    large     1,000,000 accounts and 10,000,000 transfers there already, drawn evenly
    awaited   512 callers, each posting one transfer and waiting for it before the next

each as lists of objects or as arrays, with 100, 1,000 or 10,000 transfers to a commit, by two or three
callers, each waiting for its answer before it posts again. Then, once each: bulk for long, with what reading
and the indexes of the history do meanwhile; and a writer that is killed, with a million accounts. Marks,
history and hash chain are on: they cannot be switched off. Where HOLDFAST_BENCH_TIGERBEETLE names a server,
the uniform workload runs there too.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psycopg
import uvloop
from rich.progress import Progress

from bench.ledger_books import AWAITING, CALLERS, SETTINGS, Books, Measured, TpcB, server
from bench.ledger_http import over_http
from bench.ledger_tigerbeetle import BATCH as RIVALS_BATCH
from bench.ledger_tigerbeetle import Rival, address
from bench.report import report
from holdfast.base.errors import OutcomeUnknown
from holdfast.base.limits import BATCH_TRANSFERS_MAX
from holdfast.domains.ledger import queries
from holdfast.domains.ledger.operations import Seat
from holdfast.domains.ledger.verify import verify
from holdfast.platform.db import Database

BULK = BATCH_TRANSFERS_MAX
Kind = tuple[str, str, int]
"""What is drawn, how it is handed over, and how many to a commit."""


@dataclass(frozen=True)
class Settings:
    rounds: int
    seconds: float
    scale: int
    small_accounts: int
    large_accounts: int
    large_transfers: int
    sustained: int
    http: int
    seed: int


@dataclass
class Sustained:
    """Bulk for long: its rate, how far indexes were behind, and what reading took meanwhile (ms)."""

    rate: float
    lag: int
    balance_ms: list[float]
    statement_ms: list[float]


KINDS: tuple[Kind, ...] = (
    *((name, "lists", size) for size in (100, 1000) for name in ("uniform", "hot", "large")),
    ("uniform", "awaited", 1),
    ("uniform", "arrays", 1000),
    *((name, "arrays", BULK) for name in ("uniform", "hot", "large")),
)


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
        await large.fill(settings.large_transfers, lambda count: progress.advance(task, count))
        rival = Rival(address(), settings.small_accounts, settings.seed) if address() else None
        against = Measured()
        if rival is not None:
            await rival.open()
        measured = {kind: Measured() for kind in KINDS}
        rates: list[float] = []
        progress.update(task, description="rounds", total=settings.rounds * (len(KINDS) + 1), completed=0)
        tpcb.rate(1)
        for _ in range(settings.rounds):
            rates.append(tpcb.rate(settings.seconds))
            progress.advance(task)
            for kind, into in measured.items():
                name, how, size = kind
                books = large if name == "large" else small
                if how == "awaited":
                    await books.awaited(into, settings.seconds)
                else:
                    measure = books.lists if how == "lists" else books.arrays
                    await measure(into, size, settings.seconds, hot=name == "hot")
                progress.advance(task)
            if rival is not None:
                await rival.measure(against, settings.seconds)
        if rival is not None:
            await rival.close()
        progress.update(task, description="bulk for long", total=settings.sustained, completed=0)
        long = await sustained(small, settings.sustained, lambda count: progress.advance(task, count))
        progress.update(task, description="over HTTP", total=None)
        http_rate = await over_http(postgres, settings.http, settings.seed)
        progress.update(task, description="killing a writer")
        back_s = await asyncio.to_thread(served_again_s, large.dsn)
        progress.update(task, description="verifying")
        proofs = [verify(books.dsn) for books in (small, large)]
    rate = proofs[-1].transfers / proofs[-1].seconds
    _report(settings, rates, measured, against, long, http_rate, back_s, rate, all(p.sound for p in proofs))


async def sustained(books: Books, transfers: int, tick: Callable[[int], None]) -> Sustained:
    """Post `transfers` in bulk without a pause, drawn while posting; read balances and statements beside."""
    traffic, found = books.traffic, Sustained(0.0, 0, [], [])
    left = transfers
    over = asyncio.Event()
    async with books.seat() as seat:
        database = Database(books.dsn, connections_min=2, connections_max=4)
        await database.open()

        async def post() -> None:
            nonlocal left
            while left > 0:
                left -= BULK
                await seat.post_columns(traffic.columns(BULK), 60.0)
                tick(BULK)
                if seat.lane is not None:
                    found.lag = max(found.lag, seat.lane.committer.behind.lag)

        async def read() -> None:
            while not over.is_set():
                account = traffic.accounts[len(found.balance_ms) * 7919 % len(traffic.accounts)]
                started = time.perf_counter()
                await queries.balances(database, [account], memory=seat)
                found.balance_ms.append((time.perf_counter() - started) * 1000)
                started = time.perf_counter()
                await queries.statement(database, account, memory=seat)
                found.statement_ms.append((time.perf_counter() - started) * 1000)
                await asyncio.sleep(0.5)

        reader = asyncio.ensure_future(read())
        started = time.perf_counter()
        await asyncio.gather(*(post() for _ in range(CALLERS + 1)))
        found.rate = transfers / (time.perf_counter() - started)
        over.set()
        await reader
        await database.close()
    return found


def served_again_s(dsn: str) -> float:
    """Kill a process that writes, and return how long another one's callers waited."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=_write, args=(dsn, ready), daemon=True)
    writer.start()
    ready.wait(120)

    async def wait() -> float:
        database = Database(dsn, connections_min=1, connections_max=2)
        await database.open()
        seat = Seat(database)
        await seat.post([], 60.0)
        writer.kill()
        started = time.perf_counter()
        answered = False
        while not answered:
            with suppress(OutcomeUnknown):  # it was on its way to the one that is gone
                await seat.post([], 60.0)
                answered = True
        waited = time.perf_counter() - started
        await seat.close()
        await database.close()
        return waited

    return asyncio.run(wait())


def _write(dsn: str, ready: object) -> None:
    async def run() -> None:
        database = Database(dsn, connections_min=1, connections_max=2)
        await database.open()
        seat = Seat(database)
        while True:
            await seat.post([], 60.0)
            ready.set()  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)

    asyncio.run(run())


def _ratio(one: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def _report(
    settings: Settings, tpcb: list[float], measured: dict[Kind, Measured], against: Measured, long: Sustained,
    http_rate: float, back_s: float, verify_rate: float, sound: bool,
) -> None:  # fmt: skip
    def rates(name: str, how: str, size: int) -> list[float]:
        return measured[name, how, size].rates

    def slower(how: str, size: int) -> float:
        return _ratio(rates("uniform", how, size), rates("large", how, size))

    same = [("lists", 100), ("lists", 1000), ("arrays", BULK)]
    ratios = {
        "vs_tpcb_100": _ratio(rates("uniform", "lists", 100), tpcb),
        "vs_tpcb_1000": _ratio(rates("uniform", "lists", 1000), tpcb),
        "vs_tpcb_1000_arrays": _ratio(rates("uniform", "arrays", 1000), tpcb),
        "hot_vs_uniform": min(_ratio(rates("hot", *how), rates("uniform", *how)) for how in same),
        "large_vs_small": max(slower(*how) for how in same if how[0] == "lists"),
        "large_vs_small_arrays": slower("arrays", BULK),
    }
    awaited = measured["uniform", "awaited", 1]
    figures: dict[str, float | str] = {
        "tpcb_per_s": statistics.median(tpcb),
        "awaited_per_s": awaited.rate,
        "awaited_p99_ms": awaited.percentile(0.99),
        "bulk_per_s": measured["uniform", "arrays", BULK].rate,
        "bulk_large_per_s": measured["large", "arrays", BULK].rate,
        "sustained_per_s": long.rate,
        "sustained_transfers": settings.sustained,
        "index_lag_segments": long.lag,
        "balance_while_bulk_p50_ms": statistics.median(long.balance_ms),
        "statement_while_bulk_p50_ms": statistics.median(long.statement_ms),
        "http_batch_per_s": http_rate,
        "served_again_after_kill_s": back_s,
        "verify_per_s": verify_rate,
        "verified": "sound" if sound else "NOT SOUND",
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "seed": settings.seed,
    }
    heading = (
        "workload",
        "handed over as",
        "per commit",
        "transfers/s",
        "× TPC-B",
        "p50 ms",
        "p99 ms",
        "WAL B",
    )
    table: list[tuple[str, ...]] = [
        heading, ("TPC-B, 8 clients", "", "1", f"{statistics.median(tpcb):,.0f}", "1.0", "", "", ""),
    ]  # fmt: skip
    for (name, how, size), m in measured.items():
        wal = m.wal_bytes / max(1, m.transfers)
        p50, p99 = m.percentile(0.5), m.percentile(0.99)
        per = "shared" if how == "awaited" else f"{size:,}"
        row = (name, how, per, f"{m.rate:,.0f}", f"{_ratio(m.rates, tpcb):.1f}", f"{p50:.1f}", f"{p99:.1f}")
        table.append((*row, f"{wal:.0f}"))
        figures |= {f"{name}_{how}_{size}_per_s": m.rate, f"{name}_{how}_{size}_wal_bytes": wal}
    if against.rates:
        ratios["vs_tigerbeetle"] = _ratio(rates("uniform", "arrays", BULK), against.rates)
        figures["tigerbeetle_per_s"] = against.rate
        p50, p99 = against.percentile(0.5), against.percentile(0.99)
        name, per = "TigerBeetle, uniform", f"{RIVALS_BATCH:,}"
        times = f"{_ratio(against.rates, tpcb):.1f}"
        table.append((name, "lists", per, f"{against.rate:,.0f}", times, f"{p50:.1f}", f"{p99:.1f}", ""))
    report(
        "ledger", ratios=ratios, figures=figures, table=table,
        notes=[
            f"lists: {CALLERS} callers, arrays: {CALLERS + 1}, awaited: {AWAITING}; latency to the answer",
            f"large: {settings.large_accounts:,} accounts and {settings.large_transfers:,} transfers before",
            f"sustained: {settings.sustained:,} in bulk at {long.rate:,.0f}/s, at most {long.lag} segments "
            f"without history; meanwhile a balance took {statistics.median(long.balance_ms):.1f} ms, "
            f"a statement {statistics.median(long.statement_ms):.1f} ms",
            f"POST /v1/transfers/batch: {http_rate:,.0f} transfers/s, client and all on one machine",
            f"a writer killed with {settings.large_accounts:,} accounts: another served after {back_s:.2f} s",
            f"verify: {verify_rate:,.0f} transfers/s",
            f"server settings for both sides: {', '.join(f'{k}={v}' for k, v in SETTINGS.items())}",
        ],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ledger", description="Measure the ledger beside pgbench's TPC-B."
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: small tables, one short round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="per workload and round")
    parser.add_argument(
        "--transfers", type=int, default=10_000_000, help="there before the large workload is measured"
    )
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.quick:
        settings = Settings(1, 2.0, 5, 10_000, 50_000, 200_000, 300_000, 40_000, given.seed)
    else:
        settings = Settings(
            given.rounds, given.seconds, 50, 10_000, min(1_000_000, given.transfers), given.transfers,
            given.transfers, min(400_000, given.transfers), given.seed,
        )  # fmt: skip
    uvloop.run(run(settings))


if __name__ == "__main__":
    main()
