"""What the database keeps of archived transfers, as bytes; `schema/0002_pre_archives.sql` describes them.

Of each transfer 44 bytes: its id, its number within the segment, its amount, and the beginning of a digest
of what was asked. So an id is never posted a second time, and a request that comes again is answered as
before. Of a hold also what its settlement must fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]
ROW_IDS_MAX: Final = 44
"""Ids in a row: four such rows fill a page, and nothing but holds lies beside it."""
DETAIL: Final = np.dtype([("place", ">u4"), ("amount", ">i8"), ("content", "V16")])
HOLD: Final = np.dtype(
    [
        ("entry", ">u2"),
        ("debit", ">i8"),
        ("credit", ">i8"),
        ("asset", ">i2"),
        ("kind", ">i2"),
        ("settled_seq", ">i8"),
        ("expires_at", ">i8"),
    ]
)
"""Times are microseconds since 2000-01-01 UTC, `NEVER` for a hold that does not lapse."""
NEVER: Final = 2**63 - 1
ID: Final = np.dtype("V16")
ARCHIVE_LOCK: Final = 0x686F6C64_61726368
"""Advisory lock: who archives holds it alone, who proves shares it: so no segment goes while it is read."""


Row = tuple[bytes, bytes, bytes | None]
"""What one row of the table holds: ids, details, holds."""


class Kept(NamedTuple):
    """Archived transfers of a segment, by ascending id.

    `holds`: of those that were pending, in order; `places`: which of them each of these is.
    """

    ids: Rows
    details: Rows
    holds: Rows
    places: npt.NDArray[np.int64]


def order_of(ids: Rows) -> npt.NDArray[np.int64]:
    """Return the order that makes ids ascend."""
    halves = np.ascontiguousarray(ids).view(">u8").astype(np.uint64)
    return np.lexsort((halves[1::2], halves[0::2]))


def split(kept: Kept) -> Iterator[Row]:
    """Cut into rows of the table."""
    for start in range(0, len(kept.ids), ROW_IDS_MAX):
        end = min(start + ROW_IDS_MAX, len(kept.ids))
        low, high = np.searchsorted(kept.places, (start, end))
        holds = kept.holds[low:high].copy()
        holds["entry"] = kept.places[low:high] - start
        yield kept.ids[start:end].tobytes(), kept.details[start:end].tobytes(), holds.tobytes() or None


def joined(rows: Iterable[Row]) -> Kept:
    """Put rows of the table together, in their order."""
    ids, details, holds, places, start = [], [], [], [np.empty(0, np.int64)], 0
    for some_ids, some_details, some_holds in rows:
        ids.append(some_ids)
        details.append(some_details)
        if some_holds:
            part = np.frombuffer(some_holds, HOLD).copy()
            places.append(part["entry"].astype(np.int64) + start)
            part["entry"] = 0
            holds.append(part.tobytes())
        start += len(some_ids) // ID.itemsize
    return Kept(
        np.frombuffer(b"".join(ids), ID), np.frombuffer(b"".join(details), DETAIL),
        np.frombuffer(b"".join(holds), HOLD), np.concatenate(places),
    )  # fmt: skip
