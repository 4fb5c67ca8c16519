"""Streams in ascending order, handed out piece by piece up to a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from holdfast.domains.ledger.store.proof import EXTRA, TRANSFER, Page

Rows = npt.NDArray[Any]


class Window:
    """Rows of a stream that ascends by `key`. Each row comes once. The stream has one piece at least."""

    def __init__(self, stream: Iterator[Rows], key: str) -> None:
        self._stream = stream
        self._key = key
        self._rows = next(stream)

    def take(self, below: int) -> Rows:
        """Return the rows whose key is below `below` that were not returned before."""
        parts = []
        while True:
            cut = int(np.searchsorted(self._rows[self._key].astype(np.int64), below))
            parts.append(self._rows[:cut])
            self._rows = self._rows[cut:]
            following = next(self._stream, None) if not len(self._rows) else None
            if following is None:
                return parts[0] if len(parts) == 1 else np.concatenate(parts)
            self._rows = following


class Pages:
    """Transfers with all that belongs to them. Each comes once."""

    def __init__(self, stream: Iterator[Page]) -> None:
        self._stream = stream
        self._page = Page(np.empty(0, TRANSFER), np.empty(0, EXTRA), {})

    def take(self, below: int, most: int) -> Page:
        """Return the transfers with numbers below `below` that were not returned before, `most` at a time."""
        parts: list[Page] = []
        while True:
            rows, extras, metadata = self._page.rows, self._page.extras, self._page.metadata
            cut = min(int(np.searchsorted(rows["seq"].astype(np.int64), below)), most)
            end = int(rows["seq"][cut]) if cut < len(rows) else below
            cut_extras = int(np.searchsorted(extras["seq"].astype(np.int64), end))
            if cut:
                parts.append(Page(rows[:cut], extras[:cut_extras], metadata))
                most -= cut
            self._page = Page(rows[cut:], extras[cut_extras:], metadata)
            following = next(self._stream, None) if cut == len(rows) and most > 0 else None
            if following is None:
                return _joined(parts)
            self._page = following


def _joined(parts: list[Page]) -> Page:
    """Put pages together, byte by byte: numpy's own way would turn big-endian numbers around."""
    if len(parts) == 1:
        return parts[0]
    return Page(
        np.frombuffer(b"".join([part.rows.tobytes() for part in parts]), TRANSFER),
        np.frombuffer(b"".join([part.extras.tobytes() for part in parts]), EXTRA),
        {seq: text for part in parts for seq, text in part.metadata.items()},
    )
