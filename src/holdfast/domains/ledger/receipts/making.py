"""Makes receipts, roots and proofs of consistency from the tables.

A proof is made of some 2 log2(n) subtrees over batches. Those that are complete never change: each 1024
leaves, and each 1024 subtrees of the level below, are kept as one row. So a proof reads a few thousand hashes
however many batches there are; only whoever comes first after many new batches computes what they add.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from holdfast.base.errors import Broken, ensure
from holdfast.base.ids import TransferId
from holdfast.domains.ledger.errors import ReceiptFalse, RootNotReached, TransferMissing
from holdfast.domains.ledger.receipts import tree
from holdfast.domains.ledger.receipts.documents import (
    CONSISTENCY,
    RECEIPT,
    Content,
    Document,
    Root,
    climb_path,
    verify_receipt,
    written,
)
from holdfast.domains.ledger.receipts.tree import Range
from holdfast.domains.ledger.rules import chain
from holdfast.domains.ledger.store import receipts as store
from holdfast.platform.db import Connection, Database

_STEP: Final = 10
"""Levels from one kept subtree to the next."""
_MADE_AT_A_TIME: Final = 64
"""Subtrees computed between two writes: about 65,000 hashes in memory."""


async def make_receipt(
    database: Database, transfer: TransferId, size: int | None = None, *, archive: Path | None = None
) -> Document:
    """Return the receipt of a transfer under the root over the first `size` batches, the newest if None.

    `archive`: the folder with archive files, for one that was moved there. Raises: `TransferMissing`,
    `RootNotReached` when there are fewer batches, or its own comes later; `HistoryArchived`,
    `ArchiveUnreadable`.
    """
    async with database.connection() as connection:
        seq = await store.seq_of(connection, transfer)
        batch = None if seq is None else await store.batch_of(connection, seq)
        if seq is None or batch is None:
            raise TransferMissing
        size = await _size(connection, size)
        if size < batch.number:
            raise RootNotReached(f"The transfer is in batch {batch.number:,}, which that root is not over.")
        rows = await store.transfers(connection, batch, archive)
        refusals = await store.refusals(connection, batch.number)
        path = [await _hash(connection, leaves) for leaves in tree.inclusion(batch.number - 1, size)]
    contents = [_content(row) for row in rows]
    levels = chain.levels([content.leaf() for content in contents])
    position = seq - batch.first_seq
    made = {
        "format": RECEIPT,
        "transfer": contents[position].document(),
        "position": position,
        "path": climb_path(levels, position),
        "batch": {
            "number": batch.number,
            "first_seq": batch.first_seq,
            "at": written(batch.at),
            "transfers": batch.transfers,
            "before": batch.before.hex(),
            "refusals": len(refusals),
            "refused": chain.refused_hash((i.bytes, outcome) for i, outcome in refusals).hex(),
        },
        "tree": {
            "size": size,
            "path": [digest.hex() for digest in path],
            "root": _root_of_inclusion(batch, size, path).hex(),
        },
    }
    _check(made)
    return made


async def published_root(database: Database, size: int | None = None) -> Root:
    """Return the root over the first `size` batches, the newest if None. Raises: `RootNotReached`."""
    async with database.connection() as connection:
        return await _root(connection, await _size(connection, size))


async def consistency(database: Database, old: int, new: int | None = None) -> Document:
    """Return the proof that the root over `old` batches is over the beginning of those under that over `new`.

    Raises: `RootNotReached` unless `old` is from 1 to `new` and there are so many batches.
    """
    async with database.connection() as connection:
        new = await _size(connection, new)
        if not 0 < old <= new:
            raise RootNotReached(f"The older root must be over 1 to {new:,} batches.")
        roots = [await _root(connection, size) for size in (old, new)]
        path = [await _hash(connection, leaves) for leaves in tree.consistency(old, new)] if old < new else []
    return {
        "format": CONSISTENCY,
        "old": roots[0].document(),
        "new": roots[1].document(),
        "path": [digest.hex() for digest in path],
    }


def _check(receipt: Document) -> None:
    try:
        verify_receipt(receipt)
    except ReceiptFalse as error:
        raise Broken("the rows of a batch give its hash; `holdfast ledger verify` says more") from error


def _content(row: store.Row) -> Content:
    return Content(
        row.id, row.debit, row.credit, row.amount, row.code, row.asset, row.kind, row.balancing, row.asked,
        row.held, row.pending_id, row.expires_at, row.over, row.settles, row.metadata,
    )  # fmt: skip


def _root_of_inclusion(batch: store.Batch, size: int, path: Sequence[bytes]) -> bytes:
    root = tree.root_by_inclusion(tree.leaf(batch.hash), batch.number - 1, size, path)
    ensure(root is not None, "the path of a batch fits the tree that it was made for")
    return root or b""


async def _size(connection: Connection, size: int | None) -> int:
    there = await store.newest(connection)
    if size is None:
        return there
    if not 0 <= size <= there:
        raise RootNotReached(f"There are {there:,} batches.")
    return size


async def _root(connection: Connection, size: int) -> Root:
    at = await store.moment(connection, size) if size else None
    return Root(size, await _hash(connection, (0, size)), at)


async def _hash(connection: Connection, leaves: Range) -> bytes:
    """Return the hash over some batches."""
    found = []
    for level, number in tree.complete(leaves):
        below = level - level % _STEP
        start = number << level - below
        found.append(tree.paired(await _nodes(connection, below, start, start + (1 << level - below))))
    return tree.joined(found)


async def _nodes(connection: Connection, level: int, start: int, end: int) -> list[bytes]:
    """Return complete subtrees of a level that is kept, or leaves; make and keep those that are missing."""
    if level == 0:
        hashes = await store.hashes(connection, start, end)
        ensure(len(hashes) == end - start, "batches are numbered without gaps")
        return [tree.leaf(digest) for digest in hashes]
    kept = await store.nodes(connection, level, start, end)
    missing = [number for number in range(start, end) if number not in kept]
    for at in range(0, len(missing), _MADE_AT_A_TIME):
        made = []
        for number in missing[at : at + _MADE_AT_A_TIME]:
            below = await _nodes(connection, level - _STEP, number << _STEP, (number + 1) << _STEP)
            made.append((number, tree.paired(below)))
        await store.keep(connection, level, made)
        kept.update(made)
    return [kept[number] for number in range(start, end)]
