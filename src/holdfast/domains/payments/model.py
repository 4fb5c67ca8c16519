"""The nouns of payments: what a merchant asked for, how it was tried, what is known of each try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Literal

from holdfast.base.ids import AttemptId, InstrumentId, MerchantId, PayerId, PaymentId, RefundId
from holdfast.base.money import Money
from holdfast.base.values import changed as changed
from holdfast.base.values import quick


class Op(StrEnum):
    """An operation on a rail."""

    AUTHORIZE = "authorize"
    """Hold where the rail can; charge at once where it cannot (`RailTraits.one_step`)."""
    CAPTURE = "capture"
    CANCEL = "cancel"
    REFUND = "refund"
    QUERY = "query"


class Evidence(IntEnum):
    """How strong a piece of knowledge is; weaker never overwrites stronger."""

    NONE = 0
    TIMEOUT = 1
    QUERY = 2
    """The rail's answer to a request of ours, the first call included."""
    WEBHOOK = 3
    """A message from the rail whose signature was checked."""
    SETTLEMENT = 4
    """The rail's own settlement file."""


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
    RETURNING = "returning"
    """It was charged but is not to be kept; it is being given back."""
    RETURNED = "returned"
    """It was charged but not kept, and given back in full."""


@quick
@dataclass(frozen=True, slots=True)
class Method:
    """One way that the payer offers.

    An instrument, by kind (`balance`, `card`, `bank`), with the token that rails know.
    """

    instrument_id: InstrumentId
    kind: str
    label: str
    token: str


@quick
@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan: try `method` on `rail`.

    `reason` is in words that a payer or an operator can read.
    """

    rail: str
    method: Method
    reason: str


@quick
@dataclass(frozen=True, slots=True)
class NewPayment:
    """What a merchant asks for.

    `methods` in the payer's order; `deadline_at`: past it the payer has walked away.
    """

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
    allowed_kinds: tuple[str, ...] = ()
    """The merchant's rule: only these kinds of method; empty allows every kind."""
    rail_order: tuple[str, ...] = ()
    """The merchant's rule: these rails first, in this order; empty leaves it to the evidence."""
    live: bool | None = None
    """Real money, or the merchant's test mode: only rails of that mode are used. None: any rail."""
    purpose: Literal["purchase", "top_up"] = "purchase"
    """`top_up`: the money goes to the payer's own balance; `merchant_id` is who is told."""


@dataclass(frozen=True, slots=True)
class CaptureToken:
    """The right to make money leave the payer for good: one per payment.

    `epoch` rises each time that it is taken.
    """

    epoch: int = 0
    holder: AttemptId | None = None


@quick
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
    lease_until: datetime | None = None
    """Until then somebody is at work on it, and no worker takes it over."""
    driver: int = 0
    """Rises each time that somebody takes it over: whoever holds an older number stops."""
    cancel_asked: bool = False
    """The merchant asked to cancel while something was in doubt.

    Nothing new is started, what turns up is returned.
    """
    kept: AttemptId | None = None
    """The attempt whose charge is kept; None also where the wallet's balance paid."""
    stood_in_minor: int = 0
    """What the wallet paid ahead of any certain funding and has not got back yet."""
    promise_at: datetime | None = None
    """By when whatever is in doubt should be settled, or a person is told."""
    lines: int = 0
    """How many journal entries there are."""

    @property
    def final(self) -> bool:
        """True when it can only change by a refund."""
        return self.state in (PaymentState.SUCCEEDED, PaymentState.FAILED, PaymentState.CANCELED)


@quick
@dataclass(frozen=True, slots=True)
class Attempt:
    """One try.

    `reference` is what the rail knows it by, the same for all its operations; `sent` counts requests.
    """

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
    """What the rail says that it took, minor units, whether kept or not."""
    tries: int = 0
    """Steps taken so far to find out, or to undo."""
    requests: int = 0
    """Requests journaled so far, of every kind."""
    next_at: datetime | None = None
    """When the next such step is due."""
    sent_at: datetime | None = None
    """When the first request was journaled: the age of its key counts from here."""
    expires_at: datetime | None = None
    """From here the rail itself refuses to charge for this attempt; None where it enforces no expiry."""
    last_op: Op | None = None
    payer_fault: bool = False
    verified: bool = False
    """Its charge is beyond doubt. A charge that turned up on an attempt thought over is asked about first."""
    undoing: bool = False
    """It was asked to be cancelled at least once: whatever it charges is no longer kept."""
    to_capture_minor: int = 0
    """What was asked to be captured; 0: all of it."""
    conflict: bool = False
    """The rail named another amount than we asked for: it is never kept."""
    epoch: int | None = None
    """The epoch of the capture token that it last took."""
    booked: bool = False
    """Its charge is not kept (so far) and stands in the ledger as owed to the payer."""


@quick
@dataclass(frozen=True, slots=True)
class SendRecord:
    """The durable record of one request, made before a byte of it leaves.

    `number` counts within the attempt.
    """

    attempt_id: AttemptId
    number: int
    op: Op
    key: str
    payload_hash: bytes
    at: datetime
    deadline_at: datetime
    repeat: bool
    epoch: int | None
    """The epoch of the capture token under which it was sent, where it may make money leave for good."""


@quick
@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of a payment's own journal: each decision and each request, before and after.

    Explains the payment in words.
    """

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
    """Money on its way back to the payer.

    Refunds in `sending` and `pending` count against what is left to refund.
    """

    id: RefundId
    payment_id: PaymentId
    attempt_id: AttemptId | None
    amount: Money
    state: RefundState
    reason: str
    created_at: datetime
    updated_at: datetime
    tries: int = 0
    next_at: datetime | None = None
    code: str = ""
    message: str = ""


@dataclass(slots=True)
class Case:
    """A payment with all that belongs to it, as one driver sees it.

    `shut`: rails that took no call just now. `passed_over`: those of which the journal has said so.
    """

    payment: Payment
    attempts: list[Attempt]
    token: CaptureToken
    refunds: list[Refund] = field(default_factory=list)
    shut: set[str] = field(default_factory=set)
    passed_over: set[str] = field(default_factory=set)

    def attempt(self, id: AttemptId | None) -> Attempt | None:  # noqa: A002 - the field's own word
        """Return the attempt with that id, if there is one."""
        for attempt in self.attempts:
            if attempt.id == id:
                return attempt
        return None
