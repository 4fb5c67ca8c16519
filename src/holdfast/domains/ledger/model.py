"""The ledger's nouns: accounts, transfers, what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Literal, NamedTuple
from uuid import UUID

from holdfast.base.ids import AccountId, TransferId
from holdfast.base.values import quick
from holdfast.platform.unit import Guard, UnitStatus, Write

Rule = Literal["free", "debits_must_not_exceed_credits", "credits_must_not_exceed_debits"]


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to open.

    `code` is its readable name, unique (`payer:…:CNY`); `number` is the caller's own id for it. By
    `limit_minor` its rule may be exceeded: a credit limit, minor units.
    """

    number: AccountId
    code: str
    asset: str
    rule: Rule = "free"
    limit_minor: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """An account's four sums, minor units, each never negative. `available` honours the account's rule."""

    debits_posted_minor: int
    credits_posted_minor: int
    debits_pending_minor: int
    credits_pending_minor: int

    @property
    def sums(self) -> tuple[int, int, int, int]:
        """The four, in their order."""
        return (
            self.debits_posted_minor, self.credits_posted_minor,
            self.debits_pending_minor, self.credits_pending_minor,
        )  # fmt: skip

    @property
    def net_minor(self) -> int:
        """Credits posted less debits posted: what a liability account (a payer's wallet) holds."""
        return self.credits_posted_minor - self.debits_posted_minor

    @property
    def spendable_minor(self) -> int:
        """What may still leave an account whose debits must not exceed its credits."""
        return self.credits_posted_minor - self.debits_posted_minor - self.debits_pending_minor


TransferKind = Literal[
    "posted", "pending", "post_pending", "void_pending", "expire_pending", "settle_pending"
]
"""`expire_pending` is made by the ledger itself when a hold lapses, `settle_pending` when one settles itself;
nobody may ask for them."""


@quick
@dataclass(frozen=True, slots=True)
class NewTransfer:
    """A transfer to make, from `debit` to `credit`, both of `asset`.

    `kind`: `posted` moves money; `pending` reserves it (with `expires_at`, a hold that lapses by itself);
    `post_pending` settles the hold `pending_id` (`amount_minor` of it or, when None, all; the rest is
    released); `void_pending` releases it. `balancing` moves up to `amount_minor`, as much as the debit
    account's rule allows (`balancing="debit"`), or as the credit account's rule allows (`"credit"`).

    A hold that `settles` is settled in full at `expires_at`, by the ledger itself, instead of released.
    `over_minor`: by how much more than the hold a `post_pending` may settle it.

    `linked` ties a transfer to the one after it in the same unit: the chain succeeds or fails together.
    """

    id: TransferId
    debit: AccountId
    credit: AccountId
    asset: str
    amount_minor: int | None
    kind: TransferKind = "posted"
    pending_id: TransferId | None = None
    expires_at: datetime | None = None
    balancing: Literal["debit", "credit"] | None = None
    code: int = 0
    linked: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    settles: bool = False
    over_minor: int = 0


class Group(NamedTuple):
    """Transfers that succeed or fail together. `unfinished`: the caller's list ended inside a chain."""

    transfers: tuple[NewTransfer, ...]
    unfinished: bool = False


class Outcome(IntEnum):
    """What became of a transfer, in order of precedence: the first that applies is the answer."""

    POSTED = 0
    EXISTS = 1
    """Same id, same content: the earlier transfer stands, `amount_minor` is what it moved."""
    LINKED_TRANSFER_FAILED = 2
    LINKED_CHAIN_OPEN = 3
    EXISTS_WITH_DIFFERENT_CONTENT = 4
    ID_ALREADY_REFUSED = 5
    AMOUNT_INVALID = 6
    ACCOUNTS_MUST_DIFFER = 7
    EXPIRY_INVALID = 8
    DEBIT_ACCOUNT_NOT_FOUND = 9
    CREDIT_ACCOUNT_NOT_FOUND = 10
    ASSETS_DIFFER = 11
    ACCOUNT_CLOSED = 12
    PENDING_NOT_FOUND = 13
    PENDING_HAS_OTHER_ACCOUNTS = 14
    PENDING_ALREADY_POSTED = 15
    PENDING_ALREADY_VOIDED = 16
    PENDING_EXPIRED = 17
    EXCEEDS_PENDING_AMOUNT = 18
    EXCEEDS_CREDITS = 19
    """The debit account's debits would exceed its credits: not enough money."""
    EXCEEDS_DEBITS = 20
    BALANCE_OVERFLOW = 21

    @property
    def moved(self) -> bool:
        """True when the transfer stands (now or since earlier)."""
        return self in (Outcome.POSTED, Outcome.EXISTS)


@quick
@dataclass(frozen=True, slots=True)
class Posting:
    """The answer to one `NewTransfer`: its outcome and the amount that it moved or reserved, minor units."""

    id: TransferId
    outcome: Outcome
    amount_minor: int = 0


@quick
@dataclass(frozen=True, slots=True)
class Unit:
    """What must commit together.

    `transfers` (one linked chain in effect: all or none) with rows of other domains. `balances`: the outcome
    tells the balances of the accounts that they touch.
    """

    transfers: tuple[NewTransfer, ...] = ()
    writes: tuple[Write, ...] = ()
    writes_if_refused: tuple[Write, ...] = ()
    guards: tuple[Guard, ...] = ()
    balances: bool = False


@quick
@dataclass(frozen=True, slots=True)
class UnitOutcome:
    """What became of a unit. `guard_failed` is the position of the guard that did not hold (`conflict`).

    `balances`, when asked for: of each account of its transfers that there is, right after them.
    """

    status: UnitStatus
    postings: tuple[Posting, ...] = ()
    guard_failed: int | None = None
    balances: Mapping[AccountId, Balance] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account as it stands. `entries`: how many transfers have touched it; `limit_minor`: its limit."""

    number: AccountId
    code: str
    asset: str
    rule: Rule
    closed: bool
    limit_minor: int
    opened_at: datetime
    entries: int
    balance: Balance


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an account's statement.

    `side`: whether the account was debited or credited; `balance`: after it.
    """

    id: TransferId
    at: datetime
    kind: TransferKind
    side: Literal["debit", "credit"]
    other: AccountId
    amount_minor: int
    balance: Balance
    code: int = 0
    pending_id: TransferId | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Newest:
    """What the writer remembers of an account: its newest transfers in segments that are not indexed yet.

    `upto`: the newest transfer of all when it was asked. `segments`: those whose transfers it knows, to their
    beginning. `transfers`: number and id of the account's in them, newest first, below the number that was
    asked for and no more than were asked for. `balance`: after the first of these, if it is known.
    """

    upto: int
    balance: Balance | None
    segments: tuple[int, ...]
    transfers: tuple[tuple[int, UUID], ...]


@dataclass(frozen=True, slots=True)
class AssetTotals:
    """The sums over all accounts of one asset."""

    asset: str
    accounts: int
    totals: Balance

    @property
    def balanced(self) -> bool:
        """True when debits equal credits, posted and pending."""
        t = self.totals
        return (
            t.debits_posted_minor == t.credits_posted_minor
            and t.debits_pending_minor == t.credits_pending_minor
        )
