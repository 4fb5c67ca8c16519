"""What receipts are made of: a transfer with its batch, hashes of batches, and subtrees that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec

from holdfast.domains.ledger.errors import ArchiveUnreadable, HistoryArchived
from holdfast.domains.ledger.store import files, lookup
from holdfast.domains.ledger.store.segments import segment_of
from holdfast.platform.db import Connection

_COLUMNS: Final = """t.seq, t.id, t.debit, t.credit, t.amount, t.code, t.asset, t.kind,
       t.balancing, t.asked, t.held, t.pending_id, t.expires_at, t.over, t.settles, t.metadata"""
_FILE: Final = "select file, sha256 from ledger.archives where segment = %s"
_BATCH: Final = """
select b.number, b.first_seq, b.at, b.transfers, b.root, b.hash, coalesce(p.hash, ''::bytea)
from ledger.batches b left join ledger.batches p on p.number = b.number - 1
where b.first_seq <= %s and b.transfers > 0 order by b.first_seq desc limit 1"""
_TRANSFERS: Final = f"""
select {_COLUMNS} from ledger.transfers t where t.seq >= %s and t.seq < %s order by t.seq"""  # noqa: S608 - columns
_REFUSALS: Final = "select id, outcome from ledger.refusals where batch = %s order by position"
_NEWEST: Final = "select batch from ledger.head"
_MOMENT: Final = "select at from ledger.batches where number = %s"
_HASHES: Final = """
select b.hash from ledger.batches b where b.number > %s and b.number <= %s order by b.number"""
_NODES: Final = """
select n.number, n.hash from ledger.tree_nodes n where n.level = %s and n.number >= %s and n.number < %s"""
_KEEP: Final = """
insert into ledger.tree_nodes (level, number, hash)
select %s, * from unnest(%s::bigint[], %s::bytea[]) on conflict do nothing"""


@dataclass(frozen=True, slots=True)
class Row:
    """A transfer as it is stored."""

    seq: int
    id: UUID
    debit: int
    credit: int
    amount: int
    code: int
    asset: int
    kind: int
    balancing: int | None
    asked: int | None
    held: int | None
    pending_id: UUID | None
    expires_at: datetime | None
    over: int | None
    settles: bool | None
    metadata: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is stored; `before` is the hash of the one before it."""

    number: int
    first_seq: int
    at: datetime
    transfers: int
    root: bytes
    hash: bytes
    before: bytes


async def _rows(connection: Connection, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query.encode(), parameters)).fetchall()


async def seq_of(connection: Connection, transfer: UUID) -> int | None:
    """Return the number of a transfer, None when there is none with this id."""
    return await lookup.seq_of(connection, transfer)


async def batch_of(connection: Connection, seq: int) -> Batch | None:
    """Return the batch of the transfer with this number."""
    rows = await _rows(connection, _BATCH, seq)
    return Batch(*rows[0]) if rows else None


async def transfers(connection: Connection, batch: Batch, archive: Path | None = None) -> list[Row]:
    """Return the transfers of a batch, in order, from the files in `archive` where they were moved there.

    Raises: `HistoryArchived` when the file is not at hand, `ArchiveUnreadable`.
    """
    first = batch.first_seq
    rows = [Row(*row) for row in await _rows(connection, _TRANSFERS, first, first + batch.transfers)]
    if len(rows) == batch.transfers:
        return rows
    for file, digest in await _rows(connection, _FILE, segment_of(first)):
        path = None if archive is None else archive / file
        if path is None or not path.is_file():
            raise HistoryArchived(
                f"It is in {file}, an archive. Name the folder that has it with --archive.", file=file
            )
        if files.digest(path)[0] != bytes(digest):
            raise ArchiveUnreadable(f"{path} is not the file that was archived.")
        return _from_file(path, batch.number)
    return rows


def _from_file(path: Path, batch: int) -> list[Row]:
    """Read the transfers of a batch from an archive file. Takes seconds."""
    for block in files.blocks(path):
        if batch in block.batches["number"]:
            return [_row(line) for line in files.transfer_lines(block, batch)]
    return []


def _row(line: files.TransferLine) -> Row:
    metadata = None if line.metadata is msgspec.UNSET else msgspec.json.decode(line.metadata)
    return Row(
        line.seq, line.id, int(line.debit), int(line.credit), line.amount, line.code, line.asset,
        files.KIND_NUMBERS[line.kind], None if line.balancing is None else files.SIDE_NUMBERS[line.balancing],
        line.asked, line.held, line.pending_id, line.expires_at, line.over, line.settles, metadata,
    )  # fmt: skip


async def refusals(connection: Connection, batch: int) -> list[tuple[UUID, int]]:
    """Return id and outcome of the refusals that a batch keeps, in order."""
    return [(row[0], row[1]) for row in await _rows(connection, _REFUSALS, batch)]


async def newest(connection: Connection) -> int:
    """Return the number of the newest batch, 0 when there is none."""
    return int((await _rows(connection, _NEWEST))[0][0])


async def moment(connection: Connection, batch: int) -> datetime | None:
    """Return the time of a batch."""
    rows = await _rows(connection, _MOMENT, batch)
    return rows[0][0] if rows else None


async def hashes(connection: Connection, start: int, end: int) -> list[bytes]:
    """Return the hashes of the batches from number `start` + 1 to `end`."""
    return [bytes(row[0]) for row in await _rows(connection, _HASHES, start, end)]


async def nodes(connection: Connection, level: int, start: int, end: int) -> dict[int, bytes]:
    """Return the subtrees of a level from place `start` to before `end`, as far as they are kept."""
    return {row[0]: bytes(row[1]) for row in await _rows(connection, _NODES, level, start, end)}


async def keep(connection: Connection, level: int, found: Sequence[tuple[int, bytes]]) -> None:
    """Keep complete subtrees of a level, each with its place."""
    numbers, kept = [number for number, _ in found], [digest for _, digest in found]
    await connection.execute(_KEEP, (level, numbers, kept))
