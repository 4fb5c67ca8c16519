"""The one place that reaches into the product: sizes of a small world, and where it is looked into.

No rule is changed here. Segments, snapshots, marks and filters are so small that a few hundred transfers meet
every border; `Rows.all` also reads simulated results; and what each commit decides is noted as it is decided.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

import structlog

from holdfast.domains.ledger.forward.line import End
from holdfast.domains.ledger.model import Group
from holdfast.domains.ledger.rules import book, seen
from holdfast.domains.ledger.rules.book import Decided
from holdfast.domains.ledger.store import append, copied, loading, segments
from holdfast.domains.ledger.store import behind as behind_store
from holdfast.domains.ledger.store.head import Head
from holdfast.domains.ledger.writer import behind, lane
from holdfast.platform.exchange import Command, Rows, Script
from tests.ledger.sim.client import Result
from tests.ledger.sim.loop import GATE, Gate

_BITS = 14


@dataclass(frozen=True, slots=True)
class Noted:
    """What a writer decided for a commit, before it was sent."""

    now: datetime
    groups: tuple[Group, ...]


Decisions = dict[tuple[Gate | None, int], Noted]
"""By process and number of the commit; of several tries the last."""


@contextmanager
def small(random: Random) -> Iterator[Decisions]:
    """Run the product in small sizes, and note what it decides."""
    bits = random.choice((5, 6, 20))
    slow_per_s = random.choice((2_000, 10, 40))
    noted: Decisions = {}
    commands, every = append.commands, Rows.all

    def note(
        head: Head, decided: Decided | None, first_seq: int, early: list[int],
        formed: append.Formed | None = None, *, alone: bool = False,
    ) -> tuple[list[Command] | Script, Head]:  # fmt: skip
        made, after = commands(head, decided, first_seq, early, formed, alone=alone)
        if decided is not None:
            plan = decided.plan
            noted[GATE.get(), after.commits] = Noted(plan.now, tuple(plan.groups))
        else:
            noted.pop((GATE.get(), after.commits), None)
        return made, after

    def rows(self: Rows) -> list[tuple[Any, ...]]:
        result: object = self._result
        return result.rows if isinstance(result, Result) else every(self)

    def hash_of(end: End) -> int:
        found: int = end.__dict__.setdefault("number", len(numbers))
        numbers.add(found)
        return found

    numbers: set[int] = set()
    changes: Sequence[tuple[Any, str, object]] = (
        (append, "commands", note),
        (Rows, "all", rows),
        (End, "__hash__", hash_of),
        (copied, "ROWS_MIN", random.choice((1, 4096))),
        (seen, "_BITS", _BITS),
        (seen, "_SHIFT", 64 - _BITS),
        (seen, "SEEN_IDS_MAX", random.choice((30, 200, 2_000_000))),
        (book, "MARK_ENTRIES", random.choice((2, 8, 64))),
        (lane, "_HALVED_UNITS", random.choice((2, 4, 32))),
        (behind, "_FEW_MARKS", random.choice((0, 3, 4096))),
        (behind, "_TRANSFERS_TO_A_MARK", random.choice((2, 8, 1000))),
        (behind, "_SPAN_SEGMENTS_MAX", random.choice((2, 3, 16))),
        (behind, "SNAPSHOT_TRANSFERS", random.choice((10, 60, 2**19))),
        (behind, "SEGMENT_TRANSFERS_MAX", 2**bits),
        (behind, "_SLOW_PER_S", slow_per_s),
        (behind, "_FAST_PER_S", 10 * slow_per_s if slow_per_s > 1_000 else 2 * slow_per_s),
        (behind, "_SLOW_S", random.choice((0.2, 5.0))),
        (behind, "SEGMENTS_BEHIND_MAX", random.choice((0, 1, 4))),
        (behind_store, "_PART_BYTES", random.choice((100, 2**19))),
        (behind_store, "SEGMENT_BITS", bits),
        (segments, "SEGMENT_BITS", bits),
        (loading, "_STEP", random.choice((7, 65_536)) if bits < 20 else 65_536),
    )
    before = [(where, name, getattr(where, name)) for where, name, _ in changes]
    for where, name, value in changes:
        setattr(where, name, value)
    try:
        yield noted
    finally:
        for where, name, value in before:
            setattr(where, name, value)


@contextmanager
def quiet(alarms: list[str], said: Callable[[str], None]) -> Iterator[None]:
    """Have `said` hear the product's log; what that calls an error is an alarm."""

    def listen(_: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        if method in ("error", "exception", "critical"):
            alarms.append(f"{event.get('event')}: {sys.exc_info()[1]!r}")
        said(f"{event}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[listen],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
