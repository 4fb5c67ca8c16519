"""Archived segments: reads their files in place of the tables, and checks what the database keeps of them.

Where a file is not at hand, its transfers cannot be proven: the chain of batches still is, with the roots as
they are noted, and what follows is proven from the marks at the segment's end. Then those are checked for
what they contradict.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from holdfast.domains.ledger.errors import ArchiveUnreadable
from holdfast.domains.ledger.store import files
from holdfast.domains.ledger.store.kept import DETAIL, HOLD, NEVER, Kept, order_of
from holdfast.domains.ledger.store.proof import EXTRA, Archive, Page, Tables
from holdfast.domains.ledger.verify import hashes
from holdfast.domains.ledger.verify.holds import MOST, UNKNOWN, Hold
from holdfast.domains.ledger.verify.report import Report

Rows = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
SEGMENT: Final = 2**20
_PENDING: Final = 1
_BALANCING, _ASKED, _PENDING_ID, _EXPIRES_AT, _OVER, _SETTLES = 1, 2, 8, 16, 32, 64
_CONTENT: Final = np.dtype(
    [
        ("tag", "u1"),
        ("debit", ">i8"),
        ("credit", ">i8"),
        ("asked", ">i8"),
        ("code", ">i4"),
        ("asset", ">i2"),
        ("kind", ">i2"),
    ]
)


def contents(page: Page) -> Rows:
    """Return the first 16 bytes of the digest of what was asked, for each transfer of a page."""
    rows, extras = page.rows, page.extras.copy()
    where = np.searchsorted(rows["seq"].astype(np.int64), extras["seq"].astype(np.int64))
    fixed = np.zeros(len(rows), _CONTENT)
    fixed["tag"] = 3
    for name in ("debit", "credit", "code", "asset", "kind"):
        fixed[name] = rows[name]
    fixed["asked"] = rows["amount"]
    asked = (extras["has"] & _ASKED) != 0
    fixed["asked"][where[asked]] = extras["asked"][asked]
    extras["has"] &= _BALANCING | _PENDING_ID | _EXPIRES_AT | _OVER | _SETTLES | hashes.METADATA
    more = dict(zip(where.tolist(), hashes.extensions(extras, page.metadata), strict=True))
    whole, step = fixed.tobytes(), _CONTENT.itemsize
    found = [
        sha256(whole[at * step : (at + 1) * step] + more.get(at, b"")).digest()[:16]
        for at in range(len(rows))
    ]
    return np.frombuffer(b"".join(found), "V16")


class Gathered:
    """What should be kept of the transfers of a segment, gathered page by page."""

    def __init__(self, number: int) -> None:
        self._first = number * SEGMENT
        self._ids: list[Rows] = []
        self._details: list[Rows] = []
        self._holds: list[Rows] = []
        self._places: list[Ints] = []
        self.count = 0

    def add(self, page: Page) -> None:
        """Take in transfers, in order of their numbers."""
        rows = page.rows
        details = np.zeros(len(rows), DETAIL)
        details["place"] = rows["seq"].astype(np.int64) - self._first
        details["amount"] = rows["amount"]
        details["content"] = contents(page)
        pending = np.flatnonzero(rows["kind"] == _PENDING)
        holds = np.zeros(len(pending), HOLD)
        for name in ("debit", "credit", "asset"):
            holds[name] = rows[name][pending]
        full = np.zeros(len(rows), EXTRA)
        full[np.searchsorted(rows["seq"].astype(np.int64), page.extras["seq"].astype(np.int64))] = page.extras
        lapses = (full["has"][pending] & _EXPIRES_AT) != 0
        holds["expires_at"] = np.where(lapses, full["expires_at"][pending].astype(np.int64), NEVER)
        self._ids.append(np.ascontiguousarray(rows["id"]))
        self._details.append(details)
        self._holds.append(holds)
        self._places.append(pending + self.count)
        self.count += len(rows)

    def kept(self, settled: dict[bytes, tuple[int, int]]) -> Kept:
        """Return what should be kept. `settled`: by id of a hold, number and kind of what settled it."""
        if not self.count:
            return Kept(np.empty(0, "V16"), np.empty(0, DETAIL), np.empty(0, HOLD), np.empty(0, np.int64))
        ids = np.frombuffer(b"".join([part.tobytes() for part in self._ids]), "V16")
        details = np.frombuffer(b"".join([part.tobytes() for part in self._details]), DETAIL)
        holds = np.frombuffer(b"".join([part.tobytes() for part in self._holds]), HOLD).copy()
        places = np.concatenate(self._places)
        for at, i in enumerate(ids[places].tolist()):
            holds["settled_seq"][at], holds["kind"][at] = settled.get(i, (-1, -1))
        order = order_of(ids)
        now_at = np.empty(len(order), np.int64)
        now_at[order] = np.arange(len(order))
        by_id = np.argsort(now_at[places])
        return Kept(ids[order], details[order], holds[by_id], now_at[places][by_id])


class Archives:
    """The archived segments of a ledger, with their files as far as these are at hand."""

    def __init__(self, tables: Tables, folder: Path | None, report: Report) -> None:
        self._tables = tables
        self._report = report
        self.noted = {archive.number: archive for archive in tables.archives()}
        if sorted(self.noted) != list(range(len(self.noted))):
            report.find(None, "the archived segments are not the oldest ones without gaps")
        self._paths: dict[int, Path] = {}
        for archive in self.noted.values():
            self._look(archive, folder)
        self._gathered: Gathered | None = None
        self._number = -1
        self._settled: dict[bytes, tuple[int, int]] = {}
        self._due: dict[bytes, tuple[int, int]] = {}
        """Holds of archived segments, with what is kept of their settlement, which was not met yet."""

    def _look(self, archive: Archive, folder: Path | None) -> None:
        path = None if folder is None else folder / archive.file
        if path is None or not path.is_file():
            self._report.unread.append(archive.number)
        elif files.digest(path)[0] != archive.sha256:
            self._report.find(None, f"{archive.file} is not the file that was archived")
            self._report.unread.append(archive.number)
        else:
            self._paths[archive.number] = path

    def unread(self, number: int) -> bool:
        """Tell whether a segment is archived and its file not at hand."""
        return number in self.noted and number not in self._paths

    def pages(self) -> Iterator[Page]:
        """Yield the transfers of the files at hand, and then those of the tables, in order."""
        for number, path in sorted(self._paths.items()):
            try:
                for block in files.blocks(path):
                    yield block.page
            except ArchiveUnreadable as error:
                self._report.find(None, f"{self.noted[number].file}: {error.message}")
        yield from self._tables.transfers()

    def follow(self, page: Page) -> None:
        """Take in transfers in order, from files and from tables."""
        if not len(page.rows) or not self.noted:
            return
        number = int(page.rows["seq"][0]) // SEGMENT
        settling = page.extras[(page.extras["has"] & _PENDING_ID) != 0]
        if len(settling):
            where = np.searchsorted(page.rows["seq"].astype(np.int64), settling["seq"].astype(np.int64))
            kinds = page.rows["kind"][where].tolist()
            facts = zip(settling["pending_id"].tolist(), settling["seq"].tolist(), kinds, strict=True)
            for i, seq, kind in facts:
                if number in self.noted:
                    self._settled[i] = (seq, kind)
                self._meet(i, (seq, kind))
        if number in self._paths:
            if self._gathered is None or number != self._number:
                self._gathered, self._number = Gathered(number), number
            self._gathered.add(page)

    def _meet(self, hold: bytes, settlement: tuple[int, int]) -> None:
        due = self._due.pop(hold, None)
        if due is not None and due != settlement:
            self._report.find(None, f"what is kept of hold {hold.hex()} is not how it was settled")

    def ends(self, number: int) -> None:
        """Compare, when a segment from a file was read, what the database keeps of it."""
        if number not in self._paths:
            self._settled.clear()
            return
        kept = self._tables.kept(number)
        for i, seq, kind in self._settlements(kept):
            if seq >= (number + 1) * SEGMENT:
                self._due[i] = (seq, kind)
                self._settled[i] = (seq, kind)
        gathered = self._gathered if number == self._number else None
        due = (gathered or Gathered(number)).kept(self._settled)
        if self.noted[number].transfers != len(due.ids) or any(
            one.tobytes() != other.tobytes() for one, other in zip(kept, due, strict=True)
        ):
            self._report.find(None, f"what is kept of segment {number} is not what its file says")
        self._gathered = None
        self._settled.clear()

    def _settlements(self, kept: Kept) -> list[tuple[bytes, int, int]]:
        ids = kept.ids[kept.places].tolist()
        return list(zip(ids, kept.holds["settled_seq"].tolist(), kept.holds["kind"].tolist(), strict=True))

    def passed(self, number: int) -> tuple[Kept, dict[bytes, Hold]]:
        """Return what is kept of a segment that was not read, and its holds that are settled later on.

        As `Holds` has them; whether one could be settled for more, or ended by itself, only the file says.
        """
        kept, first = self._tables.kept(number), number * SEGMENT
        opened = {}
        details = kept.details[kept.places]
        columns = [kept.holds[name].tolist() for name in ("debit", "credit", "expires_at")]
        seqs = (details["place"].astype(np.int64) + first).tolist()
        for (i, seq, kind), at, debit, credit, expires, amount in zip(
            self._settlements(kept), seqs, *columns, details["amount"].tolist(), strict=True
        ):
            if seq >= first + SEGMENT and seq // SEGMENT not in self.noted.keys() - self._paths.keys():
                opened[i] = (at, debit, credit, amount, expires, MOST, UNKNOWN)
                self._due[i] = (seq, kind)
        return kept, opened

    def settled_in(self, number: int) -> set[bytes]:
        """Return the holds that were settled in a segment that was not read, as far as that is kept."""
        found = {i for i, (seq, _) in self._due.items() if seq // SEGMENT == number}
        for i in found:
            del self._due[i]
        return found

    def finish(self) -> None:
        """Check that every settlement that is kept was met."""
        for hold in list(self._due)[:3]:
            self._report.find(None, f"what is kept of hold {hold.hex()} names a settlement that there is not")
