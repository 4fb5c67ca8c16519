"""Where the ledger stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Head:
    """Where the ledger stands after a commit. `commits` counts those without transfers too."""

    epoch: int
    commits: int
    batch: int
    seq: int
    at: datetime
    hash: bytes
