"""Goes through batches and their transfers side by side, once, in order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.domains.ledger.store.proof import BATCH, TRANSFER, Page, Tables
from holdfast.domains.ledger.verify import hashes
from holdfast.domains.ledger.verify.archives import Archives
from holdfast.domains.ledger.verify.books import Books
from holdfast.domains.ledger.verify.holds import Holds
from holdfast.domains.ledger.verify.ids import Ids
from holdfast.domains.ledger.verify.report import Report
from holdfast.domains.ledger.verify.segments import Segments
from holdfast.domains.ledger.verify.subtrees import Subtrees
from holdfast.domains.ledger.verify.windows import Pages, Window

Rows = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_BLOCK_TRANSFERS: Final = 2**16
"""Transfers looked at together, about: few enough for the processor's cache."""
_SEGMENT: Final = 2**20
_END: Final = 2**63 - 1
_SHOWN_MAX: Final = 3
_AHEAD_MS_MAX: Final = 2000
_2000_MS: Final = 946_684_800_000
"""Start of 2000 in the time of ids, which begins with 1970."""
_START_OF_1970: Final = -946_684_800_000_000
_NO_TRANSFERS: Final = np.empty(0, TRANSFER)
_REFUSAL: Final = np.dtype([("id", "V16"), ("outcome", ">i2")])


@dataclass(frozen=True, slots=True)
class _Last:
    """The batch before. `end`: the number of the transfer that should come next."""

    number: int = 0
    end: int = 0
    at: int = _START_OF_1970
    hash: bytes = b""


@dataclass(frozen=True, slots=True)
class _Block:
    """Some batches in order. `end`: by batch, the number behind its last transfer."""

    batches: Rows
    number: Ints
    first: Ints
    end: Ints
    at: Ints


class Walk:
    """One proof."""

    def __init__(
        self, tables: Tables, progress: Callable[[int, int], None], archive: Path | None = None
    ) -> None:
        self._tables = tables
        self._progress = progress
        self._report = Report()
        self._archives = Archives(tables, archive, self._report)
        self._pages = Pages(self._archives.pages())
        self._refusals = Window(tables.refusals(), "batch")
        self._noting = tables.early()
        self._noted = next(self._noting, None)
        marks, limits = Window(tables.marks(), "seq"), Window(tables.limits(), "seq")
        self._books = Books(tables.accounts(), self._report, marks.take, limits.take)
        self._holds = Holds(self._report)
        self._segments = Segments(tables, self._archives, self._report)
        self._subtrees = Subtrees(tables, self._report)
        self._last = _Last()
        self._segment = 0

    def run(self) -> Report:
        """Read everything and say what was found."""
        total = self._tables.total()
        with closing(Ids()) as ids:
            for page in self._tables.batches():
                for block in _blocks(page):
                    self._block(block, ids)
                    self._progress(self._report.transfers + self._report.passed_over, total)
            self._finish(ids)
        self._progress(self._report.transfers + self._report.passed_over, total)
        return self._report

    def _find(self, block: _Block, wrong: Flags, words: str) -> None:
        for i in np.flatnonzero(wrong)[:_SHOWN_MAX].tolist():
            self._report.find(int(block.number[i]), words)

    def _block(self, block: _Block, ids: Ids) -> None:
        segment = int(block.first[0]) // _SEGMENT
        if segment > self._segment:
            self._segment_ends(segment * _SEGMENT, ids)
            self._segment = segment
        self._sequence(block)
        refusals = self._refusals.take(int(block.number[-1]) + 1)
        expected = int((block.end - block.first).sum())
        if self._archives.unread(segment):
            self._early(block, _NO_TRANSFERS, np.empty(0, np.int64), refusals)
            self._report.passed_over += expected
        else:
            page = self._pages.take(int(block.end.max()), expected + _BLOCK_TRANSFERS)
            numbers = self._members(block, page.rows)
            self._roots(block, page)
            self._early(block, page.rows, numbers, refusals)
            self._transfers(page, numbers, max(self._last.end, int(block.end[-1])), ids)
        self._chain(block, refusals)
        ids.add(refusals["id"])
        self._report.refusals += len(refusals)
        self._report.batches += len(block.number)
        self._subtrees.follow(block.batches["hash"].tolist())
        last = block.batches[-1]
        self._last = _Last(
            int(block.number[-1]), int(block.end[-1]), int(block.at[-1]), last["hash"].tobytes()
        )

    def _segment_ends(self, below: int, ids: Ids) -> None:
        """Check the marks of the segment before number `below`, or go on from them when it was not read."""
        if self._archives.unread(self._segment):
            kept, opened = self._archives.passed(self._segment)
            self._holds.pass_over(self._archives.settled_in(self._segment), opened)
            ids.add(kept.ids)
            read = self._report.transfers + self._report.passed_over
            self._books.pass_over(self._segment, below, read)
            if len(kept.ids) != self._archives.noted[self._segment].transfers:
                self._report.find(None, f"not all transfers of segment {self._segment} are kept")
            return
        self._archives.ends(self._segment)
        nothing = np.empty(0, np.int64)
        self._books.add(np.empty(0, TRANSFER), nothing, nothing, below)
        span = self._segments.span(self._segment)
        account = None if span is None else self._books.unmarked(span * _SEGMENT)
        if account is not None:
            self._report.find(None, f"segment {self._segment} lacks a mark of account {account}")

    def _transfers(self, page: Page, numbers: Ints, below: int, ids: Ids) -> None:
        """Check what transfers are to accounts, holds and segments. `below`: no number reaches it."""
        rows = page.rows
        ids.add(rows["id"])
        self._segments.follow(rows)
        self._archives.follow(page)
        positions = np.searchsorted(rows["seq"].astype(np.int64), page.extras["seq"].astype(np.int64))
        released = self._holds.follow(rows, numbers, page.extras, positions)
        self._books.add(rows, numbers, released, below)
        self._report.transfers += len(rows)

    def _sequence(self, block: _Block) -> None:
        """Check that the batches follow on each other and on the one before them."""
        last = self._last
        number, end, at = (
            np.concatenate(([before], of[:-1]))
            for before, of in ((last.number, block.number), (last.end, block.end), (last.at, block.at))
        )
        for i in np.flatnonzero(block.number != number + 1)[:_SHOWN_MAX].tolist():
            self._report.find(int(number[i]) + 1, "it is missing")
        self._find(block, block.at < at, "its time is before that of the batch before")
        follows = (block.first == end) | ((block.first > end) & (block.first % _SEGMENT == 0))
        self._find(block, ~follows, "its first transfer does not follow on the batch before")
        count, refused = block.batches["transfers"], block.batches["refusals"]
        self._find(
            block, (count < 0) | (refused < 0) | ((count == 0) & (refused == 0)), "its counts are wrong"
        )
        over = (count > 0) & (block.first // _SEGMENT != (block.end - 1) // _SEGMENT)
        self._find(block, over, "it reaches over the end of a segment")

    def _members(self, block: _Block, rows: Rows) -> Ints:
        """Check that each batch has its transfers and no other; return the batch of each transfer."""
        seq = rows["seq"].astype(np.int64)
        first = np.maximum.accumulate(block.first)
        of = np.searchsorted(first, seq, "right") - 1
        inside = (of >= 0) & (seq < block.end[of])
        have = np.bincount(of[inside], minlength=len(first))
        places = np.arange(len(seq)) - np.searchsorted(seq, first)[of]
        gaps = np.zeros(len(first), np.bool_)
        gaps[of[inside & (seq - first[of] != places)]] = True
        wrong = (have != block.batches["transfers"]) | gaps
        for i in np.flatnonzero(wrong)[:_SHOWN_MAX].tolist():
            self._report.find(
                int(block.number[i]),
                f"its transfers are not the {block.batches['transfers'][i]} from number {block.first[i]} on",
            )
        late = np.zeros(len(first), np.bool_)
        late[of[inside & (rows["at"] != block.at[of])]] = True
        self._find(block, late, "a transfer bears another time than the batch")
        numbers = np.where(of >= 0, block.number[of], self._last.number) + np.where(inside, 0, 1)
        self._outside(seq[~inside], numbers[~inside])
        return numbers

    def _outside(self, seq: Ints, numbers: Ints) -> None:
        for where, number in zip(seq[:_SHOWN_MAX].tolist(), numbers[:_SHOWN_MAX].tolist(), strict=True):
            self._report.find(number, f"transfer number {where} belongs to no batch")

    def _roots(self, block: _Block, page: Page) -> None:
        """Recompute the roots."""
        rows = page.rows
        seq = rows["seq"].astype(np.int64)
        positions = np.searchsorted(seq, page.extras["seq"].astype(np.int64)).tolist()
        extensions = dict(zip(positions, hashes.extensions(page.extras, page.metadata), strict=True))
        leaves = hashes.leaves(rows, extensions)
        starts, ends = np.searchsorted(seq, block.first).tolist(), np.searchsorted(seq, block.end).tolist()
        roots = [hashes.root(leaves[start:end]) for start, end in zip(starts, ends, strict=True)]
        altered = np.frombuffer(b"".join(roots), "V32") != block.batches["root"]
        self._find(block, altered, "it was altered: its transfers do not give its root")

    def _chain(self, block: _Block, refusals: Rows) -> None:
        """Recompute the hashes, and check the refusals that go into them."""
        refused = self._refused(block, refusals)
        whole, step = block.batches.tobytes(), BATCH.itemsize
        before, broken = self._last.hash, np.zeros(len(block.number), np.bool_)
        for i, content in enumerate(refused):
            row = whole[i * step : (i + 1) * step]
            broken[i] = hashes.batch(before, row[:-32], content) != row[-32:]
            before = row[-32:]
        self._find(block, broken, "it was altered: its row and refusals do not give its hash")

    def _refused(self, block: _Block, rows: Rows) -> list[bytes]:
        """Check the refusals and return for each batch what is hashed of them."""
        batch = rows["batch"].astype(np.int64)
        low, high = np.searchsorted(batch, block.number), np.searchsorted(batch, block.number, "right")
        for i in np.flatnonzero(~np.isin(batch, block.number))[:_SHOWN_MAX].tolist():
            self._report.find(int(batch[i]), "a refusal says that it is of this batch, which is missing")
        of = np.minimum(np.searchsorted(block.number, batch), len(low) - 1)
        off = (rows["position"] != np.arange(len(rows)) - low[of]) | (rows["at"] != block.at[of])
        wrong = high - low != block.batches["refusals"]
        wrong[of[off]] = True
        self._find(block, wrong, "its refusals are not those that it counts, in order and of its time")
        hashed = np.zeros(len(rows), _REFUSAL)
        for name in ("id", "outcome"):
            hashed[name] = rows[name]
        content = hashed.tobytes()
        return [
            content[start * _REFUSAL.itemsize : end * _REFUSAL.itemsize]
            for start, end in zip(low.tolist(), high.tolist(), strict=True)
        ]

    def _early(self, block: _Block, rows: Rows, numbers: Ints, refusals: Rows) -> None:
        """Check that ids whose own time lies far ahead are noted with their batch."""
        ids = np.concatenate((rows["id"], refusals["id"]))
        numbers = np.concatenate((numbers, refusals["batch"].astype(np.int64)))
        at = np.concatenate((rows["at"].astype(np.int64), refusals["at"].astype(np.int64)))
        noted: set[tuple[int, bytes]] = set()
        while self._noted is not None and self._noted[0] <= block.number[-1]:
            noted.update((self._noted[0], early.bytes) for early in self._noted[1])
            self._noted = next(self._noting, None)
        high = np.ascontiguousarray(ids).view(">u8")[::2].astype(np.int64)
        own_ms, version = high >> 16 & 2**48 - 1, high >> 12 & 15
        for i in np.flatnonzero((version == 7) & (own_ms > at // 1000 + _2000_MS + _AHEAD_MS_MAX)).tolist():
            if (int(numbers[i]), ids[i].tobytes()) not in noted:
                self._report.find(
                    int(numbers[i]), f"the id {UUID(bytes=ids[i].tobytes())} is not noted as early"
                )

    def _finish(self, ids: Ids) -> None:
        last = self._last
        while len((page := self._pages.take(_END, _BLOCK_TRANSFERS)).rows):
            seq = page.rows["seq"].astype(np.int64)
            numbers = np.full(len(seq), last.number + 1)
            self._outside(seq, numbers)
            self._transfers(page, numbers, int(seq[-1]) + 1, ids)
        for batch in self._refusals.take(_END)["batch"][:_SHOWN_MAX].tolist():
            self._report.find(batch, "a refusal says that it is of this batch, which is missing")
        following = -(-last.end // _SEGMENT) * _SEGMENT
        self._segment_ends(last.end, ids)
        self._books.finish(max(following, last.end))
        self._segments.finish()
        self._archives.finish()
        self._subtrees.finish()
        self._report.head = (last.number, last.hash.hex())
        head = self._tables.head()
        if head is None or head[:4] != (last.number, last.end - 1, last.at, last.hash):
            self._report.find(None, "the head is not the newest batch")
        elif head[4] < last.number:
            self._report.find(None, "the head counts fewer commits than there are batches")
        self._twice(ids)

    def _twice(self, ids: Ids) -> None:
        suspects = ids.suspects()
        if len(suspects):
            for found in ids.twice(suspects, self._tables.ids())[:_SHOWN_MAX]:
                name = UUID(bytes=found)
                self._report.find(self._tables.batch_of(name), f"the id {name} stands twice")


def _blocks(batches: Rows) -> Iterator[_Block]:
    """Cut batches into blocks of about as many transfers."""
    number, first, at = (batches[name].astype(np.int64) for name in ("number", "first_seq", "at"))
    count = np.clip(batches["transfers"].astype(np.int64), 0, _SEGMENT)
    sums = np.cumsum(count)
    segments = [*(np.flatnonzero(np.diff(first // _SEGMENT)) + 1).tolist(), len(batches)]
    start = 0
    while start < len(batches):
        before = int(sums[start - 1]) if start else 0
        enough = int(np.searchsorted(sums, before + _BLOCK_TRANSFERS, "right"))
        end = min(max(start + 1, enough), segments[bisect_right(segments, start)])
        part = slice(start, end)
        yield _Block(batches[part], number[part], first[part], (first + count)[part], at[part])
        start = end
