"""BalanceTransactions: what moved on the account, newest first. The card provider's settlement file."""

from __future__ import annotations

import re
from typing import Final

from holdfast.sandbox.store import Doc, Movement
from holdfast.sandbox.stripe import errors, objects, params
from holdfast.sandbox.stripe.desk import Desk
from holdfast.sandbox.stripe.forms import Form

_ID: Final = re.compile(r"^txn_(\d{1,18})$")
_FOREVER_MS: Final = 2**62


def transactions(desk: Desk, form: Form) -> Doc:
    """List movements, within `created[gte]` and `created[lt]` if given."""
    params.only(form, ("limit", "starting_after", "created", "expand"))
    limit = params.integer(form, "limit") or 10
    if not 1 <= limit <= 100:
        raise errors.invalid("This value must be between 1 and 100.", param="limit")
    created = form.get("created", {})
    if not isinstance(created, dict):
        raise errors.invalid("Give created[gte] and created[lt].", param="created")
    params.only(created, ("gte", "lt"))
    since_s, until_s = params.integer(created, "gte"), params.integer(created, "lt")
    after = params.text(form, "starting_after")
    match = _ID.match(after) if after is not None else None
    if after is not None and match is None:
        raise errors.no_such("balance_transaction", after, "starting_after")
    rows = desk.store.settled(
        desk.instance,
        from_ms=max(since_s or 0, 0) * 1000,
        to_ms=_FOREVER_MS if until_s is None else min(max(until_s, 0) * 1000, _FOREVER_MS),
        before=None if match is None else int(match[1]),
        limit=limit + 1,
    )
    docs = [_transaction(row) for row in rows[:limit]]
    return objects.listing("/v1/balance_transactions", docs, more=len(rows) > limit)


def _transaction(row: Movement) -> Doc:
    kind = "charge" if row.what == "capture" else "refund" if row.amount_minor > 0 else "refund_failure"
    amount = row.amount_minor if row.what == "capture" else -row.amount_minor
    return {
        "id": f"txn_{row.seq}",
        "object": "balance_transaction",
        "amount": amount,
        "available_on": row.at_ms // 1000,
        "created": row.at_ms // 1000,
        "currency": row.currency.lower(),
        "fee": 0,
        "fee_details": [],
        "net": amount,
        "reporting_category": kind,
        "source": row.source,
        "status": "available",
        "type": kind,
    }
