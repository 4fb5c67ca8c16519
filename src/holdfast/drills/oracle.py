"""What an all-knowing payer could have had: the measure that continuity is taken against.

A payment is completable if some permitted instrument, started on some rail at some moment within the
deadline, would have ended captured at the provider by the deadline. The oracle knows every fate, and nothing
of any policy: it adds no load of its own, queues nowhere, and sends no status queries. On a rail that holds
first it captures as soon as the money is held, also when the answer to the hold was lost, and again in every
later second if need be. So no policy that uses the rails as they are can complete a payment that the oracle
gives up. What it cannot do is turn a payer's own refusal into money, or a rail's refusal into a sale.

Moments: a request meets one fate per second and rail, so the arrival and the start of each later second are
all the moments that differ.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.domains.payments.ports import Op
from holdfast.drills.draw import NEVER, Draw
from holdfast.drills.reading import BALANCE


def completable(draw: Draw) -> list[bool]:
    """Return for each payment whether it could have been completed within its deadline."""
    return [could_complete(draw, payment) for payment in range(len(draw.arrive_s))]


def could_complete(draw: Draw, payment: int) -> bool:
    """Return whether some instrument, on some rail, at some moment would have done it."""
    if BALANCE in draw.methods(payment) and draw.funds(payment, BALANCE):
        return True
    ways = [
        (rail, kind)
        for rail, kind in draw.ways(payment)
        if draw.funds(payment, kind) and draw.accepts(payment, rail)
    ]
    until_s = draw.arrive_s[payment] + draw.scenario.deadline_s
    if not ways:
        return False
    for start_s in moments(draw.arrive_s[payment], until_s):
        if any(captured_at(draw, payment, rail, kind, start_s, until_s) <= until_s for rail, kind in ways):
            return True
    return False


def moments(from_s: float, until_s: float) -> Iterator[float]:
    """Yield `from_s` and the start of each later second before `until_s`.

    The moments at which fates differ.
    """
    at = from_s
    while at < until_s:
        yield at
        at = float(int(at) + 1)


def captured_at(draw: Draw, payment: int, rail: str, kind: str, start_s: float, until_s: float) -> float:
    """Return when the provider would have captured by `until_s`, asked first at `start_s`.

    `NEVER` if not by then.
    """
    first = draw.fate(rail, Op.AUTHORIZE, payment, kind, start_s)
    held_s = start_s + first.done_s
    if draw.plan(rail).one_step or held_s == NEVER:
        return held_s
    for asked_s in moments(held_s, until_s):
        captured_s = asked_s + draw.fate(rail, Op.CAPTURE, payment, kind, asked_s).done_s
        if captured_s <= until_s:
            return captured_s
    return NEVER
