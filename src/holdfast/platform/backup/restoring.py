"""Checks a backup, starts it aside, and restores it."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Final

from holdfast.base.limits import BACKUP_START_S
from holdfast.platform.backup.manifest import (
    BASE,
    MARK,
    SECRETS,
    BackupFailed,
    BackupPlaceTaken,
    BackupUnusable,
    Manifest,
    Progress,
    check_files,
    read,
    sync_folder,
    write_file,
)
from holdfast.platform.postgres import EmbeddedPostgres, database_dsn
from holdfast.platform.processes import hold_data_folder

_CHUNK_BYTES: Final = 2**20
_SPARE_BYTES: Final = 2**28
"""What PostgreSQL itself needs to start."""
_STAGING: Final = ".restoring"
_BEFORE_ANYTHING: Final = {"lock", MARK, _STAGING}
"""What a restore that was cut off leaves behind."""
_SYNC_S: Final = 3600.0
"""Longest that writing what was unpacked through to the disk may take."""


def check(backup: Path, progress: Progress) -> Manifest:
    """Compare a backup with its manifest. Raises: `BackupUnusable`, `BackupForeign`."""
    manifest = read(backup)
    check_files(backup, manifest, progress)
    return manifest


@contextmanager
def started_aside(
    backup: Path, manifest: Manifest, progress: Progress, *, scratch: Path | None = None
) -> Iterator[str]:
    """Unpack a backup into a folder below `scratch`, start it on a socket only, lend its connection string.

    The folder is gone afterwards. Raises: `BackupUnusable`, `BackupFailed`, `PostgresNotStarted`.
    """
    folder = Path(tempfile.mkdtemp(prefix="holdfast-verify-", dir=scratch))
    try:
        _check_room(folder, manifest)
        folder.chmod(0o711)  # who runs the server must get through to its own folder below, which is closed
        server = EmbeddedPostgres(folder / "postgres", settings={"fsync": "off"})
        _unpack(backup, manifest, server, progress)
        progress("starting PostgreSQL", 0, 0)
        server.start(timeout_s=BACKUP_START_S)
        try:
            yield database_dsn(None, folder)
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def restore(backup: Path, manifest: Manifest, data_dir: Path, progress: Progress) -> None:
    """Make `data_dir`, which must be empty, the data folder that `backup` is of.

    The server is started once, so that it is known to recover. Raises: `BackupPlaceTaken`, `BackupUnusable`,
    `BackupFailed`, `DataFolderUnusable`, `PostgresNotStarted`.
    """
    _refuse_what_is_there(data_dir)
    with hold_data_folder(data_dir):
        _refuse_what_is_there(data_dir)
        staging = data_dir / _STAGING
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir()
            staging.chmod(0o711)  # who runs the server must get through to its own folder below
            _check_room(data_dir, manifest)
            server = EmbeddedPostgres(staging / "postgres")
            _unpack(backup, manifest, server, progress)
            progress("starting PostgreSQL", 0, 0)
            server.start(timeout_s=BACKUP_START_S)
            server.stop(timeout_s=BACKUP_START_S)
            (data_dir / MARK).unlink(missing_ok=True)
            write_file(data_dir / MARK, (backup / MARK).read_bytes())
            server.folder.rename(data_dir / "postgres")
            staging.rmdir()
            sync_folder(data_dir)
        except OSError as error:
            raise BackupFailed(f"{error.filename or data_dir}: {error.strerror or error}.") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _refuse_what_is_there(data_dir: Path) -> None:
    if data_dir.exists() and not data_dir.is_dir():
        raise BackupPlaceTaken(f"{data_dir} is no folder.")
    found = sorted({p.name for p in data_dir.iterdir()} - _BEFORE_ANYTHING) if data_dir.exists() else []
    if found:
        raise BackupPlaceTaken(
            f"{data_dir} is not empty: it has {', '.join(found[:3])}. A backup is restored into an empty "
            "folder; move what is there away, or choose another with --data."
        )


def _check_room(folder: Path, manifest: Manifest) -> None:
    needed, free = manifest.unpacked_bytes + _SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise BackupFailed(
            f"{folder} has {free / 2**30:.1f} GiB free; unpacked, the backup needs {needed / 2**30:.1f}."
        )


def _unpack(backup: Path, manifest: Manifest, server: EmbeddedPostgres, progress: Progress) -> None:
    """Make the folder of a server, with its passwords, durably."""
    server.take_folder()
    try:
        with gzip.open(backup / BASE) as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
            _folder(server, server.data)
            done = 0
            for member in tar:
                _one(tar, member, server)
                done += member.size
                progress("unpacking", done, max(done, manifest.unpacked_bytes))
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BackupUnusable(f"{backup / BASE} cannot be unpacked: {error}.") from error
    for name in SECRETS:
        path = server.folder / name
        write_file(path, (backup / name).read_bytes())
        server.give(path)
    progress("making it durable", 0, 0)
    _sync(server)


def _one(tar: tarfile.TarFile, member: tarfile.TarInfo, server: EmbeddedPostgres) -> None:
    """Unpack one file or folder: owned by who runs the server, open to nobody else."""
    inside = PurePosixPath(member.name)
    if inside.is_absolute() or ".." in inside.parts or not (member.isdir() or member.isfile()):
        raise BackupUnusable(f"The backup holds {member.name!r}, which is neither a file nor a folder of it.")
    target = server.data / inside
    if member.isdir():
        _folder(server, target)
        return
    for parent in reversed(target.relative_to(server.data).parents[:-1]):
        _folder(server, server.data / parent)
    content: IO[bytes] | None = tar.extractfile(member)
    if content is None:
        raise BackupUnusable(f"The backup holds {member.name!r} without its content.")
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        shutil.copyfileobj(content, file, _CHUNK_BYTES)
    server.give(target)


def _folder(server: EmbeddedPostgres, path: Path) -> None:
    if not path.is_dir():
        path.mkdir(mode=0o700)
        server.give(path)


def _sync(server: EmbeddedPostgres) -> None:
    process = server.tool("initdb", "--sync-only", f"--pgdata={server.data}")
    try:
        _, said = process.communicate(timeout=_SYNC_S)
    except subprocess.TimeoutExpired as error:
        raise BackupFailed(f"The files were not on the disk within {_SYNC_S / 3600:.0f} hour.") from error
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
    if process.returncode:
        raise BackupFailed(
            f"The files cannot be made durable: {said.decode(errors='replace').strip()[-400:]}"
        )
