"""`holdfast serve`: run the server alone, under granian."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from holdfast.cli.options import configuration


@click.command()
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to listen on.")
@click.option("--host", help="Address to listen on.")
@configuration
def command(port: int | None, host: str | None, config_file: Path | None, data_dir: Path | None) -> None:
    """Run the server: the API and the pages. SIGHUP reloads it without dropping connections."""
    import os  # noqa: PLC0415 - loaded when asked for

    from granian.constants import Interfaces, Loops  # noqa: PLC0415
    from granian.server import Server  # noqa: PLC0415

    from holdfast.platform import config, processes  # noqa: PLC0415
    from holdfast.platform.postgres import database_dsn  # noqa: PLC0415

    read = config.load(file=config_file, data_dir=data_dir, port=port, host=host)
    dsn = database_dsn(read.dsn.reveal() if read.dsn else None, read.data_dir)
    os.environ.update(read.environment() | {"HOLDFAST_DSN": dsn})
    with processes.hold_port(read.host, read.port, option="--port"):
        Server(
            "holdfast.cli.serve:application",
            factory=True,
            address=read.host,
            port=read.port,
            interface=Interfaces.ASGI,
            loop=Loops.uvloop,
            workers_kill_timeout=max(1, read.stop_timeout_ms // 1_000),
            log_enabled=False,
            backlog=2_048,
        ).serve()


def application() -> Any:  # noqa: ANN401 - an ASGI application
    """Make the application inside granian's worker process, which must not outlive its parent."""
    import multiprocessing  # noqa: PLC0415
    import signal  # noqa: PLC0415

    from holdfast.api.app import create_app  # noqa: PLC0415
    from holdfast.platform import config, log, processes  # noqa: PLC0415
    from holdfast.web import routes  # noqa: PLC0415

    parent = multiprocessing.parent_process()
    if parent is not None:
        # Not SIGTERM: the server's handler of it may drop it, and an orphan would hold the port and go on.
        processes.die_with_parent(signal.SIGKILL, parent=parent.pid or 0)
    processes.work_in_long_turns()
    read = config.load()
    log.configure(read.log_level, read.log_format, mode=read.mode, process="server")
    return create_app(read, pages=routes(development=read.mode == "development"))
