"""A list of transfers that takes several commits, and a writer that goes away between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from holdfast.base.ids import IdSource, TransferId
from holdfast.base.limits import BATCH_ITEMS_MAX
from holdfast.domains.ledger.errors import WriterAway
from holdfast.domains.ledger.model import NewTransfer, Outcome, Posting
from holdfast.domains.ledger.operations import ColumnOutcomes, Columns
from holdfast.domains.payments.errors import BatchUnfinished
from holdfast.flows import chart
from holdfast.flows.transfer import columns, transfers

IDS = IdSource(lambda: time.time_ns() // 1_000_000)


class Stumbles:
    """A ledger whose writer is away after so many lists of transfers."""

    def __init__(self, lists: int) -> None:
        self._left = lists

    async def post(self, wanted: Sequence[NewTransfer]) -> list[Posting]:
        self._stumble()
        return [Posting(one.id, Outcome.POSTED, one.amount_minor or 0) for one in wanted]

    async def post_columns(self, wanted: Columns) -> ColumnOutcomes:
        self._stumble()
        return ColumnOutcomes(np.zeros(len(wanted), np.uint8), wanted.amounts)

    def _stumble(self) -> None:
        if not self._left:
            raise WriterAway
        self._left -= 1


@pytest.mark.parametrize(("lists", "error"), [(0, WriterAway), (1, BatchUnfinished)])
async def test_of_a_batch_that_is_made_in_part_nobody_says_that_nothing_has_moved(
    lists: int, error: type[Exception]
) -> None:
    debit, credit = chart.number("a"), chart.number("b")
    ledger: Any = Stumbles(lists)
    asked = [NewTransfer(TransferId(IDS.new()), debit, credit, "CNY", 1)] * BATCH_ITEMS_MAX
    with pytest.raises(error):
        await transfers(ledger, asked)
    ledger, more = Stumbles(lists), np.ones(2 * BATCH_ITEMS_MAX, np.int64)
    with pytest.raises(error):
        await columns(ledger, Columns(bytes(32 * BATCH_ITEMS_MAX), more * debit, more * credit, more, "CNY"))
