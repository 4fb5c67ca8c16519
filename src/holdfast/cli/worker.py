"""`holdfast worker`: run a worker alone."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.options import configuration


@click.command()
@configuration
def command(config_file: Path | None, data_dir: Path | None) -> None:
    """Run a worker: resolve payments in doubt, relay events, deliver webhooks, do what is due.

    Any number may run.
    """
    from dataclasses import replace  # noqa: PLC0415 - loaded when asked for

    from holdfast import worker  # noqa: PLC0415
    from holdfast.base.secret import Secret  # noqa: PLC0415
    from holdfast.platform import config  # noqa: PLC0415
    from holdfast.platform.postgres import database_dsn  # noqa: PLC0415

    read = config.load(file=config_file, data_dir=data_dir)
    dsn = database_dsn(read.dsn.reveal() if read.dsn else None, read.data_dir)
    worker.main(replace(read, dsn=Secret(dsn)))
