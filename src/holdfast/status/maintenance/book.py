"""The book of maintenance: facts that are only ever added, and what they come to."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.base.errors import Refused
from holdfast.status.maintenance.plan import (
    AHEAD_MAX,
    EFFECTS_MAX,
    LASTS_MAX,
    NOTES_MAX,
    PAST,
    Effect,
    Maintenance,
    Moment,
    Note,
    Retry,
    Series,
    State,
)
from holdfast.status.model import Period, Standing
from holdfast.status.words import Words

SERIES_MAX: Final = 200
TO_COME_MAX: Final = 2_000
"""Windows that are planned at a time."""


class MaintenanceNotFound(Refused):
    """There is no such maintenance."""

    code = "status_maintenance_not_found"


class MaintenanceInvalid(Refused):
    """A window ends after it starts, lasts a week at most, and lies within a year from now."""

    code = "status_maintenance_invalid"


class MaintenanceNotSo(Refused):
    """The maintenance is not in a state in which that can be done."""

    code = "status_maintenance_not_so"


class SecondPersonNeeded(Refused):
    """Who planned it cannot approve it: a second person has to."""

    code = "status_second_person_needed"


class Planned(msgspec.Struct, frozen=True, tag="planned"):
    """A window was planned; with `vetoes`, it waits for a second person."""

    id: str
    note: str
    name: Words
    body: Words
    effects: tuple[Effect, ...]
    retry: Retry
    starts_at: datetime
    ends_at: datetime
    series: str | None = None
    occurrence: datetime | None = None
    vetoes: tuple[str, ...] = ()
    reason: str = ""


class Approved(msgspec.Struct, frozen=True, tag="approved"):
    """A second person said that it may take place nevertheless."""

    id: str
    note: str


class Changed(msgspec.Struct, frozen=True, tag="changed"):
    """A window was moved, or does something else. None: as before."""

    id: str
    note: str
    said: Words
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    effects: tuple[Effect, ...] | None = None


class Stepped(msgspec.Struct, frozen=True, tag="stepped"):
    """A window went on to another state, or something was told of it."""

    id: str
    note: str
    moment: Moment
    state: State
    body: Words
    reminders: tuple[str, ...] = ()
    incident: str | None = None


class Recurs(msgspec.Struct, frozen=True, tag="recurs"):
    """Windows recur by a rule."""

    series: Series


class RecursNoMore(msgspec.Struct, frozen=True, tag="recurs_no_more"):
    """A series ended; windows of it that are planned are cancelled one by one."""

    id: str


Fact = Planned | Approved | Changed | Stepped | Recurs | RecursNoMore


class Book:
    """All windows and series. Changed by `take` alone."""

    def __init__(self) -> None:
        self.every: dict[str, Maintenance] = {}
        """By id, in the order in which they were planned."""
        self.series: dict[str, Series] = {}
        self._live: dict[str, None] = {}
        """Ids of those that are not over."""

    def one(self, id_: str) -> Maintenance:
        """Return a window. Raises: `MaintenanceNotFound`."""
        found = self.every.get(id_)
        if found is None:
            raise MaintenanceNotFound(f"There is no maintenance {id_[:60]!r}.")
        return found

    @property
    def live(self) -> list[Maintenance]:
        """Windows that are not over, by when they start."""
        return sorted((self.every[id_] for id_ in self._live), key=lambda one: one.starts_at)

    @property
    def public(self) -> list[Maintenance]:
        """Windows that are not over and that everybody may know of, by when they start."""
        return [one for one in self.live if one.state != "proposed"]

    @property
    def running(self) -> list[Maintenance]:
        """Windows that go on."""
        return [self.every[id_] for id_ in self._live if self.every[id_].running]

    def under_way(self, component: str) -> bool:
        """Tell whether a component is under maintenance at present."""
        return any(component in one.components for one in self.running)

    def standings(self) -> dict[str, Standing]:
        """Return the components under maintenance."""
        return {id_: "under_maintenance" for one in self.running for id_ in one.components}

    def periods(self) -> list[Period]:
        """Return when components were under maintenance: from its start to its end, the planned one at most.

        What goes on beyond the plan is an incident, and counts as one.
        """
        found = []
        for one in self.every.values():
            if one.started_at is None:
                continue
            end_at = min(one.ended_at, one.ends_at) if one.ended_at else None
            if one.overran is not None:
                end_at = one.ends_at
            found += [Period(id_, "under_maintenance", one.started_at, end_at) for id_ in one.components]
        return found

    def check(self, fact: Fact, now: datetime, by: str) -> None:
        """Refuse a fact that the book cannot take.

        Raises: `MaintenanceNotFound`, `MaintenanceInvalid`, `MaintenanceNotSo`, `SecondPersonNeeded`.
        """
        if isinstance(fact, Planned):
            _check_window(fact.starts_at, fact.ends_at, fact.effects, now)
            if len(self._live) >= TO_COME_MAX:
                raise MaintenanceInvalid(f"There are {TO_COME_MAX} windows already. Cancel some.")
        elif isinstance(fact, Approved):
            one = self._in(fact.id, ("proposed",))
            if one.planned_by == by:
                raise SecondPersonNeeded
            if one.ends_at <= now:
                raise MaintenanceNotSo("Its window is over. Plan another.")
        elif isinstance(fact, Changed):
            self._check_change(fact, now)
        elif isinstance(fact, Stepped):
            self._check_step(fact)
        elif isinstance(fact, Recurs):
            if len(self.series) >= SERIES_MAX:
                raise MaintenanceInvalid(f"There are {SERIES_MAX} series already. End some.")
        elif fact.id not in self.series or self.series[fact.id].ended:
            raise MaintenanceNotFound(f"There is no series {fact.id[:60]!r} that goes on.")

    def _check_change(self, fact: Changed, now: datetime) -> None:
        one = self._in(fact.id, ("proposed", "scheduled", "in_progress"))
        if one.running and fact.starts_at is not None:
            raise MaintenanceNotSo("It has started: only its end can be moved.")
        starts_at, effects = fact.starts_at or one.starts_at, fact.effects or one.effects
        _check_window(starts_at, fact.ends_at or one.ends_at, effects, now, begun=one.running)

    def _check_step(self, fact: Stepped) -> None:
        one = self.one(fact.id)
        if fact.state != one.state and fact.state not in _NEXT[one.state]:
            raise MaintenanceNotSo(f"It is {one.state.replace('_', ' ')}.")
        if one.state in PAST or len(one.notes) >= NOTES_MAX:
            raise MaintenanceNotSo(f"It is {one.state}, or has {NOTES_MAX} notes already.")

    def _in(self, id_: str, states: tuple[State, ...]) -> Maintenance:
        one = self.one(id_)
        if one.state not in states:
            raise MaintenanceNotSo(f"It is {one.state.replace('_', ' ')}.")
        return one

    def take(self, fact: Fact, at: datetime, by: str) -> None:
        """Add what happened."""
        if isinstance(fact, Recurs):
            self.series[fact.series.id] = fact.series
            return
        if isinstance(fact, RecursNoMore):
            self.series[fact.id] = msgspec.structs.replace(self.series[fact.id], ended=True)
            return
        one = self.every[fact.id] = self._next(fact, at, by)
        if one.state in PAST:
            self._live.pop(one.id, None)
        else:
            self._live[one.id] = None

    def _next(self, fact: Planned | Approved | Changed | Stepped, at: datetime, by: str) -> Maintenance:
        if isinstance(fact, Planned):
            return _planned(fact, at, by)
        one = self.every[fact.id]
        if isinstance(fact, Approved):
            note = Note(fact.note, "planned", "scheduled", one.body, at, by)
            return msgspec.structs.replace(
                one, state="scheduled", approved_by=by, notes=(*one.notes, note), sequence=one.sequence + 1
            )
        if isinstance(fact, Changed):
            note = Note(fact.note, "changed", one.state, fact.said, at, by)
            return msgspec.structs.replace(
                one,
                starts_at=fact.starts_at or one.starts_at,
                ends_at=fact.ends_at or one.ends_at,
                effects=fact.effects or one.effects,
                notes=(*one.notes, note),
                reminded=frozenset() if fact.starts_at else one.reminded,
                sequence=one.sequence + 1,
            )
        return _stepped(one, fact, at, by)


def _planned(fact: Planned, at: datetime, by: str) -> Maintenance:
    state: State = "proposed" if fact.vetoes else "scheduled"
    note = Note(fact.note, "planned", state, fact.body, at, by)
    return Maintenance(
        fact.id, fact.name, fact.body, fact.effects, fact.retry, fact.starts_at, fact.ends_at, state, at, by,
        fact.series, fact.occurrence, fact.vetoes, fact.reason, notes=(note,),
    )  # fmt: skip


def _stepped(one: Maintenance, fact: Stepped, at: datetime, by: str) -> Maintenance:
    changes: dict[str, Any] = {
        "state": fact.state,
        "notes": (*one.notes, Note(fact.note, fact.moment, fact.state, fact.body, at, by)),
    }
    if fact.reminders:
        changes["reminded"] = one.reminded | set(fact.reminders)
    if fact.incident is not None:
        changes["overran"] = fact.incident
    if fact.state != one.state:
        changes["sequence"] = one.sequence + 1
        moments = {"in_progress": "started_at", "verifying": "verifying_at", "completed": "ended_at"}
        if (name := moments.get(fact.state)) and getattr(one, name) is None:
            changes[name] = at
        if fact.state == "cancelled" and one.started_at is not None:
            changes["ended_at"] = at
    return msgspec.structs.replace(one, **changes)


def _check_window(
    starts_at: datetime, ends_at: datetime, effects: tuple[Effect, ...], now: datetime, *, begun: bool = False
) -> None:
    if starts_at.tzinfo is None or ends_at.tzinfo is None:
        raise MaintenanceInvalid("Moments have an offset, as 2026-12-01T02:00:00+08:00.")
    if not starts_at < ends_at or ends_at - starts_at > LASTS_MAX:
        raise MaintenanceInvalid
    if ends_at <= now or (starts_at < now and not begun) or starts_at > now + AHEAD_MAX:
        raise MaintenanceInvalid
    if not 0 < len(effects) <= EFFECTS_MAX:
        raise MaintenanceInvalid(f"A window touches 1 to {EFFECTS_MAX} components.")


_NEXT: Final[dict[State, frozenset[State]]] = {
    "proposed": frozenset({"cancelled"}),
    "scheduled": frozenset({"in_progress", "cancelled"}),
    "in_progress": frozenset({"verifying", "cancelled"}),
    "verifying": frozenset({"in_progress", "completed"}),
    "completed": frozenset(),
    "cancelled": frozenset(),
}
"""What may follow what."""
