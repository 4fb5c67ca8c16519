"""Moves the oldest segments of transfers to files, which stay as provable as the tables.

A segment is written to a file, read back from the disk, and compared: its batches with the tables, and its
transfers with the roots and hashes of these, by the code that proves the ledger and shares nothing with
posting. Only then is the table dropped, in the transaction that notes the file. What the database keeps is in
`store/kept.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.domains.ledger.errors import ArchiveRefused
from holdfast.domains.ledger.store import files, kept
from holdfast.domains.ledger.store.archiving import Archiving, Oldest, Written, alone
from holdfast.domains.ledger.store.files import Block
from holdfast.domains.ledger.store.proof import BATCH, Tables
from holdfast.domains.ledger.verify import hashes
from holdfast.domains.ledger.verify.archives import Gathered
from holdfast.domains.ledger.verify.windows import Pages, Window

Rows = npt.NDArray[Any]
KEPT_SEGMENTS: Final = 2
"""The newest segments, which are never archived: one is written, and the other may still be indexed."""
_BLOCK_TRANSFERS: Final = 2**16


@dataclass(frozen=True, slots=True)
class Done:
    """One segment that was archived."""

    segment: int
    path: Path
    transfers: int
    bytes: int


@dataclass(slots=True)
class Result:
    """What was archived, oldest first, and why it went no farther."""

    done: list[Done] = field(default_factory=list)
    reason: str = ""


def archive(
    dsn: str, before: datetime, folder: Path, progress: Callable[[int, int, int], None] | None = None
) -> Result:
    """Move whole segments whose newest transfer is older than `before` to files in `folder`.

    From the oldest on, as far as it goes. `progress`: is called with the segment, transfers done, and in all.
    Raises: `ArchiveRefused` when somebody else is at it or a file cannot be written.
    """
    result = Result()
    with alone(dsn) as archiving:
        while True:
            oldest = archiving.oldest()
            result.reason = _why_not(archiving, oldest, before)
            if result.reason or oldest is None:
                return result
            if oldest.shared:
                archiving.mark(oldest.number)
            result.done.append(_one(dsn, archiving, oldest, folder, progress or (lambda *_: None)))


def _why_not(archiving: Archiving, oldest: Oldest | None, before: datetime) -> str:
    """Say what keeps the oldest segment from being archived."""
    if oldest is None or oldest.last_at is None or oldest.last_seq is None or oldest.newer < KEPT_SEGMENTS:
        return f"The newest {KEPT_SEGMENTS} segments stay."
    name = f"Segment {oldest.number}"
    if oldest.last_at >= before:
        return f"{name} goes until {oldest.last_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC."
    if not oldest.ready:
        return f"{name} is not indexed and marked yet; a running Holdfast does that by itself."
    if oldest.snapshot_seq < oldest.last_seq:
        return f"There is no snapshot after segment {oldest.number} yet; a writer makes one now and then."
    count, since = archiving.open_holds(oldest.number)
    if count:
        return f"{name} has {count:,} open holds, the oldest of {since:%Y-%m-%d %H:%M:%S}: settle them first."
    return ""


def _one(
    dsn: str, archiving: Archiving, oldest: Oldest, folder: Path, progress: Callable[[int, int, int], None]
) -> Done:
    path = folder / files.name_of(oldest.number)
    partial = path.with_name(f".{path.name}.partial")
    tables = Tables(dsn)
    try:
        with tables.opened(locked=False):
            batches = [page for page in tables.batches(oldest.number) if len(page)]
            total = sum(int(page["transfers"].sum()) for page in batches)
            partial.unlink(missing_ok=True)
            written = _blocks(tables, oldest.number, batches)
            files.write(partial, oldest.number, total, sum(map(len, batches)), written)
            gathered = _checked(archiving, partial, batches, lambda n: progress(oldest.number, n, total))
        if gathered.count != total:
            raise ArchiveRefused(f"Segment {oldest.number} does not have the transfers of its batches.")
        digest, length = files.digest(partial)
        _publish(partial, path, digest)
    except OSError as error:
        raise ArchiveRefused(f"{error.filename or folder}: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    rows = kept.split(gathered.kept(archiving.settled(oldest.number)))
    archiving.move(oldest, Written(path.name, digest, length, total), rows)
    return Done(oldest.number, path, total, length)


def _blocks(tables: Tables, segment: int, batches: list[Rows]) -> Iterator[Block]:
    """Read a segment from the tables, some whole batches at a time."""
    if not batches:
        return
    span = int(batches[0]["number"][0]), int(batches[-1]["number"][-1])
    pages, refusals = Pages(tables.transfers(segment)), Window(tables.refusals(span), "batch")
    early: dict[int, list[UUID]] = {
        number: ids for number, ids in tables.early() if span[0] <= number <= span[1]
    }
    for page in batches:
        counts = np.cumsum(page["transfers"].astype(np.int64))
        cuts = np.flatnonzero(np.diff(counts // _BLOCK_TRANSFERS)) + 1
        for start, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(page)], strict=True):
            some = page[start:end]
            last = some[-1]
            taken = pages.take(int(last["first_seq"]) + int(last["transfers"]), 2**20)
            refused = refusals.take(int(last["number"]) + 1)
            content = np.zeros(len(refused), files.REFUSAL)
            for name in ("id", "outcome"):
                content[name] = refused[name]
            yield Block(some, taken, content, early)


def _checked(
    archiving: Archiving, path: Path, batches: list[Rows], progress: Callable[[int], None]
) -> Gathered:
    """Prove a file against the tables, and return what is to be kept. Raises: `ArchiveRefused`."""
    due = np.frombuffer(b"".join(page.tobytes() for page in batches), BATCH)
    before = archiving.hash_before(int(due["number"][0])) if len(due) else b""
    gathered, at = Gathered(int(due["first_seq"][0]) >> 20 if len(due) else 0), 0
    for block in files.blocks(path):
        expected = due[at : at + len(block.batches)]
        at += len(block.batches)
        if block.batches.tobytes() != expected.tobytes():
            raise ArchiveRefused("The file does not have the batches that the tables have.")
        before = _proven(block, before)
        gathered.add(block.page)
        progress(gathered.count)
    if at != len(due):
        raise ArchiveRefused("The file does not have all batches.")
    return gathered


def _proven(block: Block, before: bytes) -> bytes:
    """Recompute roots and hashes of a block and return the last hash. Raises: `ArchiveRefused`."""
    page, refused = block.page, block.refusals.tobytes()
    seq = page.rows["seq"].astype(np.int64)
    where = np.searchsorted(seq, page.extras["seq"].astype(np.int64)).tolist()
    extensions = dict(zip(where, hashes.extensions(page.extras, page.metadata), strict=True))
    leaves = hashes.leaves(page.rows, extensions)
    whole, step, size = block.batches.tobytes(), BATCH.itemsize, files.REFUSAL.itemsize
    start = refusal = 0
    for i, row in enumerate(block.batches):
        count, refusals = int(row["transfers"]), int(row["refusals"])
        content = whole[i * step : (i + 1) * step]
        fits = np.array_equal(seq[start : start + count], np.arange(count) + int(row["first_seq"]))
        root = hashes.root(leaves[start : start + count])
        said = refused[refusal * size : (refusal + refusals) * size]
        fits &= root == content[-64:-32] and hashes.batch(before, content[:-32], said) == content[-32:]
        if not fits:
            raise ArchiveRefused(
                f"Batch {row['number']} is not what its transfers give. Run `holdfast ledger verify` first."
            )
        before, start, refusal = content[-32:], start + count, refusal + refusals
    return before


def _publish(partial: Path, path: Path, digest: bytes) -> None:
    """Give a file its name. One with the same content may be there, of an attempt that was cut off."""
    if path.exists():
        if files.digest(path)[0] != digest:
            raise ArchiveRefused(f"{path} is there already, with other content. Choose another folder.")
        return
    partial.rename(path)
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
