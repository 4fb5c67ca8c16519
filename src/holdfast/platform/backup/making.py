"""Makes a backup of a running embedded PostgreSQL.

PostgreSQL's own pg_basebackup does it, as who runs the server, and writes one tar to us: so the folder of the
backup needs to be open to nobody else. The write-ahead log comes at the end of that tar; until then a
temporary replication slot keeps the server from recycling it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import select
import shutil
import subprocess
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import psycopg

from holdfast import __version__
from holdfast.base.limits import BACKUP_STALL_S
from holdfast.platform.backup.manifest import (
    BASE,
    MARK,
    SECRETS,
    BackupFailed,
    BackupPlaceTaken,
    File,
    Manifest,
    Progress,
    sync_folder,
    write_file,
)
from holdfast.platform.postgres import MAJOR, EmbeddedPostgres, database_dsn
from holdfast.platform.processes import DATA_FORMAT

_CHUNK_BYTES: Final = 2**18
_GZIP: Final = 31
"""zlib's window bits that mean gzip."""
_LEVEL: Final = 1
"""About three times smaller, and faster than most disks; better ones cost a server's core for long."""
_BYTES: Final = "select sum(pg_database_size(oid))::bigint from pg_database where datallowconn"
_SLOT: Final = "select pg_create_physical_replication_slot(%s, true, true)"


def create(data_dir: Path, target: Path, facts: Mapping[str, Any], progress: Progress) -> Manifest:
    """Back up the embedded PostgreSQL that runs over `data_dir` into the new folder `target`.

    Whatever was committed before the call is in it, and more. Raises: `NoDatabase`, `BackupPlaceTaken`,
    `BackupFailed`.
    """
    began_at = datetime.now(UTC)
    database_dsn(None, data_dir)  # refuses when none runs
    server = EmbeddedPostgres(data_dir / "postgres")
    target = target.absolute()
    with _staging(target) as staging:
        try:
            base, unpacked = _base(server, staging / BASE, progress)
            files = {BASE: base}
            for path in (data_dir / MARK, *(server.folder / name for name in SECRETS)):
                files[path.name] = write_file(staging / path.name, path.read_bytes())
            manifest = Manifest(
                __version__, DATA_FORMAT, MAJOR, began_at, datetime.now(UTC), unpacked, files, facts
            )
            manifest.write(staging)
            sync_folder(staging)
            _publish(staging, target)
        except OSError as error:
            raise BackupFailed(f"{error.filename or target}: {error.strerror or error}.") from error
        except psycopg.Error as error:
            raise BackupFailed(f"PostgreSQL does not let us: {str(error).strip()}") from error
    return manifest


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """Make a folder beside `target` to work in; it is gone afterwards, unless it became `target`."""
    if os.path.lexists(target):
        raise BackupPlaceTaken(
            f"{target} is there already. A backup makes a new folder: choose another name."
        )
    if not target.parent.is_dir():
        raise BackupPlaceTaken(f"{target.parent} is no folder. Make it first.")
    staging = target.with_name(f".{target.name}.partial")
    try:
        staging.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise BackupPlaceTaken(f"{staging}: {error.strerror}. Choose another place.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BackupPlaceTaken(f"Another backup to {target} is being made right now.") from error
        for left in staging.iterdir():  # of one that was killed
            left.unlink()
        staging.chmod(0o700)
        try:
            yield staging
        finally:
            if staging.exists():
                shutil.rmtree(staging)
    finally:
        os.close(lock)


def _publish(staging: Path, target: Path) -> None:
    """Give the backup its name. What stands there by now is left as it is."""
    if os.path.lexists(target):
        raise BackupPlaceTaken(f"{target} came into being meanwhile. Choose another name.")
    staging.rename(target)
    sync_folder(target.parent)


def _base(server: EmbeddedPostgres, path: Path, progress: Progress) -> tuple[File, int]:
    """Write the compressed base backup and return it, with the bytes that it unpacks to."""
    with psycopg.connect(server.dsn(), autocommit=True, connect_timeout=10) as keeper:
        row = keeper.execute(_BYTES).fetchone()
        total = int(row[0]) if row and row[0] else 0
        keeper.execute(_SLOT, (f"holdfast_backup_{secrets.token_hex(6)}",))
        process = server.tool(
            "pg_basebackup", "--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast",
            "--no-manifest", "--no-password", f"--host={server.folder}", "--username=postgres",
            "--label=holdfast", password=server.password,
        )  # fmt: skip
        try:
            made = _compress(process, path, total, progress)
            _, words = process.communicate(timeout=BACKUP_STALL_S)
        except subprocess.TimeoutExpired as error:
            raise BackupFailed("pg_basebackup has sent everything and does not end.") from error
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
    if process.returncode:
        said = words.decode(errors="replace").strip()[-400:]
        raise BackupFailed(f"pg_basebackup failed: {said or f'exit code {process.returncode}'}")
    return made


def _compress(
    process: subprocess.Popen[bytes], path: Path, total: int, progress: Progress
) -> tuple[File, int]:
    packer, digest = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP), sha256()
    read = packed = 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for chunk in _chunks(process):
            read += len(chunk)
            for piece in (packer.compress(chunk), packer.flush() if not chunk else b""):
                digest.update(piece)
                file.write(piece)
                packed += len(piece)
            progress("copying", read, max(total, read))
        file.flush()
        os.fsync(file.fileno())
    return File(packed, digest.hexdigest()), read


def _chunks(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield what a process writes, and an empty piece at the end. Raises: `BackupFailed` when it hangs."""
    if process.stdout is None:
        return
    handle = process.stdout.fileno()
    waiting = select.poll()
    waiting.register(handle, select.POLLIN | select.POLLHUP)
    while True:
        began_s = time.monotonic()
        if not waiting.poll(BACKUP_STALL_S * 1000):
            raise BackupFailed(
                f"PostgreSQL has sent nothing for {time.monotonic() - began_s:.0f} s. Look into its log."
            )
        chunk = os.read(handle, _CHUNK_BYTES)
        yield chunk
        if not chunk:
            return
