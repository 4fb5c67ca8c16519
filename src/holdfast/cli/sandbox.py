"""`holdfast sandbox`: run the sandbox providers alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import click


def _door(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    doors: dict[str, int] = {}
    for value in values:
        name, _, port = value.partition("=")
        if not name or not port.isdecimal() or int(port) > 65_535:
            raise click.BadParameter(f"{value!r} is not NAME=PORT")
        doors[name] = int(port)
    return doors


def _more(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    more: dict[str, str] = {}
    for value in values:
        name, _, protocol = value.partition("=")
        if not re.fullmatch("[a-z][a-z0-9]{0,31}", name) or protocol not in ("stripe", "harbour"):
            raise click.BadParameter(f"{value!r} is not NAME=stripe or NAME=harbour")
        more[name] = protocol
    return more


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--data", "data_dir", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Folder of its own books.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed that faults are drawn from.")
@click.option(
    "--webhooks", "hooks", multiple=True, metavar="URL",
    help="Where webhooks go; {instance} stands for the name. Default: the server of this configuration.",
)  # fmt: skip
@click.option(
    "--no-webhooks", is_flag=True, help="Deliver webhooks nowhere, unless told over the control API."
)
@click.option(
    "--door", "doors", multiple=True, callback=_door, metavar="NAME=PORT",
    help="Give an instance a port of its own, where `refuse` refuses connections for real.",
)  # fmt: skip
@click.option(
    "--instance", "more", multiple=True, callback=_more, metavar="NAME=PROTOCOL",
    help="Serve another one besides, speaking `stripe` or `harbour`.",
)  # fmt: skip
@click.option(
    "--settle-ms", type=click.IntRange(0, 86_400_000), default=1500, show_default=True,
    help="How long a bank transfer takes to confirm.",
)  # fmt: skip
def command(
    port: int | None,
    host: str,
    data_dir: Path | None,
    seed: int,
    hooks: tuple[str, ...],
    no_webhooks: bool,
    doors: dict[str, int],
    more: dict[str, Literal["stripe", "harbour"]],
    settle_ms: int,
) -> None:
    """Serve providers to practise on: north, south and harbour, and a page to break and mend them."""
    import asyncio  # noqa: PLC0415 - loaded when asked for
    import json  # noqa: PLC0415
    from collections.abc import Mapping  # noqa: PLC0415
    from dataclasses import replace  # noqa: PLC0415

    from holdfast.base.errors import Refused  # noqa: PLC0415
    from holdfast.platform import config, processes  # noqa: PLC0415
    from holdfast.sandbox.model import DEFAULT_INSTANCES, instance  # noqa: PLC0415
    from holdfast.sandbox.serve import Settings, serve  # noqa: PLC0415

    read = config.load()
    if read.mode == "production":
        raise Refused("The sandbox does not run in production mode: it accepts any test key.")
    if not hooks and not no_webhooks:
        hooks = (f"http://127.0.0.1:{read.port}/v1/rails/{{instance}}/webhook",)
    served = {one.name: one for one in DEFAULT_INSTANCES} | {
        name: instance(name, protocol) for name, protocol in more.items()
    }
    if unknown := sorted(set(doors) - set(served)):
        raise Refused(f"--door {unknown[0]}: there is no such instance; there are {', '.join(served)}.")
    settings = Settings(
        folder=data_dir or read.data_dir / "sandbox",
        host=host,
        port=read.sandbox_port if port is None else port,
        seed=seed,
        hooks=() if no_webhooks else hooks,
        doors=doors,
        instances=tuple(replace(one, settle_ms=settle_ms) for one in served.values()),
    )

    def ready(bound: int, open_doors: Mapping[str, int]) -> None:
        click.echo(json.dumps({"ready": f"http://{host}:{bound}", "port": bound, "doors": dict(open_doors)}))
        processes.notify("READY=1")

    asyncio.run(serve(settings, ready=ready))
