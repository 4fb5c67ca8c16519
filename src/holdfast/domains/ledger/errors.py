"""What the ledger refuses before it even looks at a balance.

    Refused
    x AccountExists      the number or the name belongs to another account
    x AccountInvalid     the account that should be opened is not well formed
    x AccountMissing     no such account
    x BatchTooLarge      more transfers than one commit takes
    x ChainTooLong       more linked transfers than one chain takes
    x MetadataTooLarge   the metadata of a transfer is beyond its bounds
    x TransferInvalid    a transfer that no ledger could store
    x CursorInvalid      the statement has no such entry to go on from
    x TransferMissing    no transfer with that id was made
    x RootNotReached     there is no root over so many batches, or the transfer came after it
    x ReceiptUnreadable  a document that is no receipt, root or proof
    x ReceiptFalse       hashes that do not lead where the document says
    x RootUnknown        a document that leads to a root nobody has published
    x HistoryArchived    what is asked for lies in an archive file
    x ArchiveRefused     a segment cannot be archived yet
    x ArchiveUnreadable  a file that is no archive of this ledger, or no whole one
    Unavailable
    x LaneFull           too many units wait for their commit
    x WriterAway         the process that writes the ledger cannot be reached, or runs another version
    OutcomeUnknown
    x CommitUnknown      the connection broke while the commit was under way
    Broken
    x WriteRejected      a row that should commit with the transfers breaks a constraint

Refusals of single transfers are no exceptions: they are outcomes (`model.Outcome`), one for each transfer of
a batch.
"""

from __future__ import annotations

from holdfast.base.errors import Broken, OutcomeUnknown, Refused, Unavailable


class AccountExists(Refused):
    """That account number or name belongs to another account."""

    code = "account_exists"


class AccountInvalid(Refused):
    """An account has a number from 1 to 2^63-1, a name, a known asset and a known rule."""

    code = "account_invalid"


class AccountMissing(Refused):
    """There is no such ledger account."""

    code = "ledger_account_missing"


class BatchTooLarge(Refused):
    """That is more transfers than one commit takes; send them in several."""

    code = "batch_too_large"


class ChainTooLong(Refused):
    """That is more linked transfers than one chain takes."""

    code = "chain_too_long"


class MetadataTooLarge(Refused):
    """Metadata has too many keys, or too long ones."""

    code = "metadata_too_large"


class TransferInvalid(Refused):
    """Account numbers go from 1 to 2^63-1 and codes from 0 to 2^31-1."""

    code = "transfer_invalid"


class CursorInvalid(Refused):
    """There is no such entry in this account's statement to go on from."""

    code = "cursor_invalid"


class TransferMissing(Refused):
    """No transfer with this id was made."""

    code = "ledger_transfer_missing"


class RootNotReached(Refused):
    """There is no root over so many batches."""

    code = "root_not_reached"


class ReceiptUnreadable(Refused):
    """It is no receipt, root or proof of consistency."""

    code = "receipt_unreadable"


class ReceiptFalse(Refused):
    """Its hashes do not lead to the root that it names: it proves nothing."""

    code = "receipt_false"


class RootUnknown(Refused):
    """It leads to a root that is not among the published ones."""

    code = "root_unknown"


class HistoryArchived(Refused):
    """The transfers of that time were moved to an archive file."""

    code = "history_archived"


class ArchiveRefused(Refused):
    """That part of the ledger cannot be archived yet."""

    code = "archive_refused"


class ArchiveUnreadable(Refused):
    """The archive file cannot be read: it is cut off, was altered, or is none."""

    code = "archive_unreadable"


class LaneFull(Unavailable):
    """Too many payments are waiting for their commit. Nothing has moved; try again shortly."""

    code = "lane_full"


class WriterAway(Unavailable):
    """The ledger's writer cannot be reached right now. Nothing has moved; try again shortly."""

    code = "writer_away"


class CommitUnknown(OutcomeUnknown):
    """The connection to the database broke while the commit was under way.

    Ask for the state by id; do not send again.
    """

    code = "commit_unknown"


class WriteRejected(Broken):
    """A row that belongs to the transfers breaks a constraint of its table. Nothing of the unit was kept."""

    code = "write_rejected"
