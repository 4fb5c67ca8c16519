"""`holdfast migrate`: bring the schema up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from holdfast.cli.options import configuration


@click.command()
@click.option(
    "--phase", type=click.Choice(["pre", "post", "all"]), default="all", show_default=True,
    help="pre: before the new version starts; post: when the old one is gone.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only list what would be applied.")
@configuration
def command(
    phase: Literal["pre", "post", "all"], dry_run: bool, config_file: Path | None, data_dir: Path | None
) -> None:
    """Apply the migrations that the database lacks; one process at a time, with short lock waits."""
    from holdfast.platform import config, migrate  # noqa: PLC0415 - loaded when asked for
    from holdfast.platform.postgres import database_dsn  # noqa: PLC0415

    read = config.load(file=config_file, data_dir=data_dir)
    dsn = database_dsn(read.dsn.reveal() if read.dsn else None, read.data_dir)
    phases: tuple[migrate.Phase, ...] = ("pre", "post") if phase == "all" else (phase,)
    if (
        "post" in phases
        and not dry_run
        and any(m.phase == "post" for m in migrate.missing(dsn, migrate.shipped()))
    ):
        _refuse_old_code(dsn, len(migrate.shipped()))
    if dry_run:
        names = [
            f"{each.domain}/{each.name}" for each in migrate.missing(dsn, migrate.shipped(), phases=phases)
        ]
    else:
        names = migrate.apply(dsn, migrate.shipped(), phases=phases)
    for name in names:
        click.echo(("would apply " if dry_run else "applied ") + name)
    if not names:
        click.echo("The schema is up to date.")


def _refuse_old_code(dsn: str, knows: int) -> None:
    from holdfast.base.clock import SystemClock  # noqa: PLC0415 - loaded when asked for
    from holdfast.base.errors import Refused  # noqa: PLC0415
    from holdfast.platform import heartbeat  # noqa: PLC0415

    old = heartbeat.old_code(dsn, knows=knows, now=SystemClock().now())
    if old:
        raise Refused(
            f"Processes of an older version still run: {', '.join(old)}. Stop them first; only then "
            "may `post` migrations take away what they use. --phase pre applies only what suits them."
        )
