"""How each day went: for bars of 90 days, from what was wrong with each component and all that it needs.

Time under maintenance, and time in which the service did not run, count neither way: they are taken out of
the whole, and shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from holdfast.status.board import Board
from holdfast.status.graph import Graph
from holdfast.status.model import Incident, Period, Standing, worst

DAYS: Final = 90
_DAY: Final = timedelta(days=1)
_WEIGHT: Final[dict[Standing, float]] = {"partial_outage": 0.3, "major_outage": 1.0}
"""How much of a second counts as down: a partial outage as 0.3, as Statuspage's uptime does."""
_DERIVED_MAX: Final = 5_000
"""Combinations of standings whose consequences are kept."""


@dataclass(frozen=True, slots=True)
class Day:
    """One day of one component, in seconds: those that count, those of them down, those of maintenance."""

    date: str
    standing: Standing
    counted_s: float
    down_s: float = 0.0
    maintained_s: float = 0.0

    @property
    def share_up(self) -> float | None:
        """The share of the time that counts in which it worked; None: none counts."""
        return 1.0 - self.down_s / self.counted_s if self.counted_s > 0 else None


@dataclass(frozen=True, slots=True)
class Cut:
    """A span in which a component did not simply stand well."""

    from_: datetime
    to: datetime
    standing: Standing


def periods(board: Board) -> list[Period]:
    """Return all that was wrong by itself: incidents and maintenance."""
    incidents: Iterable[Incident] = board.incidents.values()
    return [*(p for one in incidents for p in one.periods), *board.maintenance.periods()]


class Past:
    """What was wrong, and followed for all that needs it. Keeps what it derived."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._derived: dict[frozenset[tuple[str, Standing]], dict[str, Standing]] = {}
        self._quiet: dict[tuple[datetime, datetime], Day] = {}
        """Days that are over on which all was well, by their start and that of the service."""

    def cuts(self, every: Iterable[Period], from_: datetime, to: datetime) -> dict[str, list[Cut]]:
        """Return by component the spans between two moments in which it did not stand well, in order."""
        marks: dict[datetime, list[tuple[bool, Period]]] = {}
        for period in every:
            start, end = max(period.start_at, from_), min(period.end_at or to, to)
            if start < end:
                marks.setdefault(start, []).append((True, period))
                marks.setdefault(end, []).append((False, period))
        found: dict[str, list[Cut]] = {}
        active: dict[int, Period] = {}
        before: datetime | None = None
        for at in sorted(marks):
            if before is not None and active:
                for id_, standing in self._standings(active.values()).items():
                    _append(found.setdefault(id_, []), Cut(before, at, standing))
            for begins, period in marks[at]:
                if begins:
                    active[id(period)] = period
                else:
                    active.pop(id(period), None)
            before = at
        return found

    def _standings(self, active: Iterable[Period]) -> dict[str, Standing]:
        own: dict[str, Standing] = {}
        for period in active:
            own[period.component] = worst(own.get(period.component, "operational"), period.standing)
        key = frozenset(own.items())
        known = self._derived.get(key)
        if known is None:
            if len(self._derived) >= _DERIVED_MAX:
                self._derived.clear()
            found = {**own, **self._graph.standings(own)}
            known = {id_: standing for id_, standing in found.items() if standing != "operational"}
            self._derived[key] = known
        return known

    def days(
        self, every: Iterable[Period], now: datetime, since: datetime, many: int = DAYS
    ) -> dict[str, list[Day]]:
        """Return the last days (UTC) of every component, oldest first. The service first ran at `since`."""
        today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        starts = [today - number * _DAY for number in range(many - 1, -1, -1)]
        cuts = self.cuts(every, max(starts[0], since), now)
        known, self._quiet = self._quiet, {}
        for start in starts[:-1]:
            self._quiet[start, since] = known.get((start, since)) or _day(start, (), now, since)
        quiet = [*self._quiet.values(), _day(starts[-1], (), now, since)]
        return {
            id_: [_day(start, cuts[id_], now, since) for start in starts] if id_ in cuts else quiet
            for id_ in self._graph.components
        }

    def down_s(self, every: Iterable[Period], now: datetime, many: int) -> Mapping[str, float]:
        """Return the seconds that each component was down in the last days, weighted."""
        cuts = self.cuts(every, now - many * _DAY, now)
        return {
            id_: sum(
                _WEIGHT.get(cut.standing, 0.0) * (cut.to - cut.from_).total_seconds()
                for cut in cuts.get(id_, ())
            )
            for id_ in self._graph.components
        }


def _append(cuts: list[Cut], cut: Cut) -> None:
    if cuts and cuts[-1].to == cut.from_ and cuts[-1].standing == cut.standing:
        cuts[-1] = Cut(cuts[-1].from_, cut.to, cut.standing)
    else:
        cuts.append(cut)


def _day(start: datetime, cuts: Iterable[Cut], now: datetime, since: datetime) -> Day:
    begin, end = max(start, since), min(start + _DAY, now)
    date, whole_s = start.date().isoformat(), (end - begin).total_seconds()
    if whole_s <= 0:
        return Day(date, "operational", 0.0)
    down_s = maintained_s = 0.0
    standings: list[Standing] = []
    for cut in cuts:
        from_, to = max(cut.from_, begin), min(cut.to, end)
        if from_ >= to:
            continue
        standings.append(cut.standing)
        span_s = (to - from_).total_seconds()
        if cut.standing == "under_maintenance":
            maintained_s += span_s
        down_s += _WEIGHT.get(cut.standing, 0.0) * span_s
    return Day(date, worst(*standings), whole_s - maintained_s, down_s, maintained_s)


def share_up(history: Iterable[Day]) -> float | None:
    """Return the share of the time that counts in which a component worked."""
    counted_s = down_s = 0.0
    for day in history:
        counted_s, down_s = counted_s + day.counted_s, down_s + day.down_s
    return 1.0 - down_s / counted_s if counted_s > 0 else None
