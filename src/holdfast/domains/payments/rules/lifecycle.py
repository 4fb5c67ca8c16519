"""The life cycle of payments and of attempts: one table each. What is not in a table does not happen.

A line reads: in any of these states, when any of these things happens, it becomes that; and this is what
follows.

For attempts, what happens is written `operation:what the rail said`. `authorize`, `capture`, `cancel` and
`refund` are answers to the first request of that kind, `repeat` is the answer to a repeated one (which says
nothing of the first when it was not sent), `told` is what the rail says when asked, or by a signed message,
or in its settlement file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast.base.errors import ensure
from holdfast.domains.payments.model import AttemptState as A
from holdfast.domains.payments.model import PaymentState as P


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table. `states` and `events` are lists of words."""

    states: str
    events: str
    becomes: str
    follows: str


PAYMENT: Final = (
    Line(
        "new", "opened", "requires_confirmation", "it waits for the payer's confirmation until its deadline"
    ),
    Line("new requires_confirmation", "confirmed", "processing", "its plan is carried out"),
    Line(
        "new requires_confirmation", "paid_from_balance", "succeeded", "merchant is paid in the same commit"
    ),
    Line("requires_confirmation", "cancelled expired", "canceled", "nothing was started"),
    Line("processing pending", "paid_from_balance", "succeeded", "the merchant is paid in the same commit"),
    Line("processing pending", "in_doubt", "pending", "a worker goes on finding out, with growing pauses"),
    Line(
        "processing pending", "held", "authorized", "the merchant captures, or the hold is released in time"
    ),
    Line("processing pending authorized", "captured", "succeeded", "the merchant is paid in the same commit"),
    Line("processing pending", "stood_in", "succeeded", "the wallet has paid; its funding is still awaited"),
    Line("processing pending authorized", "nothing_kept", "failed", "nothing is in flight any more"),
    Line("processing pending authorized", "undone", "canceled", "nothing is in flight any more"),
    Line("authorized", "capture_asked cancel_asked in_doubt", "pending", "the hold is captured, or released"),
)

ATTEMPT: Final = (
    Line(
        "new not_sent", "send:authorize", "sending", "the request leaves; no answer in time makes it unknown"
    ),
    Line(
        "sending",
        "authorize:unknown authorize:not_found crash",
        "unknown",
        "find out: same key, query, fence",
    ),
    Line("sending", "authorize:not_sent authorize:not_done", "not_sent", "another rail, or this one again"),
    Line("sending unknown", "authorize:pending repeat:pending told:pending", "pending", "wait and ask"),
    Line(
        "sending unknown pending",
        "authorize:authorized repeat:authorized told:authorized",
        "authorized",
        "capture it when the token is free, or release it",
    ),
    Line(
        "sending unknown pending authorized capturing canceling",
        "authorize:captured repeat:captured told:captured capture:captured cancel:captured",
        "captured",
        "keep it if it is the payment's one charge, else give it back",
    ),
    Line(
        "sending unknown pending authorized capturing canceling",
        "authorize:declined repeat:declined told:declined capture:declined cancel:declined",
        "declined",
        "its token is free; the next way",
    ),
    Line(
        "sending unknown pending authorized capturing canceling",
        "authorize:canceled repeat:canceled told:canceled capture:canceled cancel:canceled expired",
        "canceled",
        "it can no longer charge: its token is free",
    ),
    Line(
        "sending unknown pending authorized capturing canceling captured returning",
        "authorize:refunded repeat:refunded told:refunded capture:refunded cancel:refunded refund:refunded",
        "returned",
        "the payer has the money back: its token is free",
    ),
    Line("captured returning", "told:canceled refund:canceled", "returned", "the payer has the money back"),
    Line(
        "authorized",
        "send:capture",
        "capturing",
        "it holds the token; no answer means: ask with the same key",
    ),
    Line("capturing", "capture:not_sent capture:not_done", "authorized", "capture again after a pause"),
    Line(
        "sending unknown pending authorized capturing",
        "send:cancel",
        "canceling",
        "until the fence is acknowledged",
    ),
    Line("captured", "send:refund", "returning", "until the rail says that it is given back"),
    Line("declined canceled not_sent", "stronger:captured", "captured", "late money: it is given back"),
)


def _compile(lines: tuple[Line, ...]) -> dict[tuple[str, str], str]:
    table: dict[tuple[str, str], str] = {}
    for line in lines:
        for state in line.states.split():
            for event in line.events.split():
                ensure((state, event) not in table, f"the life cycle says one thing of {state} on {event}")
                table[state, event] = line.becomes
    return table


_PAYMENT: Final = {key: P(becomes) for key, becomes in _compile(PAYMENT).items()}
_ATTEMPT: Final = {key: A(becomes) for key, becomes in _compile(ATTEMPT).items()}


def payment_after(state: P | None, event: str) -> P:
    """Return the state after `event`. Raises: `Broken` when the table does not foresee it."""
    after = _PAYMENT.get((state or "new", event))
    ensure(after is not None, f"a payment that is {state or 'new'} does not meet {event!r}")
    assert after is not None  # noqa: S101 - for the type checker; `ensure` has raised
    return after


def attempt_after(state: A | None, event: str) -> A | None:
    """Return the state after `event`, or None when the event changes nothing."""
    return _ATTEMPT.get((state or "new", event))


FINAL: Final = frozenset({P.SUCCEEDED, P.FAILED, P.CANCELED})
GONE: Final = frozenset({A.DECLINED, A.NOT_SENT, A.CANCELED, A.RETURNED})
"""Attempts that can no longer charge and hold nothing."""
IN_DOUBT: Final = frozenset({A.SENDING, A.UNKNOWN, A.PENDING, A.CAPTURING, A.CANCELING})
