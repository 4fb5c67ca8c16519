"""Which way to try first: live evidence, cost, safety and the payer's own order, in one number per offer.

Each decision draws a success rate for every rail from what is believed of it (`routing_evidence`), so the
better rail is mostly first, a doubtful one gets its chances, and nothing needs a threshold. From the drawn
rate the score takes

- cost, as hundredths of a percent of the amount: one percent of cost weighs as much as one percent of
  success;
- the risk of an unknown outcome, times what it does at a rail of that fence class: at a rail that can only be
  asked (F1) the payment may hang, at one that holds first (F4) nothing is lost. While health is uncertain,
  rails that can hold go first;
- that it confirms later, and how far down the payer's own list the method stands.

A breaker (latency and unknowns) and a bulkhead (calls under way) move a rail behind those that can be used. A
small share of decisions puts a starved or recovering rail first, if trying it is safe, so that its recovery
is noticed.

Pure: time comes in as seconds, chance is a `Random` that was handed in. The same seed and calls give the same
decisions.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import Final

from holdfast.base.limits import ROUTING_CALL_FORGOTTEN_S, ROUTING_PROVISIONAL_MAX
from holdfast.domains.payments.ports import FenceClass, RailTraits
from holdfast.domains.payments.rules.breaker import Breaker, BreakerSettings
from holdfast.domains.payments.rules.bulkhead import Bulkhead, BulkheadSettings
from holdfast.domains.payments.rules.routing_evidence import ChangingRate
from holdfast.domains.payments.rules.routing_model import (
    Offer,
    RailHealth,
    RailOutcome,
    Ranking,
    RoutingSettings,
    Ticket,
    View,
)

__all__ = [
    "BreakerSettings",
    "BulkheadSettings",
    "FenceClass",
    "Offer",
    "RailHealth",
    "RailOutcome",
    "Ranking",
    "Router",
    "RoutingSettings",
    "Ticket",
    "View",
]


@dataclass(slots=True)
class _Known:
    """All that is known of one rail."""

    rate: ChangingRate
    breaker: Breaker
    bulkhead: Bulkhead
    calls: dict[int, Ticket] = field(default_factory=dict)
    """Calls under way, oldest first."""
    unknowns: float = 0.0
    answers: float = 0.0
    doubt_s: deque[float] = field(default_factory=lambda: deque(maxlen=_DOUBTS_KEPT))
    """How long the latest unknown outcomes stayed unknown."""
    offered: int = 0
    """In how many decisions it was offered."""
    tried_at: int = 0
    """`offered` when it was last tried."""
    tried_at_s: float = 0.0
    hazard: float = 0.0
    """How many changes of its rate were to be expected so far."""
    hazard_at_s: float = 0.0
    planned: bool = False
    """Whether maintenance is under way, or about to be."""


_UNKNOWN_PRIOR: Final = 0.5
_BOTH_PRIORS: Final = 5.0
_UNKNOWN_KEEP: Final = 0.98
"""The share of unknown outcomes starts at one in ten (no evidence is doubt, too); it remembers about 50."""

_RECENT_OUTCOMES: Final = 100
_DOUBTS_KEPT: Final = 50

_BEHIND: Final = 100.0
"""More than any score: what cannot be used goes last, but keeps its order among its like."""


class Router:
    """Evidence about rails, and decisions from it. Not thread-safe; it belongs to one event loop."""

    def __init__(self, settings: RoutingSettings, random: Random, rails: Iterable[RailTraits] = ()) -> None:
        """`rails` gives each rail's `concurrency_max`; any other rail gets the ceiling of the settings."""
        self._settings = settings
        self._random = random
        self._traits = {traits.name: traits for traits in rails}
        self._known: dict[str, _Known] = {}
        self._provisional: OrderedDict[int, int] = OrderedDict()
        self._accepted: OrderedDict[int, Ticket] = OrderedDict()
        self._tickets = 0
        self._planned: frozenset[str] = frozenset()

    def avoid(self, rails: Iterable[str]) -> None:
        """Begin nothing new on rails under maintenance, now or soon, while another rail is left."""
        self._planned = frozenset(rails)
        for rail, known in self._known.items():
            known.planned = rail in self._planned

    def rank(self, offers: Sequence[Offer], *, now_s: float) -> Ranking:
        """Order the offers, best first."""
        drawn: dict[str, float] = {}
        views = []
        for offer in offers:
            known = self._known.get(offer.rail) or self._meet(offer.rail, now_s)
            rate = drawn.get(offer.rail)
            if rate is None:
                known.offered += 1
                known.hazard += self._settings.change_per_decision
                rate = drawn[offer.rail] = known.rate.draw(self._random, self._hazard(known, now_s))
            views.append(self._view(offer, known, rate, now_s))
        scores = [view.score for view in views]
        order = sorted(range(len(views)), key=scores.__getitem__, reverse=True)
        chance = self._random.random()
        worth_looking = chance < self._settings.probe_share or any(view.hindrance for view in views)
        probe = worth_looking and self._probe(views, order, chance, now_s)
        return Ranking(tuple(order), tuple([views[i] for i in order]), probe)

    def started(self, rail: str, *, now_s: float, last_resort: bool = False) -> Ticket | None:
        """Ask to call `rail`: None when its breaker is open or its bulkhead full (nothing has moved).

        `last_resort` says that there is no elsewhere: then an open breaker, which only spares waiting and
        doubt, lets the call pass; the bulkhead never does.
        """
        known = self._known.get(rail) or self._meet(rail, now_s)
        if known.bulkhead.full:
            self._forget_lost(known, now_s)
        if known.bulkhead.full:
            return None
        if known.planned and not last_resort:
            return None
        entered = known.breaker.enter(now_s)
        if entered is None and not last_resort:
            return None
        known.bulkhead.enter()
        self._tickets += 1
        ticket = Ticket(self._tickets, rail, now_s, entered == "probe")
        known.calls[ticket.number] = ticket
        known.tried_at = known.offered
        known.tried_at_s = now_s
        return ticket

    def hindrance(self, rail: str, *, now_s: float) -> str:
        """Return why `rail` takes no call just now, in words; empty when it does."""
        known = self._known.get(rail)
        return "" if known is None else _hindrance(known, now_s)

    def finished(self, ticket: Ticket, outcome: RailOutcome, *, latency_s: float, now_s: float) -> None:
        """Count how the call went.

        A ticket that has been finished already, or was forgotten, is passed over.
        """
        known = self._known.get(ticket.rail)
        if known is None or known.calls.pop(ticket.number, None) is None:
            return
        sent = outcome is not RailOutcome.NOT_SENT
        unknown = outcome is RailOutcome.UNKNOWN
        known.bulkhead.leave(latency_s if sent else None)
        known.breaker.leave(now_s, probe=ticket.probe, unknown=unknown, latency_s=latency_s, sent=sent)
        known.unknowns = known.unknowns * _UNKNOWN_KEEP + unknown
        known.answers = known.answers * _UNKNOWN_KEEP + (not unknown)
        if outcome is RailOutcome.DECLINED_BY_PAYER:
            return
        if outcome is RailOutcome.ACCEPTED:
            self._accepted[ticket.number] = ticket
            if len(self._accepted) > ROUTING_PROVISIONAL_MAX:
                self._accepted.popitem(last=False)
            return
        number = known.rate.observe(outcome is RailOutcome.OK, self._hazard(known, now_s))
        if unknown:
            self._provisional[ticket.number] = number
            if len(self._provisional) > ROUTING_PROVISIONAL_MAX:
                self._provisional.popitem(last=False)

    def corrected(self, ticket: Ticket, outcome: RailOutcome, *, now_s: float) -> None:
        """Replace the provisional failure of an unknown outcome by what it turned out to be, once a ticket.

        `UNKNOWN` changes nothing, and the ticket can still be corrected; but what was only accepted counts as
        a provisional failure from then on.
        """
        if self._accepted.pop(ticket.number, None) is not None:
            self._ended(ticket, outcome, now_s)
            return
        if outcome is RailOutcome.UNKNOWN:
            return
        number = self._provisional.pop(ticket.number, None)
        if number is None:
            return
        known = self._known[ticket.rail]
        known.doubt_s.append(now_s - ticket.started_s)
        if outcome in (RailOutcome.OK, RailOutcome.DECLINED_BY_PAYER):
            known.rate.forgive(number, success=outcome is RailOutcome.OK)

    def _ended(self, ticket: Ticket, outcome: RailOutcome, now_s: float) -> None:
        """Count what the rail took in and has now confirmed, refused, or left unconfirmed for too long."""
        known = self._known[ticket.rail]
        if outcome is RailOutcome.DECLINED_BY_PAYER:
            return
        number = known.rate.observe(outcome is RailOutcome.OK, self._hazard(known, now_s))
        if outcome is RailOutcome.UNKNOWN:
            known.unknowns += 1.0
            known.answers = max(known.answers - 1.0, 0.0)
            self._provisional[ticket.number] = number

    def abandoned(self, ticket: Ticket) -> None:
        """Give back a call that was never made: its place is free again and nothing is counted."""
        known = self._known.get(ticket.rail)
        if known is not None and known.calls.pop(ticket.number, None) is not None:
            known.bulkhead.leave(None)
            known.breaker.abandon(probe=ticket.probe)

    def health(self, now_s: float) -> tuple[RailHealth, ...]:
        """Return what is known of each rail that was ever offered, by name."""
        return tuple(self._health(rail, known, now_s) for rail, known in sorted(self._known.items()))

    def _health(self, rail: str, known: _Known, now_s: float) -> RailHealth:
        hazard = self._hazard(known, now_s)
        return RailHealth(
            rail=rail,
            success_rate=known.rate.mean(hazard),
            success_spread=known.rate.spread(hazard),
            unknown_share=(_UNKNOWN_PRIOR + known.unknowns) / (_BOTH_PRIORS + known.unknowns + known.answers),
            changed_share=known.rate.changed_within(_RECENT_OUTCOMES, hazard),
            outcomes=known.rate.observed,
            breaker=known.breaker.state(now_s),
            breaker_why=known.breaker.why,
            in_flight=known.bulkhead.in_flight,
            in_flight_max=known.bulkhead.limit,
            latency_s=known.bulkhead.latency_s,
            doubt_s=median(known.doubt_s) if known.doubt_s else 0.0,
        )

    def _hazard(self, known: _Known, now_s: float) -> float:
        """Return how many changes of the rail's rate were to be expected so far.

        What works breaks seldom, what is broken is mended soon: time counts by what is believed.
        """
        passed_s = now_s - known.hazard_at_s
        if passed_s > 0.0:
            settings, believed = self._settings, known.rate.mean(known.hazard)
            known.hazard += passed_s * (
                settings.breaks_per_s * believed + settings.mends_per_s * (1.0 - believed)
            )
            known.hazard_at_s = now_s
        return known.hazard

    def _meet(self, rail: str, now_s: float) -> _Known:
        settings, traits = self._settings, self._traits.get(rail)
        certain = traits is not None and traits.kind == "balance"  # our own ledger: it does not fail
        rate = ChangingRate(
            first=settings.certain if certain else settings.first,
            changed=settings.certain if certain else settings.changed,
            runs_max=settings.runs_max,
            recent=settings.runs_recent,
        )
        ceiling = traits.concurrency_max if traits else None
        known = _Known(rate, Breaker(settings.breaker), Bulkhead(settings.bulkhead, ceiling))
        known.answers = sum(settings.certain) if certain else 0.0
        known.tried_at_s = known.hazard_at_s = now_s
        known.planned = rail in self._planned
        self._known[rail] = known
        return known

    def _view(self, offer: Offer, known: _Known, drawn: float, now_s: float) -> View:
        settings = self._settings
        unknown = (_UNKNOWN_PRIOR + known.unknowns) / (_BOTH_PRIORS + known.unknowns + known.answers)
        score = drawn * (1.0 - settings.cost_weight * offer.cost_bp / 10_000)
        score -= unknown * settings.unknown_risk[offer.fence]
        score -= offer.payer_rank * settings.payer_rank_cost
        if offer.confirms_later:
            score -= settings.confirms_later_cost
        hindrance = _hindrance(known, now_s)
        if hindrance:
            score -= _BEHIND if known.breaker.state(now_s) == "closed" else 2.0 * _BEHIND
        believed = known.rate.mean(known.hazard)
        return View(offer, drawn, score, believed, known.rate.observed, unknown, hindrance)

    def _probe(self, views: list[View], order: list[int], chance: float, now_s: float) -> bool:
        """Move a rail that starves or waits for a probe to the front, if trying it is safe; say whether."""
        settings, first = self._settings, views[order[0]].offer
        for place in range(1, len(order)):
            position = order[place]
            offer = views[position].offer
            if offer.rail == first.rail or offer.payer_rank > first.payer_rank or offer.confirms_later:
                continue
            if offer.fence >= settings.probe_fence_min and chance < self._need(
                self._known[offer.rail], now_s
            ):
                del order[place]
                order.insert(0, position)
                views[position] = views[position]._replace(probe=True, hindrance="")
                return True
        return False

    def _need(self, known: _Known, now_s: float) -> float:
        """Return the probability with which this decision should try a rail just to see how it is."""
        settings = self._settings
        if known.bulkhead.full or known.planned:
            return 0.0
        if known.breaker.state(now_s) != "closed":
            waited_s = known.breaker.waited_s(now_s)
            return 0.0 if waited_s is None else max(settings.probe_share, waited_s / settings.probe_wait_s)
        starved = known.offered - known.tried_at >= settings.starved_decisions
        return settings.probe_share if starved and now_s - known.tried_at_s >= settings.starved_s else 0.0

    @staticmethod
    def _forget_lost(known: _Known, now_s: float) -> None:
        """Give back the places of calls whose end nobody reported: a lost ticket blocks no rail for good."""
        for number, ticket in list(known.calls.items()):
            if now_s - ticket.started_s < ROUTING_CALL_FORGOTTEN_S:
                return
            del known.calls[number]
            known.bulkhead.leave(None)
            known.breaker.abandon(probe=ticket.probe)


def _hindrance(known: _Known, now_s: float) -> str:
    if known.planned:
        return "maintenance is planned or under way"
    state = known.breaker.state(now_s)
    if state != "closed":
        return f"breaker {state.replace('_', '-')}, {known.breaker.why}"
    if known.bulkhead.full:
        return f"{known.bulkhead.in_flight} calls are under way and it gets no more"
    return ""
