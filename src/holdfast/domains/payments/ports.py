"""What payments need from outside: rails. Each adapter under `adapters/rails` is one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Protocol

from holdfast.base.money import Money
from holdfast.base.values import quick
from holdfast.domains.payments.model import Evidence as Evidence
from holdfast.domains.payments.model import Op as Op


class FenceClass(IntEnum):
    """What a rail offers to make sure that it can no longer charge for an attempt."""

    F0 = 0
    """Nothing."""
    F1 = 1
    """Only a query, or an expiry that the rail enforces."""
    F2 = 2
    """Cancel or reverse, which leaves a tombstone also for a reference never seen."""
    F3 = 3
    """Cancel of an object that was created first."""
    F4 = 4
    """Hold and capture are separate."""


class Said(StrEnum):
    """What a rail said, in the end or for now."""

    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    DECLINED = "declined"
    """Definite: no money moved and none will for this attempt."""
    NOT_SENT = "not_sent"
    """Provably no byte of the request left: free to go elsewhere."""
    NOT_DONE = "not_done"
    """The rail's own table proves that this request was not carried out (rate limited, busy).

    Same as never sent.
    """
    PENDING = "pending"
    """The rail has it and has not decided."""
    NOT_FOUND = "not_found"
    """The rail knows no such reference now. No fence: the request may still be under way."""
    CANCELED = "canceled"
    """Fence acknowledged: this attempt can no longer charge.

    What it held is released, what it took is given back.
    """
    REFUNDED = "refunded"
    UNKNOWN = "unknown"
    """Bytes left and no evidence came back. Never shown as failed."""


@dataclass(frozen=True, slots=True)
class RailTraits:
    """What a rail is like; decisions are made from these and never from its name.

    `one_step`: authorize charges at once (needs the capture token). `replay_key_s`: how long the rail
    answers a repeated key with the first result (0: it has no keys). `cancel_wait_s`: minimum pause
    between sending and cancelling. `query_wait_s`: minimum pause between sending and asking, and between
    asking twice. `expires_s`: after this long the rail itself can no longer charge an unfinished attempt
    (None: never). `backup`: a second host answers the same key. `cost_bp`: what a payment costs,
    hundredths of a percent. `tombstones`: cancelling a reference that the rail has never seen keeps it
    from ever charging.
    """

    name: str
    kind: str
    fence: FenceClass
    one_step: bool
    replay_key_s: int
    methods: tuple[str, ...]
    assets: tuple[str, ...]
    cancel_wait_s: float = 0.0
    query_wait_s: float = 0.0
    expires_s: float | None = None
    backup: bool = False
    cost_bp: int = 0
    timeout_s: float = 10.0
    concurrency_max: int = 64
    confirms_later: bool = False
    live: bool | None = None
    """Whether it moves real money: it then serves live merchants only, else test ones only. None: both."""
    cancels_unseen: bool = False
    """Cancelling works by our reference too.

    A request for it that is still under way will find it canceled.
    """

    @property
    def tombstones(self) -> bool:
        """Whether cancel fences a reference that the rail may never have seen."""
        return self.fence is FenceClass.F2 or self.cancels_unseen


@quick
@dataclass(frozen=True, slots=True)
class Order:
    """One request to a rail.

    `reference` is ours and the same for every operation of an attempt; `key` is the idempotency key of
    this very operation and payload. `remote_id` is the rail's id where we know it. `token` names the
    instrument. `use_backup` asks for the rail's backup host, with the same key.
    """

    op: Op
    reference: str
    key: str
    amount: Money
    token: str
    deadline_at: datetime
    remote_id: str | None = None
    use_backup: bool = False
    expires_at: datetime | None = None
    """Only where the rail enforces an expiry (`RailTraits.expires_s`).

    The moment from which the rail must refuse this attempt. The same in every repetition of an attempt,
    or a late repetition would outlive the wait for the first.
    """


@quick
@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    `code` is the rail's own, `message` for people; `amount` is set where the rail names one.

    For a query, `said` tells the state of the attempt; for a refund query `refunded_minor` sums what was
    given back.
    """

    said: Said
    evidence: Evidence = Evidence.QUERY
    remote_id: str | None = None
    code: str = ""
    message: str = ""
    amount: Money | None = None
    refunded_minor: int = 0
    payer_fault: bool = False
    """A decline that lies with the payer (no funds, card stolen): it speaks against no rail."""


@dataclass(frozen=True, slots=True)
class RailEvent:
    """A message from a rail whose signature was checked.

    `said` tells the state of the attempt, as a query would.

    `id` is the rail's own and the same when the message is repeated; messages may come in any order.
    `reference` is ours, or empty where the rail did not name it. `amount` is what the rail says it holds
    or took; for `REFUNDED` it is the sum given back so far.
    """

    id: str
    rail: str
    reference: str
    remote_id: str | None
    said: Said
    amount: Money | None
    at: datetime
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class SettlementRow:
    """One line of a rail's own settlement file, the strongest evidence there is.

    `kind`: `charge` took, `return` gave back.
    """

    rail: str
    reference: str
    remote_id: str
    kind: str
    amount: Money
    at: datetime


class Rail(Protocol):
    """One way of moving money through one provider.

    Methods never raise for what the network or the rail does: they return an `Answer`, `NOT_SENT` and
    `UNKNOWN` included. Every call ends by `order.deadline_at`.
    """

    @property
    def traits(self) -> RailTraits:
        """What this rail is like."""
        ...

    async def send(self, order: Order) -> Answer:
        """Carry out `order.op`."""
        ...
