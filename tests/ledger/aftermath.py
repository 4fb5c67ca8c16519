"""What must be true after a crash: of every answer, and of everything that the ledger keeps."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import psycopg

from holdfast.base.ids import AccountId, TransferId
from holdfast.base.money import ASSETS_BY_NUMBER
from holdfast.domains.ledger import queries
from holdfast.domains.ledger.model import Balance, NewTransfer, Outcome, TransferKind
from holdfast.domains.ledger.rules.rulebook import OWN_KINDS, Hold
from holdfast.domains.ledger.store import loading
from holdfast.domains.ledger.verify import verify
from holdfast.platform.db import Database
from tests.ledger.crashing import Call
from tests.ledger.sequential import STAYS_REFUSED

KINDS: Final[tuple[TransferKind, ...]] = (
    "posted",
    "pending",
    "post_pending",
    "void_pending",
    "expire_pending",
    "settle_pending",
)
SIDES: Final[dict[int | None, Any]] = {None: None, 1: "debit", 2: "credit"}
MAY_STAND: Final = {Outcome.POSTED, Outcome.EXISTS, Outcome.EXISTS_WITH_DIFFERENT_CONTENT}
TRANSFERS: Final = """
select id, debit, credit, asset, amount, kind, balancing, asked, held, pending_id, expires_at, code, metadata,
       settles, over
from ledger.transfers order by seq"""


@dataclass
class Stored:
    """One row of the transfers, as what was asked for."""

    asked: NewTransfer
    amount: int
    held: int
    asset: int


@dataclass
class Tables:
    """What is there."""

    transfers: dict[UUID, Stored] = field(default_factory=dict)
    refusals: dict[UUID, Outcome] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    claims: set[str] = field(default_factory=set)
    accounts: dict[int, tuple[str, int]] = field(default_factory=dict)


def read(dsn: str) -> Tables:
    found = Tables()
    with psycopg.connect(dsn) as connection:
        for row in connection.execute(TRANSFERS.encode()):
            (
                i,
                debit,
                credit,
                asset,
                amount,
                kind,
                balancing,
                asked,
                held,
                pending_id,
                expires_at,
                code,
                data,
                settles,
                over,
            ) = row
            assert i not in found.transfers, f"{i} stands twice"
            t = NewTransfer(
                TransferId(i), AccountId(debit), AccountId(credit), ASSETS_BY_NUMBER[asset].code,
                amount if asked is None else None if asked < 0 else asked, KINDS[kind],
                pending_id, expires_at, SIDES[balancing], code, False, data or {}, bool(settles), over or 0,
            )  # fmt: skip
            found.transfers[i] = Stored(t, amount, held or 0, asset)
        found.refusals = {
            i: Outcome(o) for i, o in connection.execute("select id, outcome from ledger.refusals")
        }
        found.notes = dict(connection.execute("select name, body from notes").fetchall())
        found.claims = {name for (name,) in connection.execute("select name from claims")}
        rows = connection.execute("select number, code, place from ledger.accounts")
        found.accounts = {number: (code, place) for number, code, place in rows}
    return found


def check_answers(calls: Iterable[Call], tables: Tables) -> Counter[str]:
    """Every answer is true, and whatever is there was asked for. Return how many calls ended how."""
    ends: Counter[str] = Counter()
    asked: defaultdict[UUID, list[NewTransfer]] = defaultdict(list)
    may_stand, posted = set[UUID](), Counter[UUID]()
    for call in calls:
        ends[call.state] += 1
        for t in call.transfers:
            asked[t.id].append(replace(t, linked=False))
        if call.state in ("unknown", "open"):
            may_stand |= {t.id for t in call.transfers}
        if call.account is not None:
            assert call.state != "told" or tables.accounts[call.account.number][0] == call.account.code
        if call.unit:
            _check_unit(call, tables)
        for t, (outcome, amount) in zip(call.transfers, call.answers, strict=call.state == "told"):
            _check_answer(t, outcome, amount, tables)
            posted[t.id] += outcome is Outcome.POSTED
            if outcome in MAY_STAND:
                may_stand.add(t.id)
    assert max(posted.values(), default=0) <= 1, "an id was posted twice"
    for i, stored in tables.transfers.items():
        if stored.asked.kind not in OWN_KINDS:
            assert i in asked, f"nobody asked for {stored}"
            assert i in may_stand, f"it was said that it did not move: {stored}"
            assert stored.asked in asked[i], f"it was asked for otherwise: {stored}, {asked[i]}"
    assert not tables.refusals.keys() - asked.keys(), "a refusal that nobody asked for"
    return ends


def _check_answer(t: NewTransfer, outcome: Outcome, amount: int, tables: Tables) -> None:
    stored = tables.transfers.get(t.id)
    if outcome in (Outcome.POSTED, Outcome.EXISTS):
        assert stored is not None, f"acknowledged, and lost: {t}"
        assert (stored.asked, stored.amount) == (replace(t, linked=False), amount), (
            f"{t} is stored as {stored}"
        )
    elif outcome is Outcome.EXISTS_WITH_DIFFERENT_CONTENT:
        assert stored is not None, f"it was said to exist: {t}"
        assert stored.asked != replace(t, linked=False)
    elif outcome is Outcome.ID_ALREADY_REFUSED:
        assert t.id in tables.refusals, f"it was said to have been refused: {t}"
    elif outcome in STAYS_REFUSED:
        assert tables.refusals.get(t.id) == outcome, f"{outcome.name} is forgotten: {t}"


def _check_unit(call: Call, tables: Tables) -> None:
    """Rows of another domain commit with the transfers, or not at all. Nobody else asks for these."""
    there = [t.id in tables.transfers for t in call.transfers]
    said = tables.notes.get(call.unit)
    assert there == [said == "paid"] * len(there), f"half of {call} is there: {said}, {there}"
    assert said is None or call.key in tables.claims, f"without its claim: {call}"
    if call.state == "told":
        moved = all(o.moved for o, _ in call.answers)
        assert said == ("paid" if moved else "declined"), f"{call}: {said}"
    elif call.state in ("away", "conflict"):
        assert said is None, f"{call}: {said}"


@dataclass
class Recomputed:
    """What the transfers come to, added up one by one."""

    balances: dict[int, Balance]
    entries: Counter[int]
    holds: dict[UUID, tuple[object, ...]]


def recompute(tables: Tables) -> Recomputed:
    sums: dict[int, list[int]] = {number: [0, 0, 0, 0] for number in tables.accounts}
    entries, holds = Counter[int](), dict[UUID, tuple[object, ...]]()
    for i, stored in tables.transfers.items():
        t, moved, reserved = stored.asked, 0, -stored.held
        if t.kind in ("posted", "post_pending", "settle_pending"):
            moved = stored.amount
        if t.kind == "pending":
            reserved = stored.amount
            terms = t.expires_at, t.over_minor, t.settles
            holds[i] = (t.debit, t.credit, stored.asset, stored.amount, *terms)
        elif t.pending_id is not None:
            del holds[t.pending_id]
        for number, side in ((t.debit, 0), (t.credit, 1)):
            entries[number] += 1
            sums[number][side] += moved
            sums[number][side + 2] += reserved
    return Recomputed({number: Balance(*four) for number, four in sums.items()}, entries, holds)


def check_books(dsn: str, tables: Tables) -> None:
    """The proof finds nothing; what a new writer reads, and anybody else, is what the transfers say."""
    report = verify(dsn)
    assert not report.findings, report.findings
    assert report.transfers == len(tables.transfers)
    assert report.refusals == len(tables.refusals)
    asyncio.run(_check_books(dsn, tables, recompute(tables)))


async def _check_books(dsn: str, tables: Tables, sums: Recomputed) -> None:
    database = Database(dsn, connections_min=1)
    await database.open()
    try:
        async with database.connection() as connection:
            book, head, _ = await loading.load(connection)
        stored = {number: place for number, (_, place) in tables.accounts.items()}
        assert len(book.places) == book.count == len(stored)
        assert all(book.places.get(number) == place for number, place in stored.items())
        assert {number: book.balance(number) for number in tables.accounts} == sums.balances
        entries = dict(zip(book.places.numbers.tolist(), book.entries.tolist(), strict=False))
        assert {number: count for number, count in entries.items() if count} == sums.entries
        assert {i: _hold(hold) for i, hold in book.holds.items()} == sums.holds
        every_id = b"".join(i.bytes for i in tables.transfers)
        suspects = book.seen.maybe(every_id, max(head.at, datetime.now(UTC)))
        assert not tables.transfers.keys() - {UUID(int=i) for i in suspects}, "an id would not be looked up"
        assert await queries.balances(database, list(map(AccountId, tables.accounts))) == sums.balances
        some = [TransferId(i) for i in [*tables.transfers][-300:]]
        found = await queries.find(database, some)
        assert {i: p.amount_minor for i, p in found.items()} == {i: tables.transfers[i].amount for i in some}
        for row in await queries.trial_balance(database):
            assert row.balanced, row
    finally:
        await database.close()


def _hold(hold: Hold) -> tuple[object, ...]:
    terms = hold.expires_at, hold.over, hold.settles
    return hold.debit, hold.credit, hold.asset, hold.amount, *terms
