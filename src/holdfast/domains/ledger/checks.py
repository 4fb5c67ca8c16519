"""Checks of what callers hand in, before it joins a batch.

One caller's nonsense must not fail its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.base.limits import (
    AMOUNT_MINOR_MAX,
    BATCH_TRANSFERS_MAX,
    LINKED_TRANSFERS_MAX,
    METADATA_KEY_CHARS_MAX,
    METADATA_KEYS_MAX,
    METADATA_SEALED_CHARS_MAX,
    METADATA_VALUE_CHARS_MAX,
    REFERENCE_CHARS_MAX,
)
from holdfast.base.sealed import is_sealed
from holdfast.domains.ledger.errors import (
    AccountInvalid,
    BatchTooLarge,
    ChainTooLong,
    MetadataTooLarge,
    TransferInvalid,
)
from holdfast.domains.ledger.model import Group, NewAccount, NewTransfer
from holdfast.domains.ledger.rules.rulebook import ASSET_NUMBERS, OWN_KINDS, RULE_NUMBERS

_NUMBER_MAX = 2**63 - 1
_CODE_MAX = 2**31 - 1


def check_account(account: NewAccount) -> None:
    """Raises: `AccountInvalid`."""
    if not 0 < account.number <= _NUMBER_MAX:
        raise AccountInvalid(f"{account.number} is not an account number.")
    if not 0 < len(account.code) <= REFERENCE_CHARS_MAX or "\0" in account.code:
        raise AccountInvalid(f"An account's name has 1 to {REFERENCE_CHARS_MAX} characters.")
    if account.asset not in ASSET_NUMBERS or account.rule not in RULE_NUMBERS:
        raise AccountInvalid(f"{account.code} names an unknown asset or rule.")
    check_limit(account.limit_minor)


def check_limit(limit_minor: int) -> None:
    """Raises: `AccountInvalid`."""
    if not 0 <= limit_minor <= AMOUNT_MINOR_MAX:
        raise AccountInvalid(f"A limit is a whole number of minor units from 0 to {AMOUNT_MINOR_MAX}.")


def check_transfer(t: NewTransfer) -> None:
    """Raises: `TransferInvalid`, `MetadataTooLarge`."""
    if not (0 < t.debit <= _NUMBER_MAX and 0 < t.credit <= _NUMBER_MAX and 0 <= t.code <= _CODE_MAX):
        raise TransferInvalid
    if t.expires_at is not None and t.expires_at.tzinfo is None:
        raise TransferInvalid("expires_at needs a time zone.")
    if t.kind != "posted" and t.kind in OWN_KINDS:
        raise TransferInvalid("Holds lapse, and settle themselves, without being asked.")
    if t.metadata:
        _check_metadata(t)


def _check_metadata(t: NewTransfer) -> None:
    if len(t.metadata) > METADATA_KEYS_MAX:
        raise MetadataTooLarge(f"Metadata has at most {METADATA_KEYS_MAX} keys.")
    for key, value in t.metadata.items():
        if not isinstance(value, str) or "\0" in key or "\0" in value:
            raise MetadataTooLarge("Metadata maps texts to texts, without null characters.")
        most = METADATA_SEALED_CHARS_MAX if is_sealed(value) else METADATA_VALUE_CHARS_MAX
        if len(key) > METADATA_KEY_CHARS_MAX or len(value) > most:
            raise MetadataTooLarge(
                f"A metadata key has at most {METADATA_KEY_CHARS_MAX} characters, "
                f"a value {METADATA_VALUE_CHARS_MAX}."
            )


def together(transfers: Sequence[NewTransfer]) -> Group:
    """Make one group of transfers. Raises: `BatchTooLarge`."""
    _check_count(transfers)
    return Group(tuple(transfers))


def _check_count(transfers: Sequence[NewTransfer]) -> None:
    if len(transfers) > BATCH_TRANSFERS_MAX:
        raise BatchTooLarge(
            f"{len(transfers)} transfers are more than {BATCH_TRANSFERS_MAX}, which one commit takes."
        )


def chains(transfers: Sequence[NewTransfer]) -> list[Group]:
    """Cut a list of transfers into chains. Raises: `ChainTooLong`, `BatchTooLarge`."""
    _check_count(transfers)
    groups = []
    chain: list[NewTransfer] = []
    for t in transfers:
        chain.append(t)
        if len(chain) > LINKED_TRANSFERS_MAX:
            raise ChainTooLong(f"More than {LINKED_TRANSFERS_MAX} transfers are linked.")
        if not t.linked:
            groups.append(Group(tuple(chain)))
            chain = []
    if chain:
        groups.append(Group(tuple(chain), unfinished=True))
    return groups
