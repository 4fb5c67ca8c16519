"""Finds ids that stand twice, among any number of them, in little memory."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from tempfile import TemporaryFile
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]
Keys = npt.NDArray[np.uint64]
_RUN_KEYS: Final = 2**22
"""Keys sorted at a time: 32 MB."""
_MERGE_KEYS: Final = 2**23
"""Keys compared at a time, about: 64 MB."""
_SUSPECTS_MAX: Final = 1000


class Ids:
    """Gathers ids as keys of 64 bits, drawn anew each time, so that nobody can prepare ids that meet.

    Sorted runs of keys go to a temporary file. Equal keys are only a suspicion, since different ids may share
    one: `twice` then looks at the ids themselves.
    """

    def __init__(self) -> None:
        self._factors = np.array([secrets.randbits(64) | 1 for _ in range(2)], np.uint64)
        self._waiting: list[Keys] = []
        self._count = 0
        self._runs: list[int] = []
        self._file = TemporaryFile()  # noqa: SIM115 - closed by `close`

    def _keys(self, ids: Rows) -> Keys:
        halves = np.ascontiguousarray(ids).view(np.uint64).reshape(-1, 2)
        mixed = (halves[:, 0] ^ (halves[:, 0] >> np.uint64(29))) * self._factors[0]
        return cast("Keys", mixed + halves[:, 1] * self._factors[1])

    def close(self) -> None:
        """Give the temporary file back."""
        self._file.close()

    def add(self, ids: Rows) -> None:
        """Take in ids (16 bytes each)."""
        if not len(ids):
            return
        self._waiting.append(self._keys(ids))
        self._count += len(ids)
        if self._count >= _RUN_KEYS:
            run = np.sort(np.concatenate(self._waiting))
            self._file.write(run.tobytes())
            self._runs.append(len(run))
            self._waiting, self._count = [], 0

    def suspects(self) -> Keys:
        """Return the keys that came more than once, some of them when there are very many."""
        runs = [np.sort(np.concatenate(self._waiting))] if self._waiting else []
        self._file.flush()
        at = 0
        for length in self._runs:
            runs.append(np.memmap(self._file, np.uint64, "r", at * 8, (length,)))
            at += length
        parts = max(1, -(-sum(len(run) for run in runs) // _MERGE_KEYS))
        found: list[Keys] = []
        edges = [2**64 * part // parts for part in range(parts)]
        cuts = [[*np.searchsorted(run, np.array(edges, np.uint64)).tolist(), len(run)] for run in runs]
        for part in range(parts):
            keys = np.sort(
                np.concatenate(
                    [run[cut[part] : cut[part + 1]] for run, cut in zip(runs, cuts, strict=True)]
                    or [np.empty(0, np.uint64)]
                )
            )
            found.append(keys[1:][keys[1:] == keys[:-1]])
        return np.unique(np.concatenate(found))[:_SUSPECTS_MAX]

    def twice(self, suspects: Keys, again: Iterable[Rows]) -> list[bytes]:
        """Return the ids that stand more than once, given the suspicious keys and all ids once more."""
        counts: Counter[bytes] = Counter()
        for ids in again:
            hits = np.isin(self._keys(ids), suspects)
            counts.update(ids[hits].tolist())
        return sorted(i for i, count in counts.items() if count > 1)
