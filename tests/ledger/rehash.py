"""Makes the chain right again over altered rows: books that no writer would make, with hashes that fit."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import psycopg

from holdfast.domains.ledger.rules import chain

Connection = psycopg.Connection[tuple[Any, ...]]
COLUMNS = (
    "seq, at, debit, credit, amount, id, code, asset, kind, "
    "balancing, asked, held, pending_id, expires_at, metadata, over, settles"
)


def rehash(connection: Connection) -> None:
    """Give every batch the root and hash of the rows that are there, and the head the newest of them."""
    transfers = defaultdict(list)
    for row in connection.execute(f"select {COLUMNS} from ledger.transfers order by seq").fetchall():
        transfers[row[1]].append(row)
    refusals = defaultdict(list)
    for batch, i, outcome in connection.execute(
        "select batch, id, outcome from ledger.refusals order by batch, position"
    ).fetchall():
        refusals[batch].append((i.bytes, outcome))
    seqs = {row[0]: row for rows in transfers.values() for row in rows}
    before = b""
    for number, first, at, count in connection.execute(
        "select number, first_seq, at, transfers from ledger.batches order by number"
    ).fetchall():
        rows = [seqs[seq] for seq in range(first, first + count) if seq in seqs]
        root = chain.root_of(leaves(rows))
        before = chain.batch_hash(
            before,
            number=number,
            first_seq=first,
            at=at,
            transfers=count,
            root=root,
            refusals=len(refusals[number]),
            refused=chain.refused_hash(refusals[number]),
        )
        connection.execute(
            "update ledger.batches set root = %s, hash = %s where number = %s", (root, before, number)
        )
    connection.execute("update ledger.head set hash = %s", (before,))


def leaves(rows: list[tuple[Any, ...]]) -> list[bytes]:
    """Hash rows of `COLUMNS`."""
    fixed = np.zeros(len(rows), chain.FIXED)
    extensions = {}
    for place, row in enumerate(rows):
        (
            _,
            _,
            debit,
            credit,
            amount,
            i,
            code,
            asset,
            kind,
            balancing,
            asked,
            held,
            pending,
            expires,
            metadata,
            over,
            settles,
        ) = row
        fixed[place] = (0, i.bytes, debit, credit, amount, code, asset, kind)
        extension = chain.extension(
            balancing=balancing, asked=asked, held=held, pending_id=pending.bytes if pending else None,
            expires_at=expires, over=over, settles=settles,
            metadata=chain.canonical(metadata) if metadata else None,
        )  # fmt: skip
        if extension:
            extensions[place] = extension
    return chain.leaves(fixed, extensions)
