"""The words of routing: offers, settings, decisions with their reasons, tickets, health."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from holdfast.base.values import quick
from holdfast.domains.payments.ports import FenceClass
from holdfast.domains.payments.rules.breaker import BreakerSettings, BreakerState
from holdfast.domains.payments.rules.bulkhead import BulkheadSettings

_DOUBT_WORTH_SAYING: Final = 0.02


class RailOutcome(StrEnum):
    """What one try says about the rail (not about the payment)."""

    OK = "ok"
    DECLINED_BY_PAYER = "declined_by_payer"
    """No funds, a stolen card: it speaks for and against no rail."""
    FAILED = "failed"
    """The rail failed, or declined for reasons of its own."""
    UNKNOWN = "unknown"
    """No evidence came back: a failure for now, corrected later."""
    ACCEPTED = "accepted"
    """The rail took it in and confirms later: `corrected` says how it ended, and only then it counts."""
    NOT_SENT = "not_sent"
    """It could not be reached."""


@quick
@dataclass(frozen=True, slots=True)
class Offer:
    """One way to pay: a method on a rail.

    `payer_rank` 0 is the payer's first choice; `cost_bp` in hundredths of a percent of the amount.
    """

    rail: str
    method_kind: str
    fence: FenceClass
    cost_bp: int = 0
    confirms_later: bool = False
    payer_rank: int = 0


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """What routing weighs. Shares are 0 to 1; a score is in units of success rate.

    How often a rail's rate changes is expected by decisions in which it is offered (`change_per_decision`)
    and by time, seldom while it works (`breaks_per_s`) and soon while it does not (`mends_per_s`). What to
    expect is given as counts of successes and failures: of a rail that was just connected (`first`), after a
    change (`changed`: anything), of our own ledger (`certain`). `unknown_risk`: what an unknown outcome costs
    at a rail of each fence class, F0 to F4. `probe_share`: the share of decisions that a rail gets which has
    starved (no try for `starved_decisions` and `starved_s`) or whose breaker waits for a probe; the latter's
    grows with the wait, to every decision after `probe_wait_s`.
    """

    change_per_decision: float = 1 / 6000
    breaks_per_s: float = 1 / 86_400
    mends_per_s: float = 1 / 1800
    first: tuple[float, float] = (9.0, 1.0)
    changed: tuple[float, float] = (1.0, 1.0)
    certain: tuple[float, float] = (500.0, 1.0)
    runs_max: int = 12
    runs_recent: int = 4
    cost_weight: float = 1.0
    unknown_risk: tuple[float, float, float, float, float] = (1.5, 1.0, 0.3, 0.1, 0.0)
    confirms_later_cost: float = 0.05
    payer_rank_cost: float = 0.2
    probe_share: float = 0.02
    probe_fence_min: FenceClass = FenceClass.F2
    probe_wait_s: float = 600.0
    starved_decisions: int = 500
    starved_s: float = 15.0
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    bulkhead: BulkheadSettings = field(default_factory=BulkheadSettings)


class View(NamedTuple):
    """What one decision saw of one offer: `drawn` is the success rate drawn, `score` made the order.

    A named tuple, since a frozen dataclass takes four times as long to make and each decision makes several.
    """

    offer: Offer
    drawn: float
    score: float
    believed: float
    outcomes: int
    unknown: float
    hindrance: str
    probe: bool = False

    @property
    def reason(self) -> str:
        """Return why the offer stands where it does, in words."""
        parts = [f"{self.offer.rail}: score {self.score:.3f}"]
        parts.append(
            f"success drawn {self.drawn:.3f} from {self.believed:.3f} believed after {self.outcomes} outcomes"
        )
        if self.offer.cost_bp:
            parts.append(f"costs {self.offer.cost_bp / 100:.2f} %")
        if self.unknown >= _DOUBT_WORTH_SAYING:
            parts.append(f"{self.unknown:.0%} chance of no answer, fence class {self.offer.fence.name}")
        if self.offer.confirms_later:
            parts.append("confirms later")
        if self.offer.payer_rank:
            parts.append(f"choice {self.offer.payer_rank + 1} of the payer")
        if self.probe:
            parts.append("first this time to see whether it has recovered")
        if self.hindrance:
            parts.append(f"behind the others: {self.hindrance}")
        return "; ".join(parts)


class Ranking(NamedTuple):
    """A decision: `order` holds positions in the offers, best first; `views` says why, in that order."""

    order: tuple[int, ...]
    views: tuple[View, ...]
    probe: bool

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return one sentence for each place of `order`."""
        return tuple(view.reason for view in self.views)


class Ticket(NamedTuple):
    """A call under way.

    Hand it to `finished` once, and to `corrected` when an unknown outcome becomes known.
    """

    number: int
    rail: str
    started_s: float
    probe: bool = False


@dataclass(frozen=True, slots=True)
class RailHealth:
    """A rail as routing sees it, for pages and metrics. Rates and shares are 0 to 1.

    `latency_s` is what answers take lately, `doubt_s` how long its unknown outcomes stayed so (median of the
    latest). `success_rate` ± `success_spread` (standard deviation); `unknown_share` with more weight on the
    latest outcomes; `changed_share` is the probability that its rate has changed within the last 100
    outcomes.
    """

    rail: str
    success_rate: float
    success_spread: float
    unknown_share: float
    changed_share: float
    outcomes: int
    breaker: BreakerState
    breaker_why: str
    in_flight: int
    in_flight_max: int
    latency_s: float
    doubt_s: float
