"""`holdfast demo`: demonstration data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.options import configuration

if TYPE_CHECKING:
    from holdfast.platform.config import Config


@click.command()
@configuration
def command(config_file: Path | None, data_dir: Path | None) -> None:
    """Load demonstration merchants, payers, instruments and balances. Doing it again changes nothing."""
    import asyncio  # noqa: PLC0415 - loaded when asked for

    from holdfast.platform import config  # noqa: PLC0415
    from holdfast.platform.postgres import database_dsn  # noqa: PLC0415

    read = config.load(file=config_file, data_dir=data_dir)
    dsn = database_dsn(read.dsn.reveal() if read.dsn else None, read.data_dir)
    asyncio.run(_load(read, dsn))
    click.echo("Demonstration data is there.")


async def _load(read: Config, dsn: str) -> None:
    from dataclasses import replace  # noqa: PLC0415

    from holdfast.base.secret import Secret  # noqa: PLC0415
    from holdfast.boot import open_app  # noqa: PLC0415
    from holdfast.flows import demo  # noqa: PLC0415

    app = await open_app(replace(read, dsn=Secret(dsn)))
    try:
        rails = [rail.name for rail in read.rail_list()]
        await demo.load(
            app.merchants, app.instruments, app.ledger, mode=read.mode, rails=rails, now=app.clock.now()
        )
    finally:
        await app.close()
