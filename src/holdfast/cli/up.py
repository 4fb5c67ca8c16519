"""`holdfast up`: everything on this machine, under one parent."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli.options import configuration


@click.command()
@click.option("--port", type=click.IntRange(1, 65_535), help="Port of the server.")
@click.option("--sandbox-port", type=click.IntRange(1, 65_535), help="Port of the sandbox providers.")
@click.option(
    "--status-page-port", type=click.IntRange(0, 65_535), help="Port of the status service; 0: start none."
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@click.option("--no-demo", is_flag=True, help="Start without demo data.")
@configuration
def command(
    port: int | None,
    sandbox_port: int | None,
    status_page_port: int | None,
    open_page: bool,
    no_demo: bool,
    config_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Start everything on this machine: database, sandbox, server, worker. Ctrl-C stops it all."""
    import sys  # noqa: PLC0415 - loaded when asked for

    from holdfast.cli.machine import run  # noqa: PLC0415
    from holdfast.platform import config  # noqa: PLC0415

    read = config.load(
        file=config_file, data_dir=data_dir, port=port, sandbox_port=sandbox_port,
        status_page_port=status_page_port,
    )  # fmt: skip
    sys.exit(run(read, demo=not no_demo, open_page=open_page))
