"""What is asked of the ledger in a world, and what each caller was answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal
from uuid import UUID

import numpy as np

from holdfast.base.errors import OutcomeUnknown, Refused, Unavailable
from holdfast.base.ids import AccountId
from holdfast.base.limits import LEDGER_DEADLINE_S
from holdfast.domains.ledger.checks import chains
from holdfast.domains.ledger.errors import WriteRejected
from holdfast.domains.ledger.model import Group, NewAccount, NewTransfer, Unit, UnitOutcome
from holdfast.domains.ledger.operations import Seat
from holdfast.domains.ledger.rules.columns import Columns
from tests.ledger.conftest import bump, claim, note, version_is
from tests.ledger.sim.loop import GATE, Gate
from tests.ledger.workload import Workload

Kind = Literal["post", "submit", "columns", "open", "close", "limits", "expire"]
Answer = Literal["done", "away", "unknown", "refused", "rejected", "given up", "odd"]
LIMIT_BASE = 1_000_000
"""Limits that are set count up from here, so that each says which call set it."""


@dataclass(slots=True, eq=False)
class Call:
    """One call: what was asked, by whom, when, and the answer if there was one."""

    number: int
    kind: Kind
    process: str
    began_s: float
    deadline_s: float
    ask: Callable[[Seat], Awaitable[Any]]
    groups: list[Group] = field(default_factory=list)
    unit: Unit | None = None
    accounts: list[NewAccount] = field(default_factory=list)
    numbers: list[AccountId] = field(default_factory=list)
    closes: bool = False
    limit: int = 0
    forbidden: bool = False
    probe: bool = False
    gate: Gate | None = None
    ended_s: float | None = None
    answer: Answer | None = None
    result: Any = None
    error: BaseException | None = None

    def __str__(self) -> str:
        said = f"call {self.number} {self.kind}, {self.deadline_s:.2f} s"
        return said if self.answer is None else f"{said}: {self.answer} {self.error or ''}"

    @property
    def key(self) -> UUID | None:
        """The id of its first transfer, which no other call begins with."""
        return self.groups[0].transfers[0].id if self.groups else None

    @property
    def note(self) -> str:
        return f"call {self.number}"

    async def make(self, seat: Seat, now_s: Callable[[], float], patience_s: float | None = None) -> None:
        """Ask, and note the answer."""
        self.began_s, self.gate = now_s(), GATE.get()
        try:
            async with asyncio.timeout(patience_s):
                self.result = await self.ask(seat)
            self.answer = "done"
        except Unavailable as error:
            self.answer, self.error = "away", error
        except OutcomeUnknown as error:
            self.answer, self.error = "unknown", error
        except Refused as error:
            self.answer, self.error = "refused", error
        except WriteRejected as error:
            self.answer, self.error = "rejected", error
        except TimeoutError as error:
            self.answer, self.error = "given up", error
        except asyncio.CancelledError:
            if self.gate is None or self.gate.killed:
                return  # that is no answer: the dead are being buried
            self.answer = "given up"
        except Exception as error:  # noqa: BLE001 - what it is, is for the judge
            self.answer, self.error = "odd", error
        self.ended_s = now_s()


class Asking:
    """Draws calls from a seed. `versions` tells what another domain's rows say now."""

    def __init__(
        self,
        random: Random,
        work: Workload,
        opened: list[NewAccount],
        versions: Callable[[], dict[str, int]],
    ) -> None:
        self._random = random
        self._work = work
        self._opened = opened
        self._versions = versions
        self._begun: set[UUID] = set()
        self.calls: list[Call] = []

    def draw(self, process: str) -> Call:
        """Draw a call of any kind."""
        r = self._random
        draw = r.random()
        deadline_s = LEDGER_DEADLINE_S if r.random() < 0.75 else r.uniform(0.1, 3.0)
        if draw < 0.42:
            return self.post(process, deadline_s)
        if draw < 0.78:
            return self._submit(process, deadline_s)
        if draw < 0.83:
            return self._columns(process, deadline_s)
        if draw < 0.90:
            return self._new(process, "expire", lambda seat: seat.expire_due(10))
        if draw < 0.95:
            return self._limits(process)
        return self._close(process) if draw < 0.98 else self._open(process)

    def _new(
        self, process: str, kind: Kind, ask: Callable[[Seat], Awaitable[Any]], deadline_s: float = 0.0
    ) -> Call:
        call = Call(len(self.calls), kind, process, 0.0, deadline_s or LEDGER_DEADLINE_S, ask)
        self.calls.append(call)
        return call

    def _transfers(self, sizes: tuple[int, ...]) -> list[NewTransfer]:
        """Draw transfers of which the first has an id that was never used."""
        drawn = self._work.lists(sizes)
        if drawn[0].id in self._begun:
            drawn.insert(0, replace(self._work._plain(), linked=False))
        self._begun |= {t.id for t in drawn}
        return drawn

    def post(self, process: str, deadline_s: float, *, plain: bool = False) -> Call:
        transfers = [self._work._plain()] if plain else self._transfers((1, 2, 5, 12))
        self._begun |= {t.id for t in transfers}
        groups = chains(transfers)
        call = self._new(process, "post", lambda seat: seat.post(groups, deadline_s), deadline_s)
        call.groups = groups
        return call

    def _columns(self, process: str, deadline_s: float) -> Call:
        first = self._work._plain()
        some = [first, *(t for t in (self._work._plain() for _ in range(5)) if t.asset == first.asset)]
        some = [t for t in some if t.debit != t.credit and 0 < (t.amount_minor or 0) < 2**40]
        if not some or some[0] is not first:
            return self.post(process, deadline_s)
        self._begun |= {t.id for t in some}
        columns = Columns(
            b"".join(t.id.bytes for t in some),
            np.array([t.debit for t in some]),
            np.array([t.credit for t in some]),
            np.array([t.amount_minor for t in some]),
            first.asset,
        )
        call = self._new(process, "columns", lambda seat: seat.post_columns(columns, deadline_s), deadline_s)
        call.groups = columns.groups()
        return call

    def _submit(self, process: str, deadline_s: float) -> Call:
        r = self._random
        call = self._new(process, "submit", lambda seat: seat.submit(unit, deadline_s), deadline_s)
        transfers: list[NewTransfer] = []
        if r.random() < 0.85:
            transfers = [replace(t, linked=False) for t in self._transfers((1, 1, 2, 3))]
        call.forbidden = r.random() < 0.03
        done = note(f"{call.note} done", "forbidden" if call.forbidden else "")
        guards = [claim(f"key {r.randrange(12)}")] if r.random() < 0.25 else []
        writes = [done]
        if r.random() < 0.2:
            name = r.choice(("p", "q"))
            version = self._versions()[name] - (r.random() < 0.1)
            guards.insert(0, version_is(name, version))
            writes.append(bump(name, version + 1))
        refused = note(f"{call.note} refused", "forbidden" if call.forbidden else "")
        unit = call.unit = Unit(tuple(transfers), tuple(writes), (refused,), tuple(guards))
        call.groups = [Group(tuple(transfers))] if transfers else []
        return call

    def _limits(self, process: str) -> Call:
        r = self._random
        account = r.choice([a for a in self._opened if a.rule != "free"])
        limit = LIMIT_BASE + len(self.calls) if r.random() < 0.5 else len(self.calls)
        call = self._new(process, "limits", lambda seat: seat.set_limits({account.number: limit}))
        call.numbers, call.limit = [account.number], limit
        return call

    def _close(self, process: str) -> Call:
        r = self._random
        account, closes = r.choice(self._opened[-6:]), r.random() < 0.6
        call = self._new(process, "close", lambda seat: seat.close_accounts([account.number], closed=closes))
        call.numbers, call.closes = [account.number], closes
        return call

    def _open(self, process: str) -> Call:
        number = len(self.calls)
        limit = self._random.choice((0, number))
        accounts = [
            NewAccount(AccountId(10_000_000 + number * 2 + i), f"new {number} {i}", "CNY", limit_minor=limit)
            for i in range(2)
        ]
        return self.open(process, accounts)

    def open(self, process: str, accounts: list[NewAccount]) -> Call:
        call = self._new(process, "open", lambda seat: seat.open_accounts(accounts))
        call.accounts = accounts
        return call


def answers_of(call: Call) -> list[tuple[Any, int]]:
    """Return what a caller was told of each transfer."""
    if call.kind == "columns":
        return list(zip(call.result.outcomes.tolist(), call.result.amounts.tolist(), strict=True))
    postings = call.result.postings if isinstance(call.result, UnitOutcome) else call.result
    return [(p.outcome, p.amount_minor) for p in postings]
