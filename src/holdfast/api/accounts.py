"""`/v1/accounts`: balances and statements of the caller's own accounts and of its payers'; `/v1/assets`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from litestar import Router, get
from litestar.params import FromPath, QueryParameter

from holdfast.api.context import Api
from holdfast.api.errors import RequestInvalid
from holdfast.api.lists import LIMIT, After, Limit, cursor
from holdfast.api.payments import own_wallet
from holdfast.api.responses import Call, called
from holdfast.api.sealing import opened
from holdfast.api.wire import AssetShown, BalanceShown, Page, StatementLine
from holdfast.base.ids import TransferId, parse, public
from holdfast.base.money import ASSETS, Asset, asset
from holdfast.domains.ledger.errors import AccountMissing
from holdfast.domains.ledger.model import Balance, Entry, NewAccount
from holdfast.domains.merchants import Caller, MerchantNotFound, Right
from holdfast.flows import chart

At = Annotated[
    datetime | None,
    QueryParameter(name="at", description="The moment to tell of, RFC 3339 with its offset; else now."),
]


async def own_account(api: Api, caller: Caller, owner: str, of: Asset) -> NewAccount:
    """Return the account of `owner` in an asset: one of the caller's payers, or the caller itself.

    Raises: `PayerNotFound`, `MerchantNotFound`: somebody else's is as absent.
    """
    if owner.startswith("mer_"):
        if parse("mer", owner) != caller.merchant.id:
            raise MerchantNotFound
        return chart.merchant(caller.merchant.id, of.code)
    wallet = await own_wallet(api, caller, owner)
    return chart.payer(wallet.payer.id, of.code)


def shown(owner: str, of: str, balance: Balance) -> BalanceShown:
    """Show a balance."""
    return BalanceShown(
        owner,
        of,
        balance.spendable_minor,
        balance.net_minor,
        balance.credits_pending_minor,
        balance.debits_pending_minor,
    )


def line(entry: Entry, metadata: dict[str, str]) -> StatementLine:
    """Show a line of a statement."""
    return StatementLine(
        public("tr", entry.id),
        "transfer",
        entry.at,
        entry.kind,
        entry.side,
        entry.amount_minor,
        entry.balance.spendable_minor,
        entry.balance.net_minor,
        metadata,
    )


_EMPTY = Balance(0, 0, 0, 0)


@get("/assets", summary="List assets and their scale")
async def list_assets() -> Page[AssetShown]:
    """List the kinds of money that there are."""
    return Page([AssetShown(one.code, one.scale) for one in ASSETS.values()], has_more=False)


@get("/accounts/{owner:str}", summary="Show an owner's balances")
async def list_balances(request: Call, owner: FromPath[str]) -> Page[BalanceShown]:
    """Show what a payer of yours, or you yourself (`mer_…`), hold in each asset ever used."""
    api, caller = await called(request, Right.READ)
    accounts = {code: await own_account(api, caller, owner, one) for code, one in ASSETS.items()}
    held = await api.app.ledger.balances([account.number for account in accounts.values()])
    rows = [shown(owner, code, held[a.number]) for code, a in accounts.items() if a.number in held]
    return Page(rows, has_more=False)


@get("/accounts/{owner:str}/{asset_code:str}", summary="Show a balance, now or at a moment")
async def show_balance(
    request: Call, owner: FromPath[str], asset_code: FromPath[str], at: At = None
) -> BalanceShown:
    """Show what an owner holds in one asset now, or held at `at`."""
    api, caller = await called(request, Right.READ)
    if at is not None and at.tzinfo is None:
        raise RequestInvalid("at: a time needs its offset, such as 2026-01-31T12:00:00Z.")
    account = await own_account(api, caller, owner, asset(asset_code))
    moment = None if at is None else at.astimezone(UTC)
    held = await api.app.ledger.balances([account.number], at=moment)
    return shown(owner, asset_code, held.get(account.number, _EMPTY))


@get("/accounts/{owner:str}/{asset_code:str}/statement", summary="List an account's movements, newest first")
async def list_statement(
    request: Call, owner: FromPath[str], asset_code: FromPath[str], limit: Limit = LIMIT, after: After = None
) -> Page[StatementLine]:
    """List what moved on an account, each line with what the account held after it."""
    api, caller = await called(request, Right.READ)
    account = await own_account(api, caller, owner, asset(asset_code))
    before = cursor("tr", after)
    try:
        found = await api.app.ledger.statement(
            account.number, before=None if before is None else TransferId(before), limit=limit + 1
        )
    except AccountMissing:
        return Page([], has_more=False)
    rows = found[:limit]
    metadata = await opened(api, rows)
    return Page([line(row, told) for row, told in zip(rows, metadata, strict=True)], len(found) > limit)


routes = Router(
    "/v1", route_handlers=[list_assets, list_balances, show_balance, list_statement], tags=["Accounts"]
)
