"""`holdfast receipt`: proof of single transfers, made from the database and checked without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

import click

from holdfast.cli.options import archive_option, configuration

if TYPE_CHECKING:
    from holdfast.domains.ledger.receipts import Proven, Root
    from holdfast.platform.db import Database

T = TypeVar("T")
_size = click.option(
    "--size",
    type=click.IntRange(0),
    metavar="BATCHES",
    help="Under the root over so many batches, not the newest.",
)
READ_MORE: Final = 1
"""Bytes read beyond what a document may have, so that a larger one is refused."""


@click.group()
def command() -> None:
    """Prove a transfer to somebody, who checks the proof offline.

    docs/howto/prove-a-payment.md walks through it.
    """


def _ask(config_file: Path | None, data_dir: Path | None, question: Callable[[Database], Awaitable[T]]) -> T:
    from holdfast.platform import config  # noqa: PLC0415 - loaded when asked for
    from holdfast.platform.db import Database  # noqa: PLC0415
    from holdfast.platform.postgres import database_dsn  # noqa: PLC0415

    read = config.load(file=config_file, data_dir=data_dir)
    dsn = database_dsn(read.dsn.reveal() if read.dsn else None, read.data_dir)

    async def asked() -> T:
        database = Database(dsn, connections_min=1, connections_max=1)
        await database.open()
        try:
            return await question(database)
        finally:
            await database.close()

    return asyncio.run(asked())


def _tell(document: dict[str, Any], *, indent: int | None = 1) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, indent=indent))


@command.command("show")
@click.argument("transfer", type=click.UUID)
@_size
@archive_option
@configuration
def show_command(
    transfer: UUID, size: int | None, archive: Path | None, config_file: Path | None, data_dir: Path | None
) -> None:
    """Write the receipt of TRANSFER (its id, as `holdfast ledger statement` shows it), as JSON.

    It names nobody but the two accounts of the transfer; of others it has hashes, and ids that were refused.
    """
    from holdfast.base.ids import TransferId  # noqa: PLC0415 - loaded when asked for
    from holdfast.domains.ledger import receipts  # noqa: PLC0415

    _tell(
        _ask(
            config_file,
            data_dir,
            lambda database: receipts.make_receipt(database, TransferId(transfer), size, archive=archive),
        )
    )


@command.command("root")
@_size
@configuration
def root_command(size: int | None, config_file: Path | None, data_dir: Path | None) -> None:
    """Write the root over all batches, as one line of JSON: publish it where nobody can alter it.

    A file to which each new root is appended is what `verify --roots` takes.
    """
    from holdfast.domains.ledger import receipts  # noqa: PLC0415 - loaded when asked for

    root = _ask(config_file, data_dir, lambda database: receipts.published_root(database, size))
    _tell(root.document(), indent=None)


@command.command("consistency")
@click.argument("old", type=click.IntRange(1))
@click.argument("new", type=click.IntRange(1), required=False)
@configuration
def consistency_command(old: int, new: int | None, config_file: Path | None, data_dir: Path | None) -> None:
    """Write the proof that the root over OLD batches is over the first of the NEW ones, as JSON.

    Without NEW the newest root is taken.
    """
    from holdfast.domains.ledger import receipts  # noqa: PLC0415 - loaded when asked for

    _tell(_ask(config_file, data_dir, lambda database: receipts.consistency(database, old, new)))


@command.command("verify")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--roots", "roots_file", type=click.File("rb"), metavar="FILE",
    help="Published roots: one, a list, or one in each line.",
)  # fmt: skip
def verify_command(file: Any, roots_file: Any) -> None:  # noqa: ANN401 - what click makes of a file
    """Check the receipt, or the proof of consistency, in FILE (`-`: what is piped in). Needs no database.

    Exit code 0: it proves what it says. 1: it does not, or its root was not published. Without --roots the
    root that it leads to is only shown, to be compared with a published one by whoever reads it.
    """
    from holdfast.domains.ledger import receipts  # noqa: PLC0415 - loaded when asked for

    document = receipts.parse(file.read(receipts.DOCUMENT_BYTES_MAX + READ_MORE))
    roots = None
    if roots_file is not None:
        roots = receipts.parse_roots(roots_file.read(receipts.ROOTS_BYTES_MAX + READ_MORE))
    if "old" in document:
        old, new = receipts.verify_consistency(document, roots)
        click.echo(
            f"The {old.size:,} batches of the older root are the first of the {new.size:,} of the newer."
        )
        _show_roots([old, new], published=roots is not None)
        return
    _show(receipts.verify_receipt(document, roots))


def _show(proven: Proven) -> None:
    from holdfast.base.money import ASSETS_BY_NUMBER, Money, decimal_text  # noqa: PLC0415 - loaded when asked for

    transfer = proven.transfer
    asset = ASSETS_BY_NUMBER.get(transfer.asset)
    amount = f"{transfer.amount_minor} minor units of asset {transfer.asset}"
    if asset is not None:
        amount = f"{decimal_text(Money(asset, transfer.amount_minor))} {asset.code}"
    click.echo(f"{transfer.kind_name} {amount} from account {transfer.debit} to {transfer.credit}")
    click.echo(f"  transfer  {transfer.id}")
    click.echo(f"  made      {proven.at:%Y-%m-%d %H:%M:%S} UTC, in batch {proven.batch:,}")
    for name, value in (transfer.metadata or {}).items():
        click.echo(f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}")
    _show_roots([proven.root], published=proven.published)


def _show_roots(roots: list[Root], *, published: bool) -> None:
    for root in roots:
        moment = f", of {root.at:%Y-%m-%d %H:%M:%S} UTC" if published and root.at is not None else ""
        click.echo(f"  root      {root.hash.hex()} over {root.size:,} batches{moment}")
    if published:
        click.secho("Proven: it is in what was published.", fg="green")
    else:
        click.secho("It leads there. Compare that root with a published one (--roots).", fg="yellow")
