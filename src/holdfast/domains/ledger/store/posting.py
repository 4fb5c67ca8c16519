"""Posting a batch of transfers inside a transaction that the caller has opened.

One round trip when nothing in the batch can fail; otherwise the few accounts that matter are looked at, the
rules are run over the transfers that touch them, in order, and a second call corrects and records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from holdfast.base.ids import AccountId, TransferId
from holdfast.base.money import ASSETS_BY_NUMBER
from holdfast.domains.ledger.model import NewTransfer, Outcome, Posting, TransferKind
from holdfast.domains.ledger.rules import KEPT, Books, Decision, Hold, HoldState, Rulebook
from holdfast.domains.ledger.store.batch import KIND_NUMBERS, Plan, Row, Settlement
from holdfast.platform import arrays
from holdfast.platform.db import Connection
from holdfast.platform.exchange import Command, Rows, exchange

_COLUMN_TYPES: Final = (
    "uuid[]",
    "bigint[]",
    "bigint[]",
    "smallint[]",
    "bigint[]",
    "smallint[]",
    "integer[]",
    "integer[]",
    "integer[]",
    "integer[]",
    "integer[]",
    "timestamptz[]",
    "jsonb[]",
)
_POST_TYPES: Final = (
    "timestamptz",
    "boolean",
    "boolean",
    "bigint[]",
    "smallint[]",
    "bigint[]",
    "bigint[]",
    "bigint[]",
    "bigint[]",
    "integer[]",
    "uuid[]",
    "boolean[]",
    "uuid",
    "uuid",
    *_COLUMN_TYPES,
)
_FINISH_TYPES: Final = (
    "timestamptz",
    "bigint[]",
    "integer[]",
    "bigint[]",
    "bigint[]",
    "bigint[]",
    "bigint[]",
    "bigint[]",
    "integer[]",
    "uuid[]",
    *_COLUMN_TYPES,
    "smallint[]",
    "bigint[]",
    "uuid[]",
    "uuid[]",
    "smallint[]",
)
POST: Final = f"select * from ledger.post_v1({', '.join('%b::' + t for t in _POST_TYPES)})"  # noqa: S608 - types
FINISH: Final = f"select * from ledger.finish_v1({', '.join('%b::' + t for t in _FINISH_TYPES)})"  # noqa: S608 - types
_KNOWN: Final = """
select id, debit, credit, asset, amount, kind, balancing, asked, pending_id, expires_at, code, metadata
from ledger.transfers where id = any (%b::uuid[])"""
_REFUSED: Final = "select id, outcome from ledger.refusals where id = any (%b::uuid[])"
_HOLDS: Final = """
select h.id, h.debit, h.credit, h.asset, h.amount, h.expires_at, r.kind
from ledger.transfers h left join ledger.transfers r on r.pending_id = h.id
where h.id = any (%b::uuid[]) and h.kind = 1"""
_HOLD_STATES: Final[dict[int | None, HoldState]] = {None: "open", 2: "posted", 3: "voided", 4: "expired"}
_KINDS: Final[dict[int, TransferKind]] = {number: kind for kind, number in KIND_NUMBERS.items()}
_BALANCING: Final[dict[int | None, Literal["debit", "credit"] | None]] = {None: None, 1: "debit", 2: "credit"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What `post_v1` said.

    `clean`: the batch is recorded. Else `found` are the accounts there are, `unsure` rows of arrays.
    """

    clean: bool
    found: Sequence[int]
    unsure: tuple[Sequence[Any], ...]


NEEDS_A_CLOSER_LOOK: Final = "HF001"
"""What `post_v1` raises when it is strict and something in the batch could be refused."""

CLEAN: Final = Answer(clean=True, found=(), unsure=())


def answer_of(rows: Rows) -> Answer:
    """Read the one row that `POST` returns."""
    if not rows.is_null(0, 0):
        return CLEAN
    row = rows.all()[0]
    return Answer(clean=False, found=row[2] or (), unsure=tuple(column or () for column in row[3:]))


async def settle(connection: Connection, plan: Plan, answer: Answer) -> list[list[Posting]]:
    """Finish a batch that was not clean: look closer, decide in order, correct, record.

    Returns an answer per group.
    """
    book = await _rulebook(connection, plan, answer)
    walked = _walked(
        plan, book, set(answer.unsure[0]) | (set(plan.touched.numbers.tolist()) - set(answer.found))
    )
    rows: list[tuple[int, Row]] = []
    refused: list[tuple[UUID, int]] = []
    answers: list[list[Posting]] = []
    position = 0
    for group, needed in zip(plan.groups, walked, strict=True):
        if needed:
            decisions = book.decide_chain(group.transfers, plan.now, unfinished=group.unfinished)
        else:
            decisions = [(Outcome.POSTED, t.amount_minor or 0) for t in group.transfers]
        for t, decision in zip(group.transfers, decisions, strict=True):
            _note(t, decision, book, position, rows, refused)
            position += 1
        answers.append([Posting(t.id, o, a) for t, (o, a) in zip(group.transfers, decisions, strict=True)])
    await exchange(connection, [(FINISH, Settlement(plan, rows, refused).parameters())])
    return answers


def _note(
    t: NewTransfer, decision: Decision, book: Rulebook, position: int,
    rows: list[tuple[int, Row]], refused: list[tuple[UUID, int]],
) -> None:  # fmt: skip
    outcome, amount = decision
    if outcome is Outcome.POSTED:
        released = book.holds[t.pending_id].amount if t.pending_id is not None else 0
        rows.append((position, Row(t, amount, KIND_NUMBERS[t.kind], released)))
    elif outcome in KEPT and t.kind != "expire_pending":
        refused.append((t.id, int(outcome)))


def _walked(plan: Plan, book: Rulebook, unsure: set[int]) -> list[bool]:
    """Tell which groups must be decided in order.

    Those that touch an account that could refuse, or a known id.
    """
    flags = plan.special.tolist()
    settled = {t.pending_id for t in plan.transfers}
    result = []
    position = 0
    for group in plan.groups:
        needed = False
        for t in group.transfers:
            needed = (
                needed
                or flags[position]
                or t.debit in unsure
                or t.credit in unsure
                or t.id in book.known
                or t.id in book.refused
                or t.id.int in plan.repeated
                or t.id in settled
            )
            position += 1
        result.append(needed)
    return result


async def _rulebook(connection: Connection, plan: Plan, answer: Answer) -> Rulebook:
    book = Rulebook()
    found = set(answer.found)
    for number, asset in zip(plan.touched.numbers.tolist(), plan.assets.tolist(), strict=True):
        if number in found:
            book.accounts[number] = Books(asset)
    for number, asset, rule, closed, debits, credits_, debit_holds, credit_holds in zip(
        *answer.unsure, strict=True
    ):
        books = book.accounts[number] = Books(asset, rule, closed=closed)
        books.debits_posted, books.credits_posted = debits, credits_
        books.debits_pending, books.credits_pending = debit_holds, credit_holds
    ids = arrays.uuids(arrays.uuid_bytes(t.id for t in plan.transfers))
    pending = {t.pending_id for t in plan.transfers if t.pending_id is not None}
    commands: list[Command] = [(_KNOWN, (ids,)), (_REFUSED, (ids,))]
    if pending:
        commands.append((_HOLDS, (arrays.uuids(arrays.uuid_bytes(pending)),)))
    known, refused, *holds = await exchange(connection, commands)
    for row in known.all():
        book.known[row[0]] = transfer_of(row)
    for i, outcome in refused.all():
        book.refused[i] = Outcome(outcome)
    for i, debit, credit, asset, amount, expires_at, kind in holds[0].all() if holds else ():
        book.holds[i] = Hold(debit, credit, asset, amount, expires_at, _HOLD_STATES[kind])
    return book


def transfer_of(row: Sequence[Any]) -> tuple[NewTransfer, int]:
    """Read a stored transfer as what was asked for, and the amount that it moved."""
    i, debit, credit, asset, amount, kind, balancing, asked, pending_id, expires_at, code, metadata = row
    return NewTransfer(
        id=TransferId(i),
        debit=AccountId(debit),
        credit=AccountId(credit),
        asset=ASSETS_BY_NUMBER[asset].code,
        amount_minor=amount if asked is None else None if asked < 0 else asked,
        kind=_KINDS[kind],
        pending_id=pending_id,
        expires_at=expires_at,
        balancing=_BALANCING[balancing],
        code=code,
        metadata=metadata or {},
    ), amount
