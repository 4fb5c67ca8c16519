"""The commands that append a decided batch and move the head on. They run inside the commit's transaction."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.domains.ledger.rules import chain
from holdfast.domains.ledger.rules.book import Decided
from holdfast.domains.ledger.rules.standing import Extra, Standing
from holdfast.domains.ledger.store import copied
from holdfast.domains.ledger.store.head import Head
from holdfast.platform import arrays
from holdfast.platform.arrays import Packed
from holdfast.platform.exchange import Command, Script

APPEND_PLAIN: Final = """
insert into ledger.transfers (seq, at, debit, credit, amount, id, code, asset, kind)
select a.base + i, a.at, a.debit[i], a.credit[i], a.amount[i], a.id[i], a.code[i], a.asset[i], a.kind[i]
from (select %b::bigint - 1 as base, %b::timestamptz as at, %b::uuid[] as id, %b::bigint[] as debit,
             %b::bigint[] as credit, %b::bigint[] as amount, %b::integer[] as code, %b::smallint[] as asset,
             %b::smallint[] as kind) a,
     generate_series(1, cardinality(a.id)) as i"""
"""For transfers that have nothing more: an element of fixed size, without nulls, is found at once."""
APPEND: Final = """
insert into ledger.transfers (seq, at, debit, credit, amount, id, code, asset, kind,
                              balancing, asked, held, pending_id, expires_at, metadata)
select a.base + u.place, a.at, u.debit, u.credit, u.amount, u.id, u.code, u.asset, u.kind,
       u.balancing, u.asked, u.held, u.pending_id, u.expires_at, u.metadata
from (select %b::bigint - 1 as base, %b::timestamptz as at) a,
     unnest(%b::uuid[], %b::bigint[], %b::bigint[], %b::bigint[], %b::integer[], %b::smallint[],
            %b::smallint[], %b::smallint[], %b::bigint[], %b::bigint[], %b::uuid[], %b::timestamptz[],
            %b::jsonb[]) with ordinality
         as u (id, debit, credit, amount, code, asset, kind,
               balancing, asked, held, pending_id, expires_at, metadata, place)"""
APPEND_TERMS: Final = """
insert into ledger.transfers (seq, at, debit, credit, amount, id, code, asset, kind,
                              balancing, asked, held, pending_id, expires_at, metadata, over, settles)
select a.base + u.place, a.at, u.debit, u.credit, u.amount, u.id, u.code, u.asset, u.kind,
       u.balancing, u.asked, u.held, u.pending_id, u.expires_at, u.metadata, u.over, u.settles
from (select %b::bigint - 1 as base, %b::timestamptz as at) a,
     unnest(%b::uuid[], %b::bigint[], %b::bigint[], %b::bigint[], %b::integer[], %b::smallint[],
            %b::smallint[], %b::smallint[], %b::bigint[], %b::bigint[], %b::uuid[], %b::timestamptz[],
            %b::jsonb[], %b::bigint[], %b::boolean[]) with ordinality
         as u (id, debit, credit, amount, code, asset, kind,
               balancing, asked, held, pending_id, expires_at, metadata, over, settles, place)"""
"""For those that may have a hold which settles itself, or may be settled for more."""
REFUSE: Final = """
insert into ledger.refusals (id, batch, position, at, outcome)
select u.id, %b::bigint, u.position - 1, %b::timestamptz, u.outcome
from unnest(%b::uuid[], %b::smallint[]) with ordinality as u (id, outcome, position)"""
COMMIT_HEAD: Final = """
select ledger.commit_v1(%b::bigint, %b::bigint, %b::bigint, %b::bigint, %b::timestamptz, %b::integer,
                        %b::integer, %b::bytea, %b::bytea, %b::uuid[])"""
DEPOSED: Final = "HF002"
"""What the head raises for a writer that is not, or not alone, the writer any more."""

_big: Final = struct.Struct("!q").pack
_int: Final = struct.Struct("!i").pack
_EXTRA_COLUMNS: Final[tuple[tuple[str, Callable[[Extra], Any]], ...]] = (
    ("smallint", lambda e: e.balancing),
    ("bigint", lambda e: e.asked),
    ("bigint", lambda e: e.held),
    ("uuid", lambda e: e.pending_id),
    ("timestamptz", lambda e: e.expires_at),
    ("jsonb", lambda e: e.metadata),
)
_TERM_COLUMNS: Final[tuple[tuple[str, Callable[[Extra], Any]], ...]] = (
    ("bigint", lambda e: e.over),
    ("boolean", lambda e: e.settles),
)


@dataclass(frozen=True, slots=True)
class Formed:
    """Transfers hashed and packed: the root over them, the statement that appends them and its columns.

    Or `tuples` for a script instead.
    """

    root: bytes
    sql: str
    columns: tuple[Packed | None, ...]
    tuples: copied.Tuples | None = None


def form(standing: Standing, *, terms: bool, alone: bool = False) -> Formed:
    """Hash and pack transfers. `terms`: one may be a hold that settles itself, or may be settled for more.

    `alone`: nothing of other domains commits with them, so that they may be a script.
    """
    rows, extras = standing
    hashes = chain.leaves(rows, {p: _extension(e) for p, e in extras.items()})
    root = chain.root_of(hashes)
    if alone and not extras and len(rows) >= copied.ROWS_MIN:
        return Formed(root, "", (), copied.pack(rows))
    sql = APPEND_PLAIN if not extras else APPEND_TERMS if terms else APPEND
    return Formed(root, sql, _columns(rows, extras, terms=terms))


def commands(
    head: Head,
    decided: Decided | None,
    first_seq: int,
    early: list[int],
    formed: Formed | None = None,
    *,
    alone: bool = False,
) -> tuple[list[Command] | Script, Head]:
    """Return what to send after the guards of a batch, and the head once it is committed.

    `decided` None: nothing for the ledger, only rows of other domains. `formed`: its transfers, if they were
    formed before. `alone`: a script will do, which is the whole transaction.
    """
    if decided is None or not decided.writes:
        after = Head(head.epoch, head.commits + 1, head.batch, head.seq, head.at, head.hash)
        return [(COMMIT_HEAD, (_big(head.epoch), _big(after.commits), *(None,) * 8))], after
    rows, refused = decided.rows, decided.refused
    at = max(decided.plan.now, head.at)
    alone = alone and not refused
    made_of = formed
    if made_of is None or (made_of.tuples is not None and not alone):
        made_of = form((rows, decided.extras), terms=decided.plan.terms, alone=alone)
    number = head.batch + 1
    digest = chain.batch_hash(
        head.hash, number=number, first_seq=first_seq, at=at, transfers=len(rows), refusals=len(refused),
        root=made_of.root, refused=chain.refused_hash((i.bytes, outcome) for i, outcome in refused),
    )  # fmt: skip
    after = Head(head.epoch, head.commits + 1, number, first_seq + len(rows) - 1, at, digest)
    if made_of.tuples is not None:
        return copied.script(made_of.tuples, made_of.root, after, early), after
    moment = arrays.time(at)
    made: list[Command] = []
    if len(rows):
        made.append((made_of.sql, (_big(first_seq), moment, *made_of.columns)))
    if refused:
        ids = arrays.uuids(arrays.uuid_bytes(i for i, _ in refused))
        made.append((REFUSE, (_big(number), moment, ids, arrays.smallints([o for _, o in refused]))))
    early_ids = arrays.uuids(b"".join([i.to_bytes(16, "big") for i in early])) if early else None
    made.append(
        (
            COMMIT_HEAD,
            (
                _big(head.epoch), _big(after.commits), _big(number), _big(first_seq), moment,
                _int(len(rows)), _int(len(refused)), made_of.root, digest, early_ids,
            ),
        )
    )  # fmt: skip
    return made, after


def _columns(
    rows: npt.NDArray[np.void], extras: Mapping[int, Extra], *, terms: bool
) -> tuple[Packed | None, ...]:
    fixed = (
        arrays.uuids(rows["id"].tobytes()),
        arrays.bigints(rows["debit"]),
        arrays.bigints(rows["credit"]),
        arrays.bigints(rows["amount"]),
        arrays.integers(rows["code"]),
        arrays.smallints(rows["asset"]),
        arrays.smallints(rows["kind"]),
    )
    if not extras:
        return fixed
    ordered = [extras.get(position) for position in range(len(rows))]
    more = _EXTRA_COLUMNS + _TERM_COLUMNS if terms else _EXTRA_COLUMNS
    return (
        *fixed,
        *(_optional(kind, [None if e is None else of(e) for e in ordered]) for kind, of in more),
    )


def _optional(kind: str, values: list[Any]) -> Packed | None:
    return arrays.column(kind, values) if any(v is not None for v in values) else None


def _extension(extra: Extra) -> bytes:
    pending: UUID | None = extra.pending_id
    return chain.extension(
        balancing=extra.balancing,
        asked=extra.asked,
        held=extra.held,
        pending_id=None if pending is None else pending.bytes,
        expires_at=extra.expires_at,
        over=extra.over,
        settles=extra.settles,
        metadata=extra.metadata,
    )
