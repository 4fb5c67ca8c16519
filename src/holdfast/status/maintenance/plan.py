"""What is planned: a window, what it does to which component, and what a payer should do meanwhile."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec

from holdfast.status.words import Words

LASTS_MAX: Final = timedelta(days=7)
AHEAD_MAX: Final = timedelta(days=366)
EFFECTS_MAX: Final = 50
CUTS_MAX: Final = 1_000
NOTES_MAX: Final = 100

Kind = Literal["cut", "read_only", "slower"]
"""What happens: nothing works, what is there can only be looked at, or it takes longer."""
Retry = Literal["same_order", "wait", "other_way"]
"""What a payer or merchant should do when a payment does not go through meanwhile."""
State = Literal["proposed", "scheduled", "in_progress", "verifying", "completed", "cancelled"]
"""`proposed` waits for a second person, and is not public. The others are Statuspage's, and `cancelled`."""
Moment = Literal[
    "planned", "changed", "reminder", "started", "verifying", "overrun", "completed", "cancelled"
]

RUNNING: Final = frozenset({"in_progress", "verifying"})
TO_COME: Final = frozenset({"scheduled"})
PAST: Final = frozenset({"completed", "cancelled"})

RETRY_WORDS: Final[dict[Retry, Words]] = {
    "same_order": Words(
        "If a payment does not go through, try again with the same order: it is charged once.",
        "若支付未成功，请用同一订单重试：只会扣款一次。",
    ),
    "wait": Words("Please wait until it is over before you try again.", "请等维护结束后再试。"),
    "other_way": Words("Please pay another way meanwhile.", "期间请使用其他支付方式。"),
}
KIND_WORDS: Final[dict[Kind, Words]] = {
    "cut": Words("does not work", "无法使用"),
    "read_only": Words("can be looked at, but not used", "只能查看，不能操作"),
    "slower": Words("is slower", "变慢"),
}
STATE_WORDS: Final[dict[State, Words]] = {
    "proposed": Words("Waits for a second person", "待第二人批准"),
    "scheduled": Words("Planned", "已计划"),
    "in_progress": Words("Under way", "进行中"),
    "verifying": Words("Being checked", "验证中"),
    "completed": Words("Done", "已完成"),
    "cancelled": Words("Will not take place", "已取消"),
}


class Effect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens to one component: so many cuts, each of so many seconds at most."""

    component: str
    kind: Kind = "cut"
    cuts: Annotated[int, msgspec.Meta(ge=1, le=CUTS_MAX)] = 1
    longest_s: Annotated[int, msgspec.Meta(ge=1, le=7 * 86_400)] | None = None
    """None: the whole window."""


class Note(msgspec.Struct, frozen=True):
    """What was told of a maintenance at one moment. `by`: `measured`, `schedule`, or the operator's name."""

    id: str
    moment: Moment
    state: State
    body: Words
    at: datetime
    by: str


class Maintenance(msgspec.Struct, frozen=True):
    """One window. `sequence` grows with each change of it, for calendars (RFC 5545, 3.8.7.4)."""

    id: str
    name: Words
    body: Words
    effects: tuple[Effect, ...]
    retry: Retry
    starts_at: datetime
    ends_at: datetime
    state: State
    created_at: datetime
    planned_by: str
    series: str | None = None
    occurrence: datetime | None = None
    """When it starts by the rule of its series, wherever it was moved."""
    vetoes: tuple[str, ...] = ()
    """Why a second person was needed, by code."""
    reason: str = ""
    approved_by: str | None = None
    notes: tuple[Note, ...] = ()
    reminded: frozenset[str] = frozenset()
    started_at: datetime | None = None
    verifying_at: datetime | None = None
    ended_at: datetime | None = None
    overran: str | None = None
    """The incident that opened because it went on for too long."""
    sequence: int = 0

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.state in RUNNING

    @property
    def updated_at(self) -> datetime:
        """When anything was last said of it."""
        return self.notes[-1].at if self.notes else self.created_at

    @property
    def components(self) -> tuple[str, ...]:
        """What it touches, each once."""
        return tuple(dict.fromkeys(effect.component for effect in self.effects))

    def cut_s(self, component: str) -> float:
        """Return for how many seconds at most a component does not work, by the plan."""
        whole_s = (self.ends_at - self.starts_at).total_seconds()
        cuts = (e for e in self.effects if e.component == component and e.kind != "slower")
        return min(whole_s, sum((e.longest_s or whole_s) * (e.cuts if e.longest_s else 1) for e in cuts))


class Series(msgspec.Struct, frozen=True):
    """Windows that recur: the first, a rule of RFC 5545, and the zone in which its hours are meant."""

    id: str
    name: Words
    body: Words
    effects: tuple[Effect, ...]
    retry: Retry
    starts_at: datetime
    ends_at: datetime
    rule: str
    zone: str
    by: str
    ended: bool = False
