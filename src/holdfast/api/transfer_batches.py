"""`POST /v1/transfers/batch`: many transfers in one request, each with an outcome of its own, or all or none.

Each transfer may touch exactly what a single one may (`accounts.own_account`). Whose payer somebody is never
changes, so an account that was once found to be the caller's, and is open, is remembered as such. The key is
taken first; then the transfers are posted under ids that are the same for a repeat, so that one that was cut
off is simply carried out again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

import numpy as np
from litestar import post
from litestar.params import JSONBody
from litestar.response import Response
from msgspec import UNSET

from holdfast.api import batch_answer as answers
from holdfast.api.accounts import own_account
from holdfast.api.batch_body import read_transfers
from holdfast.api.context import Api, Reply, reply
from holdfast.api.errors import MerchantOverloaded, Overloaded, RequestInvalid
from holdfast.api.gate import Request
from holdfast.api.once import claimed_first, once, read_key, ticket
from holdfast.api.responses import Call, OnceKey, api_of, body_of, send
from holdfast.api.sealing import Written, sealed
from holdfast.api.wire import TransferItem, TransfersAsked, TransfersShown
from holdfast.base.ids import AccountId, IdInvalid, TransferId, parse, public
from holdfast.base.limits import (
    BATCH_SLICE_TRANSFERS,
    BATCHES_AT_WORK_MAX,
    BATCHES_PER_MERCHANT_MAX,
    CLOCK_AHEAD_MS_MAX,
    METADATA_KEYS_MAX,
    OWN_ACCOUNTS_KEPT_MAX,
)
from holdfast.base.money import ASSETS
from holdfast.domains.instruments import PayerNotFound
from holdfast.domains.ledger.model import NewAccount, NewTransfer, Outcome
from holdfast.domains.ledger.operations import Columns
from holdfast.domains.merchants import Caller, MerchantNotFound, Right
from holdfast.flows import transfer as flow

OPERATION: Final = "POST /v1/transfers/batch"
_OK: Final = 200
_POSTED: Final = int(Outcome.POSTED)
_EXISTS: Final = int(Outcome.EXISTS)
_FAILED: Final = int(Outcome.LINKED_TRANSFER_FAILED)
_REFUSED_BEFORE: Final = int(Outcome.ID_ALREADY_REFUSED)
_SAME: Final = int(Outcome.ACCOUNTS_MUST_DIFFER)
_NOTHING: Final[dict[str, str]] = {}


@asynccontextmanager
async def place(api: Api, authorization: str | None, key: str | None) -> AsyncIterator[None]:
    """Give a place at work to whoever may send a batch, before it is read.

    Raises: as `Api.caller` and `read_key`, and `Overloaded` and `MerchantOverloaded` when none is free.
    """
    caller = await api.caller(authorization, Right.MOVE_MONEY)
    read_key(key)
    busy, mine = api.batches, caller.merchant.id
    if busy.get(mine, 0) >= BATCHES_PER_MERCHANT_MAX:
        raise MerchantOverloaded
    if sum(busy.values()) >= BATCHES_AT_WORK_MAX:
        raise Overloaded
    busy[mine] = busy.get(mine, 0) + 1
    try:
        yield
    finally:
        busy[mine] -= 1
        if not busy[mine]:
            del busy[mine]


async def create(api: Api, authorization: str | None, key: str | None, body: bytes) -> Reply:
    """Carry out `POST /v1/transfers/batch`: the one way, whichever layer took the request."""
    caller = await api.caller(authorization, Right.MOVE_MONEY)
    held = ticket(caller, key, OPERATION, body)
    asked = read_transfers(body)
    _check_metadata(asked.transfers)
    batch = _Batch(api, caller, asked)
    subject = public("tb", api.app.ids.new())
    wish = claimed_first(api, held, subject, batch.work, kept=batch.kept, waits=False)
    said = await once(api, held, subject, wish)
    if said.replayed and said.status == _OK:
        return replace(said, body=batch.replayed(said.body).body)
    return said


def _check_metadata(items: Sequence[TransferItem]) -> None:
    """Refuse what has no room beside the reference, which is kept as metadata. Raises: `RequestInvalid`."""
    for number, item in enumerate(items):
        if item.metadata is UNSET or item.reference is UNSET:
            continue
        if "reference" in item.metadata or len(item.metadata) >= METADATA_KEYS_MAX:
            raise RequestInvalid(
                f"$.transfers[{number}].metadata: beside a reference it has at most "
                f"{METADATA_KEYS_MAX - 1} keys, none of them 'reference'."
            )


@dataclass(slots=True)
class _Drawn:
    """The transfers of a batch that are for the ledger to decide, as columns.

    `outcomes` has a number for every transfer of the batch: of those here, that of `Outcome.POSTED`.
    `metadata`: of those that have some, by their place here.
    """

    outcomes: list[int] = field(default_factory=list)
    debits: list[int] = field(default_factory=list)
    credits: list[int] = field(default_factory=list)
    amounts: list[int] = field(default_factory=list)
    assets: list[str] = field(default_factory=list)
    metadata: dict[int, Written] = field(default_factory=dict)

    def ids(self, of_all: bytes) -> bytes:
        """Return the ids of those here, of all the batch's, 16 bytes each."""
        if len(self.debits) == len(self.outcomes):
            return of_all
        here = np.array(self.outcomes, np.uint8) == _POSTED
        ids: bytes = np.frombuffer(of_all, "V16")[here].tobytes()
        return ids

    def columns(self, ids: bytes) -> Columns | None:
        """Return them as the ledger's columns; None when they are too various for that."""
        if self.metadata or not self.assets or self.assets.count(self.assets[0]) != len(self.assets):
            return None
        debits, credits_ = np.array(self.debits, np.int64), np.array(self.credits, np.int64)
        return Columns(ids, debits, credits_, np.array(self.amounts, np.int64), self.assets[0])

    def transfers(self, ids: bytes, metadata: dict[int, Mapping[str, str]]) -> list[NewTransfer]:
        """Return them as objects."""
        rows = zip(self.debits, self.credits, self.assets, self.amounts, strict=True)
        return [
            NewTransfer(
                TransferId(UUID(bytes=ids[16 * place : 16 * place + 16])), AccountId(debit),
                AccountId(credit), asset, amount, metadata=metadata.get(place, _NOTHING),
            )
            for place, (debit, credit, asset, amount) in enumerate(rows)
        ]  # fmt: skip


@dataclass(slots=True)
class _Batch:
    """One batch on its way. `made` and `outcomes` are what is kept of its answer."""

    api: Api
    caller: Caller
    asked: TransfersAsked
    made: UUID = field(init=False)
    outcomes: Sequence[int] = field(init=False)

    async def work(self, subject: str, again: bool) -> Reply:
        """Carry the batch out, or what is left of it, and tell what became of each transfer."""
        self.made = parse("tb", subject)
        items = self.asked.transfers
        owners = _Owners(self.api, self.caller)
        await owners.find_out(items)
        ids = answers.ids_of(self.caller.merchant.id, self.made, items)
        drawn = _Drawn()
        for start in range(0, len(items), BATCH_SLICE_TRANSFERS):
            await asyncio.sleep(0)
            some = slice(start, start + BATCH_SLICE_TRANSFERS)
            self._draw(items[some], ids[16 * some.start : 16 * some.stop], owners, drawn)
        if self.asked.all_or_none is True and any(drawn.outcomes):
            self.outcomes = [outcome or _FAILED for outcome in drawn.outcomes]
        else:
            found = iter(await self._posted(drawn, drawn.ids(ids), again) if drawn.debits else [])
            self.outcomes = [outcome or next(found) for outcome in drawn.outcomes]
        if again:
            self.outcomes = [
                _POSTED if item.id is UNSET and outcome == _EXISTS else outcome
                for item, outcome in zip(items, self.outcomes, strict=True)
            ]
        return reply(_OK, answers.shown(self.asked, ids, self.outcomes))

    def _draw(self, items: Sequence[TransferItem], ids: bytes, owners: _Owners, drawn: _Drawn) -> None:
        """Draw what is for the ledger, and say what is refused beforehand."""
        latest_ms = int(self.api.now().timestamp() * 1000) + CLOCK_AHEAD_MS_MAX
        accounts, last = _NO_ACCOUNTS, ""
        add_outcome, add_asset = drawn.outcomes.append, drawn.assets.append
        add_debit, add_credit, add_amount = drawn.debits.append, drawn.credits.append, drawn.amounts.append
        for place, item in enumerate(items):
            amount = item.amount
            asset = amount.asset
            if asset != last:
                accounts, last = owners.accounts.get(asset, _NO_ACCOUNTS), asset
            debit, credit = accounts.get(item.source), accounts.get(item.destination)
            if debit is None or credit is None:
                add_outcome(owners.refusal(item))
            elif debit == credit:
                add_outcome(_SAME)
            elif item.id is not UNSET and answers.is_ahead(item.id, latest_ms):
                add_outcome(answers.ID_AHEAD)
            else:
                if item.reference is not UNSET or item.metadata is not UNSET:
                    id_ = TransferId(UUID(bytes=ids[16 * place : 16 * place + 16]))
                    if said := _metadata(item):
                        written = Written(id_, item.source, item.destination, said)
                        drawn.metadata[len(drawn.debits)] = written
                add_outcome(_POSTED)
                add_debit(debit)
                add_credit(credit)
                add_amount(amount.amount_minor)
                add_asset(asset)

    async def _posted(self, drawn: _Drawn, ids: bytes, again: bool) -> list[int]:
        """Post what was drawn, and return what became of it, in order.

        `again`: what was refused may have been so by the try before, which told nobody why.
        """
        ledger = self.api.app.ledger
        together = self.asked.all_or_none is True
        columns = None if together else drawn.columns(ids)
        if columns is not None:
            outcomes = await flow.columns(ledger, columns)
        else:
            metadata: dict[int, Mapping[str, str]] = {}
            places = list(drawn.metadata)
            for start in range(0, len(places), BATCH_SLICE_TRANSFERS):
                some = places[start : start + BATCH_SLICE_TRANSFERS]
                found = await sealed(self.api, [drawn.metadata[place] for place in some])
                metadata |= zip(some, found, strict=True)
            postings = await flow.transfers(ledger, drawn.transfers(ids, metadata), all_or_none=together)
            outcomes = [int(posting.outcome) for posting in postings]
        if again and _REFUSED_BEFORE in outcomes:
            asked = {
                place: TransferId(UUID(bytes=ids[16 * place : 16 * place + 16]))
                for place, outcome in enumerate(outcomes)
                if outcome == _REFUSED_BEFORE
            }
            before = await ledger.find(asked.values())
            for place, id_ in asked.items():
                if id_ in before:
                    outcomes[place] = int(before[id_].outcome)
        return outcomes

    def kept(self, said: Reply) -> Reply:
        """Return what is kept of the answer: a problem as it is, outcomes in few bytes."""
        return replace(said, body=answers.packed(self.made, self.outcomes)) if said.status == _OK else said

    def replayed(self, kept: bytes) -> Reply:
        """Return the answer again, byte for byte, of which this was kept."""
        made, outcomes = answers.unpacked(kept, len(self.asked.transfers))
        ids = answers.ids_of(self.caller.merchant.id, made, self.asked.transfers)
        return reply(_OK, answers.shown(self.asked, ids, outcomes))


_NO_ACCOUNTS: Final[dict[str, AccountId]] = {}


def _metadata(item: TransferItem) -> dict[str, str]:
    if item.reference is UNSET or not item.reference:
        return _NOTHING if item.metadata is UNSET else item.metadata
    if item.metadata is UNSET:
        return {"reference": item.reference}
    return item.metadata | {"reference": item.reference}


class _Owners:
    """Finds out which accounts are the caller's, and has them opened. Who was found once is remembered.

    `accounts`: the caller's own, by asset and owner.
    """

    def __init__(self, api: Api, caller: Caller) -> None:
        self.accounts: dict[str, dict[str, AccountId]] = {}
        self._api = api
        self._caller = caller
        self._strange: dict[tuple[str, str], int] = {}
        self._found: list[tuple[str, NewAccount]] = []

    async def find_out(self, items: Sequence[TransferItem]) -> None:
        """Learn of every owner that these transfers name."""
        own, merchant = self._api.own, self._caller.merchant.id
        if sum(map(len, own.values())) > OWN_ACCOUNTS_KEPT_MAX:
            own.clear()  # whoever is at work goes on with what they hold
        assets = {item.amount.asset for item in items}.intersection(ASSETS)
        self.accounts = {asset: own.setdefault((merchant, asset), {}) for asset in assets}
        new: set[tuple[str, str]] = set()
        for item in items:
            asset = item.amount.asset
            of = self.accounts.get(asset, _NO_ACCOUNTS)
            if item.source not in of:
                new.add((item.source, asset))
            if item.destination not in of:
                new.add((item.destination, asset))
        asked = [(owner, asset) for owner, asset in new if asset in assets]
        for start in range(0, len(asked), BATCH_SLICE_TRANSFERS):
            some = asked[start : start + BATCH_SLICE_TRANSFERS]
            await asyncio.gather(*(self._ask(owner, asset) for owner, asset in some))
            await self._open()

    def refusal(self, item: TransferItem) -> int:
        """Return why a transfer is refused whose accounts are not both the caller's."""
        asset = item.amount.asset
        if asset not in self.accounts:
            return answers.ASSET_UNKNOWN
        why = self._strange.get((item.source, asset))
        return self._strange[item.destination, asset] + answers.DESTINATION if why is None else why

    async def _ask(self, owner: str, asset: str) -> None:
        try:
            account = await own_account(self._api, self._caller, owner, ASSETS[asset])
        except IdInvalid:
            self._strange[owner, asset] = answers.ID_INVALID
        except PayerNotFound:
            self._strange[owner, asset] = answers.PAYER_NOT_FOUND
        except MerchantNotFound:
            self._strange[owner, asset] = answers.MERCHANT_NOT_FOUND
        else:
            self._found.append((owner, account))

    async def _open(self) -> None:
        """Have the accounts opened that were found, and remember them."""
        found, self._found = self._found, []
        desk = self._api.app.desk
        await desk.open([account for _, account in found if account.number not in desk.opened])
        for owner, account in found:
            self.accounts[account.asset][owner] = account.number


@post(
    "/batch",
    status_code=_OK,
    summary="Move money many times",
    description=(
        "Makes the transfers in order and tells what became of each: one that is refused does not stop "
        "those after it, unless `all_or_none` is true. "
        "Answers 200 also when all are refused."
    ),
)
async def create_transfers(
    request: Call, data: JSONBody[TransfersAsked], idempotency_key: OnceKey = None
) -> Response[TransfersShown]:
    """Make many transfers.

    `gate.Gate` serves this path itself, by the same function; this is what the document shows.
    """
    del data
    return send(
        await create(api_of(request), request.headers.get("authorization"), idempotency_key, body_of(request))
    )


async def serve(api: Api, request: Request) -> Reply:
    """Carry out `POST /v1/transfers/batch` for the gate, which does not go through the framework."""
    key = request.header(b"idempotency-key")
    return await create(api, request.header(b"authorization"), key, request.body)
