"""Reading over many segments agrees with adding up every transfer, whatever is marked and indexed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from holdfast.base.ids import AccountId, TransferId
from holdfast.domains.ledger import queries
from holdfast.domains.ledger.errors import CursorInvalid
from holdfast.domains.ledger.model import Balance, Entry, NewTransfer, Outcome
from holdfast.domains.ledger.store import lookup, reading
from holdfast.domains.ledger.store.lookup import HOLD_STATES, KIND_NAMES
from holdfast.platform.db import Database
from tests.ledger.segmented import ACCOUNTS, ASSETS, START, UNUSED, Made, Segmented

SEGMENTS = 6
STATES = ("nothing marked", "some marks", "some segments marked", "all but the newest marked", "spans marked")


@pytest.fixture
def ledger(dsn: str) -> Segmented:
    seed = int(os.environ.get("HOLDFAST_TEST_SEED", "0")) or Random().randrange(1, 10**9)
    print(f"HOLDFAST_TEST_SEED={seed}")
    made = Segmented(Random(seed))
    for _ in range(SEGMENTS):
        made.add_segment()
    while not made.made:
        made.add_segment()
    return made


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest, ledger: Segmented, dsn: str) -> str:
    """Write the ledger, with as many marks as the state has."""
    reached = STATES.index(request.param)
    with psycopg.connect(dsn, autocommit=True) as connection:
        ledger.write(connection)
        if reached:
            ledger.write_marks(connection)
        newest = len(ledger.ends) - 1
        for number in range((0, 0, ledger.random.randrange(1, newest), newest, 0)[reached]):
            connection.execute("select ledger.mark_segment_v1(%s)", (number,))
        if reached == STATES.index("spans marked"):
            ledger.write_spans(connection)
        _index_some(connection, ledger.random)
        check_marks(connection, ledger)
    return str(request.param)


def _index_some(connection: psycopg.Connection[Any], random: Random) -> None:
    for (number,) in connection.execute("select number from ledger.segments where not indexed").fetchall():
        if random.random() < 0.5:
            connection.execute("select ledger.index_segment_v1(%s)", (number,))


def check_marks(connection: psycopg.Connection[Any], ledger: Segmented) -> None:
    for account, seq, entries, *sums in connection.execute("select * from ledger.marks").fetchall():
        assert (entries, Balance(*sums)) == ledger.after(account, seq)


async def test_balances_are_what_the_transfers_add_up_to(
    ledger: Segmented, state: str, database: Database
) -> None:
    end = ledger.made[-1].seq
    now = await queries.balances(database, [*ACCOUNTS, AccountId(99)])
    assert now == {account: ledger.after(account, end)[1] for account in ACCOUNTS}, state
    assert now[UNUSED] == Balance(0, 0, 0, 0)
    async with database.connection() as connection:
        for seq in (-1, 0, *(t.seq for t in ledger.random.sample(ledger.made, 12)), end):
            found = await reading.sums_at(connection, ACCOUNTS, seq)
            assert found == {account: ledger.after(account, seq) for account in ACCOUNTS}, (state, seq)
    moments = [batch[2] for batch in ledger.random.sample(ledger.batches, 6)]
    for at in (
        START - timedelta(days=1),
        ledger.clock,
        *moments,
        *(m - timedelta(microseconds=1) for m in moments),
    ):
        seq = max((t.seq for t in ledger.made if t.at <= at), default=-1)
        then = await queries.balances(database, ACCOUNTS, at=at)
        assert then == {account: ledger.after(account, seq)[1] for account in ACCOUNTS}, (state, at)
    view = await queries.account(database, ACCOUNTS[2])
    assert (view.entries, view.balance) == ledger.after(ACCOUNTS[2], end)
    assert view.limit_minor == ACCOUNTS[2]


Test = Callable[[Made], bool]


def filters(ledger: Segmented) -> Iterator[tuple[dict[str, Any], Test]]:
    """What a page can be asked for, and the same said by hand."""
    since, until = (ledger.random.choice(ledger.batches)[2] for _ in range(2))
    yield {}, lambda _: True
    yield {"code": 1}, lambda t: t.code == 1
    yield {"metadata": {"order": "2"}}, lambda t: (t.metadata or {}).get("order") == "2"
    yield {"since": since}, lambda t: t.at >= since
    yield {"until": until, "code": 2}, lambda t: t.at < until and t.code == 2
    yield {"since": since, "until": until}, lambda t: since <= t.at < until


async def collected(ask: Callable[..., Any], cursor: str, limit: int, **wanted: Any) -> list[Any]:
    """Read page after page until there is none."""
    found: list[Any] = []
    page = await ask(limit=limit, **wanted)
    while True:
        found += page.items
        assert len(page.items) <= limit
        if page.next is None:
            return found
        page = await ask(limit=limit, **wanted, **{cursor: page.next})


@pytest.mark.parametrize("scan", [5_000, 6], ids=["one look", "few rows at a look"])
async def test_a_statement_has_every_entry_with_its_balance(
    ledger: Segmented, state: str, database: Database, scan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "HISTORY_SCAN_ROWS_MAX", scan)
    for account in (1, 9, UNUSED):
        number = AccountId(account)
        mine = [t for t in reversed(ledger.made) if t.touches(account)]
        other = ledger.random.choice(ACCOUNTS)
        asked: list[tuple[dict[str, Any], Test]] = [*filters(ledger)]
        asked.append(({"other": other}, partial(Made.touches, account=other)))
        for wanted, keeps in asked:

            async def ask(number: AccountId = number, **more: Any) -> queries.Page[Entry]:
                return await queries.entries(database, number, **more)

            found = await collected(ask, "before", ledger.random.choice((7, 100)), **wanted)
            assert [_seen(e) for e in found] == [_said(t, account) for t in mine if keeps(t)], (state, wanted)
            expected = [ledger.after(account, t.seq)[1] for t in mine if keeps(t)]
            assert [e.balance for e in found] == expected, (state, wanted)
        if mine:
            page = await queries.statement(database, number, before=TransferId(mine[0].id), limit=5)
            assert [e.id for e in page] == [t.id for t in mine[1:6]]
        stranger = next(t for t in ledger.made if not t.touches(account))
        with pytest.raises(CursorInvalid):
            await queries.statement(database, number, before=TransferId(stranger.id))


def _seen(e: Entry) -> tuple[Any, ...]:
    return e.id, e.at, e.kind, e.side, e.other, e.amount_minor, e.code, e.pending_id, e.metadata


def _said(t: Made, account: int) -> tuple[Any, ...]:
    side, other = ("debit", t.credit) if t.debit == account else ("credit", t.debit)
    return t.id, t.at, KIND_NAMES[t.kind], side, other, t.amount, t.code, t.pending_id, t.metadata or {}


@pytest.mark.parametrize("scan", [5_000, 6], ids=["one look", "few rows at a look"])
async def test_all_transfers_are_listed_newest_first(
    ledger: Segmented, state: str, database: Database, scan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "HISTORY_SCAN_ROWS_MAX", scan)

    async def ask(**more: Any) -> queries.Page[queries.Transfer]:
        return await queries.transfers(database, **more)

    for wanted, keeps in filters(ledger):
        for account in (None, AccountId(2), UNUSED):
            found = await collected(ask, "after", 9, account=account, **wanted)
            expected = [t for t in reversed(ledger.made) if keeps(t) and (not account or t.touches(account))]
            assert [
                (t.seq, t.id, t.debit, t.credit, t.amount_minor, t.expires_at, t.over_minor, t.settles)
                for t in found
            ] == [
                (t.seq, t.id, t.debit, t.credit, t.amount, t.expires_at, t.over or 0, t.settles is True)
                for t in expected
            ], (state, wanted, account)
    with pytest.raises(CursorInvalid):
        await queries.transfers(database, after=TransferId(uuid4()))


async def test_what_became_of_an_id_is_found_wherever_it_is(
    ledger: Segmented, state: str, database: Database
) -> None:
    ids, refused = [t.id for t in ledger.made], {r[0]: Outcome(r[4]) for r in ledger.refusals}
    unknown = [ledger.id_at(batch[2]) for batch in ledger.batches[:5]] + [
        uuid4(),
        UUID(int=(2**48 - 1) << 80 | 7 << 76 | 2 << 62),
    ]
    found = await queries.find(database, [TransferId(i) for i in [*ids, *refused, *unknown]])
    assert {i: (p.outcome, p.amount_minor) for i, p in found.items()} == {
        **{t.id: (Outcome.POSTED, t.amount) for t in ledger.made},
        **{i: (outcome, 0) for i, outcome in refused.items()},
    }, state
    async with database.connection() as connection:
        for t in ledger.random.sample(ledger.made, 10):
            asked, amount = (await lookup.stored(connection, [t.id]))[t.id]
            assert isinstance(asked, NewTransfer)
            assert (asked.id, asked.debit, asked.credit, amount) == (t.id, t.debit, t.credit, t.amount)
            assert asked.amount_minor == (t.amount if t.asked is None else None if t.asked < 0 else t.asked)
            assert asked.balancing == (None, "debit", "credit")[t.balancing or 0]
            assert (asked.metadata, asked.expires_at) == (t.metadata or {}, t.expires_at)
            assert (asked.over_minor, asked.settles) == (t.over or 0, t.settles is True)
        looked = await lookup.look_up(connection, [*ids[:3], *refused], [*ledger.holds, *ids[:9], *unknown])
        assert set(looked.known) == set(ids[:3])
        assert looked.refused == refused == await lookup.refused(connection, refused)
        assert {i: (hold.state, hold.over, hold.settles) for i, hold in looked.holds.items()} == {
            i: (HOLD_STATES[ledger.settled.get(i)], t.over or 0, t.settles is True)
            for i, t in ledger.holds.items()
        }
        assert await lookup.holds(connection, []) == {}


async def test_the_trial_balance_adds_up_every_segment(
    ledger: Segmented, state: str, database: Database, dsn: str
) -> None:
    rows = await queries.trial_balance(database)
    assert [row.asset for row in rows] == ["CNY", "JPY"], state
    for row, asset in zip(rows, (156, 392), strict=True):
        members = [ledger.after(n, ledger.made[-1].seq)[1] for n in ACCOUNTS if ASSETS[n] == asset]
        assert row.balanced
        assert row.accounts == len(members)
        assert row.totals.debits_posted_minor == sum(b.debits_posted_minor for b in members)
        assert row.totals.debits_pending_minor == sum(b.debits_pending_minor for b in members)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "update ledger.transfers set credit = 9 where seq = ("
            "select max(seq) from ledger.transfers where asset = 156 and kind = 0)"
        )
    assert [row.balanced for row in await queries.trial_balance(database)] == [False, False]


def test_a_segment_is_marked_only_when_its_turn_has_come(ledger: Segmented, dsn: str) -> None:
    newest = len(ledger.ends) - 1
    with psycopg.connect(dsn, autocommit=True) as connection:
        ledger.write(connection)
        for too_soon in (1, newest):
            with pytest.raises(psycopg.errors.RaiseException, match="still written, or one before it"):
                connection.execute("select ledger.mark_segment_v1(%s)", (too_soon,))
        for _ in range(2):
            connection.execute("select ledger.mark_segment_v1(0)")
        check_marks(connection, ledger)
        spans = "select array_agg(span order by number) from ledger.segments"
        assert connection.execute(spans).fetchone() == ([0, *[None] * newest],)


async def test_a_span_is_taken_apart_from_its_beginning(
    ledger: Segmented, dsn: str, database: Database
) -> None:
    """As when its first segments are archived: each gets marks of its own, and the rest stays a span."""
    newest = len(ledger.ends) - 1
    with psycopg.connect(dsn, autocommit=True) as connection:
        ledger.write(connection)
        ledger.write_span(connection, 0, newest - 1)
        with pytest.raises(psycopg.errors.RaiseException, match="still written, or one before it"):
            connection.execute("select ledger.mark_segment_v1(1)")
        for number in range(newest - 1):
            connection.execute("select ledger.mark_segment_v1(%s)", (number,))
            check_marks(connection, ledger)
            spans = connection.execute("select span from ledger.segments order by number").fetchall()
            own, rest = list(range(number + 1)), [number + 1] * (newest - number - 1)
            assert [span for (span,) in spans] == [*own, *rest, None]
            async with database.connection() as pooled:
                for seq in ledger.random.sample([t.seq for t in ledger.made], 5):
                    found = await reading.sums_at(pooled, ACCOUNTS, seq)
                    assert found == {account: ledger.after(account, seq) for account in ACCOUNTS}
