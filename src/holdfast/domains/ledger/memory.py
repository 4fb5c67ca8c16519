"""The ledger and its commit lane in memory: the same rules and the same answers, without durability.

For simulations and tests. Rows of other domains go to handlers that their memory stores register by statement
name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from operator import attrgetter

from holdfast.base.clock import Clock, SystemClock
from holdfast.base.errors import Broken
from holdfast.base.ids import AccountId, TransferId
from holdfast.base.limits import LINKED_TRANSFERS_MAX
from holdfast.domains.ledger.checks import chains, check_account, check_limit, check_transfer, together
from holdfast.domains.ledger.errors import AccountExists, AccountMissing, ChainTooLong
from holdfast.domains.ledger.model import (
    Balance,
    NewAccount,
    NewTransfer,
    Outcome,
    Posting,
    Unit,
    UnitOutcome,
)
from holdfast.domains.ledger.rules.rulebook import ASSET_NUMBERS, RULE_NUMBERS, Books, Rulebook
from holdfast.platform.unit import Write

Apply = Callable[[tuple[object, ...]], None]
Holds = Callable[[tuple[object, ...]], bool]
_RANK = attrgetter("statement.rank")


class MemoryLedger:
    """The `Ledger` in memory. With `history`, past balances can be asked for; it keeps every change then."""

    def __init__(self, clock: Clock | None = None, *, history: bool = False) -> None:
        self._clock = clock or SystemClock()
        self._accounts: dict[int, NewAccount] = {}
        self._numbers: dict[str, int] = {}
        self._history: dict[int, list[tuple[datetime, Balance]]] | None = {} if history else None
        self.book = Rulebook()

    async def open_accounts(self, accounts: Sequence[NewAccount]) -> None:
        """Open accounts; opening one again with the same content does nothing.

        Raises: `AccountExists`, `AccountInvalid`.
        """
        fresh: dict[int, NewAccount] = {}
        for account in accounts:
            check_account(account)
            there = self._accounts.get(account.number) or fresh.get(account.number)
            number = self._numbers.get(account.code, account.number)
            same = there is None or replace(there, limit_minor=account.limit_minor) == account
            if number != account.number or not same:
                raise AccountExists(
                    f"Account {account.number} or the name {account.code!r} belongs to another account."
                )
            if there is None:
                fresh[account.number] = account
        for account in fresh.values():
            self._accounts[account.number] = account
            self._numbers[account.code] = account.number
            self.book.accounts[account.number] = Books(
                ASSET_NUMBERS[account.asset], RULE_NUMBERS[account.rule], limit=account.limit_minor
            )

    async def close_accounts(self, numbers: Sequence[AccountId], *, closed: bool = True) -> None:
        """Close accounts: from then on they take part in nothing but the end of holds.

        Raises: `AccountMissing`.
        """
        if any(number not in self.book.accounts for number in numbers):
            raise AccountMissing
        for number in numbers:
            self.book.accounts[number].closed = closed

    async def set_limits(self, limits: Mapping[AccountId, int]) -> None:
        """Set by how much the rule of accounts may be exceeded from now on. Raises: `AccountMissing`."""
        if any(number not in self.book.accounts for number in limits):
            raise AccountMissing
        for number, limit in limits.items():
            check_limit(limit)
            self.book.accounts[number].limit = limit

    async def post(self, transfers: Sequence[NewTransfer]) -> list[Posting]:
        """Post transfers in order; `linked` ones as chains; an answer for each.

        Raises: `BatchTooLarge`, `ChainTooLong`.
        """
        for t in transfers:
            check_transfer(t)
        now = self._clock.now()
        postings: list[Posting] = []
        for group in chains(transfers):
            postings += self.decide(group.transfers, now, unfinished=group.unfinished)
        return postings

    async def post_together(self, transfers: Sequence[NewTransfer]) -> list[Posting]:
        """Post transfers in order, all of them or none; an answer for each. Raises: `BatchTooLarge`."""
        for t in transfers:
            check_transfer(t)
        return self.decide(together(transfers).transfers, self._clock.now()) if transfers else []

    def decide(
        self, chain: Sequence[NewTransfer], now: datetime, *, unfinished: bool = False
    ) -> list[Posting]:
        """Post one chain at `now`."""
        decisions = self.book.decide_chain(chain, now, unfinished=unfinished)
        if self._history is not None:
            self._remember({n for t in chain for n in (t.debit, t.credit)}, now)
        return [Posting(t.id, outcome, amount) for t, (outcome, amount) in zip(chain, decisions, strict=True)]

    async def expire_due(self, *, limit: int = 1000) -> int:
        """Release, or settle, up to `limit` holds whose time is over and return how many."""
        now = self._clock.now()
        due = [
            h for h in self.book.holds.values() if h.state == "open" and h.expires_at and h.expires_at <= now
        ]
        for hold in due[:limit]:
            self.book.end(hold)
            if self._history is not None:
                self._remember({hold.debit, hold.credit}, now)
        return len(due[:limit])

    async def balances(
        self, accounts: Iterable[AccountId], *, at: datetime | None = None
    ) -> dict[AccountId, Balance]:
        """Return balances now, or as they stood at `at`; an account that does not exist is left out."""
        if at is None:
            return {n: self.balance(n) for n in accounts if n in self.book.accounts}
        if self._history is None:
            raise Broken("this memory ledger keeps no history")
        history = self._history
        return {
            n: next((b for moment, b in reversed(history.get(n, [])) if moment <= at), Balance(0, 0, 0, 0))
            for n in accounts
            if n in self.book.accounts
        }

    async def find(self, ids: Iterable[TransferId]) -> dict[TransferId, Posting]:
        """Return what became of each id that the ledger has seen."""
        found = {}
        for i in ids:
            if i in self.book.known:
                found[i] = Posting(i, Outcome.POSTED, self.book.known[i][1])
            elif i in self.book.refused:
                found[i] = Posting(i, self.book.refused[i])
        return found

    def balance(self, number: int) -> Balance:
        """Return the balance of an account that there is."""
        b = self.book.accounts[number]
        return Balance(b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending)

    def _remember(self, numbers: Iterable[int], now: datetime) -> None:
        for number in numbers:
            if number in self.book.accounts and self._history is not None:
                self._history.setdefault(number, []).append((now, self.balance(number)))


class MemoryLane:
    """The `CommitLane` in memory. A unit takes effect at one moment, after `delay()` when one is given.

    `after` is awaited once the unit has taken effect and before the caller is told, so that a simulation can
    lose the answer.
    """

    def __init__(
        self,
        ledger: MemoryLedger,
        clock: Clock | None = None,
        *,
        delay: Callable[[], Awaitable[None]] | None = None,
        after: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.ledger = ledger
        self._clock = clock or SystemClock()
        self._delay = delay
        self._after = after
        self._apply: dict[str, Apply] = {}
        self._holds: dict[str, Holds] = {}

    def register(self, name: str, apply: Apply) -> None:
        """Have rows of the statement `name` handed to `apply`."""
        self._apply[name] = apply

    def register_guard(self, name: str, holds: Holds) -> None:
        """Have guards of the statement `name` checked by `holds`.

        One that claims inserts when it returns True.
        """
        self._holds[name] = holds

    async def submit(self, unit: Unit) -> UnitOutcome:
        """Commit `unit` and return what became of it.

        Raises: `Broken` for a statement that nobody registered.
        """
        if self._delay is not None:
            await self._delay()
        outcome = self.commit(unit)
        if self._after is not None:
            await self._after()
        return outcome

    def commit(self, unit: Unit) -> UnitOutcome:
        """Commit `unit` at once."""
        if len(unit.transfers) > LINKED_TRANSFERS_MAX:
            raise ChainTooLong
        for t in unit.transfers:
            check_transfer(t)
        if unit.guards:
            failed = self._guard_failed(unit)
            if failed is not None:
                return UnitOutcome("conflict", guard_failed=failed)
        postings: tuple[Posting, ...] = ()
        writes = unit.writes
        if unit.transfers:
            postings = tuple(self.ledger.decide(unit.transfers, self._clock.now()))
            for p in postings:
                if p.outcome > Outcome.EXISTS:
                    self._write(unit.writes_if_refused)
                    return UnitOutcome("refused", postings, balances=self._balances(unit))
        self._write(writes)
        return UnitOutcome("committed", postings, balances=self._balances(unit))

    def _balances(self, unit: Unit) -> dict[AccountId, Balance]:
        touched = {n for t in unit.transfers for n in (t.debit, t.credit)} if unit.balances else ()
        return {n: self.ledger.balance(n) for n in touched if n in self.ledger.book.accounts}

    def _guard_failed(self, unit: Unit) -> int | None:
        for claims in (False, True):
            for position, guard in enumerate(unit.guards):
                if guard.claims is not claims:
                    continue
                holds = self._holds.get(guard.statement.name)
                if holds is None:
                    raise Broken(_nobody(guard.statement.name))
                if not holds(guard.row):
                    return position
        return None

    def _write(self, writes: Sequence[Write]) -> None:
        if len(writes) > 1:
            writes = sorted(writes, key=_RANK)
        handlers = self._apply
        for write in writes:
            handler = handlers.get(write.statement.name)
            if handler is None:
                raise Broken(_nobody(write.statement.name))
            handler(write.row)


def _nobody(name: str) -> str:
    return f"no memory store answers to the statement {name!r}"
