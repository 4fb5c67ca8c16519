"""What will happen, drawn before anybody acts: who comes when, and what each rail would do with each request.

Every chance is a hash of (seed, purpose, rail, payment, second). Nothing is drawn in sequence, so it makes no
difference who asks, in which order, or how often: the oracle, Holdfast and the three baselines look at one
and the same world. A request meets the same fate as long as it is sent within the same second; from one
second to the next the passing things (latency, faults) are drawn anew, while the lasting ones (an empty
account, a rail that will not have this payment) stay.

The hash is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
2014).
"""

from __future__ import annotations

from enum import IntEnum
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np

from holdfast.domains.payments.ports import Op
from holdfast.drills.scenario import Fault, FaultKind, Latency, RailPlan, Scenario

MASK: Final = 2**64 - 1
NEVER: Final = float("inf")
_C1, _C2, _C3 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0x9E3779B97F4A7C15
_UNIT: Final = 2.0**-21
_QUANTILES: Final = 4096
_P99: Final = NormalDist().inv_cdf(0.99)
_NORMAL: Final = tuple(NormalDist().inv_cdf((i + 0.5) / _QUANTILES) for i in range(_QUANTILES))
_DONE_SHARE: Final = 0.6
"""Of the time from request to answer, the part after which the rail has done its work."""
_REFUSED_AFTER_S: Final = 0.05
_OPS: Final = {Op.AUTHORIZE: 1, Op.CAPTURE: 2, Op.CANCEL: 3, Op.REFUND: 4, Op.QUERY: 5}


class Verdict(IntEnum):
    """What the rail makes of a request that it gets."""

    GOOD = 0
    DECLINED = 1
    NO_FUNDS = 2
    ERROR = 3
    """An answer that proves nothing (HTTP 5xx), whether or not the work was done."""
    ACKNOWLEDGED = 4
    """Accepted; the outcome comes later."""


class Fate(NamedTuple):
    """What becomes of one request.

    Times are seconds from its sending; `NEVER` where it does not come to that.

    `sent` is False where provably nothing left us. `done_s`: when the rail carries it out. `answer_s`: when
    its answer is here.
    """

    sent: bool
    done_s: float
    answer_s: float
    verdict: Verdict
    fault: Fault | None = None


def mix(x: int) -> int:
    """Return 64 well-spread bits for 64 bits."""
    x = (x ^ (x >> 30)) * _C1 & MASK
    x = (x ^ (x >> 27)) * _C2 & MASK
    return x ^ (x >> 31)


def key_of(seed: int, purpose: str) -> int:
    """Return the key of one kind of draw."""
    word = mix(seed * _C3 & MASK)
    for byte in purpose.encode():
        word = mix(word ^ byte)
    return word


def mix_array(key: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return `count` uniform draws in (0, 1), the same as `uniform(key, i)` of each."""
    with np.errstate(over="ignore"):
        x = np.uint64(key) + np.arange(count, dtype=np.uint64) * np.uint64(_C3)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(_C1)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(_C2)
        x ^= x >> np.uint64(31)
    return ((x >> np.uint64(43)).astype(np.float64) + 0.5) * _UNIT


def uniform(key: int, number: int) -> float:
    """Return the draw of `number` under `key`, in (0, 1)."""
    return ((mix(key + number * _C3 & MASK) >> 43) + 0.5) * _UNIT


def arrivals(scenario: Scenario, seed: int) -> list[float]:
    """Return the seconds at which payments come, rising.

    A Poisson process at the scenario's rate over time.
    """
    rates = np.full(scenario.duration_s, float(scenario.per_second))
    for surge in scenario.surges:
        rates[surge.from_s : surge.to_s] *= surge.times
    reached = np.concatenate(([0.0], np.cumsum(rates)))
    enough = int(reached[-1] + 8 * reached[-1] ** 0.5 + 32)
    expected = np.cumsum(-np.log(mix_array(key_of(seed, "arrival"), enough)))
    expected = expected[expected < reached[-1]]
    rising = np.concatenate(([True], rates > 0))
    times = np.interp(expected, reached[rising], np.arange(scenario.duration_s + 1.0)[rising])
    return [float(t) for t in times]


class Draw:
    """The world of one scenario and seed. Payments are numbered from 0 in the order of `arrive_s`."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.seed = seed
        self.arrive_s = arrivals(scenario, seed)
        count = len(self.arrive_s)
        span = scenario.amount_max_minor - scenario.amount_min_minor + 1
        amounts = mix_array(key_of(seed, "amount"), count) * span
        self.amount_minor: list[int] = (amounts.astype(np.int64) + scenario.amount_min_minor).tolist()
        edges = np.cumsum([group.share for group in scenario.payers])
        chosen = np.searchsorted(edges / edges[-1], mix_array(key_of(seed, "payer"), count), side="right")
        self.group: list[int] = np.minimum(chosen, len(edges) - 1).tolist()
        self._no_funds = {
            kind: key_of(seed, f"funds:{kind}") for group in scenario.payers for kind in group.methods
        }
        self._ways = tuple(
            tuple(
                (rail.name, kind) for kind in group.methods for rail in scenario.rails if kind in rail.methods
            )
            for group in scenario.payers
        )
        self._rails = {
            rail.name: _RailDraw(scenario, index, seed) for index, rail in enumerate(scenario.rails)
        }

    def methods(self, payment: int) -> tuple[str, ...]:
        """Return what the payer carries, in their order."""
        return self.scenario.payers[self.group[payment]].methods

    def funds(self, payment: int, kind: str) -> bool:
        """Return whether the payer's instrument of this kind has the money."""
        share = self.scenario.payers[self.group[payment]].no_funds
        return share == 0.0 or uniform(self._no_funds[kind], payment) >= share

    def accepts(self, payment: int, rail: str) -> bool:
        """Return whether the rail's side will have this payment at all, when nothing else is wrong."""
        return self._rails[rail].accepts(payment)

    def plan(self, rail: str) -> RailPlan:
        """Return the rail's description."""
        return self._rails[rail].plan

    def ways(self, payment: int) -> tuple[tuple[str, str], ...]:
        """Return the ways to pay through a rail, as (rail, kind of instrument), in the payer's order."""
        return self._ways[self.group[payment]]

    def fate(self, rail: str, op: Op, payment: int, kind: str, now_s: float) -> Fate:
        """Return what becomes of a request sent at `now_s`, on a rail that has nothing else to do."""
        return self._rails[rail].fate(_OPS[op], payment, kind, now_s, self)

    def chance(self, rail: str, payment: int, second: int) -> float:
        """Return the draw that load decides by: a request is lost when the load's share is above it."""
        return self._rails[rail].chance(payment, second)

    def webhook_s(self, rail: str, payment: int, copy: int) -> float:
        """Return how long after the fact the rail's `copy`-th report is here, seconds."""
        return self._rails[rail].webhook_s(payment, copy)


class _Spread:
    """A log-normal duration, by a 12-bit draw; seconds."""

    __slots__ = ("table",)

    def __init__(self, latency: Latency) -> None:
        ratio = latency.p99_ms / latency.median_ms
        self.table = tuple(latency.median_ms / 1000 * float(ratio ** (z / _P99)) for z in _NORMAL)


class _RailDraw:
    """One rail's share of the world."""

    def __init__(self, scenario: Scenario, index: int, seed: int) -> None:
        self.plan = scenario.rails[index]
        name = self.plan.name
        self._success = self.plan.success_rate
        self._accepts = key_of(seed, f"accepts:{name}")
        self._requests = {number: key_of(seed, f"request:{name}:{number}") for number in _OPS.values()}
        self._chance = key_of(seed, f"chance:{name}")
        self._confirm = key_of(seed, f"confirm:{name}")
        self._webhook = key_of(seed, f"webhook:{name}")
        self._latency = _Spread(self.plan.latency).table
        self._confirms = _Spread(self.plan.confirms_in).table if self.plan.confirms_in else None
        self._webhooks = _Spread(self.plan.webhook_in).table if self.plan.webhook_in else None
        self._faults = tuple(
            (fault.from_s, fault.to_s, fault, key_of(seed, f"fault:{at}"))
            for at, fault in enumerate(scenario.faults)
            if fault.target == name
        )

    def accepts(self, payment: int) -> bool:
        return uniform(self._accepts, payment) < self._success

    def chance(self, payment: int, second: int) -> float:
        word = mix(mix(self._chance + payment * _C3 & MASK) + second * _C1 & MASK)
        return ((word >> 43) + 0.5) * _UNIT

    def webhook_s(self, payment: int, copy: int) -> float:
        if self._webhooks is None:
            return NEVER
        return self._webhooks[mix(self._webhook + (payment * 16 + copy) * _C3 & MASK) >> 52]

    def fate(self, op: int, payment: int, kind: str, now_s: float, draw: Draw) -> Fate:
        second = int(now_s)
        word = mix(mix(self._requests[op] + payment * _C3 & MASK) + second * _C1 & MASK)
        latency = self._latency[word >> 52]
        struck: Fault | None = None
        bits = 0
        for from_s, to_s, fault, key in self._faults:
            if from_s <= second < to_s:
                hit = mix(mix(key + (payment * 8 + op) * _C3 & MASK) + second * _C1 & MASK)
                if ((hit >> 43) + 0.5) * _UNIT >= share_at(fault, second):
                    continue
                if fault.kind is FaultKind.SLOW:
                    latency *= fault.times
                    continue
                struck, bits = fault, hit
                break
        if struck is not None:
            fate = _strike(struck, bits, latency, now_s, first=op == 1)
            if fate is not None:
                return self._judge(fate, op, payment, kind, draw)
        return self._judge(
            Fate(True, latency * _DONE_SHARE, latency, Verdict.GOOD, None), op, payment, kind, draw
        )

    def _judge(self, fate: Fate, op: int, payment: int, kind: str, draw: Draw) -> Fate:
        """What lasts: no funds, a rail that will not have this payment; and rails that confirm later."""
        if op != 1 or not fate.sent or fate.verdict is Verdict.DECLINED:
            return fate
        refused = Verdict.GOOD
        if not draw.funds(payment, kind):
            refused = Verdict.NO_FUNDS
        elif not self.accepts(payment):
            refused = Verdict.DECLINED
        if refused is not Verdict.GOOD:
            if fate.verdict is Verdict.ERROR or fate.answer_s == NEVER:
                return fate._replace(done_s=NEVER)
            return fate._replace(done_s=NEVER, verdict=refused)
        if self._confirms is not None and fate.done_s < NEVER and fate.verdict is Verdict.GOOD:
            later = self._confirms[mix(self._confirm + payment * _C3 & MASK) >> 52]
            return fate._replace(done_s=fate.done_s + later, verdict=Verdict.ACKNOWLEDGED)
        return fate


def share_at(fault: Fault, second: int) -> float:
    """Return the share of requests hit in this second; a restart storm abates evenly until it is over."""
    if fault.kind is FaultKind.RESTART_STORM:
        return fault.share * (fault.to_s - second) / (fault.to_s - fault.from_s)
    return fault.share


def _strike(fault: Fault, bits: int, latency: float, now_s: float, *, first: bool) -> Fate | None:
    """Return what a fault makes of a request that it hits; None where it leaves this request alone."""
    carried = ((bits >> 22 & 0x1FFFFF) + 0.5) * _UNIT < fault.carried_out
    other = ((bits >> 1 & 0x1FFFFF) + 0.5) * _UNIT
    done = latency * _DONE_SHARE if carried else NEVER
    match fault.kind:
        case FaultKind.REFUSE | FaultKind.UNRESOLVABLE:
            return Fate(False, NEVER, _REFUSED_AFTER_S, Verdict.ERROR, fault)
        case FaultKind.DARK | FaultKind.STATUS_QUERY_STORM:
            return Fate(True, done, NEVER, Verdict.GOOD, fault)
        case FaultKind.GRAY:
            if other < fault.late_share:
                return Fate(True, latency * _DONE_SHARE, latency + fault.late_s, Verdict.GOOD, fault)
            return Fate(True, done, NEVER, Verdict.GOOD, fault)
        case FaultKind.HANG:
            held = fault.hold_s
            return Fate(
                True, held if carried else NEVER, held + latency if carried else NEVER, Verdict.GOOD, fault
            )
        case FaultKind.BROWNOUT:
            return Fate(True, done, latency, Verdict.ERROR, fault)
        case FaultKind.DECLINE_SPIKE:
            return Fate(True, NEVER, latency, Verdict.DECLINED, fault) if first else None
        case FaultKind.ACK_THEN_SILENT:
            if not first:
                return Fate(True, NEVER, NEVER, Verdict.GOOD, fault)
            later = fault.to_s - now_s + fault.backlog_s * other
            return Fate(True, later, latency, Verdict.ACKNOWLEDGED, fault)
        case FaultKind.RESTART_STORM:
            if other < fault.refused:
                return Fate(False, NEVER, _REFUSED_AFTER_S, Verdict.ERROR, fault)
            return Fate(True, done, latency, Verdict.ERROR, fault)
        case _:
            return None
