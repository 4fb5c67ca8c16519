"""What goes over the wire: the shapes of requests and answers.

Requests refuse unknown fields. Amounts are whole numbers of minor units, times are RFC 3339 in UTC, ids are
public ones.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from holdfast.base.limits import (
    BATCH_ITEMS_MAX,
    INSTRUMENTS_PER_PAYER_MAX,
    METADATA_KEY_CHARS_MAX,
    METADATA_KEYS_MAX,
    METADATA_VALUE_CHARS_MAX,
    PAYMENT_MINOR_MAX,
    REFERENCE_CHARS_MAX,
)

T = TypeVar("T")

_KEY_PATTERN = rf"^[A-Za-z0-9_.:-]{{1,{METADATA_KEY_CHARS_MAX}}}\Z"

AssetCode = Annotated[str, Meta(max_length=16, description="Code of an asset, as GET /v1/assets lists them.")]
AmountMinor = Annotated[
    int,
    Meta(ge=1, le=PAYMENT_MINOR_MAX, description="A whole number of minor units: 1234 CNY is 12.34 yuan."),
]
PublicId = Annotated[str, Meta(max_length=40, description="A public id: its prefix tells what it is of.")]
Reference = Annotated[str, Meta(max_length=REFERENCE_CHARS_MAX, description="Your own name for it.")]
Words = Annotated[str, Meta(max_length=500)]
EventType = Annotated[str, Meta(max_length=60)]
Token = Annotated[
    str, Meta(min_length=1, max_length=200, description="The provider's token. Never a card number.")
]
Label = Annotated[str, Meta(min_length=1, max_length=80)]
Name = Annotated[str, Meta(min_length=1, max_length=120)]
Metadata = Annotated[
    dict[
        Annotated[str, Meta(pattern=_KEY_PATTERN, max_length=METADATA_KEY_CHARS_MAX)],
        Annotated[str, Meta(max_length=METADATA_VALUE_CHARS_MAX)],
    ],
    Meta(
        max_length=METADATA_KEYS_MAX,
        description="Your own facts about it; they are kept and given back as they are.",
    ),
]


class Amount(Struct, frozen=True, forbid_unknown_fields=True):
    """So many minor units of an asset."""

    asset: AssetCode
    amount_minor: AmountMinor


class Guest(Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who pays without a wallet here, by a token that the card provider made."""

    token: Annotated[
        str, Meta(min_length=1, max_length=200, description="The provider's token. Never a card number.")
    ]
    kind: Literal["card", "bank"] = "card"
    label: Label = "Card"


class PaymentAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """A payment to make. Exactly one of `payer` and `guest`."""

    amount: Amount
    payer: PublicId | None = None
    guest: Guest | None = None
    methods: Annotated[
        list[PublicId],
        Meta(
            max_length=INSTRUMENTS_PER_PAYER_MAX,
            description="The payer's instruments to use, in this order; empty: all, in the payer's order.",
        ),
    ] = []
    capture: Literal["automatic", "manual"] | None = None
    funding: Literal["direct", "absorb"] = "direct"
    confirm: bool = True
    deadline_s: (
        Annotated[int, Meta(ge=1, le=86_400, description="Seconds after which the payer has walked away.")]
        | None
    ) = None
    reference: Reference = ""
    description: Words = ""
    metadata: Metadata = {}


class ConfirmAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """What to confirm a payment with; empty `methods` keeps the ones that it has."""

    methods: Annotated[list[PublicId], Meta(max_length=INSTRUMENTS_PER_PAYER_MAX)] = []


class CaptureAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """How much to capture, minor units; all when it is left out. What is not captured is released."""

    amount_minor: AmountMinor | None = None


class RefundAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """A refund of `payment`: `amount_minor`, or all that is left when it is left out."""

    payment: PublicId
    amount_minor: AmountMinor | None = None
    reason: Words = ""


class TransferAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """Money from one balance to another.

    `source` and `destination` are payers of yours, or your own merchant id.
    """

    source: PublicId
    destination: PublicId
    amount: Amount
    reference: Reference = ""


class TransferItem(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One transfer of a batch: as a transfer of its own, with an id and facts of yours.

    The same `id` moves money once, however often and in whatever batch it is sent; one that is refused for
    what stood in the books stays refused. UUIDs of version 7 are fastest. Without an `id` it is the batch's
    Idempotency-Key that keeps it from moving twice.
    """

    source: PublicId
    destination: PublicId
    amount: Amount
    id: Annotated[UUID, Meta(description="Your own id for it: the same one moves once.")] | UnsetType = UNSET
    reference: Reference | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET


class TransfersAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """Transfers to make in order, each for itself, or all or none of them."""

    transfers: Annotated[list[TransferItem], Meta(min_length=1, max_length=BATCH_ITEMS_MAX)]
    all_or_none: (
        Annotated[bool, Meta(description="When one is refused, none is made; for fewer transfers at a time.")]
        | UnsetType
    ) = UNSET


class TopUpAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """Money into a payer's balance from their other instruments, tried in the order of `methods`.

    Empty `methods`: in the payer's own order.
    """

    payer: PublicId
    amount: Amount
    methods: Annotated[list[PublicId], Meta(max_length=INSTRUMENTS_PER_PAYER_MAX)] = []
    reference: Reference = ""


class PayerAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """A payer to enrol. They get a balance as their first instrument."""

    name: Name
    reference: Reference = ""


class InstrumentAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """An instrument to add, as the last in the payer's order."""

    kind: Literal["card", "bank"]
    label: Label
    token: Annotated[
        str, Meta(min_length=1, max_length=200, description="The provider's token. Never a card number.")
    ]


class OrderAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """All instruments of the payer, in the order in which they shall be used."""

    instruments: Annotated[list[PublicId], Meta(max_length=INSTRUMENTS_PER_PAYER_MAX)]


class EndpointAsked(Struct, frozen=True, forbid_unknown_fields=True):
    """Where to deliver events; empty `types`: all of them."""

    url: Annotated[str, Meta(min_length=8, max_length=2_000)]
    types: Annotated[list[EventType], Meta(max_length=50)] = []
    description: Words = ""


class Page(Struct, Generic[T], frozen=True):
    """One page of a list, newest first. Ask on with `starting_after` the last id while `has_more`."""

    data: list[T]
    has_more: bool


class AmountShown(Struct, frozen=True):
    """So many minor units of an asset, and the same as a decimal for people."""

    asset: str
    amount_minor: int
    decimal: str


class OtherMethod(Struct, frozen=True):
    """Another way to pay, which could be offered to the payer now."""

    instrument: str
    kind: str
    label: str


class Next(Struct, frozen=True):
    """What happens next with something that is not final, and when to ask again."""

    what: str
    ask_again_after_s: float
    other_methods: list[OtherMethod] = []


class Failure(Struct, frozen=True):
    """Why a payment failed: nothing was kept and nothing is under way."""

    code: str
    message: str


class PaymentShown(Struct, frozen=True):
    """A payment as it stands."""

    id: str
    object: str
    live: bool
    state: str
    amount: AmountShown
    captured_minor: int
    refunded_minor: int
    payer: str | None
    purpose: str
    capture: str
    funding: str
    reference: str
    description: str
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    deadline_at: datetime | None
    next: Next | None
    failure: Failure | None


class AttemptShown(Struct, frozen=True):
    """One try on one rail, and what is known of it."""

    id: str
    seq: int
    rail: str
    method_kind: str
    method_label: str
    state: str
    evidence: str
    code: str
    message: str
    captured_minor: int
    created_at: datetime
    updated_at: datetime


class JournalLine(Struct, frozen=True):
    """One line of a payment's journal."""

    position: int
    at: datetime
    event: str
    words: str
    attempt: str | None
    facts: dict[str, Any]


class RefundShown(Struct, frozen=True):
    """A refund as it stands."""

    id: str
    object: str
    payment: str
    state: str
    amount: AmountShown
    reason: str
    created_at: datetime
    updated_at: datetime
    next: Next | None


class PaymentInFull(Struct, frozen=True):
    """A payment with all that was tried for it, and the story in words."""

    payment: PaymentShown
    attempts: list[AttemptShown]
    refunds: list[RefundShown]
    journal: list[JournalLine]
    explanation: list[str]


class AssetShown(Struct, frozen=True):
    """A kind of money. `scale`: how many decimal places its minor unit has."""

    code: str
    scale: int


class BalanceShown(Struct, frozen=True):
    """What an account holds, minor units. `available` is what can be spent now."""

    account: str
    asset: str
    available_minor: int
    posted_minor: int
    pending_in_minor: int
    pending_out_minor: int


class StatementLine(Struct, frozen=True):
    """One movement on an account, with what the account held after it.

    `kind` is `posted`, `pending` (money reserved), `post_pending` (a reservation settled) or `void_pending`
    (released); `expire_pending` and `settle_pending` when it ended by itself, released or settled.
    """

    id: str
    object: str
    at: datetime
    kind: str
    side: str
    amount_minor: int
    available_minor: int
    posted_minor: int
    metadata: dict[str, str]


class TransferShown(Struct, frozen=True):
    """A transfer that was made."""

    id: str
    object: str
    source: str
    destination: str
    amount: AmountShown
    reference: str
    created_at: datetime


class TransferOutcome(Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of one transfer of a batch.

    `outcome` is `posted` (it was made now), `exists` (it was made before, under the same id) or the code of
    the problem for which it was refused; then `detail` says it in words, and `field` where it lies. `id` is
    yours, if you gave one; `transfer` is the one that statements show.
    """

    transfer: str
    outcome: str
    amount_minor: int
    id: UUID | UnsetType = UNSET
    field: str = ""
    detail: str = ""


class TransfersShown(Struct, frozen=True):
    """What became of a batch, transfer by transfer in the order in which they were asked for."""

    object: str
    all_or_none: bool
    posted: int
    exists: int
    refused: int
    transfers: list[TransferOutcome]


class InstrumentShown(Struct, frozen=True):
    """One way of paying."""

    id: str
    object: str
    kind: str
    label: str
    created_at: datetime


class PayerShown(Struct, frozen=True):
    """A payer, with their instruments in their own order where one payer is shown."""

    id: str
    object: str
    live: bool
    name: str
    reference: str
    created_at: datetime
    instruments: list[InstrumentShown] | None = None


class EventShown(Struct, frozen=True):
    """Something that happened."""

    id: str
    object: str
    type: str
    subject: str
    at: datetime
    data: dict[str, Any]


class EndpointChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What to change of a webhook endpoint; what is left out stays."""

    url: Annotated[str, Meta(min_length=8, max_length=2_000)] | None = None
    types: Annotated[list[EventType], Meta(max_length=50)] | None = None
    description: Words | None = None
    enabled: bool | None = None


class EndpointShown(Struct, frozen=True):
    """Where events are delivered. `secret` is shown once, when it is made."""

    id: str
    object: str
    url: str
    types: list[str]
    description: str
    enabled: bool
    disabled_reason: str
    created_at: datetime
    secret: str | None = None


class SecretShown(Struct, frozen=True):
    """A new secret, shown this once."""

    secret: str


class DeliveryShown(Struct, frozen=True):
    """One event owed to one endpoint."""

    id: str
    object: str
    endpoint: str
    event: str
    type: str
    state: str
    tries: int
    next_at: datetime | None
    last_status: int | None
    last_error: str
    created_at: datetime


class RailHealth(Struct, frozen=True):
    """How one rail is doing, as measured by the payments that went through it."""

    rail: str
    kind: str
    methods: list[str]
    assets: list[str]
    health: dict[str, Any]


class Health(Struct, frozen=True):
    """Whether this server can work, and what it needs for that."""

    status: str
    checks: dict[str, str]
