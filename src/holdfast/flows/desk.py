"""What the flows of payments work with: one value that `boot` (or a drill) puts together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from holdfast.base.clock import Clock
from holdfast.base.ids import AccountId, AttemptId, IdSource, MerchantId, PaymentId, RefundId
from holdfast.domains.ledger.model import NewAccount
from holdfast.domains.ledger.ports import CommitLane, Ledger
from holdfast.domains.payments import store
from holdfast.domains.payments.model import (
    Attempt,
    Case,
    JournalEntry,
    Payment,
    PaymentState,
    Refund,
    SendRecord,
)
from holdfast.domains.payments.ports import Rail, RailTraits
from holdfast.domains.payments.rules.router import Router
from holdfast.domains.payments.rules.routing import Ticket
from holdfast.domains.payments.rules.settings import PaySettings as PaySettings
from holdfast.platform.outcomes import Outcomes
from holdfast.platform.unit import Write

_TICKETS_MAX = 100_000

Alert = Callable[[str, PaymentId, str], None]
"""Tells operators what a person should look at: what it is, of which payment, and why in words."""


def tell_nobody(what: str, payment: PaymentId, why: str) -> None:
    """Leave an alert to the journal alone, where there are no operators: drills, simulations."""
    del what, payment, why


class PaymentBook(Protocol):
    """Reads payments: `PostgresBook`, `MemoryBook`."""

    async def payment(self, id: PaymentId) -> Payment | None:  # noqa: A002 - the field's own word
        """Return a payment, or None."""
        ...

    async def case(self, id: PaymentId) -> Case | None:  # noqa: A002 - the field's own word
        """Return a payment with all that belongs to it, or None."""
        ...

    async def attempts(self, payment_id: PaymentId) -> tuple[Attempt, ...]:
        """Return a payment's attempts, in order."""
        ...

    async def journal(self, payment_id: PaymentId, *, after: int = -1) -> tuple[JournalEntry, ...]:
        """Return a payment's journal from the entry after position `after`."""
        ...

    async def sends(self, payment_id: PaymentId) -> tuple[SendRecord, ...]:
        """Return every request journaled for a payment."""
        ...

    async def refunds(self, payment_id: PaymentId) -> tuple[Refund, ...]:
        """Return a payment's refunds, oldest first."""
        ...

    async def refund(self, id: RefundId) -> Refund | None:  # noqa: A002 - the field's own word
        """Return a refund, or None."""
        ...

    async def listing(
        self,
        merchant_id: MerchantId,
        *,
        after: PaymentId | None = None,
        limit: int = 25,
        state: PaymentState | None = None,
    ) -> tuple[Payment, ...]:
        """Return a merchant's payments, newest first."""
        ...

    async def find_attempt(self, rail: str, reference: str, remote_id: str | None) -> Attempt | None:
        """Return the attempt that a rail speaks of."""
        ...

    async def attempts_on(self, rail: str, since: datetime, until: datetime) -> tuple[Attempt, ...]:
        """Return the attempts on a rail of a span of time."""
        ...

    async def claim_due(self, now: datetime, lease_until: datetime, limit: int) -> list[Case]:
        """Take over payments that are due."""
        ...


class Writer(Protocol):
    """Builds the writes that keep payments: the module `store`, or `memory.Values`."""

    def open_payment(self, payment: Payment) -> Write:
        """Add a payment."""
        ...

    def pay_at_once(
        self, opening: Write, payment: Payment, attempt: Attempt, entry: JournalEntry
    ) -> tuple[Write, ...]:
        """Add `payment`, which its payer's balance paid by `attempt` as it opened.

        `opening` is the write that would only open it.
        """
        ...

    def save_payment(self, payment: Payment) -> Write:
        """Change a payment's state."""
        ...

    def save_plan(self, payment: Payment) -> Write:
        """Change a payment's methods, plan and deadline."""
        ...

    def save_attempt(self, attempt: Attempt) -> Write:
        """Add or change an attempt."""
        ...

    def add_history(self, sends: Iterable[SendRecord], entries: Iterable[JournalEntry]) -> Sequence[Write]:
        """Record requests before they are sent, and add lines to a payment's journal."""
        ...

    def save_refund(self, refund: Refund) -> Write:
        """Add or change a refund."""
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """All that the flows of payments need.

    `tickets`: calls whose outcome is unknown, to be corrected when it is known. `opened`: accounts known
    to be there. `writer` builds what the book reads. `alert` tells operators. `outcomes` counts for the
    status service.
    """

    clock: Clock
    ids: IdSource
    lane: CommitLane
    ledger: Ledger
    book: PaymentBook
    rails: Mapping[str, Rail]
    router: Router
    settings: PaySettings = field(default_factory=PaySettings)
    traits: dict[str, RailTraits] = field(default_factory=dict)
    tickets: dict[AttemptId, Ticket] = field(default_factory=dict)
    opened: set[AccountId] = field(default_factory=set)
    writer: Writer = store
    alert: Alert = tell_nobody
    outcomes: Outcomes = field(default_factory=Outcomes)

    def __post_init__(self) -> None:
        self.traits.update({name: rail.traits for name, rail in self.rails.items()})

    async def open(self, accounts: Sequence[NewAccount]) -> None:
        """Make sure that these accounts are there; costs nothing when this process has seen them."""
        fresh = [account for account in accounts if account.number not in self.opened]
        if fresh:
            await self.ledger.open_accounts(fresh)
            self.opened.update([account.number for account in fresh])

    def remember(self, attempt: AttemptId, ticket: Ticket) -> None:
        """Keep the ticket of an unknown outcome; the oldest goes when there are too many."""
        self.tickets[attempt] = ticket
        if len(self.tickets) > _TICKETS_MAX:
            del self.tickets[next(iter(self.tickets))]
