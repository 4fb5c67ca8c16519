"""The nouns of payments: what a merchant asked for, how it was tried, what is known of each try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from holdfast.base.ids import AttemptId, InstrumentId, MerchantId, PayerId, PaymentId, RefundId
from holdfast.base.money import Money
from holdfast.domains.payments.ports import Evidence, Op


class PaymentState(StrEnum):
    """Where a payment stands. `rules/lifecycle.py` holds the one table of what follows what."""

    REQUIRES_CONFIRMATION = "requires_confirmation"
    PROCESSING = "processing"
    """Somebody is carrying it out right now."""
    PENDING = "pending"
    """Something is in doubt or confirms later; it ends by itself. Never shown as failed."""
    AUTHORIZED = "authorized"
    """The money is held; the merchant captures (manual capture)."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Nothing was kept and nothing is in flight."""
    CANCELED = "canceled"


class AttemptState(StrEnum):
    """What is known of one try on one rail."""

    SENDING = "sending"
    """Journaled; bytes may be leaving. After a crash: unknown."""
    UNKNOWN = "unknown"
    PENDING = "pending"
    AUTHORIZED = "authorized"
    CAPTURING = "capturing"
    CAPTURED = "captured"
    CANCELING = "canceling"
    CANCELED = "canceled"
    DECLINED = "declined"
    NOT_SENT = "not_sent"
    RETURNED = "returned"
    """It was charged too late to be kept, and given back in full."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way that the payer offers: an instrument, by kind (`balance`, `card`, `bank`), with the token that rails know."""

    instrument_id: InstrumentId
    kind: str
    label: str
    token: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan: try `method` on `rail`. `reason` is in words that a payer or an operator can read."""

    rail: str
    method: Method
    reason: str


@dataclass(frozen=True, slots=True)
class NewPayment:
    """What a merchant asks for. `methods` in the payer's order; `deadline_at`: past it the payer has walked away."""

    merchant_id: MerchantId
    payer_id: PayerId | None
    amount: Money
    methods: tuple[Method, ...]
    capture: Literal["automatic", "manual"] = "automatic"
    funding: Literal["direct", "absorb"] = "direct"
    """`absorb`: rails only fund the payer's balance and the merchant is paid from that."""
    deadline_at: datetime | None = None
    reference: str = ""
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment as it stands. `version` rises with each change and fences whoever carries it out."""

    id: PaymentId
    asked: NewPayment
    state: PaymentState
    captured_minor: int
    refunded_minor: int
    version: int
    created_at: datetime
    updated_at: datetime
    plan: tuple[Step, ...] = ()
    next_step_at: datetime | None = None
    """When a worker looks at it again; None when nothing is due."""
    failure_code: str = ""
    failure_message: str = ""

    @property
    def final(self) -> bool:
        """True when it can only change by a refund."""
        return self.state in (PaymentState.SUCCEEDED, PaymentState.FAILED, PaymentState.CANCELED)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. `reference` is what the rail knows it by, the same for all its operations; `sent` counts requests."""

    id: AttemptId
    payment_id: PaymentId
    seq: int
    rail: str
    method: Method
    amount: Money
    state: AttemptState
    evidence: Evidence
    reference: str
    remote_id: str | None
    code: str
    message: str
    created_at: datetime
    updated_at: datetime
    deadline_at: datetime
    captured_minor: int = 0


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of a payment's own journal: each decision and each request, before and after. Explains the payment in words."""

    payment_id: PaymentId
    position: int
    at: datetime
    attempt_id: AttemptId | None
    op: Op | None
    event: str
    words: str
    facts: Mapping[str, object] = field(default_factory=dict)


RefundState = Literal["sending", "pending", "succeeded", "failed"]


@dataclass(frozen=True, slots=True)
class Refund:
    """Money on its way back to the payer. Refunds in `sending` and `pending` count against what is left to refund."""

    id: RefundId
    payment_id: PaymentId
    attempt_id: AttemptId | None
    amount: Money
    state: RefundState
    reason: str
    created_at: datetime
    updated_at: datetime
