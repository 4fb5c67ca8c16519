"""Segments moved to files: nothing is posted twice, every answer stays as it was, all stays provable."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import psycopg
import pytest

from holdfast.base.ids import AccountId, TransferId
from holdfast.domains.ledger import queries
from holdfast.domains.ledger.archive import Result, archive
from holdfast.domains.ledger.errors import ArchiveRefused, HistoryArchived
from holdfast.domains.ledger.memory import MemoryLedger
from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.ledger.rules import content
from holdfast.domains.ledger.store import files, reading
from holdfast.domains.ledger.store import segments as store_segments
from holdfast.domains.ledger.store.archived import _in_row
from holdfast.domains.ledger.verify import verify
from holdfast.domains.ledger.verify.archives import contents
from holdfast.domains.ledger.writer import behind
from holdfast.platform.db import Database
from tests.ledger.workload import START, StillClock, Workload, accounts
from tests.support.waiting import until_async

OPENED = accounts(18)
NUMBERS = [account.number for account in OPENED]
SEGMENTS = 5
FOREVER = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass
class Books:
    """A ledger of several segments, the same in memory, and everything that was ever asked of it."""

    dsn: str
    database: Database
    clock: StillClock
    seat: Seat
    ledger: PostgresLedger
    memory: MemoryLedger
    work: Workload
    asked: list[NewTransfer]
    ends: list[datetime]

    def new_id(self) -> TransferId:
        return TransferId(self.work._ids.new())

    async def post(self, transfers: list[NewTransfer]) -> None:
        """Post to both; they must give the same answers."""
        self.asked += transfers
        assert await self.ledger.post(transfers) == await self.memory.post(transfers)

    async def fill(self, lists: int = 30) -> None:
        for step in range(lists):
            self.clock.at += timedelta(seconds=1)
            await self.post(self.work.lists((1, 5, 20, 60)))
            if step % 10 == 9:
                await self.ledger.set_limits({OPENED[9].number: step})
                await self.memory.set_limits({OPENED[9].number: step})
        self.ends.append(self.clock.at)

    async def settle_all(self) -> None:
        """Release every hold that is open."""
        self.clock.at += timedelta(seconds=200)
        assert await self.ledger.expire_due() == await self.memory.expire_due()
        open_ones = [i for i, hold in self.memory.book.holds.items() if hold.state == "open"]
        by_id = {t.id: t for t in self.asked}
        for start in range(0, len(open_ones), 50):
            voids = [
                replace(
                    by_id[TransferId(i)], id=self.new_id(), kind="void_pending", pending_id=TransferId(i),
                    amount_minor=None, expires_at=None, balancing=None, linked=False, metadata={}, code=0,
                    settles=False, over_minor=0,
                )
                for i in open_ones[start : start + 50]
            ]  # fmt: skip
            await self.post(voids)
        self.ends[-1] = self.clock.at

    async def leave_segment(self) -> None:
        """Begin the next segment, as when the one before is full."""
        work = self.seat._behind
        assert work is not None
        assert work._still is not None
        async with work._still(), work._session() as connection:
            left = work._current
            await work._open_segment(connection, left + 1)
            work._advance()
            marked = work._span > left

        async def sealed() -> bool:
            async with self.database.connection() as connection:
                row = await (
                    await connection.execute(
                        "select marked = %s and indexed and last_seq is not null from ledger.segments "
                        "where number = %s",
                        (marked, left),
                    )
                ).fetchone()
                return bool(row and row[0])

        await until_async(sealed, "the segment is sealed and marked")


@pytest.fixture
async def books(dsn: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Books]:
    async with written(dsn, database, monkeypatch) as made:
        yield made


@asynccontextmanager
async def written(dsn: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Books]:
    monkeypatch.setattr(behind, "SNAPSHOT_TRANSFERS", 60)
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    clock = StillClock()
    seat = Seat(database, clock)
    made = Books(
        dsn, database, clock, seat, PostgresLedger(database, seat), MemoryLedger(clock, history=True),
        Workload(seed, OPENED, clock.now), [], [],
    )  # fmt: skip
    await made.ledger.open_accounts(OPENED)
    await made.memory.open_accounts(OPENED)
    for number in range(SEGMENTS):
        await made.fill()
        if number == SEGMENTS - 3:
            await made.settle_all()  # holds of older segments are settled here at the latest
        if number < SEGMENTS - 1:
            await made.leave_segment()
    yield made
    await seat.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def moved(books: Books, folder: Path, before: datetime = FOREVER) -> Result:
    async def snapshots() -> bool:
        async with books.database.connection() as connection:
            sql = "select min(seq) >= 2097152 from ledger.snapshots"
            row = await (await connection.execute(sql)).fetchone()
            return bool(row and row[0])

    await until_async(snapshots, "there are snapshots of late")
    return archive(books.dsn, before, folder)


def segments(dsn: str) -> tuple[list[int], list[int]]:
    """Which segments are in the tables, and which are archived."""
    with psycopg.connect(dsn) as connection:
        here = connection.execute("select number from ledger.segments order by 1").fetchall()
        gone = connection.execute("select segment from ledger.archives order by 1").fetchall()
    return [row[0] for row in here], [row[0] for row in gone]


def last_at(dsn: str, segment: int) -> datetime:
    """When the last transfer of a segment was made: before its end, if the last ones were refused."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "select last_at from ledger.segments where number = %s", (segment,)
        ).fetchone()
    assert row is not None
    found: datetime = row[0]
    return found


async def test_segments_that_were_marked_together_are_archived_one_by_one(
    dsn: str, database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "_FEW_MARKS", 0)
    monkeypatch.setattr(behind, "_TRANSFERS_TO_A_MARK", 10**9)
    monkeypatch.setattr(behind, "_SPAN_SEGMENTS_MAX", 3)
    spans = "select array_agg(span order by number) from ledger.segments"
    async with written(dsn, database, monkeypatch) as books:
        with psycopg.connect(dsn, autocommit=True) as connection:
            assert connection.execute(spans).fetchone() == ([0, 0, 0, None, None],)
            assert verify(dsn).findings == []
            before = await queries.balances(database, NUMBERS)
            older = [await queries.balances(database, NUMBERS, at=at) for at in books.ends]
            with pytest.raises(psycopg.errors.RaiseException, match="still needed"):
                connection.execute("select ledger.drop_segment_v1(0)")
            first = await moved(books, folder, before=last_at(dsn, 1))
            assert [done.segment for done in first.done] == [0]
            assert connection.execute(spans).fetchone() == ([1, 1, None, None],)
            assert verify(dsn).findings == []
            assert verify(dsn, archive=folder).findings == []
            assert [done.segment for done in (await moved(books, folder)).done] == [1, 2]
        assert await queries.balances(database, NUMBERS) == before
        assert [await queries.balances(database, NUMBERS, at=at) for at in books.ends[2:]] == older[2:]
        assert await queries.balances(database, NUMBERS) == await books.memory.balances(NUMBERS)
        assert verify(dsn, archive=folder).findings == []


async def test_every_answer_is_what_it_was_and_nothing_is_posted_twice(books: Books, folder: Path) -> None:
    seen = list(books.asked)
    before_now = await queries.balances(books.database, NUMBERS)
    trial = await queries.trial_balance(books.database)
    result = await moved(books, folder)
    assert [done.segment for done in result.done] == [0, 1, 2]
    assert result.reason == "The newest 2 segments stay."
    assert segments(books.dsn) == ([3, 4], [0, 1, 2])
    assert await queries.balances(books.database, NUMBERS) == before_now
    assert await queries.trial_balance(books.database) == trial
    ids = [t.id for t in seen]
    assert await queries.find(books.database, ids) == await books.memory.find(ids)
    draw = books.work.random
    await books.post(draw.sample(seen, 200))
    altered: list[Callable[[NewTransfer], NewTransfer]] = [
        lambda t: replace(t, code=t.code + 1), lambda t: replace(t, metadata={**t.metadata, "more": "1"}),
        lambda t: replace(t, amount_minor=(t.amount_minor or 0) + 1), lambda t: replace(t, credit=t.debit),
        lambda t: replace(t, amount_minor=2**70), lambda t: replace(t, asset="NONE"),
        lambda t: replace(t, debit=AccountId(5)), lambda t: replace(t, settles=not t.settles),
        lambda t: replace(t, over_minor=t.over_minor + 1), lambda t: replace(t, over_minor=2**70),
    ]  # fmt: skip
    await books.post([draw.choice(altered)(replace(t, linked=False)) for t in draw.sample(seen, 200)])
    holds = [t for t in seen if t.kind == "pending"]
    late = [
        replace(
            t, id=books.new_id(), kind=draw.choice(("post_pending", "void_pending")),
            pending_id=t.id, amount_minor=None, expires_at=None, balancing=None, linked=False, settles=False,
            over_minor=0,
        )
        for t in draw.sample(holds, min(150, len(holds)))
    ]  # fmt: skip
    await books.post(late)
    await books.post([replace(t, id=books.new_id(), credit=NUMBERS[-1]) for t in late if t.asset == "USDC"])
    await books.fill()
    assert await queries.balances(books.database, NUMBERS) == await books.memory.balances(NUMBERS)
    await books.seat.close()
    again = Seat(books.database, books.clock)  # a new writer starts without the archived rows
    books.ledger = PostgresLedger(books.database, again)
    await books.post(draw.sample(seen, 200))
    await books.fill(5)
    assert await queries.balances(books.database, NUMBERS) == await books.memory.balances(NUMBERS)
    await again.close()
    assert verify(books.dsn, archive=folder).findings == []


async def test_money_moves_on_while_it_is_archived(books: Books, folder: Path) -> None:
    await books.fill(10)
    traffic = asyncio.ensure_future(books.fill(60))
    result = await asyncio.to_thread(archive, books.dsn, FOREVER, folder)
    await traffic
    assert [done.segment for done in result.done] == [0, 1, 2]
    assert await queries.balances(books.database, NUMBERS) == await books.memory.balances(NUMBERS)
    assert verify(books.dsn, archive=folder).findings == []


async def test_it_stays_provable_with_the_files_and_as_far_as_it_goes_without(
    books: Books, folder: Path
) -> None:
    whole = verify(books.dsn)
    assert whole.findings == []
    await moved(books, folder)
    report = verify(books.dsn, archive=folder)
    assert (report.findings, report.unread, report.passed_over) == ([], [], 0)
    assert (report.transfers, report.batches, report.head) == (whole.transfers, whole.batches, whole.head)
    for missing in ({0}, {1}, {2}, {0, 1}, {1, 2}, {0, 2}, {0, 1, 2}):
        some = folder / "some"
        some.mkdir()
        for number in {0, 1, 2} - missing:
            shutil.copy(folder / files.name_of(number), some)
        report = verify(books.dsn, archive=some)
        assert (report.findings, report.unread) == ([], sorted(missing)), missing
        assert report.transfers + report.passed_over == whole.transfers
        assert report.head == whole.head
        shutil.rmtree(some)
    assert verify(books.dsn).unread == [0, 1, 2]


FIRST_ROW = "ctid = (select min(ctid) from ledger.archived)"
TAMPERINGS = {
    "a mark at the end": (
        "update ledger.marks set credits_posted = credits_posted + 1 "
        "where seq = (select max(seq) from ledger.marks where seq < 3145728)",
        "the mark of account",
        "marks of segment 2, which was not read, contradict",
    ),
    "a batch": ("update ledger.batches set root = sha256('x') where number = 3", "batch 3", "batch 3"),
    "a refusal": (
        "delete from ledger.refusals where batch = (select min(batch) from ledger.refusals)",
        "its refusals",
        "its refusals",
    ),
    "ids that are kept": (f"delete from ledger.archived where {FIRST_ROW}", "segment 0", "segment 0"),
    "what a file is said to have": (
        "update ledger.archives set transfers = transfers + 1 where segment = 1",
        "segment 1",
        "segment 1",
    ),
    "an archive that is not noted": (
        "delete from ledger.archives where segment = 1",
        "without gaps",
        "without gaps",
    ),
    "a segment that is here too": (
        "insert into ledger.segments select segment, opened_at, last_at, last_seq, true, true, segment "
        "from ledger.archives where segment = 2",
        "segment 2 is archived and yet",
        "segment 2 is archived and yet",
    ),
    "a hold that is kept": (
        "update ledger.archived set holds = overlay(holds placing '\\x7f'::bytea from 5) where ctid = "
        "(select min(ctid) from ledger.archived where holds is not null)",
        "what is kept of segment",
        "",
    ),
    "what settled a hold": (
        "update ledger.archived set holds = overlay(holds placing '\\x01'::bytea from 28) where ctid = "
        "(select min(ctid) from ledger.archived where holds is not null)",
        "what is kept of",
        "",
    ),
    "an amount that is kept": (
        f"update ledger.archived set details = overlay(details placing '\\x01'::bytea from 6) "
        f"where {FIRST_ROW}",
        "what is kept of segment 0",
        "",
    ),
}


async def test_what_was_touched_is_named_with_the_files_and_mostly_without(
    books: Books, folder: Path
) -> None:
    await moved(books, folder)
    for name, (sql, *expected) in TAMPERINGS.items():
        for at_hand, words in zip((folder, None), expected, strict=True):
            if not words:
                continue  # only the file can contradict that
            with psycopg.connect(books.dsn) as connection:
                connection.execute("create schema saved")
                for table in ("marks", "batches", "refusals", "archived", "archives", "segments"):
                    connection.execute(f"create table saved.{table} as select * from ledger.{table}")
                assert connection.execute(sql).rowcount > 0, name
            found = [finding.words for finding in verify(books.dsn, archive=at_hand).findings]
            assert any(words in said for said in found), (name, at_hand, found)
            with psycopg.connect(books.dsn) as connection:
                for table in ("marks", "batches", "refusals", "archived", "archives", "segments"):
                    connection.execute(f"truncate ledger.{table}")
                    connection.execute(f"insert into ledger.{table} select * from saved.{table}")
                connection.execute("drop schema saved cascade")
    assert verify(books.dsn, archive=folder).findings == []
    path = folder / files.name_of(1)
    lines = gzip.decompress(path.read_bytes()).replace(b'"amount":1,', b'"amount":2,', 1)
    path.write_bytes(gzip.compress(lines))
    report = verify(books.dsn, archive=folder)
    assert (report.unread, [f.words for f in report.findings]) == (
        [1],
        [f"{path.name} is not the file that was archived"],
    )
    with psycopg.connect(books.dsn) as connection:
        connection.execute(
            "update ledger.archives set sha256 = %s where segment = 1", (sha256(path.read_bytes()).digest(),)
        )
    assert any("do not give its root" in f.words for f in verify(books.dsn, archive=folder).findings)


async def test_a_file_can_be_read_without_us_and_is_open_to_nobody_else(books: Books, folder: Path) -> None:
    async with books.database.connection() as connection:
        sql = "select id, amount, metadata from ledger.transfers where seq < 1048576 order by seq"
        rows = await (await connection.execute(sql)).fetchall()
    result = await moved(books, folder)
    path = result.done[0].path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    head, *lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert head == {
        "format": "holdfast-archive-1", "segment": 0, "first_seq": 0,
        "batches": sum("batch" in line for line in lines), "transfers": len(rows),
    }  # fmt: skip
    assert lines[-1] == {"end": True}
    said = [line["transfer"] for line in lines if "transfer" in line]
    assert [(UUID(t["id"]), t["amount"], t.get("metadata")) for t in said] == rows
    with psycopg.connect(books.dsn) as connection:
        row = connection.execute(
            "select file, sha256, bytes from ledger.archives where segment = 0"
        ).fetchone()
    assert row == (path.name, sha256(path.read_bytes()).digest(), path.stat().st_size)


async def test_pages_end_where_the_archive_begins_and_say_so(books: Books, folder: Path) -> None:
    account = next(a.number for a in OPENED if a.asset == "CNY")
    whole = await _all(books, account)
    boundary, end = books.ends[2], last_at(books.dsn, 1)
    await moved(books, folder)
    assert await _all(books, account) == [e for e in whole if e.at > boundary]
    page = await queries.entries(books.database, account, before=whole[-2].id)
    assert (page.items, page.next) == ((), None)
    assert page.archived_until is not None
    assert page.archived_until <= boundary
    last = await queries.transfers(books.database, since=boundary + timedelta(microseconds=1), limit=100)
    while last.next is not None:
        last = await queries.transfers(
            books.database, since=boundary + timedelta(microseconds=1), after=last.next
        )
    assert last.archived_until is None, "nobody asked for older ones"
    assert await queries.balances(books.database, [account], at=boundary) == {
        account: next(e.balance for e in whole if e.at <= boundary)
    }
    with pytest.raises(HistoryArchived, match="transfers-000001"):
        await queries.balances(books.database, [account], at=end - timedelta(microseconds=1))
    before_all = await queries.balances(books.database, [account], at=START - timedelta(days=1))
    assert before_all[account].net_minor == 0
    assert [a.segment for a in await queries.archives(books.database)] == [0, 1, 2]


async def _all(books: Books, account: AccountId) -> list[Any]:
    found, page = list[Any](), await queries.entries(books.database, account)
    while True:
        found += page.items
        if page.next is None:
            return found
        page = await queries.entries(books.database, account, before=page.next)


async def test_a_connection_that_slept_through_it_still_reads(books: Books, folder: Path) -> None:
    """It remembers a table that is gone."""
    async with books.database.connection() as connection:
        tail = tuple(store_segments.Segment(number, True) for number in range(SEGMENTS))
        store_segments._tails[connection] = tail
        expected = await reading.sums_now(connection, NUMBERS)
        store_segments._tails[connection] = tail
        await moved(books, folder)
        store_segments._tails[connection] = tail
        assert await reading.sums_now(connection, NUMBERS) == expected


async def test_a_segment_that_is_still_needed_stays(books: Books, folder: Path) -> None:
    result = await moved(books, folder, before=last_at(books.dsn, 1))
    assert [done.segment for done in result.done] == [0]
    assert result.reason.startswith("Segment 1 goes until 2026-")
    with psycopg.connect(books.dsn, autocommit=True) as connection:
        connection.execute("update ledger.segments set indexed = false where number = 1")
        assert "not indexed and marked yet" in archive(books.dsn, FOREVER, folder).reason
        connection.execute("update ledger.segments set indexed = true where number = 1")
        with pytest.raises(psycopg.errors.RaiseException, match="still needed"):
            connection.execute("select ledger.drop_segment_v1(1)")
        connection.execute("create table kept_snapshots as select * from ledger.snapshots")
        connection.execute("delete from ledger.snapshots")
        assert "no snapshot" in archive(books.dsn, FOREVER, folder).reason
        connection.execute("insert into ledger.snapshots select * from kept_snapshots")
        settling = connection.execute(
            "select s.seq from ledger.transfers s where s.kind in (2, 3, 4, 5) and s.pending_id in "
            "(select id from ledger.transfers where kind = 1 and seq >> 20 = 1) limit 1"
        ).fetchone()
        assert settling is not None
        connection.execute(
            "update ledger.transfers set pending_id = gen_random_uuid() where seq = %s", settling
        )
        assert "1 open holds" in archive(books.dsn, FOREVER, folder).reason
        connection.execute("select pg_advisory_lock_shared(%s)", (0x686F6C6461726368,))
        with pytest.raises(ArchiveRefused, match="ledger verify` runs"):
            archive(books.dsn, FOREVER, folder)
    assert segments(books.dsn) == ([1, 2, 3, 4], [0])


async def test_books_that_are_not_sound_are_not_archived_and_a_foreign_file_is_not_touched(
    books: Books, folder: Path
) -> None:
    path = folder / files.name_of(0)
    path.write_text("mine")
    with pytest.raises(ArchiveRefused, match="is there already, with other content"):
        await moved(books, folder)
    assert path.read_text() == "mine"
    path.unlink()
    with pytest.raises(ArchiveRefused, match="No such file or directory"):
        archive(books.dsn, FOREVER, folder / "nothing")
    with psycopg.connect(books.dsn, autocommit=True) as connection:
        connection.execute("update ledger.transfers set amount = amount + 1 where seq = 5")
        with pytest.raises(ArchiveRefused, match="is not what its transfers give"):
            archive(books.dsn, FOREVER, folder)
        assert list(folder.iterdir()) == []
        connection.execute("update ledger.transfers set amount = amount - 1 where seq = 5")
    assert segments(books.dsn) == ([0, 1, 2, 3, 4], [])
    first = archive(books.dsn, books.ends[0] + timedelta(microseconds=1), folder)
    assert [done.segment for done in first.done] == [0]


async def test_one_that_was_cut_off_after_the_file_was_written_goes_on(
    books: Books, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("holdfast.domains.ledger.store.archiving.Archiving.move", killed)
        with pytest.raises(KeyboardInterrupt):
            await moved(books, folder)
    assert [path.name for path in folder.iterdir()] == [files.name_of(0)]
    assert segments(books.dsn) == ([0, 1, 2, 3, 4], [])
    assert [done.segment for done in archive(books.dsn, FOREVER, folder).done] == [0, 1, 2]
    assert verify(books.dsn, archive=folder).findings == []


async def test_the_proof_has_its_own_way_to_the_digest_of_what_was_asked(books: Books, folder: Path) -> None:
    await moved(books, folder)
    times = Counter(t.id for t in books.asked)
    by_id = {t.id.bytes: t for t in books.asked if times[t.id] == 1}
    checked = 0
    for block in files.blocks(folder / files.name_of(0)):
        for i, digest in zip(block.page.rows["id"].tolist(), contents(block.page).tolist(), strict=True):
            if i in by_id:
                assert content.digest(by_id[i]) == digest
                checked += 1
    assert checked > 100


def test_an_id_that_only_shows_at_a_seam_of_the_kept_ones_is_not_taken_for_one_of_them() -> None:
    one, other = UUID(int=1 << 64 | 7), UUID(int=9 << 64 | 8)
    seam = UUID(bytes=one.bytes[8:] + other.bytes[:8])
    details = bytes(2 * 28)
    assert _in_row(seam, 0, one.bytes + other.bytes, details, None) is None
    assert _in_row(other, 0, one.bytes + other.bytes, details, None) is not None


def run(dsn: str, *arguments: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", *map(str, arguments)],
        env={**os.environ, "HOLDFAST_DSN": dsn}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


async def test_the_commands_archive_list_prove_and_give_receipts(books: Books, folder: Path) -> None:
    async with books.database.connection() as connection:
        sql = "select id from ledger.transfers where seq in (3, 1048579) order by seq"
        first, second = [row[0] for row in await (await connection.execute(sql)).fetchall()]
    await moved(books, folder, before=books.ends[0] + timedelta(microseconds=1))
    code, text = await asyncio.to_thread(
        run, books.dsn, "ledger", "archive", "--before", "2100-01-01", "--to", folder
    )
    assert (code, "2 segments archived. The newest 2 segments stay." in text) == (0, True), text
    code, text = run(books.dsn, "ledger", "archives")
    assert (code, len(text.splitlines())) == (0, 3), text
    code, text = run(books.dsn, "ledger", "verify")
    assert (code, "of the archived segments 0, 1, 2" in text, "Sound: nothing of what was read" in text) == (
        0,
        True,
        True,
    ), text
    code, text = run(books.dsn, "ledger", "verify", "--archive", folder)
    assert (code, "Sound: nothing was altered" in text, "Not read" in text) == (0, True, False), text
    code, text = run(books.dsn, "receipt", "show", first)
    assert (code, "It is in transfers-000000.ndjson.gz" in text) == (1, True), text
    for i in (first, second):
        code, text = run(books.dsn, "receipt", "show", i, "--archive", folder)
        assert code == 0, text
        (folder / "receipt.json").write_text(text)
        code, text = run(books.dsn, "receipt", "verify", folder / "receipt.json")
        assert (code, str(i) in text) == (0, True), text
    code, text = run(books.dsn, "ledger", "statement", "account:0", "--limit", "100")
    while "More: --before " in text:
        code, text = run(
            books.dsn,
            "ledger",
            "statement",
            "account:0",
            "--limit",
            "100",
            "--before",
            text.split("More: --before ")[1].split()[0],
        )
    assert (code, "are archived: `holdfast ledger archives`" in text) == (0, True), text
