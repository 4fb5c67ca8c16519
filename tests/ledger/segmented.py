"""A random ledger over several segments, written by SQL, and what its transfers add up to.

No lane writes it: so it can have segments with and without indexes, marks that are missing, ids of the past
and of the future, and segments that ended early, all at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import psycopg

from holdfast.base.ids import AccountId
from holdfast.domains.ledger.model import Balance

START = datetime(2026, 3, 1, tzinfo=UTC)
ACCOUNTS = tuple(AccountId(number) for number in range(1, 11))
UNUSED = ACCOUNTS[-1]
ASSETS = {number: 156 if number < 8 else 392 for number in ACCOUNTS}
COLUMNS = (
    "seq", "at", "debit", "credit", "amount", "id", "code", "asset", "kind", "balancing", "asked", "held",
    "pending_id", "expires_at", "metadata", "over", "settles",
)  # fmt: skip


@dataclass
class Made:
    """One transfer, as its row."""

    seq: int
    at: datetime
    id: UUID
    debit: int = 0
    credit: int = 0
    amount: int = 0
    asset: int = 156
    kind: int = 0
    code: int = 0
    balancing: int | None = None
    asked: int | None = None
    held: int | None = None
    pending_id: UUID | None = None
    expires_at: datetime | None = None
    metadata: dict[str, str] | None = None
    over: int | None = None
    settles: bool | None = None

    def touches(self, account: int) -> bool:
        return account in (self.debit, self.credit)

    def row(self) -> tuple[Any, ...]:
        values = {**vars(self), "metadata": json.dumps(self.metadata) if self.metadata else None}
        return tuple(values[name] for name in COLUMNS)


@dataclass
class Segmented:
    """The whole ledger. `ends`: of each segment time and number of its last transfer."""

    random: Random
    clock: datetime = START
    made: list[Made] = field(default_factory=list)
    batches: list[tuple[Any, ...]] = field(default_factory=list)
    refusals: list[tuple[Any, ...]] = field(default_factory=list)
    settled: dict[UUID, int] = field(default_factory=dict)
    ends: list[tuple[datetime, int]] = field(default_factory=list)

    @property
    def holds(self) -> dict[UUID, Made]:
        return {t.id: t for t in self.made if t.kind == 1}

    def id_at(self, moment: datetime) -> UUID:
        """A UUID version 7 with this time of its own."""
        tail = self.random.getrandbits(12) << 64 | 2 << 62 | self.random.getrandbits(62)
        return UUID(int=int(moment.timestamp() * 1000) << 80 | 7 << 76 | tail)

    def add_segment(self) -> None:
        first = seq = len(self.ends) << 20
        for _ in range(self.random.randrange(1, 25)):
            self.clock += timedelta(seconds=self.random.choice((0, 1, 20, 100)))
            early: list[UUID] = []
            count = self.random.randrange(14)
            for position in range(count):
                self.made.append(self._transfer(seq + position, early))
            number = len(self.batches) + 1
            refused = self.random.randrange(3)
            self.batches.append((number, seq, self.clock, count, refused, b"", b"", early or None))
            for position in range(refused):
                outcome = self.random.choice((9, 19))
                self.refusals.append((self.id_at(self.clock), number, position, self.clock, outcome))
            seq += count
        self.ends.append((self.clock, max(seq - 1, first - 1)))

    def _transfer(self, seq: int, early: list[UUID]) -> Made:
        draw = self.random
        i = self.id_at(self.clock - timedelta(seconds=draw.choice((0, 0, 0, 50, 5000))))
        if draw.random() < 0.15:
            i = UUID(int=draw.getrandbits(128), version=4)
        elif draw.random() < 0.04:
            i = self.id_at(self.clock + timedelta(days=30))
            early.append(i)
        t = Made(seq, self.clock, i, code=draw.randrange(3))
        if draw.random() < 0.4:
            t.metadata = {"order": str(draw.randrange(5)), "till": "7"}
        waiting = [hold for hold in self.holds.values() if hold.id not in self.settled]
        t.kind = draw.choices((0, 1, 2, 3, 4, 5), (6, 2, 1, 1, 1, 1))[0]
        if t.kind > 1 and waiting:
            hold = draw.choice(waiting)
            self.settled[hold.id] = t.kind
            t.debit, t.credit, t.asset, t.held = hold.debit, hold.credit, hold.asset, hold.amount
            t.pending_id, t.asked = hold.id, None if t.kind == 2 else -1
            t.amount = draw.randrange(1, hold.amount + 1) if t.kind == 2 else hold.amount
            return t
        t.kind = min(t.kind, 1)
        t.asset = draw.choice((156, 156, 392))
        t.debit, t.credit = draw.sample([n for n in ACCOUNTS[:-1] if ASSETS[n] == t.asset], 2)
        if t.asset != 392 and draw.random() < 0.5:
            t.debit, t.credit = (1, t.credit) if t.credit != 1 else (2, 1)
        t.amount = draw.randrange(1, 1000)
        if t.kind:
            t.expires_at = self.clock + timedelta(hours=1)
            t.over, t.settles = draw.choice((None, 5)), draw.choice((None, True))
        if draw.random() < 0.1:
            t.balancing, t.asked = draw.choice((1, 2)), t.amount + 5
        return t

    def after(self, account: int, seq: int) -> tuple[int, Balance]:
        """Entries and balance of an account after transfer number `seq`, added up from the beginning."""
        entries, sums = 0, [0, 0, 0, 0]
        for t in self.made:
            if t.seq <= seq and t.touches(account):
                side = 0 if t.debit == account else 1
                entries += 1
                sums[side] += t.amount if t.kind in (0, 2, 5) else 0
                sums[side + 2] += 0 if t.kind == 0 else t.amount if t.kind == 1 else -(t.held or 0)
        return entries, Balance(*sums)

    def write(self, connection: psycopg.Connection[Any]) -> None:
        """Write all of it, each segment with or without indexes."""
        connection.cursor().executemany(
            "insert into ledger.accounts (number, code, asset, rule, place, opened_at, limit_minor) "
            "values (%s, %s, %s, 0, %s, %s, %s)",
            [(n, f"account:{n}", ASSETS[n], n, START, n) for n in ACCOUNTS],
        )
        for number, (at, last) in enumerate(self.ends):
            indexed = self.random.random() < 0.5
            connection.execute("select ledger.open_segment_v1(%s, %s, %s)", (number, START, indexed))
            if number + 1 < len(self.ends):
                connection.execute(
                    "update ledger.segments set last_at = %s, last_seq = %s where number = %s",
                    (at, last, number),
                )
        _insert(connection, "transfers", COLUMNS, [t.row() for t in self.made])
        columns = ("number", "first_seq", "at", "transfers", "refusals", "root", "hash", "early")
        _insert(connection, "batches", columns, self.batches)
        _insert(connection, "refusals", ("id", "batch", "position", "at", "outcome"), self.refusals)
        connection.execute("update ledger.head set seq = %s, at = %s", (self.made[-1].seq, self.clock))

    def write_marks(self, connection: psycopg.Connection[Any]) -> None:
        """Write a mark for about every seventh entry of an account, and lose half of them."""
        rows = []
        for account in ACCOUNTS:
            mine = [t for t in self.made if t.touches(account)]
            for t in mine[6::7]:
                if self.random.random() < 0.5:
                    entries, b = self.after(account, t.seq)
                    rows.append((account, t.seq, entries, *b.sums))
        _insert(connection, "marks", ("account", "seq", "entries", *SUMS), rows)

    def write_spans(self, connection: psycopg.Connection[Any]) -> None:
        """Mark all segments but the newest, a few at a time."""
        first = 0
        while first < len(self.ends) - 1:
            last = self.random.randrange(first, len(self.ends) - 1)
            self.write_span(connection, first, last)
            first = last + 1

    def write_span(self, connection: psycopg.Connection[Any], first: int, last: int) -> None:
        """Mark segments together, at the end of the last of them."""
        end = self.ends[last][1]
        touched = {n for t in self.made if first <= t.seq >> 20 <= last for n in (t.debit, t.credit)}
        rows = []
        for account in sorted(touched):
            entries, b = self.after(account, end)
            rows.append((account, end, entries, *b.sums))
        connection.cursor().executemany(
            "insert into ledger.marks values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing", rows
        )
        connection.execute(
            "update ledger.segments set marked = true, span = %s where number between %s and %s",
            (first, first, last),
        )


SUMS = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")


def _insert(
    connection: psycopg.Connection[Any], table: str, columns: Iterable[str], rows: list[tuple[Any, ...]]
) -> None:
    names = tuple(columns)
    connection.cursor().executemany(
        f"insert into ledger.{table} ({', '.join(names)}) values ({', '.join(['%s'] * len(names))})",
        rows,
    )
