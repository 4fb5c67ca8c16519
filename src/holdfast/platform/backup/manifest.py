"""What a backup says of itself, and the errors of everything that has to do with one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from holdfast import __version__
from holdfast.base.errors import Refused, Unavailable
from holdfast.platform.postgres import MAJOR
from holdfast.platform.processes import DATA_FORMAT

FORMAT: Final = "holdfast-backup-1"
NAME: Final = "manifest.json"
BASE: Final = "base.tar.gz"
MARK: Final = "holdfast.json"
"""The layout of the data folder, as `processes.hold_data_folder` writes it."""
SECRETS: Final = ("password", "password.holdfast")
"""Files beside the cluster without which nobody can log in to it."""
_CHUNK_BYTES: Final = 2**20
_MANIFEST_BYTES_MAX: Final = 2**20
Progress = Callable[[str, int, int], None]
"""Is told what is being done, how many bytes of it are done, and of how many (0: not known)."""


class BackupFailed(Unavailable):
    """The backup could not be made, or not be brought back. Nothing was left under the final name."""

    code = "backup_failed"


class BackupUnusable(Refused):
    """It is no whole backup: something is missing, or was altered."""

    code = "backup_unusable"


class BackupForeign(Refused):
    """The backup was made by another version, whose data this one does not read."""

    code = "backup_foreign"


class BackupPlaceTaken(Refused):
    """There is something already where the backup should go. Choose another place."""

    code = "backup_place_taken"


class BackupElsewhere(Refused):
    """`dsn` names a PostgreSQL of your own: back it up with its own means.

    pg_basebackup with continuous archiving restores to any moment, pg_dump to one. Afterwards `holdfast
    ledger verify` proves the restored one; docs/howto/backup-and-restore.md has the commands.
    """

    code = "backup_elsewhere"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a backup."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself.

    `began_at`: whatever was committed before is in it. `unpacked_bytes`: what it takes when it is restored.
    `facts`: whatever its maker wants to find again in it.
    """

    made_by: str
    data_format: int
    postgres: int
    began_at: datetime
    ended_at: datetime
    unpacked_bytes: int
    files: Mapping[str, File]
    facts: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write it into `folder`, durably."""
        said = {
            "format": FORMAT,
            "made_by": self.made_by,
            "data_format": self.data_format,
            "postgres": self.postgres,
            "began_at": self.began_at.isoformat(),
            "ended_at": self.ended_at.isoformat(),
            "unpacked_bytes": self.unpacked_bytes,
            "files": {
                name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in self.files.items()
            },
            "facts": dict(self.facts),
        }
        text = json.dumps(said | {"checksum": _checksum(said)}, indent=1) + "\n"
        write_file(folder / NAME, text.encode())


def read(folder: Path) -> Manifest:
    """Read the manifest of a backup. Raises: `BackupUnusable`, `BackupForeign`."""
    path = folder / NAME
    if not path.is_file():
        raise BackupUnusable(f"{folder} is no backup: it has no {NAME}.")
    try:
        said = json.loads(path.read_bytes()[:_MANIFEST_BYTES_MAX])
        form = said["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise BackupUnusable(f"{path} cannot be read: it is cut off, or was altered.") from error
    if form != FORMAT:
        raise BackupForeign(f"{folder} has the format {form!r}; this is {__version__}, which reads {FORMAT}.")
    if said.pop("checksum", None) != _checksum(said):
        raise BackupUnusable(f"{path} was altered: its own checksum does not fit.")
    try:
        manifest = Manifest(
            str(said["made_by"]), int(said["data_format"]), int(said["postgres"]),
            datetime.fromisoformat(said["began_at"]), datetime.fromisoformat(said["ended_at"]),
            int(said["unpacked_bytes"]),
            {name: File(int(f["bytes"]), str(f["sha256"])) for name, f in said["files"].items()},
            dict(said["facts"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupUnusable(f"{path} does not say what a manifest says.") from error
    return _ours(manifest, folder)


def _ours(manifest: Manifest, folder: Path) -> Manifest:
    if manifest.postgres != MAJOR or manifest.data_format != DATA_FORMAT:
        raise BackupForeign(
            f"{folder} was made by Holdfast {manifest.made_by} (PostgreSQL {manifest.postgres}, "
            f"data format {manifest.data_format}); this is {__version__} (PostgreSQL {MAJOR}, "
            f"data format {DATA_FORMAT}). Use that version to restore it."
        )
    missing = {BASE, MARK, *SECRETS} - manifest.files.keys()
    if missing or any("/" in name or name.startswith(".") for name in manifest.files):
        raise BackupUnusable(f"{folder}: its manifest does not name the files that a backup has.")
    return manifest


def check_files(folder: Path, manifest: Manifest, progress: Progress) -> None:
    """Compare every file with the manifest. Raises: `BackupUnusable`."""
    done, total = 0, sum(file.bytes for file in manifest.files.values())
    for name, wanted in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise BackupUnusable(f"{path} is missing.")
        if path.stat().st_size != wanted.bytes:
            raise BackupUnusable(
                f"{path} has {path.stat().st_size:,} bytes; {wanted.bytes:,} were written. It is cut off, "
                "or was altered."
            )
        digest = sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                progress("checking files", done, total)
        if digest.hexdigest() != wanted.sha256:
            raise BackupUnusable(f"{path} was altered: its SHA-256 is not the one in the manifest.")


def write_file(path: Path, content: bytes) -> File:
    """Write a file that only its owner may read, durably, and return what a manifest says of it."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return File(len(content), sha256(content).hexdigest())


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _checksum(said: Mapping[str, Any]) -> str:
    return sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
