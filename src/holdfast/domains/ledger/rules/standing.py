"""Transfers that stand, as they are hashed and stored: rows of fixed columns, and what only some have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from holdfast.domains.ledger.model import NewTransfer
from holdfast.domains.ledger.rules import chain
from holdfast.domains.ledger.rules.plan import Plan
from holdfast.domains.ledger.rules.rulebook import BALANCING_NUMBERS, KIND_NUMBERS

POSTING: Final = tuple(KIND_NUMBERS[kind] for kind in ("posted", "post_pending", "settle_pending"))
"""The kinds that add their amount to the posted sums, as numbers."""


@dataclass(frozen=True, slots=True)
class Extra:
    """What only some transfers have; `metadata` is its canonical JSON. `settles`: True or None."""

    balancing: int | None
    asked: int | None
    held: int | None
    pending_id: UUID | None
    expires_at: datetime | None
    over: int | None
    settles: bool | None
    metadata: str | None


Standing = tuple[npt.NDArray[np.void], dict[int, Extra]]
"""Transfers that stand, as they are hashed, and what only some of them have, by position."""


def change(row: np.void, extra: Extra | None) -> tuple[int, int]:
    """Return what a transfer adds to the posted and to the pending sum on each of its sides."""
    kind, amount = int(row["kind"]), int(row["amount"])
    held = extra.held or 0 if extra is not None else 0
    posted = amount if kind in POSTING else 0
    return posted, amount if kind == KIND_NUMBERS["pending"] else -held


def all_of(plan: Plan) -> Standing:
    """Return the transfers of a plain batch, all of them, as they are hashed and stored."""
    rows = np.zeros(plan.touched.count, chain.FIXED)
    rows["id"] = np.frombuffer(plan.raw_ids, "V16")
    rows["code"] = plan.codes()
    rows["debit"], rows["credit"] = plan.touched.keys[0::2], plan.touched.keys[1::2]
    rows["amount"] = plan.amounts
    rows["asset"] = plan.assets_each
    rows["kind"] = plan.holds > 0  # KIND_NUMBERS: 0 posted, 1 pending
    return rows, extras_of(plan.transfers, plan.amounts.tolist(), {}) if plan.extras else {}


def extras_of(
    transfers: Sequence[NewTransfer], amounts: Sequence[int], held: Mapping[int, int]
) -> dict[int, Extra]:
    """Return what only some transfers have, by position. `held`: what those at these positions release."""
    found = {}
    for position, t in enumerate(transfers):
        extra = _extra(t, amounts[position], held.get(position))
        if extra is not None:
            found[position] = extra
    return found


def _extra(t: NewTransfer, amount: int, held: int | None) -> Extra | None:
    asked = None if t.amount_minor == amount else -1 if t.amount_minor is None else t.amount_minor
    balancing = BALANCING_NUMBERS[t.balancing]
    if (
        balancing is None and asked is None and held is None and t.pending_id is None
        and t.expires_at is None and not t.over_minor and not t.metadata
    ):  # fmt: skip
        return None
    metadata = chain.canonical(t.metadata) if t.metadata else None
    return Extra(
        balancing, asked, held, t.pending_id, t.expires_at, t.over_minor or None, t.settles or None, metadata
    )
