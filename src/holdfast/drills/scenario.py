"""What a drill is made of: traffic, payers, rails and faults, as a scenario file says them.

The values here are checked; `reading.py` makes them from TOML. Every time is in whole simulated seconds from
the start of the drill, because the draw (`draw.py`) decides once a second what happens to a request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from holdfast.base.errors import Refused
from holdfast.domains.payments.ports import FenceClass

SCALED_CONCURRENCY_MIN = 32
"""A scaled-down drill still lets this many requests be under way on a rail.

A handful would measure chance.
"""


class FaultKind(StrEnum):
    """What goes wrong. `docs/reference/drills.md` says each in full."""

    GRAY = "gray"
    HANG = "hang"
    DARK = "dark"
    REFUSE = "refuse"
    UNRESOLVABLE = "unresolvable"
    DECLINE_SPIKE = "decline_spike"
    SLOW = "slow"
    BROWNOUT = "brownout"
    ACK_THEN_SILENT = "ack_then_silent"
    STATUS_QUERY_STORM = "status_query_storm"
    RESTART_STORM = "restart_storm"


@dataclass(frozen=True, slots=True)
class Latency:
    """A log-normal spread of durations, by its median and its 99th percentile, milliseconds."""

    median_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Surge:
    """Between `from_s` and `to_s` payments come `times` as often as usual."""

    from_s: int
    to_s: int
    times: float


@dataclass(frozen=True, slots=True)
class PayerGroup:
    """A share of the payers, what they carry in their own order, how often an instrument has no funds."""

    share: float
    methods: tuple[str, ...]
    no_funds: float


@dataclass(frozen=True, slots=True)
class RailPlan:
    """One simulated rail; the names are those of `RailTraits`, which the flows see.

    `success_rate`: share of payments that the rail's side accepts when nothing is wrong; the same payment is
    refused again whenever it is tried. `capacity_per_s` (None: no bound): requests served in a second, the
    rest queue for up to `queue_s` and are then turned away. `confirms_in`: how long the rail takes to confirm
    what it accepted. `webhook_in`: how long after the fact it reports an outcome that no answer has told
    (None: never).
    """

    name: str
    methods: tuple[str, ...]
    fence: FenceClass
    one_step: bool
    success_rate: float
    latency: Latency
    cost_bp: int
    timeout_s: float
    replay_key_s: int
    cancel_wait_s: float
    query_wait_s: float
    expires_s: float | None
    capacity_per_s: float | None
    queue_s: float
    concurrency_max: int
    confirms_in: Latency | None
    webhook_in: Latency | None


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with `target` from `from_s` until `to_s`, for `share` of the requests.

    `carried_out`: share of the requests hit that the provider carries out although the caller is not told.
    `late_share` and `late_s`: share of gray answers that are late instead of lost, and by how much. `hold_s`:
    how long a hanging request is held. `times`: how much slower. `backlog_s`: how long the provider takes,
    once it is back, to work off what it had acknowledged. `copies`: how often it then reports each.
    `queries_per_s`: status queries that it can bear. `refused`: share of the requests hit that are not even
    accepted (nothing was sent).
    """

    target: str
    kind: FaultKind
    share: float
    from_s: int
    to_s: int
    carried_out: float = 0.0
    late_share: float = 0.0
    late_s: float = 5.0
    hold_s: float = 30.0
    times: float = 1.0
    backlog_s: float = 60.0
    copies: int = 1
    queries_per_s: float = 0.0
    refused: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole drill. Two runs of one scenario with one seed give the same report."""

    name: str
    title: str
    title_zh: str
    source: str
    cause: Literal["technical", "security", "maintenance", "regulatory"]
    story: str
    story_zh: str
    seed: int
    duration_s: int
    drain_s: int
    deadline_s: int
    funding: Literal["direct", "absorb"]
    asset: str
    amount_min_minor: int
    amount_max_minor: int
    per_second: float
    surges: tuple[Surge, ...]
    payers: tuple[PayerGroup, ...]
    rails: tuple[RailPlan, ...]
    faults: tuple[Fault, ...]

    def expected_payments(self) -> int:
        """Return how many payments are to be expected, surges included."""
        rates = [self.per_second] * self.duration_s
        for surge in self.surges:
            for second in range(surge.from_s, min(surge.to_s, self.duration_s)):
                rates[second] *= surge.times
        return round(sum(rates))

    def scaled(self, factor: float) -> Scenario:
        """Return the scenario with `factor` of the traffic, and of what a rail bears in a second.

        Raises: `Refused` for a factor that is not a finite number above 0.
        """
        if not (math.isfinite(factor) and factor > 0):
            raise Refused(f"A scenario cannot be scaled by {factor:g}: give a number above 0, such as 0.1.")

        def rail(plan: RailPlan) -> RailPlan:
            bears = None if plan.capacity_per_s is None else plan.capacity_per_s * factor
            at_once = max(SCALED_CONCURRENCY_MIN, round(plan.concurrency_max * factor))
            return replace(plan, capacity_per_s=bears, concurrency_max=min(plan.concurrency_max, at_once))

        return replace(
            self,
            per_second=self.per_second * factor,
            rails=tuple(rail(plan) for plan in self.rails),
            faults=tuple(replace(f, queries_per_s=f.queries_per_s * factor) for f in self.faults),
        )
