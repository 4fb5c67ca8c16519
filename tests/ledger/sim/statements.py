"""What each statement of the ledger's store means, on the simulated database.

Statements are known by their text, as the store has it: one that is not here fails the world that meets it.
Two sets: what the writer sends to commit and to be elected is here, the rest in `reading`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import errors

from holdfast.base.limits import WRITER_LEASE_S
from holdfast.domains.ledger.store import accounts, append, seats, segments
from holdfast.domains.ledger.writer import batch
from holdfast.platform.exchange import _numbered
from tests.ledger.conftest import BUMP, CLAIM, NOTE, VERSION
from tests.ledger.sim.binary import array, integer, moment, padded
from tests.ledger.sim.postgres import Postgres, Reply, Transaction

Meaning = Callable[[Transaction, Sequence[Any]], Reply]
_COLUMNS = 17
"""Of a transfer, and as many parameters has a statement that appends any."""
WRITERS = "holdfast ledger writer "
NEVER = datetime(1, 1, 1, tzinfo=UTC)


class Writer(NamedTuple):
    epoch: int = 0
    holder: str = ""
    address: str = ""
    token: bytes = b""
    alive_until: datetime = NEVER


class Head(NamedTuple):
    epoch: int
    commits: int
    batch: int
    seq: int
    at: datetime
    hash: bytes


class Account(NamedTuple):
    number: int
    code: str
    asset: int
    rule: int
    place: int
    limit: int
    closed: bool = False


class Transfer(NamedTuple):
    seq: int
    at: datetime
    debit: int
    credit: int
    amount: int
    id: UUID
    code: int
    asset: int
    kind: int
    balancing: int | None
    asked: int | None
    held: int | None
    pending_id: UUID | None
    expires_at: datetime | None
    metadata: Any
    over: int | None
    settles: bool | None


class BatchRow(NamedTuple):
    number: int
    first_seq: int
    at: datetime
    transfers: int
    refusals: int
    root: bytes
    hash: bytes
    early: tuple[UUID, ...] | None


class Segment(NamedTuple):
    number: int
    last_at: datetime | None
    last_seq: int | None
    indexed: bool
    marked: bool
    span: int | None = None


class CommitNote(NamedTuple):
    """What `commit_v1` was called with."""

    epoch: int
    commits: int


def begin_world(database: Postgres) -> None:
    """Fill an empty database as the migrations do, and a test's other domain."""
    now = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    database.tables = {
        "writer": {1: Writer()},
        "head": {1: Head(0, 0, 0, -1, now, b"")},
        "versions": {"p": 1, "q": 1},
    }


def _look(tx: Transaction, _: Sequence[Any]) -> Reply:
    w: Writer = tx.get("writer", 1)
    return Reply([(w.epoch, w.holder, w.address, w.token, _alive(tx, w))], 1)


def _alive(tx: Transaction, w: Writer) -> bool:
    has_session = any(s.name == seats.session_name(w.epoch) for s in tx.database.sessions)
    return w.alive_until > tx.now() and (not w.address or has_session) and "lease" not in tx.database.broken


def _take(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    holder, token = parameters
    tx.lock("writer", 1)
    w: Writer = tx.get("writer", 1)
    if _alive(tx, w):
        return Reply()
    tx.put("writer", 1, Writer(w.epoch + 1, holder, "", bytes(token), _lease(tx)))
    return Reply([(w.epoch + 1,)], 1)


def _lease(tx: Transaction) -> datetime:
    return tx.now() + timedelta(seconds=WRITER_LEASE_S)


def _writers(change: Callable[[Transaction, Writer, Sequence[Any]], Writer], epoch_at: int) -> Meaning:
    def run(tx: Transaction, parameters: Sequence[Any]) -> Reply:
        tx.lock("writer", 1)
        w: Writer = tx.get("writer", 1)
        if w.epoch != parameters[epoch_at]:
            return Reply()
        tx.put("writer", 1, change(tx, w, parameters))
        return Reply(count=1)

    return run


def _fence(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    epoch = parameters[0]
    tx.lock("epoch of the head", 1)
    tx.lock("head", 1)
    head: Head = tx.get("head", 1)
    if head.epoch >= parameters[1]:
        return Reply()
    tx.put("head", 1, head._replace(epoch=epoch))
    return Reply(count=1)


def _of_writer_before(name: str, epoch: int) -> bool:
    return name.startswith(WRITERS) and int(name.removeprefix(WRITERS)) < epoch


def _end_sessions(*, own: bool) -> Meaning:
    def run(tx: Transaction, parameters: Sequence[Any]) -> Reply:
        wished, mine = parameters[0], tx.session
        ended = 0
        for session in tuple(tx.database.sessions):
            wanted = session.name == wished if own else _of_writer_before(session.name, wished)
            if wanted and session is not mine:
                session.terminate()
                ended += 1
        if "end_own" in tx.database.broken and own:
            return Reply([(0,)], 1)
        return Reply([(ended,)], 1)

    return run


def _committed(tx: Transaction, _: Sequence[Any]) -> Reply:
    tx.lock("head", 1)
    head: Head = tx.get("head", 1)
    return Reply([(head.epoch, head.commits)], 1)


def _sync(tx: Transaction, on: bool) -> Reply:
    tx.sync = on
    return Reply()


def _append(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    first, at, ids = integer(parameters[0]), moment(parameters[1]), array(parameters[2])
    count = len(ids)
    nothing_more = (None,) * (_COLUMNS - len(parameters))
    columns = [padded(raw, count) for raw in (*parameters[3:], *nothing_more)]
    debits, credits_, amounts, codes, assets, kinds, balancing, asked, held, pending, expires, *more = columns
    metadata, over, settles = more
    for i in range(count):
        seq = first + i
        segment = seq >> segments.SEGMENT_BITS
        tx.lock("segment tables", segment, shared=True)
        if tx.get("segments", segment) is None:
            raise errors.CheckViolation("no partition of relation transfers found for row")
        row = Transfer(
            seq, at, debits[i], credits_[i], amounts[i], ids[i], codes[i], assets[i], kinds[i], balancing[i],
            asked[i], held[i], pending[i], expires[i], metadata[i], over[i],
            settles[i],
        )  # fmt: skip
        if row.amount <= 0 or row.debit == row.credit:
            raise errors.CheckViolation("transfers_check")
        tx.insert("transfer ids", (segment, row.id), seq)
        if row.pending_id is not None:
            tx.insert("transfer pendings", (segment, row.pending_id), seq)
        tx.put("transfers", seq, row)
    return Reply(count=count)


def _refuse(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    number, at = integer(parameters[0]), moment(parameters[1])
    ids, outcomes = array(parameters[2]), array(parameters[3])
    for position, (i, outcome) in enumerate(zip(ids, outcomes, strict=True)):
        tx.insert("refusals", i, (number, position, at, outcome))
    return Reply(count=len(ids))


def _commit_head(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    epoch, commits = integer(parameters[0]), integer(parameters[1])
    tx.lock("head", 1)
    head: Head = tx.get("head", 1)
    broken = tx.database.broken
    fits = ("fence_epoch" in broken or head.epoch == epoch) and (
        "fence_commits" in broken or head.commits == commits - 1
    )
    if not fits:
        error = errors.RaiseException("not the writer of this ledger any more")
        error.sqlstate = append.DEPOSED
        raise error
    if parameters[8] is None:
        tx.put("head", 1, head._replace(commits=commits))
    else:
        number, first, at = integer(parameters[2]), integer(parameters[3]), moment(parameters[4])
        transfers, refusals = integer(parameters[5]), integer(parameters[6])
        root, digest = bytes(parameters[7]), bytes(parameters[8])
        early = None if parameters[9] is None else tuple(array(parameters[9]))
        after = Head(head.epoch, commits, number, first + transfers - 1, at, digest)
        tx.put("head", 1, after)
        row = BatchRow(number, first, at, transfers, refusals, root, digest, early)
        tx.insert("batches", number, row)
    tx.noted.append(CommitNote(epoch, commits))
    return Reply([(None,)], 1)


def _hold(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    tx.lock("epoch of the head", 1, shared=True)
    head: Head = tx.get("head", 1)
    return Reply([()], 1) if head.epoch == parameters[0] else Reply()


def _clash(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    for number, code, asset, rule in zip(*map(array, parameters), strict=True):
        other: Account
        for other in tx.scan("accounts").values():
            same = (other.number, other.code, other.asset, other.rule) == (number, code, asset, rule)
            if (other.number == number or other.code == code) and not same:
                return Reply([(number, code)], 1)
    return Reply()


def _open(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    for number, code, asset, rule, place, limit in zip(*map(array, parameters[1:]), strict=True):
        tx.insert("account codes", code, number)
        tx.insert("account places", place, number)
        tx.insert("accounts", number, Account(number, code, asset, rule, place, limit))
    return Reply()


def _close(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    for number in array(parameters[1]):
        tx.lock("accounts", number)
        account: Account | None = tx.get("accounts", number)
        if account is not None:
            tx.put("accounts", number, account._replace(closed=bool(parameters[0])))
    return Reply()


def _limit(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    numbers, limits, seq, at = array(parameters[0]), array(parameters[1]), parameters[2], parameters[3]
    for number, limit in zip(numbers, limits, strict=True):
        tx.lock("accounts", number)
        account: Account | None = tx.get("accounts", number)
        if account is not None:
            tx.put("accounts", number, account._replace(limit=limit))
            tx.put("limits", (number, seq), (at, limit))
    return Reply()


def _note(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    for name, body in zip(*map(array, parameters), strict=True):
        if body == "forbidden":
            raise errors.CheckViolation("notes_body_check")
        if "notes" in tx.database.broken:
            tx.put("notes", name, body)
        else:
            tx.insert("notes", name, body)
        tx.noted.append(name)
    return Reply()


def _claim(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    names = array(parameters[0])
    claimed = []
    for name in sorted(set(names)):
        tx.lock("claims", name)
        if tx.get("claims", name) is None:
            tx.put("claims", name, True)
            claimed.append(name)
    return Reply([(place,) for place, name in enumerate(names, 1) if name in claimed])


def _claim_surely(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    for name in sorted(array(parameters[0])):
        tx.insert("claims", name, True)
    return Reply()


def _version(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    names, versions = map(array, parameters)
    for name in sorted(set(names)):
        tx.lock("versions", name)
    return Reply(
        [
            (place,)
            for place, (name, version) in enumerate(zip(names, versions, strict=True), 1)
            if tx.get("versions", name) == version
        ]
    )


def _bump(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    for name, version in zip(*map(array, parameters), strict=True):
        tx.put("versions", name, version)
    return Reply()


def nothing(_: Transaction, __: Sequence[Any]) -> Reply:
    return Reply()


def writing() -> dict[str, Meaning]:
    """Return the statements that change something, and those of an election."""
    return {
        seats._LOOK: _look,
        seats._TAKE: _take,
        seats._FENCE: _fence,
        seats._HOLD: _hold,
        seats._END_SESSIONS: _end_sessions(own=False),
        seats._END_OWN: _end_sessions(own=True),
        seats._COMMITTED: _committed,
        seats._ANNOUNCE: _writers(lambda _, w, p: w._replace(address=p[0]), 1),
        seats._RENEW: _writers(lambda tx, w, _: w._replace(alive_until=_lease(tx)), 0),
        seats._LEAVE: _writers(lambda tx, w, _: w._replace(alive_until=NEVER), 0),
        "set local synchronous_commit = on": lambda tx, _: _sync(tx, True),
        "set local synchronous_commit = off": lambda tx, _: _sync(tx, False),
        "set statement_timeout = '10min'": nothing,
        "reset statement_timeout": nothing,
        append.APPEND: _append,
        append.APPEND_TERMS: _append,
        append.APPEND_PLAIN: _append,
        append.REFUSE: _refuse,
        append.COMMIT_HEAD: _commit_head,
        accounts._CLASH: _clash,
        accounts._OPEN: _open,
        accounts._CLOSE: _close,
        accounts._LIMIT: _limit,
        NOTE.sql: _note,
        CLAIM.sql: _claim,
        CLAIM.sure: _claim_surely,
        VERSION.sql: _version,
        BUMP.sql: _bump,
        batch.BEGIN[0]: nothing,
    }


def numbered(meanings: dict[str, Meaning]) -> dict[str, Meaning]:
    """Know each statement by both its forms: as the store has it, and as `exchange` prepares it."""
    return meanings | {_numbered(sql).decode(): meaning for sql, meaning in meanings.items()}
