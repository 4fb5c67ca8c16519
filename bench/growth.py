"""`python -m bench.growth`: what a transfer takes on the disk, in the log, and in an archive.

For each size of commit one fresh ledger of 10,000 accounts, on a server with the settings of the product. WAL
is counted from a checkpoint on, with the page images that follow one. Written bytes are all that PostgreSQL
hands to the kernel until the next checkpoint is done: log, tables, indexes. The largest one fills segments,
of which the first is archived then.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import uvloop

from bench.ledger_books import Books
from holdfast.domains.ledger.archive import archive
from holdfast.domains.ledger.verify import verify
from holdfast.platform.postgres import EmbeddedPostgres

CONTENT_BYTES = 48
"""What is hashed of a plain transfer: id, two accounts, amount, code, asset, kind."""
COUNTS = {1: 4_000, 10: 20_000, 100: 100_000, 1000: 300_000, 10_000: 2_300_000}
WRITTEN = """
select sum(coalesce(write_bytes, 0) + coalesce(extend_bytes, 0)) filter (where object = 'wal'),
       sum(coalesce(write_bytes, 0) + coalesce(extend_bytes, 0)) filter (where object = 'relation')
from pg_stat_io"""
PARTS = {
    "rows": "select sum(pg_relation_size(oid)) from pg_class where relnamespace = 'ledger'::regnamespace "
    "and relname ~ '^transfers_[0-9]+$'",
    "index of ids": "select sum(pg_relation_size(oid)) from pg_class "
    "where relname ~ '^transfers_[0-9]+_id_idx$'",
    "indexes of history": "select sum(pg_relation_size(oid)) from pg_class "
    "where relname ~ '^transfers_[0-9]+_(debit|credit)_seq_idx$'",
    "batches": "select pg_total_relation_size('ledger.batches')",
    "marks": "select pg_total_relation_size('ledger.marks')",
    "snapshots": "select pg_total_relation_size('ledger.snapshots')",
    "everything": "select sum(pg_total_relation_size(oid)) from pg_class where relkind in ('r', 't') "
    "and relnamespace = 'ledger'::regnamespace",
}


@dataclass
class Found:
    """Bytes for each transfer."""

    wal: float
    written_wal: float
    written_rows: float
    parts: dict[str, float]


def ask(dsn: str, sql: str) -> tuple[float, ...]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(sql.encode()).fetchone() or ()
    return tuple(float(value or 0) for value in row)


async def measure(postgres: EmbeddedPostgres, size: int, count: int) -> tuple[Found, Books]:
    books = Books(postgres, f"growth_{size}", 10_000, size)
    await books.fill(10_000, lambda _: None)
    async with books.seat() as seat:
        before_rows = await asyncio.to_thread(settled, books)
        start = await asyncio.to_thread(ask, books.dsn, "select pg_current_wal_insert_lsn() - '0/0'")
        written = await asyncio.to_thread(ask, books.dsn, WRITTEN)
        for _ in range(count // size):
            await seat.post_columns(books.traffic.columns(size), 60.0)
        for _ in range(600):
            if seat.lane is None or not seat.lane.committer.behind.lag:
                break
            await asyncio.sleep(0.2)
        await asyncio.sleep(1.0)
        end = await asyncio.to_thread(ask, books.dsn, "select pg_current_wal_insert_lsn() - '0/0'")
        after_rows = await asyncio.to_thread(settled, books)
        written_after = await asyncio.to_thread(ask, books.dsn, WRITTEN)
    made = count // size * size
    parts = {name: (after_rows[name] - before_rows[name]) / made for name in PARTS}
    wal_, rows_ = ((b - a) / made for a, b in zip(written, written_after, strict=True))
    return Found((end[0] - start[0]) / made, wal_, rows_, parts), books


def settled(books: Books) -> dict[str, float]:
    """Write everything through, and return what the tables take."""
    with psycopg.connect(books.dsn, autocommit=True) as connection:
        connection.execute("vacuum")
        connection.execute("checkpoint")
    time.sleep(1.2)  # sessions tell of what they wrote once a second
    return {name: ask(books.dsn, sql)[0] for name, sql in PARTS.items()}


def archived(books: Books, folder: Path) -> None:
    before = ask(books.dsn, PARTS["everything"])[0]
    started = time.perf_counter()
    result = archive(books.dsn, datetime(2100, 1, 1, tzinfo=UTC), folder)
    took_s = time.perf_counter() - started
    count = sum(done.transfers for done in result.done)
    print(f"\n{result.reason}")
    if count:
        kept = ask(books.dsn, "select pg_total_relation_size('ledger.archived')")[0]
        size = sum(done.bytes for done in result.done)
        after = ask(books.dsn, PARTS["everything"])[0]
        print(
            f"archived {count:,} transfers in {took_s:.0f} s; bytes each: file {size / count:.1f}, kept "
            f"{kept / count:.1f}, freed {(before - after) / count:.1f}"
        )
        report = verify(books.dsn, archive=folder)
        print(
            f"verify --archive: {report.transfers / report.seconds:,.0f} transfers/s, sound: {report.sound}"
        )


def place() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="holdfast-growth-"))
    folder.chmod(0o755)
    return folder


async def run(share: float) -> None:
    folder = place()
    postgres = EmbeddedPostgres(folder / "pg")
    postgres.start()
    try:
        names = ", ".join(PARTS)
        print(f"batch    WAL/transfer  written: log, tables  amplification   on disk: {names}")
        for size, count in COUNTS.items():
            found, books = await measure(postgres, size, max(size, int(count * share)))
            times = (found.written_wal + found.written_rows) / CONTENT_BYTES
            parts = "  ".join(f"{value:8.1f}" for value in found.parts.values())
            print(
                f"{size:5}  {found.wal:12.0f}  {found.written_wal:10.0f} {found.written_rows:9.0f}"
                f"  {times:10.1f}x    {parts}",
                flush=True,
            )
        await asyncio.to_thread(archived, books, folder)
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the transfers that are posted usually")
    uvloop.run(run(parser.parse_args().share))


if __name__ == "__main__":
    main()
