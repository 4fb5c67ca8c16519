"""Random ledger traffic that hits every rule.

Holds, chains, balancing, repeats, hot accounts, several assets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from holdfast.base.ids import AccountId, IdSource, TransferId
from holdfast.domains.ledger.model import NewAccount, NewTransfer, Rule

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RULES: tuple[Rule, ...] = ("free", "debits_must_not_exceed_credits", "credits_must_not_exceed_debits")
ASSETS = ("CNY", "JPY", "USDC")
LIMITS = (0, 0, 700, 0, 2_500)
_AHEAD_MS = 3_600_000


class StillClock:
    """A clock that a test sets."""

    def __init__(self, now: datetime = START) -> None:
        self.at = now

    def now(self) -> datetime:
        return self.at

    def monotonic_s(self) -> float:
        return self.at.timestamp()

    async def sleep(self, delay_s: float) -> None:
        self.at += timedelta(seconds=delay_s)


def accounts(count: int) -> list[NewAccount]:
    """The first of each asset is a free, hot one.

    A few are bounded the other way; most must not be overdrawn, some of them only by more than a limit.
    """
    made = []
    for i in range(count):
        place = i // len(ASSETS)
        rule = RULES[0] if place < 2 else RULES[2] if place == 2 else RULES[1]
        limit = LIMITS[i % len(LIMITS)] if place > 1 else 0
        number, asset = AccountId(1000 + i * 7919), ASSETS[i % len(ASSETS)]
        made.append(NewAccount(number, f"account:{i}", asset, rule, limit))
    return made


class Workload:
    """Draws lists of transfers from a seed. `now` is the time against which holds expire.

    Which holds settle themselves, or may be settled for more, is drawn apart from all the rest.
    """

    def __init__(self, seed: int, opened: list[NewAccount], now: Callable[[], datetime]) -> None:
        self.random = Random(seed)
        self._terms = Random(seed + 1)
        self._now = now
        self._ids = IdSource(lambda: int(now().timestamp() * 1000), self.random.randbytes)
        self._by_asset = {asset: [a.number for a in opened if a.asset == asset] for asset in ASSETS}
        self._holds: list[NewTransfer] = []
        self._past: list[NewTransfer] = []

    def lists(self, sizes: tuple[int, ...] = (1, 2, 5, 20, 60)) -> list[NewTransfer]:
        """One list to post. Now and then its last chain is left open."""
        size = self.random.choice(sizes)
        transfers = [self.transfer() for _ in range(size)]
        run = 0
        for i in range(size - 1):
            linked = run < 6 and self.random.random() < (0.5 if run else 0.12)
            run = run + 1 if linked else 0
            if linked:
                transfers[i] = replace(transfers[i], linked=True)
        if self.random.random() < 0.01:
            transfers[-1] = replace(transfers[-1], linked=True)
        self._past = (self._past + transfers)[-400:]
        return transfers

    def transfer(self) -> NewTransfer:
        r = self.random
        draw = r.random()
        if draw < 0.04 and self._past:
            return self._repeat(r.choice(self._past))
        if draw < 0.20 and self._holds:
            return self._settle()
        if draw < 0.24:
            return self._odd()
        t = self._plain()
        if draw < 0.40:
            expires = r.choice((None, None, self._now() + timedelta(seconds=r.randrange(1, 120))))
            t = self._with_terms(replace(t, kind="pending", expires_at=expires))
            self._holds = [*self._holds, t][-300:]
        elif draw < 0.48:
            t = replace(t, balancing=r.choice(("debit", "credit")), kind=r.choice(("posted", "pending")))
            if t.kind == "pending" and self._terms.random() < 0.3:
                t = replace(t, over_minor=self._terms.randrange(1, 50))
        elif draw < 0.52:
            t = replace(t, metadata={"order": str(r.randrange(100)), "note": "午餐"}, code=r.randrange(5))
        return t

    def _with_terms(self, t: NewTransfer) -> NewTransfer:
        """Return a hold that perhaps settles itself, or may be settled for more."""
        r = self._terms
        if t.expires_at is not None and r.random() < 0.5:
            t = replace(t, settles=True)
        if r.random() < 0.4:
            t = replace(t, over_minor=r.choice((1, r.randrange(1, 300), r.randrange(1, 3000), 2**53 - 1)))
        return t

    def _plain(self) -> NewTransfer:
        r = self.random
        numbers = self._by_asset[r.choice(ASSETS)]
        debit = numbers[0] if r.random() < 0.35 else r.choice(numbers)
        credit = numbers[1] if r.random() < 0.3 else r.choice(numbers)
        asset = next(a for a, members in self._by_asset.items() if members is numbers)
        amount = r.choice((1, 10, r.randrange(1, 300), r.randrange(1, 3000)))
        if r.random() < 0.002:
            amount = 2**53 - 1 - r.randrange(3)
        return NewTransfer(self._new(), debit, credit, asset, amount)

    def _new(self) -> TransferId:
        """Return a fresh id: mostly by its time; some say nothing of it, or lie far ahead."""
        draw = self.random.random()
        if draw < 0.05:
            return TransferId(UUID(bytes=self.random.randbytes(16)))
        made = self._ids.new()
        return TransferId(UUID(int=made.int + (_AHEAD_MS << 80)) if draw < 0.06 else made)

    def _settle(self) -> NewTransfer:
        r = self.random
        hold = r.choice(self._holds)
        t = replace(
            hold, id=self._new(), kind="post_pending", pending_id=hold.id, expires_at=None, linked=False,
            settles=False, over_minor=0,
        )  # fmt: skip
        draw = r.random()
        if draw < 0.3:
            return replace(t, kind="void_pending", amount_minor=None)
        if draw < 0.6:
            return replace(t, amount_minor=None)
        if draw < 0.9:
            amount = r.randrange(1, max(2, (hold.amount_minor or 1) + 2))
            if hold.over_minor and self._terms.random() < 0.6:
                amount = (hold.amount_minor or 1) + self._terms.randrange(1, min(hold.over_minor, 2000) + 2)
            return replace(t, amount_minor=amount)
        if draw < 0.95:
            return replace(t, credit=r.choice(self._by_asset[hold.asset]))
        return replace(t, pending_id=r.choice((None, self._new())))

    def _repeat(self, t: NewTransfer) -> NewTransfer:
        r = self.random
        if r.random() < 0.6:
            return replace(t, linked=False)
        if self._terms.random() < 0.3:
            return replace(t, linked=False, **self._terms.choice(({"settles": True}, {"over_minor": 1})))
        return (
            replace(t, linked=False, code=t.code + 1)
            if r.random() < 0.5
            else replace(t, amount_minor=7, linked=False)
        )

    def _odd(self) -> NewTransfer:
        r = self.random
        t = self._plain()
        changes: tuple[dict[str, Any], ...] = (
            {"amount_minor": 0},
            {"amount_minor": None},
            {"amount_minor": 2**53},
            {"credit": t.debit},
            {"debit": AccountId(5)},
            {"credit": AccountId(6)},
            {"asset": "EUR"},
            {"asset": "NONE"},
            {"debit": self._by_asset[ASSETS[0]][0], "credit": self._by_asset[ASSETS[1]][0]},
            {"expires_at": self._now() + timedelta(seconds=5)},
            {"kind": "pending", "expires_at": self._now()},
            {"pending_id": t.id},
        )
        change = r.choice(changes)
        if self._terms.random() < 0.2:
            change = self._terms.choice(self._odd_terms())
        return replace(t, **change)

    def _odd_terms(self) -> tuple[dict[str, Any], ...]:
        later = self._now() + timedelta(seconds=5)
        return (
            {"settles": True},
            {"over_minor": 5},
            {"kind": "pending", "settles": True},
            {"kind": "pending", "settles": True, "expires_at": self._now()},
            {"kind": "pending", "over_minor": -1},
            {"kind": "pending", "over_minor": 2**53},
            {"kind": "post_pending", "settles": True, "expires_at": later},
            {"kind": "void_pending", "amount_minor": None, "over_minor": 5},
        )
