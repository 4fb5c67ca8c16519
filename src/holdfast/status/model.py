"""What the status service speaks of: components, capabilities, incidents, and how each of them stands.

The words of the public formats are used as they are (Statuspage v2), so that nothing is translated on the way
out: readers in the field index tables by these very strings.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from holdfast.status.words import Words

Standing = Literal[
    "operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance"
]
"""How a component stands."""

Stage = Literal["investigating", "identified", "monitoring", "resolved", "postmortem"]
"""How far an incident is."""

Impact = Literal["none", "minor", "major", "critical", "maintenance"]
Cause = Literal["technical", "security", "maintenance", "regulatory", "unknown"]

STANDINGS: Final[tuple[Standing, ...]] = (
    "operational",
    "under_maintenance",
    "degraded_performance",
    "partial_outage",
    "major_outage",
)
"""From good to bad."""
_RANK: Final = {standing: rank for rank, standing in enumerate(STANDINGS)}
STAGES: Final[tuple[Stage, ...]] = ("investigating", "identified", "monitoring", "resolved", "postmortem")
OVER: Final = frozenset({"resolved", "postmortem"})
IMPACT_OF: Final[dict[Standing, Impact]] = {
    "operational": "none",
    "under_maintenance": "maintenance",
    "degraded_performance": "minor",
    "partial_outage": "major",
    "major_outage": "critical",
}


def rank(standing: Standing) -> int:
    """Return how bad a standing is: 0 is best."""
    return _RANK[standing]


def worst(*standings: Standing) -> Standing:
    """Return the worst of some standings; `operational` of none."""
    return max(standings, key=rank, default="operational")


class Component(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine, a rail, a bank, or (`capability`) something that people do.

    `needs` names components all of which it needs; each list in `any_of` names some of which one is enough.
    `fallback` says what still works while it does not. `facts` says which outcomes of payments belong to it,
    as `{"capability": "pay"}` or `{"rail": "north"}`.
    """

    id: str
    name: Words
    kind: Literal["capability", "rail", "bank", "machine"] = "machine"
    description: Words = Words("")
    group: str = ""
    needs: tuple[str, ...] = ()
    any_of: tuple[tuple[str, ...], ...] = ()
    fallback: Words = Words("")
    facts: dict[str, str] = {}


class Period(msgspec.Struct, frozen=True):
    """How an incident touches one component, for how long. `end_at` None: still."""

    component: str
    standing: Standing
    start_at: datetime
    end_at: datetime | None = None


class Update(msgspec.Struct, frozen=True):
    """What was told at one moment. `by` is `measured` or the operator's name."""

    id: str
    stage: Stage
    body: Words
    at: datetime
    by: str
    changes: tuple[tuple[str, Standing, Standing], ...] = ()
    """Components whose standing the update changes: id, before, after."""


class Evidence(msgspec.Struct, frozen=True):
    """What was measured when an incident opened by itself: numbers that nobody edits."""

    node: dict[str, str]
    share_failing: float
    attempts: int
    rule: str


class Given(msgspec.Struct, frozen=True):
    """An estimate as it was given: over by `half_at` with a chance of 50 %, by `most_at` with one of 80 %.

    `alike`: past incidents of the same component that it rests on. `curve_s`: seconds from `at`, for chances
    of 5 %, 10 % … 95 %.
    """

    at: datetime
    stage: Stage
    half_at: datetime
    most_at: datetime
    alike: int
    curve_s: tuple[float, ...]


class Point(msgspec.Struct, frozen=True, array_like=True):
    """One step of an incident's curve: when it starts (seconds since 1970), attempts, failures."""

    start_s: int
    attempts: int
    failed: int


class Numbers(msgspec.Struct, frozen=True):
    """What was counted of one component during an incident. Attempts: payments that succeeded or failed."""

    component: str
    attempts: int
    failed: int
    declined: int
    step_s: int
    points: tuple[Point, ...]


class Incident(msgspec.Struct, frozen=True):
    """Something is, or was, wrong. Updates stand oldest first."""

    id: str
    name: Words
    cause: Cause
    started_at: datetime
    created_at: datetime
    updates: tuple[Update, ...]
    periods: tuple[Period, ...]
    estimates: tuple[Given, ...] = ()
    automatic: bool = False
    evidence: Evidence | None = None
    merged_into: str | None = None
    numbers: tuple[Numbers, ...] = ()
    evidenced: dict[str, Any] | None = None
    """What people told for regulators, besides what was measured."""
    drained_at: datetime | None = None
    """When the last payment that waited through it was done."""
    monitoring_at: datetime | None = None
    resolved_at: datetime | None = None

    @property
    def stage(self) -> Stage:
        """How far it is."""
        return self.updates[-1].stage

    @property
    def open(self) -> bool:
        """Whether it goes on, under its own name."""
        return self.stage not in OVER and self.merged_into is None

    @property
    def updated_at(self) -> datetime:
        """When anything was last said."""
        return self.updates[-1].at

    @property
    def impact(self) -> Impact:
        """The worst that it did, or does."""
        return IMPACT_OF[worst(*(period.standing for period in self.periods))]

    @property
    def estimate(self) -> Given | None:
        """When it should be over, as it was said last."""
        return self.estimates[-1] if self.estimates and self.open else None

    def standing_of(self, component: str) -> Standing:
        """How it leaves a component now."""
        return worst(*(p.standing for p in self.periods if p.component == component and p.end_at is None))
