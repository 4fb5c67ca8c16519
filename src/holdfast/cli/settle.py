"""`holdfast settle`: compare rails' own files with what is known here, now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.options import configuration

if TYPE_CHECKING:
    from holdfast.platform.config import Config


@click.command()
@click.argument("rails", nargs=-1, metavar="[RAIL]...")
@configuration
def command(rails: tuple[str, ...], config_file: Path | None, data_dir: Path | None) -> None:
    """Compare the settlement files of all rails, or of those named, with what is known here.

    What was charged and not kept goes back by itself. Exit code 1 when a file has lines that nobody here
    knows, or lacks charges that we take for made: a person should look.
    """
    import asyncio  # noqa: PLC0415 - loaded when asked for

    from holdfast.platform import config  # noqa: PLC0415
    from holdfast.platform.postgres import database_dsn  # noqa: PLC0415

    read = config.load(file=config_file, data_dir=data_dir)
    dsn = database_dsn(read.dsn.reveal() if read.dsn else None, read.data_dir)
    raise SystemExit(asyncio.run(_settle(read, dsn, rails)))


async def _settle(read: Config, dsn: str, rails: tuple[str, ...]) -> int:
    from dataclasses import replace  # noqa: PLC0415

    from holdfast.base.secret import Secret  # noqa: PLC0415
    from holdfast.boot import open_app  # noqa: PLC0415
    from holdfast.flows import settlement_files  # noqa: PLC0415

    app = await open_app(replace(read, dsn=Secret(dsn)))
    try:
        having = settlement_files.sources(app.desk)
        for unknown in set(rails) - set(having):
            raise click.BadParameter(
                f"{unknown} gives out no settlement file; these do: {', '.join(having)}."
            )
        odd = 0
        for rail in rails or having:
            with _told_where(read, rail):
                found = await settlement_files.settle_rail(app.desk, rail)
            odd += len(found.strays) + len(found.missing)
            click.echo(
                f"{rail}: {found.agreed} agreed, {len(found.corrected)} corrected, "
                f"{len(found.strays)} strays, {len(found.missing)} missing"
            )
            for stray in found.strays:
                click.echo(f"  stray: {stray.reference or stray.remote_id} {stray.kind} {stray.amount}")
            for attempt in found.missing:
                click.echo(f"  missing: {attempt.reference} {attempt.amount}")
        return 1 if odd else 0
    finally:
        await app.close()


@contextmanager
def _told_where(read: Config, rail: str) -> Iterator[None]:
    """Let a rail that cannot be reached be refused with the setting that says where it is."""
    from holdfast.adapters.rails.wire import SettlementFileInvalid  # noqa: PLC0415
    from holdfast.platform.http import NoAnswer, NotSent  # noqa: PLC0415

    try:
        yield
    except SettlementFileInvalid as error:
        if not isinstance(error.__cause__, NotSent | NoAnswer):
            raise
        if read.rails:
            hint = f"If {rail} is elsewhere, change base_url in its [[rails]] table ({read.file})."
        else:
            hint = (
                "If the sandbox runs elsewhere (`holdfast up --sandbox-port`), say where with "
                "HOLDFAST_SANDBOX_PORT or HOLDFAST_SANDBOX_URL."
            )
        raise SettlementFileInvalid(f"{rail}: {error.message} {hint}") from error
