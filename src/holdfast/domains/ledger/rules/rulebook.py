"""The rules of posting, one transfer after the other, on books held in memory.

This is what "as if posted one by one" means. The memory ledger runs it on its whole books; the PostgreSQL
ledger runs it on the few accounts of a batch that could refuse anything (`store` proves that for the others).
The order of the checks is the order of `Outcome`: the first that applies is the answer.
`docs/reference/ledger.md` explains each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol
from uuid import UUID

from holdfast.base.limits import AMOUNT_MINOR_MAX, TURNOVER_MINOR_MAX
from holdfast.base.money import ASSETS
from holdfast.domains.ledger.model import NewTransfer, Outcome, Rule, TransferKind

FREE: Final = 0
DEBITS_BOUND: Final = 1
CREDITS_BOUND: Final = 2
RULE_NUMBERS: Final[dict[Rule, int]] = {
    "free": FREE,
    "debits_must_not_exceed_credits": DEBITS_BOUND,
    "credits_must_not_exceed_debits": CREDITS_BOUND,
}
KIND_NUMBERS: Final[dict[TransferKind, int]] = {
    "posted": 0,
    "pending": 1,
    "post_pending": 2,
    "void_pending": 3,
    "expire_pending": 4,
    "settle_pending": 5,
}
BALANCING_NUMBERS: Final[dict[Literal["debit", "credit"] | None, int | None]] = {
    None: None,
    "debit": 1,
    "credit": 2,
}
ASSET_NUMBERS: Final = {code: asset.number for code, asset in ASSETS.items()}
UNKNOWN_ASSET: Final = -1

HoldState = Literal["open", "posted", "voided", "expired"]
Decision = tuple[Outcome, int]

OWN_KINDS: Final[frozenset[TransferKind]] = frozenset(("expire_pending", "settle_pending"))
"""What the ledger makes by itself when a hold's time is over."""
WHOLE_KINDS: Final = OWN_KINDS | {"void_pending"}
"""What ends a hold without naming an amount, also between accounts that are closed by then."""

KEPT: Final = frozenset(
    outcome
    for outcome in Outcome
    if outcome >= Outcome.DEBIT_ACCOUNT_NOT_FOUND and outcome is not Outcome.BALANCE_OVERFLOW
)
"""Refusals that depended on the state of the ledger: the id stays refused.

The others lie in the request itself, or say only that there is no room now: money that a rail has taken must
find its place later.
"""


class Books:
    """One account's sums, minor units, as they change."""

    __slots__ = (
        "asset",
        "closed",
        "credits_pending",
        "credits_posted",
        "debits_pending",
        "debits_posted",
        "limit",
        "rule",
    )

    def __init__(self, asset: int, rule: int = FREE, *, closed: bool = False, limit: int = 0) -> None:
        self.asset = asset
        self.rule = rule
        self.closed = closed
        self.limit = limit
        self.debits_posted = 0
        self.credits_posted = 0
        self.debits_pending = 0
        self.credits_pending = 0


class Hold:
    """A pending transfer, as far as settling it needs.

    `over`: by how much more it may be settled; `settles`: in full at `expires_at`, instead of released.
    """

    __slots__ = ("amount", "asset", "credit", "debit", "expires_at", "over", "settles", "state")

    def __init__(
        self,
        debit: int,
        credit: int,
        asset: int,
        amount: int,
        expires_at: datetime | None,
        state: HoldState = "open",
        over: int = 0,
        settles: bool = False,
    ) -> None:
        self.debit = debit
        self.credit = credit
        self.asset = asset
        self.amount = amount
        self.expires_at = expires_at
        self.state: HoldState = state
        self.over = over
        self.settles = settles


class Content(Protocol):
    """What is known of a transfer whose fields are not here (`content.Archived`)."""

    def same(self, t: NewTransfer) -> bool:
        """Tell whether `t` asks for what this one was."""
        ...


Known = tuple[NewTransfer | Content, int]
"""A transfer that stands: what was asked, and what it moved."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What is known of ids that may have been seen before.

    `known`: what was asked and what it moved, of each id that stands.
    """

    known: Mapping[UUID, Known] = field(default_factory=dict)
    refused: Mapping[UUID, Outcome] = field(default_factory=dict)
    holds: Mapping[UUID, Hold] = field(default_factory=dict)


def same_content(one: NewTransfer, other: NewTransfer | Content) -> bool:
    """Tell whether two transfers of one id ask for the same. How they were linked is not part of it."""
    if not isinstance(other, NewTransfer):
        return other.same(one)
    return (
        one.debit == other.debit
        and one.credit == other.credit
        and one.amount_minor == other.amount_minor
        and one.kind == other.kind
        and one.asset == other.asset
        and one.pending_id == other.pending_id
        and one.expires_at == other.expires_at
        and one.balancing == other.balancing
        and one.code == other.code
        and one.settles == other.settles
        and one.over_minor == other.over_minor
        and dict(one.metadata) == dict(other.metadata)
    )


def malformed(t: NewTransfer, now: datetime) -> Outcome | None:
    """Return the refusal that lies in the request alone, if there is one."""
    amount = t.amount_minor
    if t.kind in WHOLE_KINDS or (t.kind == "post_pending" and amount is None):
        if amount is not None:
            return Outcome.AMOUNT_INVALID
    elif type(amount) is not int or not 0 < amount <= AMOUNT_MINOR_MAX:
        return Outcome.AMOUNT_INVALID
    if t.balancing is not None and t.pending_id is not None:
        return Outcome.AMOUNT_INVALID
    over = t.over_minor
    if over and (t.kind != "pending" or type(over) is not int or not 0 < over <= AMOUNT_MINOR_MAX):
        return Outcome.AMOUNT_INVALID
    if t.debit == t.credit:
        return Outcome.ACCOUNTS_MUST_DIFFER
    if t.expires_at is not None and (t.kind != "pending" or t.expires_at <= now):
        return Outcome.EXPIRY_INVALID
    if t.settles and (t.kind != "pending" or t.expires_at is None):
        return Outcome.EXPIRY_INVALID
    return None


class Rulebook:
    """Decides transfers in order and keeps the books. Not safe for threads.

    `known` maps the id of each transfer that stands to what was asked and what it moved; `refused` the ids
    that stay refused. Whoever owns the rulebook may fill all four maps beforehand.
    """

    __slots__ = ("accounts", "holds", "known", "refused")

    def __init__(self) -> None:
        self.accounts: dict[int, Books] = {}
        self.holds: dict[UUID, Hold] = {}
        self.known: dict[UUID, Known] = {}
        self.refused: dict[UUID, Outcome] = {}

    def decide_chain(
        self, chain: Sequence[NewTransfer], now: datetime, *, unfinished: bool = False
    ) -> list[Decision]:
        """Decide transfers that succeed or fail together; when one is refused the others leave no trace.

        `unfinished`: the list of transfers ended inside the chain.
        """
        if len(chain) == 1 and not unfinished:
            return [self.decide(chain[0], now)]
        decisions: list[Decision] = []
        made: list[NewTransfer] = []
        broken = unfinished
        for t in chain:
            if broken:
                decisions.append(self._earlier(t, only_same=True) or (Outcome.LINKED_TRANSFER_FAILED, 0))
                continue
            decision = self.decide(t, now)
            decisions.append(decision)
            if decision[0] is Outcome.POSTED:
                made.append(t)
            broken = not decision[0].moved
            if broken:  # before the rest is asked about: an id of the chain does not exist any more
                for one in reversed(made):
                    self._undo(one)
        if broken:
            undone = {t.id for t in made}
            decisions = [
                (Outcome.LINKED_TRANSFER_FAILED, 0) if d[0].moved and t.id in undone else d
                for t, d in zip(chain, decisions, strict=True)
            ]
        if unfinished and decisions[-1][0] is not Outcome.EXISTS:
            decisions[-1] = (Outcome.LINKED_CHAIN_OPEN, 0)
        return decisions

    def decide(self, t: NewTransfer, now: datetime) -> Decision:
        """Decide one transfer and, when it is made, change the books."""
        earlier = self._earlier(t)
        if earlier is not None:
            return earlier
        outcome = malformed(t, now)
        if outcome is not None:
            return outcome, 0
        debit, credit = self.accounts.get(t.debit), self.accounts.get(t.credit)
        if debit is None or credit is None:
            missing = Outcome.DEBIT_ACCOUNT_NOT_FOUND if debit is None else Outcome.CREDIT_ACCOUNT_NOT_FOUND
            return self._refuse(t, missing)
        if not debit.asset == credit.asset == ASSET_NUMBERS.get(t.asset, UNKNOWN_ASSET):
            return self._refuse(t, Outcome.ASSETS_DIFFER)
        if (debit.closed or credit.closed) and t.kind not in WHOLE_KINDS:
            return self._refuse(t, Outcome.ACCOUNT_CLOSED)
        if t.kind == "posted" or t.kind == "pending":
            if t.pending_id is not None:
                return self._refuse(t, Outcome.PENDING_NOT_FOUND)
            return self._move(t, debit, credit)
        return self._resolve(t, debit, credit, now)

    def _earlier(self, t: NewTransfer, *, only_same: bool = False) -> Decision | None:
        known = self.known.get(t.id)
        if known is not None:
            if same_content(t, known[0]):
                return Outcome.EXISTS, known[1]
            return None if only_same else (Outcome.EXISTS_WITH_DIFFERENT_CONTENT, 0)
        if not only_same and t.id in self.refused:
            return Outcome.ID_ALREADY_REFUSED, 0
        return None

    def _refuse(self, t: NewTransfer, outcome: Outcome) -> Decision:
        self.refused[t.id] = outcome
        return outcome, 0

    def _move(self, t: NewTransfer, debit: Books, credit: Books) -> Decision:
        amount = t.amount_minor or 0
        debits = debit.debits_posted + debit.debits_pending
        credits_ = credit.credits_posted + credit.credits_pending
        room_debit = (
            debit.credits_posted + debit.limit - debits if debit.rule == DEBITS_BOUND else AMOUNT_MINOR_MAX
        )
        room_credit = (
            credit.debits_posted + credit.limit - credits_
            if credit.rule == CREDITS_BOUND
            else AMOUNT_MINOR_MAX
        )
        if t.balancing == "debit":
            amount = min(amount, room_debit)
        elif t.balancing == "credit":
            amount = min(amount, room_credit)
        if amount > room_debit or (t.balancing == "debit" and amount <= 0):
            return self._refuse(t, Outcome.EXCEEDS_CREDITS)
        if amount > room_credit or (t.balancing == "credit" and amount <= 0):
            return self._refuse(t, Outcome.EXCEEDS_DEBITS)
        owes, owns = debits + amount - debit.credits_posted, credits_ + amount - credit.debits_posted
        if max(owes, owns) > AMOUNT_MINOR_MAX or max(debits, credits_) + amount > TURNOVER_MINOR_MAX:
            return Outcome.BALANCE_OVERFLOW, 0
        if t.kind == "pending":
            debit.debits_pending += amount
            credit.credits_pending += amount
            self.holds[t.id] = Hold(
                t.debit, t.credit, debit.asset, amount, t.expires_at, "open", t.over_minor, t.settles
            )
        else:
            debit.debits_posted += amount
            credit.credits_posted += amount
        self.known[t.id] = (t, amount)
        return Outcome.POSTED, amount

    def _resolve(self, t: NewTransfer, debit: Books, credit: Books, now: datetime) -> Decision:
        hold = self.holds.get(t.pending_id) if t.pending_id is not None else None
        if hold is None:
            return self._refuse(t, Outcome.PENDING_NOT_FOUND)
        if hold.debit != t.debit or hold.credit != t.credit:
            return self._refuse(t, Outcome.PENDING_HAS_OTHER_ACCOUNTS)
        if hold.state == "posted":
            return self._refuse(t, Outcome.PENDING_ALREADY_POSTED)
        if hold.state == "voided":
            return self._refuse(t, Outcome.PENDING_ALREADY_VOIDED)
        if t.kind in OWN_KINDS:
            return self._fall_due(t, hold, now)
        if hold.state == "expired" or (hold.expires_at is not None and hold.expires_at <= now):
            return self._refuse(t, Outcome.PENDING_EXPIRED)
        amount = hold.amount if t.amount_minor is None else t.amount_minor
        if amount > hold.amount + hold.over:
            return self._refuse(t, Outcome.EXCEEDS_PENDING_AMOUNT)
        if amount > hold.amount:
            return self._exceed(t, hold, debit, credit)
        debit.debits_pending -= hold.amount
        credit.credits_pending -= hold.amount
        if t.kind == "post_pending":
            debit.debits_posted += amount
            credit.credits_posted += amount
            hold.state = "posted"
        else:
            hold.state = "voided"
        self.known[t.id] = (t, amount)
        return Outcome.POSTED, amount

    def _exceed(self, t: NewTransfer, hold: Hold, debit: Books, credit: Books) -> Decision:
        """Settle a hold for more than it has reserved: all of it must have room once the hold is gone."""
        debit.debits_pending -= hold.amount
        credit.credits_pending -= hold.amount
        decision = self._move(t, debit, credit)
        if decision[0] is Outcome.POSTED:
            hold.state = "posted"
        else:
            debit.debits_pending += hold.amount
            credit.credits_pending += hold.amount
        return decision

    def _fall_due(self, t: NewTransfer, hold: Hold, now: datetime) -> Decision:
        if hold.state == "expired":
            return self._refuse(t, Outcome.PENDING_EXPIRED)
        early = hold.expires_at is None or hold.expires_at > now
        if early or hold.settles != (t.kind == "settle_pending"):
            return Outcome.EXPIRY_INVALID, 0
        self.end(hold)
        self.known[t.id] = (t, hold.amount)
        return Outcome.POSTED, hold.amount

    def end(self, hold: Hold) -> None:
        """End an open hold whose time is over: it lapses or, if it settles itself, is settled."""
        debit, credit = self.accounts[hold.debit], self.accounts[hold.credit]
        debit.debits_pending -= hold.amount
        credit.credits_pending -= hold.amount
        if hold.settles:
            debit.debits_posted += hold.amount
            credit.credits_posted += hold.amount
        hold.state = "posted" if hold.settles else "expired"

    def _undo(self, t: NewTransfer) -> None:
        amount = self.known.pop(t.id)[1]
        debit, credit = self.accounts[t.debit], self.accounts[t.credit]
        if t.kind == "posted" or t.kind == "post_pending" or t.kind == "settle_pending":
            debit.debits_posted -= amount
            credit.credits_posted -= amount
        elif t.kind == "pending":
            debit.debits_pending -= amount
            credit.credits_pending -= amount
            del self.holds[t.id]
        if t.pending_id is not None:
            hold = self.holds[t.pending_id]
            debit.debits_pending += hold.amount
            credit.credits_pending += hold.amount
            hold.state = "open"
