"""What happened, as facts that are only ever added, and the board that follows from them.

The store keeps the facts in order; the board is what they add up to. So who said what and when is never lost,
also when a period is corrected later, and a restart comes to the same board.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.base.errors import Refused
from holdfast.status.maintenance import book
from holdfast.status.model import (
    OVER,
    Cause,
    Evidence,
    Given,
    Incident,
    Numbers,
    Period,
    Stage,
    Standing,
    Update,
    worst,
)
from holdfast.status.words import Words

UPDATES_MAX: Final = 100
"""Updates of one incident, as other services bound it; what is longer wants a postmortem."""


class IncidentNotFound(Refused):
    """There is no such incident."""

    code = "status_incident_not_found"


class IncidentOver(Refused):
    """The incident is over: open another, or write its postmortem."""

    code = "status_incident_over"


class PeriodInvalid(Refused):
    """A period ends after it starts, and is one that the incident has."""

    code = "status_period_invalid"


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """An incident was opened, by an operator or by what was measured."""

    id: str
    update: str
    name: Words
    body: Words
    cause: Cause
    stage: Stage
    components: dict[str, Standing]
    started_at: datetime
    evidence: Evidence | None = None


class Told(msgspec.Struct, frozen=True, tag="told"):
    """Something was told of an incident; standings that change with it."""

    id: str
    update: str
    stage: Stage
    body: Words
    components: dict[str, Standing] = {}
    renamed: Words | None = None
    cause: Cause | None = None


class Corrected(msgspec.Struct, frozen=True, tag="corrected"):
    """The periods in which an incident touched a component were corrected, with the reason."""

    id: str
    component: str
    periods: tuple[Period, ...]
    reason: str


class Estimated(msgspec.Struct, frozen=True, tag="estimated"):
    """It was estimated when an incident will be over."""

    id: str
    given: Given


class Merged(msgspec.Struct, frozen=True, tag="merged"):
    """An incident turned out to be part of another one."""

    id: str
    into: str
    update: str


class Split(msgspec.Struct, frozen=True, tag="split"):
    """Some of what an incident touches turned out to be another one, from now on told of apart."""

    id: str
    into: str
    """Id of the new incident."""
    name: Words
    components: tuple[str, ...]
    update: str
    other_update: str


class Numbered(msgspec.Struct, frozen=True, tag="numbered"):
    """It was counted what happened during an incident that is over."""

    id: str
    numbers: tuple[Numbers, ...]


class Evidenced(msgspec.Struct, frozen=True, tag="evidenced"):
    """People told what regulators ask; all of it, the latest counts."""

    id: str
    evidence: dict[str, Any]


class Drained(msgspec.Struct, frozen=True, tag="drained"):
    """The last payment that waited through an incident was done."""

    id: str


class Declared(msgspec.Struct, frozen=True, tag="declared"):
    """An operator says how a component stands, whatever is measured."""

    component: str
    standing: Standing


class Measured(msgspec.Struct, frozen=True, tag="measured"):
    """How a component stands by what is measured; None: it cannot be measured."""

    component: str
    standing: Standing | None
    share_failing: float | None = None


Said = (
    Opened
    | Told
    | Corrected
    | Estimated
    | Merged
    | Split
    | Numbered
    | Evidenced
    | Drained
    | Declared
    | Measured
)
"""Facts of incidents and of how things stand."""
Fact = Said | book.Fact


class Entry(msgspec.Struct, frozen=True):
    """A fact with its moment and who brought it."""

    at: datetime
    by: str
    fact: Fact


class Signal(msgspec.Struct, frozen=True):
    """One of the two signals of a component, since when."""

    standing: Standing | None
    since: datetime
    share_failing: float | None = None


class Board:
    """How everything stands. Changed by `take` alone."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.incidents: dict[str, Incident] = {}
        """By id, oldest first."""
        self._going: dict[str, None] = {}
        """Ids of those that go on."""
        self.declared: dict[str, Signal] = {}
        self.measured: dict[str, Signal] = {}
        self.maintenance = book.Book()
        for entry in entries:
            self.take(entry)

    @property
    def open(self) -> list[Incident]:
        """Incidents that go on, newest first."""
        return [self.incidents[id_] for id_ in reversed(self._going)]

    def incident(self, id_: str) -> Incident:
        """Return an incident. Raises: `IncidentNotFound`."""
        found = self.incidents.get(id_)
        if found is None:
            raise IncidentNotFound(f"There is no incident {id_[:60]!r}.")
        return found

    def check(self, fact: Fact, now: datetime, by: str) -> None:
        """Refuse a fact that the board cannot take.

        Raises: `IncidentNotFound`, `IncidentOver`, `PeriodInvalid`, and as `Book.check`.
        """
        if isinstance(fact, book.Fact):
            self.maintenance.check(fact, now, by)
        elif isinstance(fact, Told):
            one = self.incident(fact.id)
            if one.merged_into is not None or (not one.open and fact.stage not in OVER):
                raise IncidentOver
            if len(one.updates) >= UPDATES_MAX:
                raise IncidentOver(f"An incident has at most {UPDATES_MAX} updates. Write its postmortem.")
        elif isinstance(fact, Merged):
            if not self.incident(fact.into).open or not self.incident(fact.id).open or fact.id == fact.into:
                raise IncidentOver("Only two incidents that go on can be merged.")
        elif isinstance(fact, Corrected):
            self._check_correction(fact)
        elif isinstance(fact, Split):
            one = self.incident(fact.id)
            touched = {period.component for period in one.periods}
            if not one.open:
                raise IncidentOver("Only an incident that goes on can be split.")
            if not set(fact.components) < touched or not fact.components:
                raise PeriodInvalid(
                    "Some of what the incident touches goes into the new one, and some stays."
                )

    def _check_correction(self, fact: Corrected) -> None:
        one = self.incident(fact.id)
        if fact.component not in {period.component for period in one.periods}:
            raise PeriodInvalid(f"The incident does not touch {fact.component[:60]!r}.")
        for period in fact.periods:
            if period.component != fact.component:
                raise PeriodInvalid("All periods of one correction are of one component.")
            if period.end_at is not None and period.end_at <= period.start_at:
                raise PeriodInvalid("A period ends after it starts.")
            if period.end_at is None and not one.open:
                raise PeriodInvalid("The incident is over, so each period has an end.")

    def take(self, entry: Entry) -> None:
        """Add what happened."""
        if isinstance(entry.fact, book.Fact):
            self.maintenance.take(entry.fact, entry.at, entry.by)
            return
        self._take(entry, entry.fact)
        touched = {id_ for id_ in (getattr(entry.fact, "id", None), getattr(entry.fact, "into", None)) if id_}
        for id_ in touched:
            if self.incidents[id_].open:
                self._going[id_] = None
            else:
                self._going.pop(id_, None)

    def _take(self, entry: Entry, fact: Said) -> None:
        if isinstance(fact, Opened):
            self.incidents[fact.id] = _opened(fact, entry)
        elif isinstance(fact, Told):
            self.incidents[fact.id] = _told(self.incidents[fact.id], fact, entry)
        elif isinstance(fact, Corrected):
            one = self.incidents[fact.id]
            rest = [period for period in one.periods if period.component != fact.component]
            self.incidents[fact.id] = msgspec.structs.replace(one, periods=(*rest, *fact.periods))
        elif isinstance(fact, Estimated):
            one = self.incidents[fact.id]
            self.incidents[fact.id] = msgspec.structs.replace(one, estimates=(*one.estimates, fact.given))
        elif isinstance(fact, Split):
            self._split(fact, entry)
        elif isinstance(fact, Numbered):
            one = self.incidents[fact.id]
            self.incidents[fact.id] = msgspec.structs.replace(one, numbers=fact.numbers)
        elif isinstance(fact, Evidenced):
            one = self.incident(fact.id)
            self.incidents[fact.id] = msgspec.structs.replace(one, evidenced=fact.evidence)
        elif isinstance(fact, Drained):
            one = self.incidents[fact.id]
            self.incidents[fact.id] = msgspec.structs.replace(one, drained_at=entry.at)
        elif isinstance(fact, Merged):
            self._merge(fact, entry)
        elif isinstance(fact, Declared):
            self.declared[fact.component] = _signal(self.declared, fact.component, fact.standing, entry.at)
        else:
            self.measured[fact.component] = _signal(
                self.measured, fact.component, fact.standing, entry.at, fact.share_failing
            )

    def _merge(self, fact: Merged, entry: Entry) -> None:
        part, whole = self.incidents[fact.id], self.incidents[fact.into]
        have = {period.component for period in whole.periods}
        moved = tuple(period for period in part.periods if period.component not in have)
        body = Words(f"Part of: {whole.name.en}", f"属于：{whole.name.say('zh-CN')}")
        update = Update(fact.update, part.stage, body, entry.at, entry.by)
        self.incidents[part.id] = msgspec.structs.replace(
            part,
            merged_into=whole.id,
            updates=(*part.updates, update),
            periods=tuple(_closed(period, entry.at) for period in part.periods),
        )
        self.incidents[whole.id] = msgspec.structs.replace(whole, periods=(*whole.periods, *moved))

    def _split(self, fact: Split, entry: Entry) -> None:
        whole = self.incidents[fact.id]
        gone = tuple(period for period in whole.periods if period.component in fact.components)
        said = Words(f"Told of apart from now on: {fact.name.en}", f"另行通报：{fact.name.say('zh-CN')}")
        from_ = Words(f"It was part of: {whole.name.en}", f"原属于：{whole.name.say('zh-CN')}")
        self.incidents[whole.id] = msgspec.structs.replace(
            whole,
            periods=tuple(period for period in whole.periods if period not in gone),
            updates=(*whole.updates, Update(fact.update, whole.stage, said, entry.at, entry.by)),
        )
        first = Update(fact.other_update, whole.stage, from_, entry.at, entry.by)
        start = min(period.start_at for period in gone)
        self.incidents[fact.into] = Incident(
            fact.into, fact.name, whole.cause, start, entry.at, (first,), gone
        )

    def own(self, component: str) -> Standing:
        """Return how a component stands by itself: the worse of what is measured and what is said.

        What is said counts while it is in force: a declaration, and every open incident that names it.
        """
        measured = self.measured.get(component)
        declared = self.declared.get(component)
        said = [one.standing_of(component) for one in self.open]
        signals = [signal.standing for signal in (measured, declared) if signal and signal.standing]
        if self.maintenance.under_way(component):
            signals.append("under_maintenance")
        return worst(*signals, *said)

    def standings(self) -> dict[str, Standing]:
        """Return the own standing of every component that does not simply stand well."""
        named = {*self.measured, *self.declared, *self.maintenance.standings()}
        for one in self.open:
            named.update(period.component for period in one.periods)
        found = {component: self.own(component) for component in named}
        return {component: standing for component, standing in found.items() if standing != "operational"}

    def said(self, component: str) -> Standing:
        """Return how operators say that a component stands."""
        declared = self.declared.get(component)
        said = [one.standing_of(component) for one in self.open if not one.automatic or len(one.updates) > 1]
        return worst(*([declared.standing] if declared and declared.standing else []), *said)


def _signal(
    known: dict[str, Signal], component: str, standing: Standing | None, at: datetime,
    share: float | None = None,
) -> Signal:  # fmt: skip
    before = known.get(component)
    since = before.since if before is not None and before.standing == standing else at
    return Signal(standing, since, share)


def _opened(fact: Opened, entry: Entry) -> Incident:
    changes: tuple[tuple[str, Standing, Standing], ...] = tuple(
        (component, "operational", standing) for component, standing in fact.components.items()
    )
    return Incident(
        fact.id,
        fact.name,
        fact.cause,
        fact.started_at,
        entry.at,
        (Update(fact.update, fact.stage, fact.body, entry.at, entry.by, changes),),
        tuple(Period(c, standing, fact.started_at) for c, standing in fact.components.items()),
        automatic=fact.evidence is not None,
        evidence=fact.evidence,
    )


def _told(one: Incident, fact: Told, entry: Entry) -> Incident:
    over = fact.stage in OVER
    components: dict[str, Standing] = dict(fact.components)
    if over:
        still = {period.component for period in one.periods if period.end_at is None}
        components = dict.fromkeys(still, "operational")
    changes = tuple((c, one.standing_of(c), standing) for c, standing in components.items())
    periods = list(one.periods)
    for component, before, after in changes:
        if before == after:
            continue
        periods = [p if p.component != component else _closed(p, entry.at) for p in periods]
        if after != "operational":
            periods.append(Period(component, after, entry.at))
    return msgspec.structs.replace(
        one,
        name=fact.renamed or one.name,
        cause=fact.cause or one.cause,
        updates=(*one.updates, Update(fact.update, fact.stage, fact.body, entry.at, entry.by, changes)),
        periods=tuple(periods),
        monitoring_at=one.monitoring_at or (entry.at if fact.stage == "monitoring" else None),
        resolved_at=one.resolved_at or (entry.at if over else None),
    )


def _closed(period: Period, at: datetime) -> Period:
    if period.end_at is not None:
        return period
    return msgspec.structs.replace(period, end_at=max(at, period.start_at))
