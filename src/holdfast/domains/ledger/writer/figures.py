"""What the writer tells of itself (`/metrics`), read when somebody asks: it costs the lane nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import Gauge

from holdfast.domains.ledger.writer.lane import Lane
from holdfast.platform import metrics

_READ: Final[tuple[tuple[Gauge, Callable[[Lane], float]], ...]] = (
    (metrics.LEDGER_WRITER, lambda _: 1.0),
    (metrics.LEDGER_QUEUE, lambda lane: lane.waiting),
    (metrics.LEDGER_ACCOUNTS, lambda lane: lane.committer.book.count),
    (metrics.LEDGER_HOLDS, lambda lane: len(lane.committer.book.holds)),
    (metrics.LEDGER_SEGMENTS, lambda lane: lane.committer.behind.segments),
    (metrics.LEDGER_INDEX_LAG, lambda lane: lane.committer.behind.lag),
    (metrics.LEDGER_MARKS, lambda lane: lane.committer.behind.marks_waiting),
    (metrics.LEDGER_SNAPSHOT_LAG, lambda lane: lane.committer.behind.unsaved),
    (metrics.LEDGER_SNAPSHOT_AGE_S, lambda lane: lane.committer.behind.snapshot_age_s),
)


def show(lane: Callable[[], Lane | None], epoch: Callable[[], int]) -> None:
    """Tell the numbers of this process's seat from now on. What only the writer has is 0 elsewhere."""
    for gauge, read in _READ:
        gauge.set_function(_of(lane, read))
    metrics.LEDGER_EPOCH.set_function(epoch)


def _of(lane: Callable[[], Lane | None], read: Callable[[Lane], float]) -> Callable[[], float]:
    def value() -> float:
        writing = lane()
        return 0.0 if writing is None else float(read(writing))

    return value
