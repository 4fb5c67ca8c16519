"""Backups of the embedded PostgreSQL: made while it serves, checked, started aside, and restored.

A backup is a folder that only its owner may look into:

    manifest.json     what it is, when it was made, and of each other file its length and SHA-256
    base.tar.gz       a base backup of the whole cluster, with the write-ahead log that makes it of one moment
    password…         the passwords of the roles in it
    holdfast.json     the layout of the data folder

It is made under another name and renamed when all of it is on the disk: what bears the final name is whole.
`making` makes one, `restoring` checks, unpacks and starts one. Nothing here knows of wallets: what a caller
wants to find again in it (the root over the ledger's batches) it hands in as `facts`.

Of a PostgreSQL that is not ours no backup is made: the programs that come with the embedded one have no TLS,
a dump restores to one moment only, and whoever runs a server has means of its own for that.
"""

from holdfast.platform.backup.making import create
from holdfast.platform.backup.manifest import (
    BackupElsewhere,
    BackupFailed,
    BackupForeign,
    BackupPlaceTaken,
    BackupUnusable,
    Manifest,
)
from holdfast.platform.backup.restoring import check, restore, started_aside

__all__ = [
    "BackupElsewhere", "BackupFailed", "BackupForeign", "BackupPlaceTaken", "BackupUnusable", "Manifest",
    "check", "create", "restore", "started_aside",
]  # fmt: skip
