"""`holdfast config`: the configuration as it is understood, secrets masked."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.options import configuration


@click.command()
@configuration
def command(config_file: Path | None, data_dir: Path | None) -> None:
    """Show the configuration as it is understood here, secrets masked."""
    from dataclasses import fields  # noqa: PLC0415 - loaded when asked for

    from holdfast.platform import config  # noqa: PLC0415

    read = config.load(file=config_file, data_dir=data_dir)
    for each in fields(read):
        if each.name != "rails":
            click.echo(f"{each.name} = {getattr(read, each.name)}")
    for rail in read.rail_list():
        click.echo(f"rail {rail.name}: {rail.kind} at {rail.base_url}")
