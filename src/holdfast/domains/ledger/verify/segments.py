"""Compares what is noted of the segments of transfers with their transfers."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from holdfast.domains.ledger.store.proof import Segment, Tables
from holdfast.domains.ledger.verify.archives import Archives
from holdfast.domains.ledger.verify.report import Report

Rows = npt.NDArray[Any]
_BITS: Final = 20


class Segments:
    """First and last transfer of each segment, as far as it was read."""

    def __init__(self, tables: Tables, archives: Archives, report: Report) -> None:
        self._report = report
        self._archived = archives.noted.keys()
        self._noted = {segment.number: segment for segment in tables.segments()}
        for number in self._noted.keys() & self._archived:
            report.find(None, f"segment {number} is archived and yet noted as being here")
        for a in archives.noted.values():
            self._noted[a.number] = Segment(a.number, a.opened_at, a.last_at, a.last_seq, span=a.number)
        self._found: dict[int, tuple[int, int, int]] = {}
        self._partitions: set[int] = set()
        for low, high in tables.partitions():
            if low is None or high is None or low % (1 << _BITS) or high - low != 1 << _BITS:
                report.find(None, "a partition of transfers is not of one segment")
            else:
                self._partitions.add(low >> _BITS)

    def follow(self, rows: Rows) -> None:
        """Take in transfers, in order."""
        if not len(rows):
            return
        number = rows["seq"].astype(np.int64) >> _BITS
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(rows)], strict=True):
            first, last = rows[start], rows[end - 1]
            oldest = self._found.get(int(number[start]), (int(first["at"]),))[0]
            self._found[int(number[start])] = (oldest, int(last["at"]), int(last["seq"]))

    def span(self, number: int) -> int | None:
        """Return the first of the span that ends with this segment, None when none does."""
        noted, following = self._noted.get(number), self._noted.get(number + 1)
        if noted is None or (following is not None and following.span == noted.span):
            return None
        return noted.span

    def finish(self) -> None:
        """Compare when all transfers were read."""
        for number in sorted(self._noted.keys() - self._archived ^ self._partitions):
            self._report.find(None, f"segment {number} has a table and is not noted, or is noted without one")
        for number, noted in self._noted.items():
            if number not in self._found:
                continue
            first_at, *last = self._found[number]
            ended = noted.last_seq is not None
            if noted.opened_at > first_at or (ended and [noted.last_at, noted.last_seq] != last):
                self._report.find(None, f"what is noted of segment {number} is not what its transfers say")
