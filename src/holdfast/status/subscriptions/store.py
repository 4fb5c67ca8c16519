"""The roll of subscribers, and what waits to be sent: one SQLite file apart from the board's.

    subscribers  who wishes what; a row is deleted when its subscription ends
    held         what waits for its hour, for a digest, or to be tried again
    places       per channel: up to which notice, and which subscriber of the next, all were told

A notice for everybody costs no row each: a channel walks the subscribers in order and keeps its place. A
page of them that was sent but not noted when the process died is sent again: better twice than never.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from holdfast.base.errors import Refused
from holdfast.platform.sqlite import SqliteFile
from holdfast.status.subscriptions.wishes import Kind, Wishes

SUBSCRIBERS_MAX: Final = 1_000_000
WAITING_MAX: Final = 10_000
"""Subscriptions that nobody confirmed yet."""
WAITING_S: Final = 48 * 3_600
"""So long a subscription can be confirmed."""
AGAIN_S: Final = 600
"""A message to confirm is sent to one address no more often."""
REFUSED_MAX: Final = 3
"""Notices in a row that an address refuses for good, until its subscription ends."""
_SCHEMA: Final = """
create table if not exists subscribers (
    id integer primary key autoincrement, kind text not null, address text not null, state text not null,
    wishes blob not null, wanted blob, secret text not null, asked_s real not null,
    confirmed_s real not null default 0, refused integer not null default 0, unique (kind, address)
) strict;
create index if not exists subscribers_by_channel on subscribers (kind, state, id);
create table if not exists held (
    id integer primary key autoincrement, kind text not null, subscriber integer not null,
    notice integer not null, due_s real not null, tries integer not null, together integer not null
) strict;
create index if not exists held_by_due on held (kind, due_s);
create table if not exists places (
    kind text primary key, notice integer not null, subscriber integer not null
) strict, without rowid;
"""
State = Literal["waiting", "confirmed"]
CONFIRM: Final = 0
"""Stands in `held` for a notice: the message by which a subscription is confirmed."""
_HOLD: Final = "insert into held (kind, subscriber, notice, due_s, tries, together) values"
_encode: Final = msgspec.json.Encoder().encode
_wishes: Final = msgspec.json.Decoder(Wishes).decode


def _secret() -> str:
    """Return a signing secret as Standard Webhooks writes it: whsec_ and base64 of 32 bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class SubscribersFull(Refused):
    """There are as many subscriptions as this service takes, or too many that nobody confirmed. Try later."""

    code = "status_subscribers_full"


@dataclass(frozen=True, slots=True)
class Subscriber:
    """One subscription."""

    id: int
    kind: Kind
    address: str
    wishes: Wishes
    secret: str
    confirmed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """What waits for a subscriber. `together`: it goes with whatever else is due then."""

    id: int
    subscriber: int
    notice: int
    due_s: float
    tries: int
    together: bool


class Roll(SqliteFile):
    """The file. One connection, of one thread."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, durable=True)
        self._db.execute("pragma secure_delete = on")
        self._create(_SCHEMA)

    def ask(self, kind: Kind, address: str, wishes: Wishes, now_s: float) -> Subscriber | None:
        """Keep a wish until it is confirmed; None: the address was asked just before, or wishes this already.

        Of one that is subscribed, the wishes change when it confirms. Raises: `SubscribersFull`.
        """
        body = _encode(wishes)
        with self.transaction():
            row = self._db.execute(
                "select id, state, wishes, secret, asked_s from subscribers where kind = ? and address = ?",
                (kind, address),
            ).fetchone()
            if row is not None:
                id_, state, before, secret, asked_s = row
                if (state == "confirmed" and before == body) or now_s - asked_s < AGAIN_S:
                    return None
                self._db.execute(
                    "update subscribers set wanted = ?, asked_s = ? where id = ?", (body, now_s, id_)
                )
            else:
                self._check_room()
                secret = _secret() if kind == "webhook" else ""
                id_ = self._db.execute(
                    """insert into subscribers (kind, address, state, wishes, wanted, secret, asked_s)
                       values (?, ?, 'waiting', ?, ?, ?, ?)""",
                    (kind, address, body, body, secret, now_s),
                ).lastrowid
            self._db.execute(
                f"{_HOLD} (?, ?, ?, ?, 0, 0)",
                (kind, id_, CONFIRM, now_s),
            )
        return Subscriber(int(id_ or 0), kind, address, wishes, secret)

    def _check_room(self) -> None:
        every, waiting = self._db.execute(
            "select count(*), count(*) filter (where state = 'waiting') from subscribers"
        ).fetchone()
        if every >= SUBSCRIBERS_MAX or waiting >= WAITING_MAX:
            raise SubscribersFull

    def put(self, kind: Kind, many: Iterable[tuple[str, Wishes]], now_s: float) -> None:
        """Keep subscriptions that are confirmed already: those that operators bring."""
        with self.transaction():
            self._check_room()
            self._db.executemany(
                """insert into subscribers (kind, address, state, wishes, secret, asked_s, confirmed_s)
                   values (?, ?, 'confirmed', ?, '', ?, ?)
                   on conflict (kind, address) do update set wishes = excluded.wishes, state = 'confirmed'""",
                [(kind, address, _encode(wishes), now_s, now_s) for address, wishes in many],
            )

    def confirm(self, id_: int, now_s: float) -> bool:
        """Confirm a subscription, or its new wishes. False: there is none, or it was asked too long ago."""
        with self.transaction():
            row = self._db.execute(
                "select state, asked_s, wanted from subscribers where id = ?", (id_,)
            ).fetchone()
            if row is None or (row[0] == "waiting" and now_s - row[1] > WAITING_S):
                return False
            self._db.execute(
                """update subscribers set state = 'confirmed', wishes = coalesce(wanted, wishes),
                       wanted = null,
                       confirmed_s = case when confirmed_s = 0 then ? else confirmed_s end
                   where id = ?""",
                (now_s, id_),
            )
        return True

    def end(self, *ids: int) -> None:
        """Delete subscriptions and all that waits for them."""
        with self.transaction():
            self._db.executemany("delete from held where subscriber = ?", [(id_,) for id_ in ids])
            self._db.executemany("delete from subscribers where id = ?", [(id_,) for id_ in ids])

    def forget(self, now_s: float) -> None:
        """Delete what nobody confirmed in time."""
        rows = self._db.execute(
            "select id from subscribers where state = 'waiting' and asked_s < ?", (now_s - WAITING_S,)
        ).fetchall()
        self.end(*(row[0] for row in rows))

    def find(self, id_: int) -> Subscriber | None:
        """Return a subscription."""
        found = list(self._subscribers("where id = ?", (id_,)))
        return found[0] if found else None

    def page(self, kind: Kind, after: int, limit: int) -> list[Subscriber]:
        """Return confirmed subscribers of a channel after one of them, in order."""
        return list(
            self._subscribers(
                "where kind = ? and state = 'confirmed' and id > ? order by id limit ?", (kind, after, limit)
            )
        )

    def _subscribers(self, where: str, values: Sequence[object]) -> Iterator[Subscriber]:
        rows = self._db.execute(
            f"select id, kind, address, wishes, secret, confirmed_s from subscribers {where}",  # noqa: S608
            values,
        )
        for id_, kind, address, wishes, secret, confirmed_s in rows:
            yield Subscriber(id_, kind, address, _wishes(wishes), secret, confirmed_s)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many subscriptions there are, by channel and state."""
        rows = self._db.execute("select kind, state, count(*) from subscribers group by kind, state")
        return {(kind, state): many for kind, state, many in rows}

    def waiting(self) -> int:
        """Return how many messages wait."""
        return int(self._db.execute("select count(*) from held").fetchone()[0])

    def place(self, kind: Kind, last: int) -> tuple[int, int]:
        """Return up to which notice, and subscriber of the next, a channel has come.

        A channel that never sent begins after the notice `last`.
        """
        row = self._db.execute("select notice, subscriber from places where kind = ?", (kind,)).fetchone()
        if row is None:
            self._db.execute("insert into places values (?, ?, 0)", (kind, last))
            return last, 0
        return int(row[0]), int(row[1])

    def note(
        self, kind: Kind, place: tuple[int, int] | None, held: Iterable[Held], done: Iterable[int],
        refused: Iterable[int] = (),
    ) -> None:  # fmt: skip
        """Keep, at once, how far a channel is, what waits anew, and what waited and is done."""
        refusing = list(refused)
        with self.transaction():
            if place is not None:
                self._db.execute(
                    "update places set notice = ?, subscriber = ? where kind = ?", (*place, kind)
                )
            self._db.executemany("delete from held where id = ?", [(id_,) for id_ in done])
            self._db.executemany(
                f"{_HOLD} (?, ?, ?, ?, ?, ?)",
                [(kind, h.subscriber, h.notice, h.due_s, h.tries, int(h.together)) for h in held],
            )
            self._db.executemany(
                "update subscribers set refused = refused + 1 where id = ?", [(id_,) for id_ in refusing]
            )
        if refusing:
            rows = self._db.execute(
                "select id from subscribers where refused >= ?", (REFUSED_MAX,)
            ).fetchall()
            self.end(*(row[0] for row in rows))

    def due(self, kind: Kind, now_s: float, limit: int) -> list[Held]:
        """Return what is due, longest first, with all that goes together with it."""
        rows = self._db.execute(
            """select id, subscriber, notice, due_s, tries, together from held
               where kind = ? and due_s <= ? order by due_s, subscriber, notice limit ?""",
            (kind, now_s, limit),
        )
        return [
            Held(id_, to, notice, due_s, tries, bool(both)) for id_, to, notice, due_s, tries, both in rows
        ]

    def next_due_s(self, kind: Kind) -> float | None:
        """Return when something is due next."""
        found = self._db.execute("select min(due_s) from held where kind = ?", (kind,)).fetchone()[0]
        return None if found is None else float(found)
