"""What became of the transfers of a batch: how it is shown, and how it is kept for a repeat.

The answer to 10,000 transfers is most of a megabyte, and nearly all of it follows from the request, which a
repeat brings again, byte for byte. Kept is only what does not: one byte for each transfer, its `outcome` by
number, compressed, and the batch's own id, of which the ids of transfers are made that have none. A number
keeps its meaning for good, since answers are kept for weeks.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple
from uuid import UUID

import numpy as np
from msgspec import UNSET

from holdfast.api.wire import TransferItem, TransferOutcome, TransfersAsked, TransfersShown
from holdfast.base.errors import Broken
from holdfast.base.ids import MerchantId
from holdfast.base.limits import BATCH_ITEMS_MAX
from holdfast.domains.ledger.model import Outcome
from holdfast.flows.transfer import WORDS


class Refusal(NamedTuple):
    """Why a transfer was refused: the problem's code, the field where it lies if in one, and words."""

    code: str
    field: str
    words: str


_STRANGE: Final = "Write a payer of yours (pyr_…), or your own merchant id (mer_…)."
_AHEAD: Final = "The time in this id lies ahead of ours."
_FIELDS: Final = {
    Outcome.EXISTS_WITH_DIFFERENT_CONTENT: "id",
    Outcome.ID_ALREADY_REFUSED: "id",
    Outcome.AMOUNT_INVALID: "amount.amount_minor",
    Outcome.ACCOUNTS_MUST_DIFFER: "destination",
    Outcome.DEBIT_ACCOUNT_NOT_FOUND: "source",
    Outcome.CREDIT_ACCOUNT_NOT_FOUND: "destination",
    Outcome.EXCEEDS_CREDITS: "source",
    Outcome.EXCEEDS_DEBITS: "destination",
}
SOURCE, DESTINATION = 0, 1
ID_INVALID, PAYER_NOT_FOUND, MERCHANT_NOT_FOUND = 64, 66, 68
"""Refusals that never reach the ledger, of a source; the same plus `DESTINATION` of a destination."""
ASSET_UNKNOWN, ID_AHEAD = 70, 71
_HERE: Final = {
    ID_INVALID: Refusal("id_invalid", "source", _STRANGE),
    ID_INVALID + DESTINATION: Refusal("id_invalid", "destination", _STRANGE),
    PAYER_NOT_FOUND: Refusal("payer_not_found", "source", "There is no such payer."),
    PAYER_NOT_FOUND + DESTINATION: Refusal("payer_not_found", "destination", "There is no such payer."),
    MERCHANT_NOT_FOUND: Refusal("merchant_not_found", "source", _STRANGE),
    MERCHANT_NOT_FOUND + DESTINATION: Refusal("merchant_not_found", "destination", _STRANGE),
    ASSET_UNKNOWN: Refusal("asset_unknown", "amount.asset", "There is no such asset."),
    ID_AHEAD: Refusal("transfer_id_ahead", "id", _AHEAD),
}
REFUSALS: Final[Mapping[int, Refusal]] = _HERE | {
    int(outcome): Refusal(outcome.name.lower(), _FIELDS.get(outcome, ""), words)
    for outcome, words in WORDS.items()
}
"""By number: the ledger's own outcomes, and from 64 on those that are told here."""

_POSTED: Final = int(Outcome.POSTED)
_EXISTS: Final = int(Outcome.EXISTS)
_KEPT: Final = b"HFTB1"
_number: Final = int.from_bytes
_PLACE_BITS: Final = BATCH_ITEMS_MAX.bit_length()
_LOW_64: Final = (1 << 64) - 1
_TIME_AT: Final = 80
_SHAPE: Final = 0xF << 76 | 0x3 << 62
"""Version and variant of a UUID (RFC 9562)."""
_SHAPE_7: Final = 0x7 << 76 | 0x2 << 62
_SHAPE_8: Final = 0x8 << 76 | 0x2 << 62
_MIXED: Final = ((1 << _TIME_AT) - 1) & ~_SHAPE


def ids_of(merchant: MerchantId, batch: UUID, items: Sequence[TransferItem]) -> bytes:
    """Return the ledger's ids of a batch's transfers, 16 bytes each; the same for a repeat.

    One that was given none gets the batch's own id, with its place in the lowest bits.
    """
    halves = np.empty((len(items), 2), ">u8")
    halves[:, 0] = batch.int >> 64
    halves[:, 1] = (batch.int & _LOW_64) >> _PLACE_BITS << _PLACE_BITS
    halves[:, 1] += np.arange(len(items), dtype=np.uint64)
    ids = halves.view("V16")[:, 0]
    for place, item in enumerate(items):
        if item.id is not UNSET:
            ids[place] = own_id(merchant, item.id)
    return ids.tobytes()


def own_id(merchant: MerchantId, given: UUID) -> bytes:
    """Return the ledger's id of a transfer to which `merchant` gave an id.

    The ledger's ids are everybody's, and some are made of others (`chart.transfer_id`): so that nobody takes
    one that is not theirs, be it by chance, all of an id but its time is hashed together with whose it is.
    It stays as time-ordered as it was; an id that is not of version 7 becomes one of version 8.
    """
    number = given.int
    mixed = _number(blake2b(number.to_bytes(16, "big"), digest_size=16, key=merchant.bytes).digest(), "big")
    if number & _SHAPE == _SHAPE_7:
        return (number >> _TIME_AT << _TIME_AT | mixed & _MIXED | _SHAPE_7).to_bytes(16, "big")
    return (mixed & ~_SHAPE | _SHAPE_8).to_bytes(16, "big")


def is_ahead(given: UUID, latest_ms: int) -> bool:
    """Tell whether the time in an id, milliseconds since 1970, is later; an id without one is not ahead."""
    return given.int >> _TIME_AT > latest_ms and given.int & _SHAPE == _SHAPE_7


def shown(asked: TransfersAsked, ids: bytes, outcomes: Sequence[int]) -> TransfersShown:
    """Show what became of a batch. `ids`: the ledger's, 16 bytes each; `outcomes`: numbers of `REFUSALS`."""
    rows = [
        TransferOutcome(name, "posted", item.amount.amount_minor, item.id)
        if outcome == _POSTED
        else _other(item, name, outcome)
        for item, name, outcome in zip(asked.transfers, _public(ids), outcomes, strict=True)
    ]
    posted, exists = outcomes.count(_POSTED), outcomes.count(_EXISTS)
    return TransfersShown(
        "transfer_batch", asked.all_or_none is True, posted, exists, len(rows) - posted - exists, rows
    )


def _other(item: TransferItem, name: str, outcome: int) -> TransferOutcome:
    if outcome == _EXISTS:
        return TransferOutcome(name, "exists", item.amount.amount_minor, item.id)
    why = REFUSALS[outcome]
    return TransferOutcome(name, why.code, 0, item.id, why.field, why.words)


def packed(batch: UUID, outcomes: Sequence[int]) -> bytes:
    """Return what is kept of an answer."""
    return _KEPT + batch.bytes + zlib.compress(bytes(outcomes), 1)


def unpacked(kept: bytes, count: int) -> tuple[UUID, list[int]]:
    """Read what was kept of the answer to `count` transfers. Raises: `Broken`."""
    head, body = len(_KEPT), len(_KEPT) + 16
    known = kept[:head] == _KEPT
    outcomes = zlib.decompressobj().decompress(kept[body:], count + 1) if known else b""
    if not known or len(outcomes) != count:
        raise Broken("what is kept of an answer fits the request that it was the answer to")
    return UUID(bytes=kept[head:body]), list(outcomes)


_DIGITS: Final = np.frombuffer(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", np.uint8)
_CHARS: Final = 29
"""`tr_` and 26 digits of 5 bits."""
_HIGH_SHIFTS: Final = np.array([61, *range(56, 0, -5)], np.uint64)
_LOW_SHIFTS: Final = np.array(range(55, -1, -5), np.uint64)


def _public(ids: bytes) -> list[str]:
    """Write ids as `base.ids.public("tr", …)` does, all at once."""
    halves = np.frombuffer(ids, ">u8").astype(np.uint64)
    high, low = halves[0::2, None], halves[1::2, None]
    five = np.uint64(31)
    text = np.empty((len(high), _CHARS), np.uint8)
    text[:, :3] = np.frombuffer(b"tr_", np.uint8)
    text[:, 3:16] = _DIGITS[high >> _HIGH_SHIFTS & five]
    text[:, 16:17] = _DIGITS[(high & np.uint64(1)) << np.uint64(4) | low >> np.uint64(60)]
    text[:, 17:] = _DIGITS[low >> _LOW_SHIFTS & five]
    whole = text.tobytes().decode()
    return [whole[at : at + _CHARS] for at in range(0, len(whole), _CHARS)]
