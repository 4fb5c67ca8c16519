"""What the providers remember: one SQLite file.

A request's whole effect is one transaction, committed before it is answered.

WAL with `synchronous=NORMAL`: nothing is lost when this process is killed, which is what a provider that
"keeps its books" must survive here; only a power cut could lose the last moments, and a sandbox does not
promise against that. Calls are synchronous and take tens of microseconds; requests are therefore carried
out one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.platform.sqlite import SqliteFile

_SCHEMA = """
create table if not exists objects (
    seq integer primary key autoincrement,
    instance text not null,
    kind text not null,
    id text not null,
    reference text not null default '',
    created_ms integer not null,
    doc text not null,
    unique (instance, kind, id)
);
-- search by the caller's own reference
create index if not exists objects_reference on objects (instance, kind, reference);
create table if not exists keys (
    instance text not null,
    key text not null,
    fingerprint text not null,
    status integer not null,
    body blob not null,
    created_ms integer not null,
    primary key (instance, key)
) without rowid;
create table if not exists book (
    seq integer primary key autoincrement,
    instance text not null,
    at_ms integer not null,
    reference text not null,
    object text not null,
    source text not null,
    what text not null,
    amount_minor integer not null,
    currency text not null
);
-- what one reference cost
create index if not exists book_reference on book (instance, reference);
create table if not exists deliveries (
    seq integer primary key autoincrement,
    instance text not null,
    event_id text not null,
    url text not null,
    body text not null,
    bad_signature integer not null,
    due_ms integer not null,
    tries integer not null default 0
);
-- the next deliveries due
create index if not exists deliveries_due on deliveries (due_ms);
create table if not exists timers (
    seq integer primary key autoincrement,
    instance text not null,
    due_ms integer not null,
    what text not null,
    object text not null
);
-- the next timers due
create index if not exists timers_due on timers (due_ms);
create table if not exists settings (name text primary key, doc text not null) without rowid;
"""

Doc = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Saved:
    """The answer kept for an idempotency key."""

    fingerprint: str
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook owed."""

    seq: int
    instance: str
    event_id: str
    url: str
    body: str
    bad_signature: bool
    tries: int


@dataclass(frozen=True, slots=True)
class Timer:
    """Something that a provider does later, by itself."""

    seq: int
    instance: str
    what: str
    object: str


@dataclass(frozen=True, slots=True)
class Movement:
    """A line of the book: money taken (`capture`) or given back (`refund`; negative: the refund failed)."""

    seq: int
    at_ms: int
    reference: str
    object: str
    source: str
    what: str
    amount_minor: int
    currency: str


class Store(SqliteFile):
    """The file. One process, one thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, durable=False)
        self._create(_SCHEMA)

    def clear(self) -> None:
        """Forget everything, settings and faults included."""
        for table in ("objects", "keys", "book", "deliveries", "timers", "settings"):
            self._db.execute(f"delete from {table}")  # noqa: S608 - names from the line above

    # objects

    def put(self, instance: str, kind: str, doc: Doc, *, now_ms: int, reference: str = "") -> None:
        """Insert or replace the object `doc["id"]`; it keeps its place in lists."""
        self._db.execute(
            "insert into objects (instance, kind, id, reference, created_ms, doc) values (?, ?, ?, ?, ?, ?)"
            " on conflict (instance, kind, id) do update set doc = excluded.doc,"
            " reference = excluded.reference",
            (instance, kind, doc["id"], reference, now_ms, json.dumps(doc)),
        )

    def get(self, instance: str, kind: str, object_id: str) -> Doc | None:
        """Return the object, or None."""
        row = self._db.execute(
            "select doc from objects where instance = ? and kind = ? and id = ?", (instance, kind, object_id)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def by_reference(self, instance: str, kind: str, reference: str, *, created_until_ms: int) -> list[Doc]:
        """Return the objects with that reference made by `created_until_ms`, newest first."""
        rows = self._db.execute(
            "select doc from objects where instance = ? and kind = ? and reference = ? and created_ms <= ?"
            " order by seq desc limit 100",
            (instance, kind, reference, created_until_ms),
        )
        return [json.loads(row[0]) for row in rows]

    def page(
        self, instance: str, kind: str, *, limit: int, after: str | None = None, before: str | None = None
    ) -> tuple[list[Doc], bool]:
        """Return up to `limit` objects, newest first, and whether more follow.

        `after` and `before` are ids: return what is older than the one, newer than the other.
        """
        where, values = "instance = ? and kind = ?", [instance, kind]
        for cursor, sign in ((after, "<"), (before, ">")):
            if cursor is not None:
                where += (
                    f" and seq {sign} (select seq from objects where instance = ? and kind = ? and id = ?)"  # noqa: S608
                )
                values += [instance, kind, cursor]
        order = "desc" if before is None else "asc"
        rows = self._db.execute(
            f"select doc from objects where {where} order by seq {order} limit ?",  # noqa: S608 - fixed texts
            (*values, limit + 1),
        ).fetchall()
        docs = [json.loads(row[0]) for row in rows[:limit]]
        return (docs[::-1] if before is not None else docs), len(rows) > limit

    def count(self, instance: str, kind: str) -> int:
        """Count the objects of a kind."""
        row = self._db.execute(
            "select count(*) from objects where instance = ? and kind = ?", (instance, kind)
        ).fetchone()
        return int(row[0])

    # idempotency keys

    def saved(self, instance: str, key: str) -> Saved | None:
        """Return the answer kept for `key`, or None."""
        row = self._db.execute(
            "select fingerprint, status, body from keys where instance = ? and key = ?", (instance, key)
        ).fetchone()
        return None if row is None else Saved(row[0], row[1], bytes(row[2]))

    def save(self, instance: str, key: str, saved: Saved, *, now_ms: int) -> None:
        """Keep the answer for `key`."""
        self._db.execute(
            "insert into keys values (?, ?, ?, ?, ?, ?)",
            (instance, key, saved.fingerprint, saved.status, saved.body, now_ms),
        )

    def prune_keys(self, *, before_ms: int) -> None:
        """Forget the keys that are older than the protocol promises."""
        self._db.execute("delete from keys where created_ms < ?", (before_ms,))

    # the provider's own book

    def enter(
        self,
        instance: str,
        *,
        at_ms: int,
        reference: str,
        obj: str,
        what: str,
        amount_minor: int,
        currency: str,
        source: str = "",
    ) -> None:
        """Write one line into the book: `hold`, `release`, `capture` or `refund` of `amount_minor`.

        `obj` is the payment that it belongs to, `source` what made the movement.
        """
        self._db.execute(
            "insert into book (instance, at_ms, reference, object, source, what, amount_minor, currency)"
            " values (?, ?, ?, ?, ?, ?, ?, ?)",
            (instance, at_ms, reference, obj, source, what, amount_minor, currency),
        )

    def book(self, instance: str, *, reference: str | None = None) -> list[Doc]:
        """Return what was held, taken and given back, one row for each object of the provider."""
        of_one = "" if reference is None else " and reference = ?"
        rows = self._db.execute(
            "select reference, object, currency, min(at_ms),"  # noqa: S608 - fixed texts
            " sum(case what when 'hold' then amount_minor when 'release' then -amount_minor else 0 end),"
            " sum(case what when 'capture' then amount_minor else 0 end),"
            " sum(case what when 'refund' then amount_minor else 0 end)"
            f" from book where instance = ?{of_one} group by reference, object, currency order by min(seq)",
            (instance,) if reference is None else (instance, reference),
        )
        return [
            {
                "reference": row[0],
                "object": row[1],
                "currency": row[2],
                "at_ms": row[3],
                "held_minor": row[4],
                "captured_minor": row[5],
                "refunded_minor": row[6],
                "kept_minor": row[5] - row[6],
            }
            for row in rows
        ]

    def settled(
        self, instance: str, *, from_ms: int, to_ms: int, before: int | None = None, limit: int = -1
    ) -> list[Movement]:
        """Return captures and refunds from `from_ms` until before `to_ms`, newest first.

        `before`: only those with an earlier `seq`.
        """
        rows = self._db.execute(
            "select seq, at_ms, reference, object, source, what, amount_minor, currency from book"
            " where instance = ? and what in ('capture', 'refund') and at_ms >= ? and at_ms < ? and seq < ?"
            " order by seq desc limit ?",
            (instance, from_ms, to_ms, 2**62 if before is None else before, limit),
        )
        return [Movement(*row) for row in rows]

    # webhooks owed, things due later

    def owe(
        self, instance: str, event_id: str, url: str, body: str, *, bad_signature: bool, due_ms: int
    ) -> None:
        """Owe a webhook from `due_ms` on."""
        self._db.execute(
            "insert into deliveries (instance, event_id, url, body, bad_signature, due_ms)"
            " values (?, ?, ?, ?, ?, ?)",
            (instance, event_id, url, body, int(bad_signature), due_ms),
        )

    def deliveries(self, now_ms: int, limit: int) -> list[Delivery]:
        """Return webhooks that are due, oldest first."""
        rows = self._db.execute(
            "select seq, instance, event_id, url, body, bad_signature, tries from deliveries"
            " where due_ms <= ? order by due_ms, seq limit ?",
            (now_ms, limit),
        )
        return [Delivery(r[0], r[1], r[2], r[3], r[4], bool(r[5]), r[6]) for r in rows]

    def postpone(self, seqs: Sequence[int], due_ms: int) -> None:
        """Count a try for each, and make them due again at `due_ms`."""
        self._db.executemany(
            "update deliveries set due_ms = ?, tries = tries + 1 where seq = ?",
            [(due_ms, seq) for seq in seqs],
        )

    def delivered(self, seq: int) -> None:
        """Owe it no more."""
        self._db.execute("delete from deliveries where seq = ?", (seq,))

    def owed(self, instance: str) -> int:
        """Count the webhooks that an instance still owes."""
        row = self._db.execute("select count(*) from deliveries where instance = ?", (instance,)).fetchone()
        return int(row[0])

    def later(self, instance: str, what: str, obj: str, due_ms: int) -> None:
        """Do `what` with `obj` at `due_ms`."""
        self._db.execute(
            "insert into timers (instance, due_ms, what, object) values (?, ?, ?, ?)",
            (instance, due_ms, what, obj),
        )

    def timers(self, now_ms: int, limit: int) -> list[Timer]:
        """Return what is due, oldest first."""
        rows = self._db.execute(
            "select seq, instance, what, object from timers where due_ms <= ? order by due_ms, seq limit ?",
            (now_ms, limit),
        )
        return [Timer(*row) for row in rows]

    def fired(self, seq: int) -> None:
        """Forget a timer."""
        self._db.execute("delete from timers where seq = ?", (seq,))

    # settings

    def setting(self, name: str) -> Any:  # noqa: ANN401 - whatever was kept
        """Return what was kept under `name`, or None."""
        row = self._db.execute("select doc from settings where name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, name: str, doc: object) -> None:
        """Keep `doc` under `name`."""
        self._db.execute(
            "insert into settings values (?, ?) on conflict (name) do update set doc = excluded.doc",
            (name, json.dumps(doc)),
        )
