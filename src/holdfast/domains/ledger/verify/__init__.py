"""Proves, from the tables alone, that nothing was altered. Shares no code with posting.

It reads every transfer in order, once, and checks that

- batches are numbered 1, 2, 3 …, each has exactly the transfers and refusals that it says, none is outside,
  and root and hash of each are those of its rows and of the batch before;
- no id stands twice;
- each transfer fits its accounts, and one that settles a hold fits the hold, which nothing else settled;
- no account ever broke its rule or its bounds, after any transfer, with the limit that it had then;
- every stored mark is what the transfers up to it add up to;
- what is noted of segments, limits and the head is what they come to, so is each subtree that is kept for
  receipts, and every asset sums to zero.

What a hash chain cannot prove by itself is that its newest batches were not cut off together with everything
that follows from them. The report gives the newest batch and its hash: kept elsewhere, that is what a later
proof is held against. Accounts and limits are not hashed: of them what contradicts a transfer is
found.

Memory: about 150 bytes for each account, 400 for each hold that is open at a time, and 250 MB besides,
however many transfers there are. Ids are compared in a temporary file of 8 bytes for each transfer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from holdfast.domains.ledger.store.proof import Tables
from holdfast.domains.ledger.verify.report import Finding, Report
from holdfast.domains.ledger.verify.walk import Walk

__all__ = ["Finding", "Report", "verify"]


def verify(
    dsn: str, progress: Callable[[int, int], None] | None = None, *, archive: Path | None = None
) -> Report:
    """Verify the ledger behind `dsn`; `progress` is called with transfers read and transfers in all.

    `archive`: the folder with the files of archived segments. Of those that are not there the batches are
    proven, and that the marks at their end contradict nothing; the report names them as `unread`.
    """
    started = time.perf_counter()
    tables = Tables(dsn)
    with tables.opened():
        report = Walk(tables, progress or (lambda _done, _all: None), archive).run()
    report.seconds = time.perf_counter() - started
    return report
