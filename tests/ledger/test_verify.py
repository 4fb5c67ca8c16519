"""`verify` says that untouched books are sound, and names what was touched, also where hashes were redone."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random
from uuid import UUID

import numpy as np
import psycopg
import pytest

from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.domains.ledger.verify import verify
from holdfast.domains.ledger.verify.ids import Ids
from holdfast.platform.db import Database
from holdfast.platform.postgres import EmbeddedPostgres
from tests.ledger.rehash import rehash
from tests.ledger.workload import StillClock, Workload, accounts


async def posted(dsn: str, seed: int, lists: int) -> None:
    """Post random lists; some holds lapse, and one account has a limit that changes."""
    clock = StillClock()
    opened = accounts(30)
    work = Workload(seed, opened, clock.now)
    database = Database(dsn)
    await database.open()
    seat = Seat(database, clock)
    ledger = PostgresLedger(database, seat)
    await ledger.open_accounts(opened)
    for step in range(lists):
        clock.at += timedelta(milliseconds=1)
        await ledger.post(work.lists())
        if step % 20 == 19:
            await ledger.set_limits({opened[20].number: step * 10})
            clock.at += timedelta(seconds=30)
            await ledger.expire_due()
    await seat.close()
    await database.close()


def filled(dsn: str, seed: int, lists: int = 120) -> None:
    asyncio.run(posted(dsn, seed, lists))


def test_books_that_nobody_touched_are_sound(dsn: str) -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    filled(dsn, seed)
    seen: list[tuple[int, int]] = []
    report = verify(dsn, lambda done, total: seen.append((done, total)))
    assert report.findings == []
    assert report.transfers > 500
    assert report.refusals > 50
    assert report.accounts == 30
    assert seen[-1] == (report.transfers, report.transfers)
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select batch, encode(hash, 'hex') from ledger.head").fetchone()
    assert report.head == row


def test_an_empty_ledger_is_sound(dsn: str) -> None:
    report = verify(dsn)
    assert (report.findings, report.head) == ([], (0, ""))


def row(where: str, order: str = "seq") -> str:
    """The number of the first transfer of that sort."""
    return f"(select seq from ledger.transfers where {where} order by {order} limit 1)"


NEWEST = row("true", "seq desc")
OLDEST = row("true")
POSTED = row("kind = 0")
PENDING = row("kind = 1")
SETTLED = row("kind = 2 and amount < held")
VOIDED = row("kind = 3")
LAPSED = row("kind = 4")
SETTLED_ITSELF = row("kind = 5")
EXCEEDED = row("kind = 2 and amount > held")
BY_ITSELF = "from ledger.transfers e where e.seq = {} and p.id = e.pending_id"
FIRST_REFUSAL = "(select id from ledger.refusals order by batch, position limit 1)"
LAST_BATCH = "(select max(number) from ledger.batches)"
A_MARK = "(select account from ledger.marks order by seq desc limit 1)"
MARKED = f"account = {A_MARK} and seq = (select max(seq) from ledger.marks where account = {A_MARK})"


def transfer(change: str, where: str = OLDEST) -> str:
    return f"update ledger.transfers set {change} where seq = {where}"


def batch(change: str, number: str = "5") -> str:
    return f"update ledger.batches set {change} where number = {number}"


def refusal(change: str) -> str:
    return f"update ledger.refusals set {change} where id = {FIRST_REFUSAL}"


ROOT, HASH = "do not give its root", "do not give its hash"
TAMPERINGS = {
    "an amount": (transfer("amount = amount + 1", NEWEST), ROOT),
    "the sides of a transfer": (transfer("debit = credit, credit = debit"), ROOT),
    "a debited account": (transfer("debit = (select max(number) from ledger.accounts)"), ROOT),
    "a credited account": (transfer("credit = (select max(number) from ledger.accounts)"), ROOT),
    "an account that there is not": (transfer("debit = 3"), "an account that there is not"),
    "an id": (transfer("id = gen_random_uuid()"), ROOT),
    "a transfer's metadata": (
        transfer("""metadata = '{"order": "no"}'""", row("metadata is not null")),
        ROOT,
    ),
    "metadata added": (transfer("metadata = '{}'", row("metadata is null")), ROOT),
    "metadata removed": (transfer("metadata = null", row("metadata is not null")), ROOT),
    "a transfer's code": (transfer("code = 77"), ROOT),
    "a transfer's asset": (transfer("asset = 1 + asset"), "another asset"),
    "a transfer's kind": (transfer("kind = 1", POSTED), ROOT),
    "an expiry": (
        transfer("expires_at = expires_at + interval '1 s'", row("expires_at is not null")),
        ROOT,
    ),
    "an expiry removed": (transfer("expires_at = null", row("expires_at is not null")), ROOT),
    "whether a hold settles itself": (transfer("settles = null", row("settles")), ROOT),
    "that a hold settles itself, added": (
        transfer("settles = true", row("settles is null and expires_at is not null")),
        ROOT,
    ),
    "by how much more a hold may be settled": (transfer("over = over + 1", row("over is not null")), ROOT),
    "that, added": (transfer("over = 1", row("over is null and kind = 1")), ROOT),
    "that, removed": (transfer("over = null", row("over is not null")), ROOT),
    "a balancing": (transfer("balancing = 3 - balancing", row("balancing is not null")), ROOT),
    "a balancing added": (transfer("balancing = 1", row("balancing is null")), ROOT),
    "what was asked": (transfer("asked = asked + 1", row("asked > 0")), ROOT),
    "what was asked, added": (transfer("asked = amount + 1", row("asked is null and kind = 0")), ROOT),
    "what was held": (transfer("held = held + 1", SETTLED), ROOT),
    "a hold that is settled": (transfer("pending_id = id", SETTLED), "not open"),
    "a transfer's time": (transfer("at = at + interval '1 s'"), "another time"),
    "a transfer's number": (transfer("seq = 1000000", NEWEST), "belongs to no batch"),
    "a number that was given": (transfer("seq = seq - 1", NEWEST), "its transfers are not"),
    "a transfer removed": (f"delete from ledger.transfers where seq = {NEWEST}", "its transfers are not"),
    "a transfer removed from the middle": (
        "delete from ledger.transfers where seq = 40",
        "its transfers are not",
    ),
    "a transfer added": (
        "insert into ledger.transfers (seq, at, debit, credit, amount, id, code, asset, kind) "
        "select seq + 1, at, debit, credit, 1, gen_random_uuid(), 0, asset, 0 from ledger.transfers "
        f"where seq = {NEWEST}",
        "belongs to no batch",
    ),
    "a transfer added to a batch": (
        "insert into ledger.transfers (seq, at, debit, credit, amount, id, code, asset, kind) "
        "select seq, at, debit, credit, 1, gen_random_uuid(), 0, asset, 0 from ledger.transfers "
        f"where seq = {NEWEST}",
        "its transfers are not",
    ),
    "a refusal": (refusal("outcome = outcome % 20 + 2"), HASH),
    "a refused id": (refusal("id = gen_random_uuid()"), HASH),
    "a refusal's position": (refusal("position = 30"), "its refusals are not"),
    "a refusal's time": (refusal("at = at + interval '1 s'"), "its refusals are not"),
    "a refusal's batch": (refusal("batch = batch + 1"), "its refusals are not"),
    "a refusal of no batch": (refusal("batch = 100000"), "is missing"),
    "a refusal removed": (f"delete from ledger.refusals where id = {FIRST_REFUSAL}", "its refusals are not"),
    "a refusal added": (
        "insert into ledger.refusals select gen_random_uuid(), 5, 50, at, 9 from ledger.batches "
        "where number = 5",
        "its refusals are not",
    ),
    "a batch removed": ("delete from ledger.batches where number = 4", "batch 4: it is missing"),
    "the first batch removed": ("delete from ledger.batches where number = 1", "batch 1: it is missing"),
    "the last batch removed": (f"delete from ledger.batches where number = {LAST_BATCH}", "head"),
    "a batch's number": (batch("number = 100000", LAST_BATCH), "is missing"),
    "where a batch begins": (batch("first_seq = first_seq + 1"), "does not follow"),
    "where a batch begins, far off": (
        batch("first_seq = first_seq + (1::bigint << 50)"),
        "its transfers are not",
    ),
    "a batch's time": (batch("at = at + interval '1 microsecond'"), HASH),
    "a batch's time before the one before": (
        batch("at = at - interval '1 h'"),
        "before that of the batch before",
    ),
    "how many transfers a batch has": (batch("transfers = transfers + 1"), "its transfers are not"),
    "how many transfers a batch has, wildly": (batch("transfers = 2147483647"), "its transfers are not"),
    "how many refusals a batch has": (batch("refusals = refusals + 1"), "its refusals are not"),
    "a count below nothing": (batch("refusals = -1"), "its counts are wrong"),
    "a root": (batch("root = sha256('x')"), ROOT),
    "a root cut short": (batch("root = substr(root, 1, 31)"), ROOT),
    "a hash": (batch("hash = sha256('x')"), HASH),
    "a hash emptied": (batch("hash = ''"), HASH),
    **{
        f"a mark's {name}": (
            f"update ledger.marks set {name} = {name} + 1 where {MARKED}",
            "the mark of account",
        )
        for name in ("entries", "debits_posted", "credits_posted", "debits_pending", "credits_pending")
    },
    "a mark's account": (
        f"update ledger.marks set account = account + 1 where {MARKED}",
        "the mark of account",
    ),
    "a mark's number": (
        f"update ledger.marks set seq = (select max(seq) - 1 from ledger.transfers "
        f"where {A_MARK} in (debit, credit)) where {MARKED.replace('max', 'min')}",
        "the mark of account",
    ),
    "a mark beyond the end": (
        f"update ledger.marks set seq = seq + 100000 where {MARKED}",
        "beyond the newest",
    ),
    "a mark added": (
        "insert into ledger.marks select max(number), 3, 7, 1, 1, 0, 0 from ledger.accounts",
        "the mark of account",
    ),
    "an account's asset": (
        "update ledger.accounts set asset = 1 + asset where number = 1000",
        "another asset",
    ),
    "an account's number": (
        "update ledger.accounts set number = 999 where number = 1000",
        "that there is not",
    ),
    "an account's rule": ("update ledger.accounts set rule = 1 where number = 1000", "broke its rule"),
    "an account's place": ("update ledger.accounts set place = 100 where number = 1000", "places"),
    "an account's limit": ("update ledger.accounts set limit_minor = 51 where number = 1000", "its limit is"),
    "an account removed": ("delete from ledger.accounts where number = 1000", "that there is not"),
    "a limit's amount": (
        "update ledger.limits set limit_minor = 51 where seq = (select max(seq) from ledger.limits)",
        "its limit is",
    ),
    "a limit's account": (
        "update ledger.limits set account = 3 where seq = (select max(seq) from ledger.limits)",
        "a limit is of an account",
    ),
    "a limit's number": (
        "update ledger.limits set seq = 1 << 30 where seq = (select max(seq) from ledger.limits)",
        "beyond the next",
    ),
    "a limit removed": (
        "delete from ledger.limits where seq = (select max(seq) from ledger.limits)",
        "its limit is",
    ),
    "the head's batch": ("update ledger.head set batch = batch - 1", "the head"),
    "the head's number": ("update ledger.head set seq = seq + 1", "the head"),
    "the head's time": ("update ledger.head set at = at + interval '1 s'", "the head"),
    "the head's hash": ("update ledger.head set hash = sha256('x')", "the head"),
    "the head's commits": ("update ledger.head set commits = 1", "the head"),
    "the head removed": ("delete from ledger.head", "the head"),
    "when a segment was opened": (
        "update ledger.segments set opened_at = '2100-01-01'",
        "segment 0",
    ),
    "where a segment ended": ("update ledger.segments set last_seq = 5, last_at = opened_at", "segment 0"),
    "a mark that its segment should have": (
        "update ledger.segments set marked = true, span = number",
        "lacks a mark",
    ),
    "a segment that is not noted": ("delete from ledger.segments", "segment 0"),
}


TABLES = ("transfers", "batches", "refusals", "marks", "accounts", "limits", "head", "segments")


@pytest.fixture(scope="module")
def filled_once(postgres: EmbeddedPostgres, template: str) -> str:
    """A filled database that keeps a copy of itself, without the indexes that would forbid what tests do."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute(f"create database ledger_touched template {template}".encode())
    dsn = postgres.dsn("ledger_touched")
    filled(dsn, seed=7, lists=60)
    assert verify(dsn).findings == []
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "drop index ledger.transfers_000000_id_idx, ledger.transfers_000000_pending_id_idx"
        )
        connection.execute("create schema kept")
        for table in TABLES:
            connection.execute(f"create table kept.{table} as table ledger.{table}".encode())
    return dsn


@pytest.fixture
def touched(filled_once: str) -> str:
    """The DSN of a filled database to tamper with."""
    with psycopg.connect(filled_once) as connection:
        connection.execute(f"truncate {', '.join('ledger.' + table for table in TABLES)}".encode())
        for table in TABLES:
            connection.execute(f"insert into ledger.{table} select * from kept.{table}".encode())
    return filled_once


@pytest.mark.parametrize("what", TAMPERINGS)
def test_what_was_touched_is_named(touched: str, what: str) -> None:
    sql, words = TAMPERINGS[what]
    with psycopg.connect(touched) as connection:
        assert connection.execute(sql.encode()).rowcount == 1
    report = verify(touched)
    assert not report.sound
    assert any(words in finding.words for finding in report.findings), report.findings


LATER = "(select max(seq) from ledger.transfers)"
FORGERIES = {
    "a transfer made larger than the money there was": (
        transfer(
            "amount = amount + 9000000",
            row("kind = 0 and debit in (select number from ledger.accounts where rule = 1)"),
        ),
        "broke its rule",
    ),
    "credits beyond debits": (
        transfer(
            "amount = amount + 9000000",
            row("kind = 0 and credit in (select number from ledger.accounts where rule = 2)"),
        ),
        "broke its rule",
    ),
    "more than fits": (transfer("amount = 1::bigint << 53", POSTED), "out of bounds"),
    "a balance that does not fit": (
        "update ledger.transfers set amount = (1::bigint << 53) - 1 where seq in (select seq "
        "from ledger.transfers where kind = 0 and debit = 1000 and credit = 24757 order by seq limit 2)",
        "beyond its bounds",
    ),
    "an id twice": (
        transfer(f"id = (select id from ledger.transfers where seq = {OLDEST})", NEWEST),
        "stands twice",
    ),
    "an id that was refused": (transfer(f"id = {FIRST_REFUSAL}", NEWEST), "stands twice"),
    "a hold settled twice": (
        transfer(
            f"pending_id = (select pending_id from ledger.transfers where seq = {SETTLED})",
            row("kind = 2", "seq desc"),
        ),
        "not open",
    ),
    "a hold settled that never was": (transfer("pending_id = gen_random_uuid()", VOIDED), "not open"),
    "a hold settled before it was made": (
        transfer(
            f"id = (select pending_id from ledger.transfers where seq = {SETTLED})",
            row("kind = 1", "seq desc"),
        ),
        "stands twice",
    ),
    "more settled than was held": (transfer("amount = held + 1", SETTLED), "does not fit the hold"),
    "less released than was held": (
        transfer("amount = amount - 1", row("kind = 3 and amount > 1")),
        "does not fit the hold",
    ),
    "another reservation": (transfer("held = held + 1", SETTLED), "does not fit the hold"),
    "a hold of other accounts": (
        transfer(
            "credit = (select max(number) from ledger.accounts a where a.asset = transfers.asset)", VOIDED
        ),
        "does not fit the hold",
    ),
    "a hold that lapsed too soon": (
        f"update ledger.transfers p set expires_at = p.expires_at + interval '1 day' from ledger.transfers l "
        f"where l.seq = {LAPSED} and p.id = l.pending_id",
        "at a time when it must not",
    ),
    "a hold settled too late": (
        f"update ledger.transfers p set expires_at = p.at + interval '1 microsecond' from ledger.transfers l "
        f"where l.seq = {row('kind = 3', 'seq desc')} and p.id = l.pending_id",
        "at a time when it must not",
    ),
    "a hold that was over when it was made": (transfer("expires_at = at", PENDING), "what its kind has"),
    "a hold that settled itself too soon": (
        "update ledger.transfers p set expires_at = p.expires_at + interval '1 day' "
        + BY_ITSELF.format(SETTLED_ITSELF),
        "at a time when it must not",
    ),
    "a hold that settled itself though it lapses": (
        "update ledger.transfers p set settles = null " + BY_ITSELF.format(SETTLED_ITSELF),
        "does not end by itself",
    ),
    "a hold that lapsed though it settles itself": (
        "update ledger.transfers p set settles = true " + BY_ITSELF.format(LAPSED),
        "does not end by itself",
    ),
    "a lapse made a settlement": (transfer("kind = 5", LAPSED), "does not end by itself"),
    "a settlement made a lapse": (transfer("kind = 4", SETTLED_ITSELF), "does not end by itself"),
    "a settlement that nobody asked for, made one of the ledger's": (
        transfer("kind = 5, asked = -1", row("kind = 2 and asked = -1")),
        "at a time when it must not",
    ),
    "more than was held, by itself": (
        transfer("amount = held + 1", SETTLED_ITSELF),
        "does not fit the hold",
    ),
    "more settled than a hold could be settled for": (
        "update ledger.transfers p set over = null " + BY_ITSELF.format(EXCEEDED),
        "does not fit the hold",
    ),
    "more settled than there was money": (
        "with e as (update ledger.transfers set amount = amount + 9000000 where seq = "
        + row("kind = 2 and amount > held and debit in (select number from ledger.accounts where rule = 1)")
        + " returning pending_id) update ledger.transfers p set over = (1::bigint << 53) - 1 "
        "from e where p.id = e.pending_id",
        "broke its rule",
    ),
    "a hold that settles itself at no time": (transfer("expires_at = null", row("settles")), "its kind has"),
    "a hold that says it does not settle itself": (transfer("settles = false", PENDING), "what its kind has"),
    "a limit of nothing": (transfer("over = 0", PENDING), "what its kind has"),
    "a limit that does not fit": (transfer("over = 1::bigint << 53", PENDING), "what its kind has"),
    "a limit of what is no hold": (transfer("over = 5", POSTED), "what its kind has"),
    "a transfer that settles itself": (transfer("settles = true", POSTED), "what its kind has"),
    "a settlement of nothing": (transfer("kind = 5", POSTED), "what its kind has"),
    "an unknown kind": (transfer("kind = 6", POSTED), "what its kind has"),
    "a release that holds": (transfer("pending_id = null", VOIDED), "what its kind has"),
    "a hold that releases": (transfer("held = 1", PENDING), "what its kind has"),
    "balancing of an unknown sort": (
        transfer("balancing = 3, asked = amount + 1", POSTED),
        "what its kind has",
    ),
    "more moved than asked": (transfer("balancing = 1, asked = amount - 1", POSTED), "what its kind has"),
    "another asset": (transfer("asset = 1 + asset", POSTED), "another asset"),
    "an account that there is not": (transfer("credit = 3", POSTED), "that there is not"),
    "an id from the future that is not noted": (
        transfer("id = '0f9ca945-0a0a-7f9b-b8a5-31c8b4d8c9cc'", POSTED),
        "not noted as early",
    ),
    "a batch of nothing": (
        "with cut as (insert into ledger.batches select number + 1, first_seq + transfers, at, 0, 0, root, "
        f"hash from ledger.batches where number = {LAST_BATCH} returning number, at) "
        "update ledger.head h set batch = c.number from cut c",
        "its counts are wrong",
    ),
    "numbers left out": (
        f"with moved as (update ledger.batches set first_seq = first_seq + 7 where number = {LAST_BATCH} "
        "returning first_seq, transfers), h as (update ledger.head set seq = seq + 7) "
        "update ledger.transfers set seq = seq + 7 from moved m where seq >= m.first_seq - 7",
        "does not follow",
    ),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_books_that_no_writer_would_make_are_not_sound_though_their_hashes_fit(
    touched: str, what: str
) -> None:
    sql, words = FORGERIES[what]
    with psycopg.connect(touched) as connection:
        assert connection.execute(sql.encode()).rowcount >= 1
        rehash(connection)
    report = verify(touched)
    assert any(words in finding.words for finding in report.findings), report.findings
    assert not any("altered" in finding.words for finding in report.findings), report.findings


def test_a_segment_may_end_early(dsn: str) -> None:
    filled(dsn, seed=3, lists=20)
    newest = "(select first_seq from ledger.batches order by number desc limit 1)"
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "select ledger.open_segment_v1(1, at, false) from ledger.batches order by number desc limit 1"
        )
        for table, column in (
            ("transfers", "seq"),
            ("marks", "seq"),
            ("head", "seq"),
            ("batches", "first_seq"),
        ):
            moved = f"{column} = {column} - {newest} + (1 << 20)"
            connection.execute(f"update ledger.{table} set {moved} where {column} >= {newest}".encode())
        connection.execute(
            "update ledger.segments set (last_seq, last_at) = (select first_seq + transfers - 1, at "
            "from ledger.batches where first_seq < 1 << 20 and transfers > 0 order by number desc limit 1) "
            "where number = 0"
        )
        rehash(connection)
    assert verify(dsn).findings == []
    with psycopg.connect(dsn) as connection:
        connection.execute("update ledger.segments set last_seq = last_seq - 1 where number = 0")
    assert ["noted of segment 0" in f.words for f in verify(dsn).findings] == [True]


def test_the_first_broken_batch_is_named(touched: str) -> None:
    with psycopg.connect(touched) as connection:
        connection.execute(
            "update ledger.transfers set code = code + 1 where seq in "
            "(select first_seq from ledger.batches where number in (9, 15))"
        )
    assert verify(touched).first_broken_batch == 9


def test_ids_are_compared_over_any_number_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.domains.ledger.verify.ids._RUN_KEYS", 1000)
    monkeypatch.setattr("holdfast.domains.ledger.verify.ids._MERGE_KEYS", 700)
    random = Random(5)
    pieces = [np.frombuffer(random.randbytes(16 * random.randrange(1, 400)), "V16") for _ in range(40)]
    twice = pieces[3][0].tobytes()
    pieces.append(np.frombuffer(twice, "V16"))
    ids = Ids()
    for piece in pieces[:-1]:
        ids.add(piece)
    assert len(ids.suspects()) == 0
    ids.add(pieces[-1])
    suspects = ids.suspects()
    assert len(suspects) == 1
    assert [UUID(bytes=i) for i in ids.twice(suspects, iter(pieces))] == [UUID(bytes=twice)]
    ids.close()
