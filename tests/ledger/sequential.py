"""The ledger as plainly as it can be said: one transfer after the other.

It shares no code with the product but the nouns; it is slow, and is what the fast ones are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from holdfast.base.money import ASSETS
from holdfast.domains.ledger.model import Balance, NewAccount, NewTransfer, Outcome

MOST = 9007199254740991
TURNOVER_MOST = 2305843009213693952
STAYS_REFUSED = {
    Outcome.DEBIT_ACCOUNT_NOT_FOUND,
    Outcome.CREDIT_ACCOUNT_NOT_FOUND,
    Outcome.ASSETS_DIFFER,
    Outcome.ACCOUNT_CLOSED,
    Outcome.PENDING_NOT_FOUND,
    Outcome.PENDING_HAS_OTHER_ACCOUNTS,
    Outcome.PENDING_ALREADY_POSTED,
    Outcome.PENDING_ALREADY_VOIDED,
    Outcome.PENDING_EXPIRED,
    Outcome.EXCEEDS_PENDING_AMOUNT,
    Outcome.EXCEEDS_CREDITS,
    Outcome.EXCEEDS_DEBITS,
}


@dataclass
class Sums:
    debits_posted: int = 0
    credits_posted: int = 0
    debits_pending: int = 0
    credits_pending: int = 0


@dataclass
class Reservation:
    amount: int
    fate: str = "open"


class SequentialLedger:
    """Post one by one. State is copied before a chain and put back when the chain fails."""

    def __init__(self) -> None:
        self.accounts: dict[int, NewAccount] = {}
        self.limits: dict[int, int] = {}
        self.closed: set[int] = set()
        self.sums: dict[int, Sums] = {}
        self.made: dict[UUID, tuple[NewTransfer, int]] = {}
        self.reservations: dict[UUID, Reservation] = {}
        self.refused: set[UUID] = set()

    def open(self, account: NewAccount) -> None:
        self.accounts[account.number] = account
        self.limits[account.number] = account.limit_minor
        self.sums[account.number] = Sums()

    def balance(self, number: int) -> Balance:
        s = self.sums[number]
        return Balance(s.debits_posted, s.credits_posted, s.debits_pending, s.credits_pending)

    def post(self, transfers: list[NewTransfer], now: datetime) -> list[tuple[Outcome, int]]:
        answers: list[tuple[Outcome, int]] = []
        chain: list[NewTransfer] = []
        for t in transfers:
            chain.append(t)
            if not t.linked:
                answers += self.chain(chain, now)
                chain = []
        if chain:
            answers += self.open_chain(chain)
        return answers

    def open_chain(self, chain: list[NewTransfer]) -> list[tuple[Outcome, int]]:
        answers = [self.same_as_before(t) or (Outcome.LINKED_TRANSFER_FAILED, 0) for t in chain]
        if answers[-1][0] is Outcome.LINKED_TRANSFER_FAILED:
            answers[-1] = (Outcome.LINKED_CHAIN_OPEN, 0)
        return answers

    def chain(self, chain: list[NewTransfer], now: datetime) -> list[tuple[Outcome, int]]:
        if len(chain) == 1:
            return [self.one(chain[0], now)]
        touched = {n for t in chain for n in (t.debit, t.credit) if n in self.sums}
        sums_before = {n: replace(self.sums[n]) for n in touched}
        named = {t.id for t in chain} | {t.pending_id for t in chain if t.pending_id}
        reservations_before = {i: replace(self.reservations[i]) for i in named if i in self.reservations}
        made_before = {t.id for t in chain if t.id in self.made}
        answers: list[tuple[Outcome, int]] = []
        for position, t in enumerate(chain):
            answer = self.one(t, now)
            answers.append(answer)
            if answer[0] in (Outcome.POSTED, Outcome.EXISTS):
                continue
            for n, sums in sums_before.items():
                self.sums[n] = sums
            for i in named:
                self.reservations.pop(i, None)
            for i, reservation in reservations_before.items():
                self.reservations[i] = reservation
            for t2 in chain:
                if t2.id not in made_before:
                    self.made.pop(t2.id, None)
            answers = [
                (Outcome.LINKED_TRANSFER_FAILED, 0)
                if a[0] in (Outcome.POSTED, Outcome.EXISTS) and t.id not in made_before
                else a
                for t, a in zip(chain, answers, strict=False)
            ]
            for rest in chain[position + 1 :]:
                answers.append(self.same_as_before(rest) or (Outcome.LINKED_TRANSFER_FAILED, 0))
            break
        return answers

    def same_as_before(self, t: NewTransfer) -> tuple[Outcome, int] | None:
        if t.id in self.made and replace(self.made[t.id][0], linked=t.linked) == t:
            return Outcome.EXISTS, self.made[t.id][1]
        return None

    def one(self, t: NewTransfer, now: datetime) -> tuple[Outcome, int]:
        refusal, amount = self.judge(t, now)
        if refusal is not None:
            if refusal in STAYS_REFUSED:
                self.refused.add(t.id)
            return refusal, amount
        debit, credit = self.sums[t.debit], self.sums[t.credit]
        if t.pending_id is not None:
            reservation = self.reservations[t.pending_id]
            reservation.fate = "posted" if t.kind == "post_pending" else "voided"
            debit.debits_pending -= reservation.amount
            credit.credits_pending -= reservation.amount
        if t.kind == "pending":
            self.reservations[t.id] = Reservation(amount)
            debit.debits_pending += amount
            credit.credits_pending += amount
        elif t.kind != "void_pending":
            debit.debits_posted += amount
            credit.credits_posted += amount
        self.made[t.id] = (t, amount)
        return Outcome.POSTED, amount

    def judge(  # noqa: C901 - a list of refusals, in order, is clearest in one piece
        self, t: NewTransfer, now: datetime
    ) -> tuple[Outcome | None, int]:
        """The refusal that comes first, or None and the amount to move, reserve or release."""
        if t.id in self.made:
            return self.same_as_before(t) or (Outcome.EXISTS_WITH_DIFFERENT_CONTENT, 0)
        if t.id in self.refused:
            return Outcome.ID_ALREADY_REFUSED, 0
        needs_amount = t.kind in ("posted", "pending")
        if t.amount_minor is None and needs_amount:
            return Outcome.AMOUNT_INVALID, 0
        if t.amount_minor is not None and (t.kind == "void_pending" or not 1 <= t.amount_minor <= MOST):
            return Outcome.AMOUNT_INVALID, 0
        if t.balancing and t.pending_id:
            return Outcome.AMOUNT_INVALID, 0
        if not 0 <= t.over_minor <= MOST or (t.over_minor and t.kind != "pending"):
            return Outcome.AMOUNT_INVALID, 0
        if t.debit == t.credit:
            return Outcome.ACCOUNTS_MUST_DIFFER, 0
        if t.expires_at and (t.kind != "pending" or t.expires_at <= now):
            return Outcome.EXPIRY_INVALID, 0
        if t.settles and (t.kind != "pending" or not t.expires_at):
            return Outcome.EXPIRY_INVALID, 0
        if t.debit not in self.accounts:
            return Outcome.DEBIT_ACCOUNT_NOT_FOUND, 0
        if t.credit not in self.accounts:
            return Outcome.CREDIT_ACCOUNT_NOT_FOUND, 0
        if {self.accounts[t.debit].asset, self.accounts[t.credit].asset} != {
            t.asset
        } or t.asset not in ASSETS:
            return Outcome.ASSETS_DIFFER, 0
        if {t.debit, t.credit} & self.closed and t.kind != "void_pending":
            return Outcome.ACCOUNT_CLOSED, 0
        if not needs_amount:
            return self.judge_settling(t, now)
        if t.pending_id is not None:
            return Outcome.PENDING_NOT_FOUND, 0
        return self.judge_moving(t)

    def judge_settling(self, t: NewTransfer, now: datetime) -> tuple[Outcome | None, int]:
        reservation = self.reservations.get(t.pending_id) if t.pending_id else None
        if reservation is None or t.pending_id is None:
            return Outcome.PENDING_NOT_FOUND, 0
        pending = self.made[t.pending_id][0]
        if (pending.debit, pending.credit) != (t.debit, t.credit):
            return Outcome.PENDING_HAS_OTHER_ACCOUNTS, 0
        if reservation.fate == "posted":
            return Outcome.PENDING_ALREADY_POSTED, 0
        if reservation.fate == "voided":
            return Outcome.PENDING_ALREADY_VOIDED, 0
        if reservation.fate == "expired" or (pending.expires_at and pending.expires_at <= now):
            return Outcome.PENDING_EXPIRED, 0
        amount = reservation.amount if t.amount_minor is None else t.amount_minor
        if amount > reservation.amount + pending.over_minor:
            return Outcome.EXCEEDS_PENDING_AMOUNT, 0
        if amount > reservation.amount:
            return self.judge_moving(t, reservation.amount)
        return None, amount

    def judge_moving(self, t: NewTransfer, freed: int = 0) -> tuple[Outcome | None, int]:
        """`freed`: what is held between these accounts that will not be held any more."""
        assert t.amount_minor is not None
        amount = t.amount_minor
        debit, credit = replace(self.sums[t.debit]), replace(self.sums[t.credit])
        debit.debits_pending -= freed
        credit.credits_pending -= freed
        debit_room = credit_room = MOST
        if self.accounts[t.debit].rule == "debits_must_not_exceed_credits":
            debit_room = debit.credits_posted - debit.debits_posted - debit.debits_pending
            debit_room += self.limits[t.debit]
        if self.accounts[t.credit].rule == "credits_must_not_exceed_debits":
            credit_room = credit.debits_posted - credit.credits_posted - credit.credits_pending
            credit_room += self.limits[t.credit]
        if t.balancing == "debit":
            amount = min(amount, debit_room)
            if amount < 1:
                return Outcome.EXCEEDS_CREDITS, 0
        if t.balancing == "credit":
            amount = min(amount, credit_room)
        if amount > debit_room:
            return Outcome.EXCEEDS_CREDITS, 0
        if amount > credit_room or amount < 1:
            return Outcome.EXCEEDS_DEBITS, 0
        for grows, other in (
            (debit.debits_posted + debit.debits_pending, debit.credits_posted),
            (credit.credits_posted + credit.credits_pending, credit.debits_posted),
        ):
            if grows + amount - other > MOST or grows + amount > TURNOVER_MOST:
                return Outcome.BALANCE_OVERFLOW, 0
        return None, amount

    def expire(self, now: datetime) -> int:
        return sum(self.lapse(i, now) for i in self.reservations)

    def lapse(self, i: UUID, now: datetime) -> bool:
        """End a hold if its time is over: it is released, or settles itself; False when it is not open."""
        reservation, t = self.reservations[i], self.made[i][0]
        if reservation.fate != "open" or not t.expires_at or t.expires_at > now:
            return False
        reservation.fate = "posted" if t.settles else "expired"
        self.sums[t.debit].debits_pending -= reservation.amount
        self.sums[t.credit].credits_pending -= reservation.amount
        if t.settles:
            self.sums[t.debit].debits_posted += reservation.amount
            self.sums[t.credit].credits_posted += reservation.amount
        return True
