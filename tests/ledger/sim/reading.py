"""What the ledger's reading statements mean on the simulated database, and what is written behind.

Nothing is ever archived there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from psycopg import errors

from holdfast.domains.ledger.store import archived, behind, loading, lookup, segments
from holdfast.platform import arrays
from tests.ledger.sim.binary import array, integer, moment
from tests.ledger.sim.postgres import Reply, Transaction
from tests.ledger.sim.statements import Account, BatchRow, Head, Meaning, Segment, Transfer, nothing

_POSTED, _PENDING = 0, 1
_MOVES, _SETTLES = (0, 2, 5), (2, 3, 4, 5)
_PLACES_AT_ONCE = 65536


def _head(tx: Transaction, _: Sequence[Any]) -> Reply:
    return Reply([tuple(tx.get("head", 1))], 1)


def _snapshot(tx: Transaction, _: Sequence[Any]) -> Reply:
    snapshots = tx.scan("snapshots")
    if not snapshots:
        return Reply()
    newest = max(snapshots)
    parts = [(part, payload) for (seq, part), payload in tx.scan("snapshot parts").items() if seq == newest]
    return Reply([(newest, payload) for _, payload in [(0, snapshots[newest][2]), *sorted(parts)]])


def _accounts(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    low = integer(parameters[0])
    some: list[Account] = sorted(
        (a for a in tx.scan("accounts").values() if low <= a.place < low + _PLACES_AT_ONCE),
        key=lambda a: a.place,
    )
    columns = ([a.number for a in some], [a.asset for a in some], [a.rule for a in some])
    return Reply([tuple(arrays.bigints(c) if c else None for c in columns)], 1)


def _changed(tx: Transaction, _: Sequence[Any]) -> Reply:
    found: Iterable[Account] = tx.scan("accounts").values()
    return Reply([(a.place, a.closed, a.limit) for a in found if a.closed or a.limit])


def _all_early(tx: Transaction, _: Sequence[Any]) -> Reply:
    batches: Iterable[BatchRow] = tx.scan("batches").values()
    return Reply([(i,) for b in batches for i in b.early or ()])


def _posted(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    low, high = map(integer, parameters)
    rows: list[Transfer] = [
        t for seq, t in tx.scan("transfers").items() if low < seq <= high and t.kind == _POSTED
    ]
    columns = ([t.debit for t in rows], [t.credit for t in rows], [t.amount for t in rows])
    return Reply([tuple(arrays.bigints(c) if c else None for c in columns)], 1)


def _others(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    low, high = map(integer, parameters)
    rows: list[Transfer] = [
        t for seq, t in tx.scan("transfers").items() if low < seq <= high and t.kind != _POSTED
    ]
    columns = (
        [t.debit for t in rows], [t.credit for t in rows], [t.amount for t in rows], [t.kind for t in rows],
        [t.held or 0 for t in rows],
    )  # fmt: skip
    ids = [t.id for t in rows if t.kind == _PENDING], [t.pending_id for t in rows if t.pending_id is not None]
    packed = [arrays.bigints(c) if c else None for c in columns]
    return Reply([(*packed, *(arrays.uuids(arrays.uuid_bytes(some)) if some else None for some in ids))], 1)


def _newest_snapshot(tx: Transaction, _: Sequence[Any]) -> Reply:
    snapshots = tx.scan("snapshots")
    newest = max(snapshots, default=None)
    return Reply() if newest is None else Reply([(snapshots[newest][1],)], 1)


def _found(tx: Transaction, table: str, parameters: Sequence[Any]) -> list[Transfer]:
    """Find transfers in a range by an index of each segment."""
    ids, low, high = array(parameters[0]), integer(parameters[1]), integer(parameters[2])
    bits = segments.SEGMENT_BITS
    numbers = [n for n in tx.scan("segments") if low >> bits <= n <= high >> bits]
    places = (tx.get(table, (n, i)) for n in numbers for i in ids)
    return [tx.get("transfers", seq) for seq in places if seq is not None and low <= seq < high]


def _stored(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    return Reply(
        [
            (
                t.id, t.debit, t.credit, t.asset, t.amount, t.kind, t.balancing, t.asked, t.pending_id,
                t.expires_at, t.code, t.metadata, t.settles, t.over, t.seq,
            )
            for t in _found(tx, "transfer ids", parameters)
        ]
    )  # fmt: skip


def _holds(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    return Reply(
        [
            (t.id, t.debit, t.credit, t.asset, t.amount, t.expires_at, t.over, t.settles)
            for t in _found(tx, "transfer ids", parameters)
            if t.kind == _PENDING
        ]
    )


def _settled(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    return Reply([(t.pending_id, t.kind) for t in _found(tx, "transfer pendings", parameters)])


def _refused(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    found = ((i, tx.get("refusals", i)) for i in array(parameters[0]))
    return Reply([(i, row[3]) for i, row in found if row is not None])


def _open_segments(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    oldest = moment(parameters[0])
    some: Iterable[Segment] = tx.scan("segments").values()
    return Reply(sorted((s.number, s.last_at) for s in some if s.last_at is None or s.last_at >= oldest))


def _early(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    wanted: set[UUID] = set(array(parameters[0]))
    batches: Iterable[BatchRow] = tx.scan("batches").values()
    return Reply([(i, b.first_seq) for b in batches for i in b.early or () if i in wanted])


def _mark(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    for account, seq, *rest in zip(*map(array, parameters), strict=True):
        tx.lock("marks", (account, seq))
        if tx.get("marks", (account, seq)) is None:
            tx.put("marks", (account, seq), tuple(rest))
    return Reply()


def _keep_snapshot(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    seq, batch, at, payload = parameters
    tx.lock("snapshots", seq)
    if tx.get("snapshots", seq) is None:
        tx.put("snapshots", seq, (batch, at, bytes(payload)))
    return Reply()


def _keep_part(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    seq, part, payload = parameters
    tx.lock("snapshot parts", (seq, part))
    if tx.get("snapshot parts", (seq, part)) is None:
        tx.put("snapshot parts", (seq, part), bytes(payload))
    return Reply()


def _drop_snapshots(tx: Transaction, _: Sequence[Any]) -> Reply:
    for old in sorted(tx.scan("snapshots"))[:-2]:
        tx.put("snapshots", old, None)
        for seq, part in list(tx.scan("snapshot parts")):
            if seq == old:
                tx.put("snapshot parts", (seq, part), None)
    return Reply()


def _all_segments(tx: Transaction, _: Sequence[Any]) -> Reply:
    rows: list[Segment] = sorted(tx.scan("segments").values())
    return Reply([(s.number, s.indexed, s.marked, s.last_seq) for s in rows])


def _is_indexed(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    segment: Segment | None = tx.get("segments", parameters[0])
    return Reply() if segment is None else Reply([(segment.indexed,)], 1)


def _open_segment(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    number, _, history = parameters
    tx.lock("segments", number)
    if tx.get("segments", number) is not None:
        raise errors.DuplicateTable(f"segment {number} is there already")
    tx.put("segments", number, Segment(number, None, None, history, False))
    return Reply([(None,)], 1)


def _seal(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    [number] = parameters
    end = (number + 1) << segments.SEGMENT_BITS
    some: list[BatchRow] = [b for b in tx.scan("batches").values() if b.first_seq < end and b.transfers]
    segment: Segment | None = tx.get("segments", number)
    if some and segment is not None and segment.last_seq is None:
        last = max(some, key=lambda b: b.first_seq)
        row = segment._replace(last_seq=last.first_seq + last.transfers - 1, last_at=last.at)
        tx.put("segments", number, row)
    return Reply([(None,)], 1)


def _marked(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    span, first, last, _ = parameters
    some: Iterable[Segment] = tx.scan("segments").values()
    if any(s.number < first and not s.marked for s in some):
        return Reply()
    for segment in some:
        if first <= segment.number <= last:
            tx.put("segments", segment.number, segment._replace(marked=True, span=span))
    return Reply(count=last + 1 - first)


def _index(tx: Transaction, parameters: Sequence[Any]) -> Reply:
    [number] = parameters
    tx.lock("segment tables", number)
    segment: Segment = tx.get("segments", number)
    tx.put("segments", number, segment._replace(indexed=True))
    return Reply([(None,)], 1)


def reading() -> dict[str, Meaning]:
    """Return the statements that read, and those that write behind the commits."""
    return {
        loading._HEAD: _head,
        loading._SNAPSHOT: _snapshot,
        loading._ACCOUNTS: _accounts,
        loading._CHANGED: _changed,
        loading._EARLY: _all_early,
        loading._POSTED: _posted,
        loading._OTHERS: _others,
        archived._FIND: nothing,
        archived._END: nothing,
        lookup._STORED: _stored,
        lookup._HOLDS: _holds,
        lookup._SETTLED: _settled,
        lookup._REFUSED: _refused,
        lookup._SEGMENTS: _open_segments,
        lookup._EARLY: _early,
        behind._MARK: _mark,
        behind._SNAPSHOT: _keep_snapshot,
        behind._PART: _keep_part,
        behind._OLD_SNAPSHOTS: _drop_snapshots,
        behind._NEWEST_SNAPSHOT: _newest_snapshot,
        behind._SEGMENTS: _all_segments,
        behind._INDEXED: _is_indexed,
        behind._OPEN: _open_segment,
        behind._SEAL: _seal,
        behind._MARKED: _marked,
        behind._INDEX: _index,
    }


def head_of(tables: dict[str, dict[Any, Any]]) -> Head:
    head: Head = tables["head"][1]
    return head
