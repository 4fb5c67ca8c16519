"""What callers write beside a transfer may be about a person: it enters the ledger sealed, to be erased."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from holdfast.api.context import Api
from holdfast.base.ids import TransferId
from holdfast.domains.ledger.model import Entry
from holdfast.platform import seals

_PAYER: Final = "pyr_"


class Written(NamedTuple):
    """What a caller wrote beside a transfer. `source`, `destination`: public ids of their owners."""

    id: TransferId
    source: str
    destination: str
    metadata: Mapping[str, str]


async def sealed(api: Api, all_written: Sequence[Written]) -> list[Mapping[str, str]]:
    """Return the metadata of some transfers as the ledger is to have it, in order.

    It is sealed for the payer whom the transfer is about: the one who gives or, where a merchant gives, the
    one who gets. Between a merchant's own accounts it stays as it is. Raises: `DatabaseUnavailable`.
    """
    subjects = [_subject(written) for written in all_written]
    notes = [
        seals.Note(subject, written.id, written.metadata)
        for subject, written in zip(subjects, all_written, strict=True)
        if subject is not None
    ]
    found = iter(await seals.seal(api.app.database, notes, now=api.now()))
    return [
        written.metadata if subject is None else next(found)
        for subject, written in zip(subjects, all_written, strict=True)
    ]


def _subject(written: Written) -> str | None:
    return next((owner for owner in (written.source, written.destination) if owner.startswith(_PAYER)), None)


async def opened(api: Api, entries: Iterable[Entry]) -> list[dict[str, str]]:
    """Return the metadata of entries as callers wrote it, in order; of whoever was erased it says so."""
    return await seals.opened(api.app.database, [(entry.id, entry.metadata) for entry in entries])
