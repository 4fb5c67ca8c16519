"""Archive files: the transfers of one segment with their batches and refusals, as lines of JSON, gzipped.

    {"format": "holdfast-archive-1", "segment": 0, "first_seq": 0, "batches": 12, "transfers": 345}
    {"batch": {"number": 1, "first_seq": 0, "at": "2026-03-01T12:00:00Z", "transfers": 2, "refusals": 1,
               "root": "…", "hash": "…"}}
    {"transfer": {"seq": 0, "id": "…", "debit": "7", "credit": "9", "amount": 100, "code": 0, "asset": 156,
                  "kind": "posted"}}
    {"refusal": {"id": "…", "outcome": 19}}

Each batch is followed by its transfers and then by its refusals, all in order; `end` is the last line. They
bear the names that receipts have, and are hashed as docs/reference/ledger.md says: so a file can be read, and
proven against the hash of its last batch, without any of our code. Nothing here is used by what posts.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal
from uuid import UUID

import msgspec
import numpy as np

from holdfast.domains.ledger.errors import ArchiveUnreadable
from holdfast.domains.ledger.store.proof import BATCH, EXTRA, TRANSFER, Page, Rows

FORMAT: Final = "holdfast-archive-1"
REFUSAL: Final = np.dtype([("id", "V16"), ("outcome", ">i2")])
"""A refusal as it is hashed."""
_LEVEL: Final = 6
_BLOCK_TRANSFERS: Final = 2**16
_CHUNK_BYTES: Final = 2**20
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
Kind = Literal["posted", "pending", "post_pending", "void_pending", "expire_pending", "settle_pending"]
Side = Literal["debit", "credit"]
_KINDS: Final[tuple[Kind, ...]] = (
    "posted", "pending", "post_pending", "void_pending", "expire_pending", "settle_pending",
)  # fmt: skip
KIND_NUMBERS: Final = {name: number for number, name in enumerate(_KINDS)}
_SIDES: Final[tuple[Side, ...]] = ("debit", "credit")
SIDE_NUMBERS: Final = {name: number for number, name in enumerate(_SIDES, 1)}


class BatchLine(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A batch. `early`: ids of its own whose time lay ahead."""

    number: int
    first_seq: int
    at: datetime
    transfers: int
    refusals: int
    root: str
    hash: str
    early: list[UUID] = []


class TransferLine(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A transfer. Accounts are texts, since they may be larger than what JSON's numbers hold exactly."""

    seq: int
    id: UUID
    debit: str
    credit: str
    amount: int
    code: int
    asset: int
    kind: Kind
    balancing: Side | None = None
    asked: int | None = None
    held: int | None = None
    pending_id: UUID | None = None
    expires_at: datetime | None = None
    over: int | None = None
    settles: bool | None = None
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class RefusalLine(msgspec.Struct, forbid_unknown_fields=True):
    """A refusal that is kept."""

    id: UUID
    outcome: int


class Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One line: it has one of these, the first one all that is not one."""

    transfer: TransferLine | None = None
    batch: BatchLine | None = None
    refusal: RefusalLine | None = None
    format: str = ""
    segment: int = -1
    first_seq: int = -1
    batches: int = -1
    transfers: int = -1
    end: bool = False


_read: Final = msgspec.json.Decoder(Line).decode
_write: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole batches of a file, in order. `refusals`: of all of them, one after the other."""

    batches: Rows
    page: Page
    refusals: Rows
    early: dict[int, list[UUID]] = field(default_factory=dict)


def name_of(segment: int) -> str:
    """Return the name of a segment's file."""
    return f"transfers-{segment:06d}.ndjson.gz"


def digest(path: Path) -> tuple[bytes, int]:
    """Return SHA-256 and length of a file. Raises: `OSError`."""
    found, length = sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
            length += len(chunk)
    return found.digest(), length


def write(path: Path, segment: int, transfers: int, batches: int, blocks: Iterable[Block]) -> None:
    """Write a new file that only its owner may read, durably. Same content, same bytes. Raises: `OSError`."""
    with (
        os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out,
        gzip.GzipFile("", "wb", _LEVEL, out, mtime=0) as packed,
    ):
        head = Line(
            format=FORMAT, segment=segment, first_seq=segment << 20, batches=batches, transfers=transfers
        )
        packed.write(_write(head) + b"\n")
        for block in blocks:
            _write_block(packed, block)
        packed.write(_write(Line(end=True)) + b"\n")
        packed.close()
        out.flush()
        os.fsync(out.fileno())


def _write_block(out: gzip.GzipFile, block: Block) -> None:
    transfers, refusals = _transfer_lines(block.page), iter(block.refusals.tolist())
    for number, first_seq, at, count, refused, root, digest_ in block.batches.tolist():
        early = block.early.get(number, [])
        line = BatchLine(number, first_seq, _moment(at), count, refused, root.hex(), digest_.hex(), early)
        parts = [_write(Line(batch=line))]
        parts += [_write(Line(transfer=next(transfers))) for _ in range(count)]
        for _ in range(refused):
            i, outcome = next(refusals)
            parts.append(_write(Line(refusal=RefusalLine(UUID(bytes=i), outcome))))
        out.write(b"\n".join(parts) + b"\n")


def transfer_lines(block: Block, batch: int) -> list[TransferLine]:
    """Return the transfers of one batch of a block."""
    numbers = block.batches["number"].tolist()
    ends = np.cumsum(block.batches["transfers"].astype(np.int64)).tolist()
    at = numbers.index(batch)
    return list(_transfer_lines(block.page))[ends[at - 1] if at else 0 : ends[at]]


def _transfer_lines(page: Page) -> Iterator[TransferLine]:
    extras = {row[0]: row for row in page.extras.tolist()}
    for _, i, debit, credit, amount, code, asset, kind, seq, _ in page.rows.tolist():
        line = TransferLine(seq, UUID(bytes=i), str(debit), str(credit), amount, code, asset, _KINDS[kind])
        if seq in extras:
            _, has, balancing, asked, held, pending_id, expires_at, over, settles = extras[seq]
            line.balancing = _SIDES[balancing - 1] if has & 1 else None
            line.asked = asked if has & 2 else None
            line.held = held if has & 4 else None
            line.pending_id = UUID(bytes=pending_id) if has & 8 else None
            line.expires_at = _moment(expires_at) if has & 16 else None
            line.over = over if has & 32 else None
            line.settles = bool(settles) if has & 64 else None
            if has & 128:
                line.metadata = msgspec.Raw(page.metadata[seq].encode())
        yield line


def blocks(path: Path) -> Iterator[Block]:
    """Read a file, some whole batches at a time. Raises: `ArchiveUnreadable`, `OSError`."""
    try:
        with gzip.open(path, "rb") as lines:
            yield from _blocks(lines)
    except (msgspec.DecodeError, EOFError, gzip.BadGzipFile, ValueError, OverflowError) as error:
        raise ArchiveUnreadable(f"{path} cannot be read: {error}.") from error


def _blocks(lines: BinaryIO | gzip.GzipFile) -> Iterator[Block]:
    head = _read(lines.readline())
    if head.format != FORMAT:
        raise ValueError(f"it is not of the format {FORMAT}")
    batches: list[BatchLine] = []
    transfers: list[TransferLine] = []
    refusals: list[RefusalLine] = []
    seen, ended = 0, False
    for text in lines:
        line = _read(text)
        if line.transfer is not None:
            transfers.append(line.transfer)
        elif line.refusal is not None:
            refusals.append(line.refusal)
        elif line.batch is not None:
            if len(transfers) + len(batches) >= _BLOCK_TRANSFERS:
                yield _block(batches, transfers, refusals)
                batches, transfers, refusals = [], [], []
            batches.append(line.batch)
            seen += 1
        else:
            ended = line.end
    if not ended or seen != head.batches:
        raise ValueError("it is cut off")
    yield _block(batches, transfers, refusals)


def _block(batches: list[BatchLine], transfers: list[TransferLine], refusals: list[RefusalLine]) -> Block:
    rows = np.array(
        [
            (b.number, b.first_seq, _microseconds(b.at), b.transfers, b.refusals, bytes.fromhex(b.root),
             bytes.fromhex(b.hash))
            for b in batches
        ],
        BATCH,
    )  # fmt: skip
    refused = np.array([(r.id.bytes, r.outcome) for r in refusals], REFUSAL)
    at = np.repeat(rows["at"].astype(np.int64), rows["transfers"].astype(np.int64))
    if len(at) != len(transfers):
        raise ValueError("a batch has not as many transfers as it says")
    return Block(rows, _page(transfers, at), refused, {b.number: b.early for b in batches if b.early})


def _page(transfers: list[TransferLine], at: Any) -> Page:  # noqa: ANN401 - an array
    rows = np.zeros(len(transfers), TRANSFER)
    rows["id"] = np.frombuffer(b"".join([t.id.bytes for t in transfers]), "V16")
    for name in ("debit", "credit"):
        rows[name] = [int(getattr(t, name)) for t in transfers]
    for name in ("amount", "code", "asset", "seq"):
        rows[name] = [getattr(t, name) for t in transfers]
    rows["kind"] = [KIND_NUMBERS[t.kind] for t in transfers]
    rows["at"] = at
    found = [row for t in transfers if (row := _extra(t))[1]]
    metadata = {t.seq: bytes(t.metadata).decode() for t in transfers if t.metadata is not msgspec.UNSET}
    return Page(rows, np.array(found, EXTRA), metadata)


def _extra(t: TransferLine) -> tuple[Any, ...]:
    metadata = None if t.metadata is msgspec.UNSET else t.metadata
    values = (t.balancing, t.asked, t.held, t.pending_id, t.expires_at, t.over, t.settles, metadata)
    has = sum(1 << bit for bit, value in enumerate(values) if value is not None)
    return (
        t.seq, has, SIDE_NUMBERS.get(t.balancing, 0) if t.balancing else 0, t.asked or 0, t.held or 0,
        t.pending_id.bytes if t.pending_id else bytes(16), _microseconds(t.expires_at) if t.expires_at else 0,
        t.over or 0, t.settles or False,
    )  # fmt: skip


def _moment(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
