"""The daily look into each rail's own file: the strongest evidence there is (rule 9 of the protocol)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Protocol, runtime_checkable

from holdfast.domains.payments.ports import SettlementRow
from holdfast.flows.desk import Desk
from holdfast.flows.reconcile import Reconciled, settle_from_file

FILE_DAYS: Final = 8
"""How far back a file is read: a week-end, a holiday and a day that failed are made up for."""

MARGIN_H: Final = 24
"""Attempts younger than this are not judged by their absence: their charge may be in the next file."""


@runtime_checkable
class SettlementSource(Protocol):
    """A rail that gives out a settlement file."""

    async def settlement(self, since: datetime, until: datetime) -> tuple[SettlementRow, ...]:
        """Fetch what was charged and returned from `since` until before `until`."""
        ...


def sources(desk: Desk) -> tuple[str, ...]:
    """Return the names of the rails that give out a settlement file."""
    return tuple(name for name, rail in desk.rails.items() if isinstance(rail, SettlementSource))


async def settle_rail(desk: Desk, rail: str) -> Reconciled:
    """Fetch the last `FILE_DAYS` days of `rail`'s file and correct what is known here.

    A reference whose charge is older than the file is left as it is: an earlier file has settled it. Charged
    but not kept goes back by itself; lines that nobody here knows are in `strays`. Raises: what the rail's
    file reader raises, `PaymentBusy`, `Unavailable`; nothing is half done, run it again then.
    """
    source = desk.rails[rail]
    if not isinstance(source, SettlementSource):
        return Reconciled(0, (), (), ())
    now = desk.clock.now()
    since = now - timedelta(days=FILE_DAYS)
    rows = await source.settlement(since, now + timedelta(minutes=1))  # files are cut at whole seconds
    charged = {row.reference for row in rows if row.kind == "charge"}
    known = [row for row in rows if row.reference in charged]
    return await settle_from_file(desk, rail, known, since=since, until=now - timedelta(hours=MARGIN_H))
