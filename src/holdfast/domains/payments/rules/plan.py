"""The plan of a payment.

In which order which method is tried on which rail, with the reason for each place.
"""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.domains.payments.model import Method, NewPayment, Step, changed
from holdfast.domains.payments.ports import RailTraits
from holdfast.domains.payments.rules.router import Router
from holdfast.domains.payments.rules.routing import Offer


def ways(asked: NewPayment, rails: Mapping[str, RailTraits]) -> list[tuple[Method, RailTraits, int]]:
    """Return each method that may be used, with each rail that serves it and the payer's rank."""
    allowed, asset = asked.allowed_kinds, asked.amount.asset.code
    own = asked.purpose == "top_up"
    found = []
    for rank, method in enumerate(asked.methods):
        if (allowed and method.kind not in allowed) or (own and method.kind == "balance"):
            continue
        serving = [t for t in rails.values() if method.kind in t.methods and asset in t.assets]
        found += [(method, traits, rank) for traits in serving if _may_serve(asked, traits)]
    return found


def _may_serve(asked: NewPayment, traits: RailTraits) -> bool:
    """Whether a rail moves the right kind of money, and can hold where the merchant captures later."""
    if asked.capture == "manual" and traits.one_step:
        return False
    return asked.live is None or traits.live is None or traits.live is asked.live


def plan(
    asked: NewPayment, rails: Mapping[str, RailTraits], router: Router, *, now_s: float
) -> tuple[Step, ...]:
    """Return the steps in the order in which they are tried; empty when there is no way to pay.

    The merchant's own rails come first, in the merchant's order; all else is as the router ranks it.
    """
    found = ways(asked, rails)
    if not found:
        return ()
    if len(found) == 1:
        method, traits, _ = found[0]
        return (Step(traits.name, method, f"the only way to pay with {method.label or method.kind}"),)
    offers = [Offer(t.name, m.kind, t.fence, t.cost_bp, t.confirms_later, rank) for m, t, rank in found]
    ranking = router.rank(offers, now_s=now_s)
    steps = [
        Step(found[i][1].name, found[i][0], why)
        for i, why in zip(ranking.order, ranking.reasons, strict=True)
    ]
    if not asked.rail_order:
        return tuple(steps)
    places = {rail: i for i, rail in enumerate(asked.rail_order)}
    steps.sort(key=lambda step: places.get(step.rail, len(places)))
    return tuple(
        changed(step, reason=f"the merchant prefers {step.rail}") if step.rail in places else step
        for step in steps
    )
