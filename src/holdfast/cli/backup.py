"""`holdfast backup`: make backups of a running Holdfast, prove them, restore them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.options import archive_option, config_option, configuration

if TYPE_CHECKING:
    from holdfast.domains.ledger.receipts import Root
    from holdfast.domains.ledger.verify import Report
    from holdfast.platform.backup import Manifest
    from holdfast.platform.backup.manifest import Progress

_backup = click.argument("backup", type=click.Path(path_type=Path, file_okay=False, exists=True))


@click.group()
def command() -> None:
    """Back up a running Holdfast, prove a backup, restore it.

    docs/howto/backup-and-restore.md walks through it. For the embedded PostgreSQL; one of your own (`dsn`) is
    backed up with its own means.
    """


@contextmanager
def _shown() -> Iterator[Progress]:
    """Show how far things are, on a terminal only."""
    from rich.console import Console  # noqa: PLC0415 - loaded when asked for
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("beginning", total=None)
        yield lambda what, done, total: progress.update(
            task, description=what, completed=done, total=total or None
        )


@command.command("create")
@click.argument("target", type=click.Path(path_type=Path))
@configuration
def create_command(target: Path, config_file: Path | None, data_dir: Path | None) -> None:
    """Back up the running Holdfast into the new folder TARGET. Nothing is stopped and nobody waits.

    Whatever was answered before is in it. Until it is whole it bears another name. It holds everything,
    personal data and passwords too: only you may read it.
    """
    from holdfast.platform import backup, config  # noqa: PLC0415 - loaded when asked for
    from holdfast.platform.postgres import database_dsn  # noqa: PLC0415

    read = config.load(file=config_file, data_dir=data_dir)
    if read.dsn is not None:
        raise backup.BackupElsewhere
    root = _root(database_dsn(None, read.data_dir))
    with _shown() as progress:
        made = backup.create(read.data_dir, target, {"root": root.document()}, progress)
    packed = sum(file.bytes for file in made.files.values())
    took_s = (made.ended_at - made.began_at).total_seconds()
    click.echo(
        f"{target}: {made.unpacked_bytes / 2**20:,.0f} MiB, packed {packed / 2**20:,.0f}, {took_s:.1f} s"
    )
    click.echo(f"It has the ledger's batches up to {root.size:,}, and what came while it was made.")
    click.echo(f"Prove it: holdfast backup verify {target}")


@command.command("verify")
@_backup
@click.option(
    "--scratch", type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="DIR",
    help="Where the copy is unpacked; the system's temporary folder otherwise.",
)  # fmt: skip
@archive_option
def verify_command(backup: Path, scratch: Path | None, archive: Path | None) -> None:
    """Prove that BACKUP can be restored and that the ledger in it is sound; BACKUP itself is only read.

    Compares the files with their checksums, starts a copy that is reached over a socket of its own only,
    proves the ledger there, holds it against the root that was noted when the backup was made, and deletes
    the copy. Exit code 0: all of it holds. 1: it does not.
    """
    from holdfast.platform import backup as backups  # noqa: PLC0415 - loaded when asked for

    with _shown() as progress:
        manifest = backups.check(backup, progress)
        with backups.started_aside(backup, manifest, progress, scratch=scratch) as dsn:
            report, faults = _prove(dsn, backup, manifest, progress, archive)
    click.echo(
        f"{report.transfers:,} transfers in {report.batches:,} batches, {report.accounts:,} accounts,"
        f" head {report.head[0]:,} {report.head[1]}"
    )
    if report.unread:
        click.secho(f"  {report.passed_over:,} archived transfers were not read (--archive).", fg="yellow")
    for words in (*(finding.words for finding in report.findings), *faults):
        click.secho(f"  {words}", fg="red")
    if report.findings or faults:
        click.secho("Do not rely on this backup.", fg="red", bold=True)
        sys.exit(1)
    click.secho(f"Sound: what was made by {manifest.began_at:%Y-%m-%d %H:%M:%S} UTC is in it.", fg="green")


@command.command("restore")
@_backup
@click.option(
    "--data", "data_dir", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", required=True,
    help="The data folder to make of it: one that is not there yet, or is empty.",
)  # fmt: skip
@config_option
def restore_command(backup: Path, data_dir: Path, config_file: Path | None) -> None:
    """Restore BACKUP into an empty data folder. `holdfast up --data DIR` starts it then.

    Never let it run beside the Holdfast that it is a copy of: both would act on the same payments.
    """
    from holdfast.platform import backup as backups  # noqa: PLC0415 - loaded when asked for
    from holdfast.platform import config  # noqa: PLC0415

    config.load(file=config_file)  # a mistake in it should show before the work, not after
    data_dir = data_dir.absolute()
    with _shown() as progress:
        manifest = backups.check(backup, progress)
        backups.restore(backup, manifest, data_dir, progress)
    click.echo(f"Restored into {data_dir}, as of {manifest.ended_at:%Y-%m-%d %H:%M:%S} UTC.")
    click.echo(f"Start it: holdfast up --data {data_dir}")


def _root(dsn: str, size: int | None = None) -> Root:
    from holdfast.domains.ledger import receipts  # noqa: PLC0415 - loaded when asked for
    from holdfast.platform import migrate  # noqa: PLC0415
    from holdfast.platform.db import Database  # noqa: PLC0415

    async def asked() -> Root:
        database = Database(dsn, connections_min=1, connections_max=1)
        await database.open()
        try:
            return await receipts.published_root(database, size)
        finally:
            await database.close()

    migrate.require(dsn, migrate.shipped())
    return asyncio.run(asked())


def _prove(
    dsn: str, backup: Path, manifest: Manifest, progress: Progress, archive: Path | None
) -> tuple[Report, list[str]]:
    """Prove the ledger of a copy; also say what contradicts the root that the backup's maker noted."""
    from holdfast.domains.ledger.errors import RootNotReached  # noqa: PLC0415 - loaded when asked for
    from holdfast.domains.ledger.verify import verify  # noqa: PLC0415
    from holdfast.platform import migrate  # noqa: PLC0415
    from holdfast.platform.backup import BackupForeign  # noqa: PLC0415

    newer = migrate.unknown(dsn, migrate.shipped())
    if newer:
        raise BackupForeign(
            f"{backup} has a newer schema ({newer[0]}). Verify it with the version that made it."
        )
    migrate.apply(dsn, migrate.shipped())  # one by an older version: the copy is brought up to this one
    report = verify(dsn, lambda done, total: progress("proving the ledger", done, total), archive=archive)
    noted = manifest.facts.get("root") or {}
    try:
        found = _root(dsn, int(noted.get("size", 0)))
    except RootNotReached:
        return report, ["It lacks batches that were there when it was made."]
    if noted and found.hash.hex() != noted.get("root"):
        return report, ["The root over its batches is not the one that was noted when it was made."]
    return report, []
