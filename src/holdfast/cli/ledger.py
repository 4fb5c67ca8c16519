"""`holdfast ledger`: prove the books, and look into them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from holdfast.cli.options import archive_option, configuration

if TYPE_CHECKING:
    from holdfast.domains.ledger.model import AccountView
    from holdfast.domains.ledger.verify import Report
    from holdfast.platform.db import Database

T = TypeVar("T")
NAMES_MAX: Final = 100
"""Among how many names the nearest to a mistyped one is looked for."""
NEAR_MAX: Final = 3


@click.group()
def command() -> None:
    """Verify the ledger and look into it."""


def _dsn(config_file: Path | None, data_dir: Path | None) -> str:
    from holdfast.platform import config  # noqa: PLC0415 - loaded when asked for
    from holdfast.platform.postgres import database_dsn  # noqa: PLC0415

    read = config.load(file=config_file, data_dir=data_dir)
    return database_dsn(read.dsn.reveal() if read.dsn else None, read.data_dir)


def _ask(dsn: str, question: Callable[[Database], Awaitable[T]]) -> T:
    from holdfast.platform.db import Database  # noqa: PLC0415 - loaded when asked for

    async def asked() -> T:
        database = Database(dsn, connections_min=1, connections_max=1)
        await database.open()
        try:
            return await question(database)
        finally:
            await database.close()

    return asyncio.run(asked())


@command.command("verify")
@archive_option
@configuration
def verify_command(archive: Path | None, config_file: Path | None, data_dir: Path | None) -> None:
    """Prove from the tables alone that nothing was altered and that the books balance.

    Archived segments are proven from their files, with --archive. Exit code 0: sound, as far as it was read.
    1: not sound, with what is wrong and the first broken batch.
    """
    from rich.console import Console  # noqa: PLC0415 - loaded when asked for
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    from holdfast.domains.ledger.verify import verify  # noqa: PLC0415

    dsn = _dsn(config_file, data_dir)
    columns = (TextColumn("transfers"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("verify", total=None)
        report = verify(
            dsn, lambda done, total: progress.update(task, completed=done, total=total), archive=archive
        )
    _show(report)
    sys.exit(0 if report.sound else 1)


def _show(report: Report) -> None:
    rate = report.transfers / report.seconds if report.seconds else 0.0
    click.echo(
        f"{report.transfers:,} transfers and {report.refusals:,} refusals in {report.batches:,} batches on "
        f"{report.accounts:,} accounts, read in {report.seconds:.1f} s ({rate:,.0f} transfers/s)"
    )
    number, digest = report.head
    if number:
        click.echo(f"head: batch {number} {digest}")
        click.echo("Keep this head elsewhere: compared later, it shows whether the chain was rewritten.")
    for finding in report.findings:
        click.secho(f"  {finding.words}", fg="red")
    if report.unread:
        numbers = ", ".join(map(str, report.unread))
        click.secho(
            f"Not read: {report.passed_over:,} transfers of the archived segments {numbers}. Their batches "
            "are in the chain, and what follows fits the marks at their end; --archive proves them too.",
            fg="yellow",
        )
    if report.sound:
        so_far = " of what was read" if report.unread else ""
        click.secho(f"Sound: nothing{so_far} was altered, and the books balance.", fg="green")
        return
    where = f"; the first broken batch is {report.first_broken_batch}" if report.first_broken_batch else ""
    click.secho(f"NOT SOUND: {len(report.findings)} findings{where}.", fg="red", bold=True)


@command.command("balance")
@click.argument("account")
@click.option("--at", type=click.DateTime(), help="As it stood at this moment (UTC).")
@configuration
def balance_command(
    account: str, at: datetime | None, config_file: Path | None, data_dir: Path | None
) -> None:
    """Show the balance of ACCOUNT (its name or its number), now or at a past moment."""
    from holdfast.base.money import Money, asset, decimal_text  # noqa: PLC0415 - loaded when asked for
    from holdfast.domains.ledger import queries  # noqa: PLC0415
    from holdfast.domains.ledger.model import Balance  # noqa: PLC0415

    async def question(database: Database) -> tuple[AccountView, Balance]:
        view = await _account(database, account)
        if at is None:
            return view, view.balance
        moment = at.replace(tzinfo=UTC)
        return view, (await queries.balances(database, [view.number], at=moment))[view.number]

    view, balance = _ask(_dsn(config_file, data_dir), question)
    kind = asset(view.asset)
    click.echo(f"{view.code}  number {view.number}  {view.rule}{'  CLOSED' if view.closed else ''}")
    for name, minor in (
        ("credits posted", balance.credits_posted_minor), ("debits posted", balance.debits_posted_minor),
        ("credits pending", balance.credits_pending_minor), ("debits pending", balance.debits_pending_minor),
        ("credits less debits", balance.net_minor),
    ):  # fmt: skip
        click.echo(f"  {name:<20} {decimal_text(Money(kind, minor)):>24} {kind.code}")


@command.command("statement")
@click.argument("account")
@click.option("--limit", type=click.IntRange(1, 100), default=25, show_default=True)
@click.option("--before", type=click.UUID, help="Go on behind this transfer.")
@configuration
def statement_command(
    account: str, limit: int, before: object, config_file: Path | None, data_dir: Path | None
) -> None:
    """List the entries of ACCOUNT (its name or its number), newest first, with the balance after each."""
    from holdfast.base.money import Money, asset, decimal_text  # noqa: PLC0415 - loaded when asked for
    from holdfast.domains.ledger import queries  # noqa: PLC0415
    from holdfast.domains.ledger.model import Entry  # noqa: PLC0415

    async def question(database: Database) -> tuple[AccountView, queries.Page[Entry]]:
        view = await _account(database, account)
        return view, await queries.entries(database, view.number, before=before, limit=limit)  # type: ignore[arg-type]

    view, page = _ask(_dsn(config_file, data_dir), question)
    kind = asset(view.asset)
    click.echo(
        f"{'time (UTC)':<19}  {'kind':<14} {'side':<6} {'amount ' + kind.code:>16} {'balance after':>18}"
        "  transfer"
    )
    for entry in page.items:
        amount = decimal_text(Money(kind, entry.amount_minor))
        after = decimal_text(Money(kind, entry.balance.net_minor))
        click.echo(
            f"{entry.at:%Y-%m-%d %H:%M:%S}  {entry.kind:<14} {entry.side:<6} {amount:>16} {after:>18}"
            f"  {entry.id}"
        )
    if page.next is not None:
        click.echo(f"More: --before {page.next}")
    if page.archived_until is not None:
        click.echo(
            f"Older entries, until {page.archived_until:%Y-%m-%d %H:%M:%S}, are archived: "
            "`holdfast ledger archives` names the files."
        )


@command.command("archive")
@click.option(
    "--before", type=click.DateTime(), required=True,
    help="Archive what is older than this moment (UTC), in whole segments.",
)  # fmt: skip
@click.option(
    "--to", "folder", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True,
    metavar="DIR", help="Folder for the files, one for each segment.",
)  # fmt: skip
@configuration
def archive_command(before: datetime, folder: Path, config_file: Path | None, data_dir: Path | None) -> None:
    """Move old transfers to files, which `verify --archive` still proves. Nothing is stopped.

    Balances, the chain of batches and what an id was used for stay in the database. A segment of 2^20 numbers
    is moved once it is written no more, its holds are all settled, and two newer ones are there. Each file is
    read back and proven before its table is dropped.
    """
    from rich.console import Console  # noqa: PLC0415 - loaded when asked for
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    from holdfast.domains.ledger.archive import archive  # noqa: PLC0415

    dsn = _dsn(config_file, data_dir)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("archive", total=None)
        result = archive(
            dsn,
            before.replace(tzinfo=UTC),
            folder.absolute(),
            lambda segment, done, total: progress.update(
                task, description=f"segment {segment}", completed=done, total=total
            ),
        )
    for done in result.done:
        click.echo(
            f"segment {done.segment}: {done.transfers:,} transfers in {done.path} ({done.bytes:,} bytes)"
        )
    click.echo(f"{len(result.done)} segments archived. {result.reason}")
    if result.done:
        click.echo("Copy the files elsewhere too: backups of the database do not have them any more.")


@command.command("erase")
@click.argument("subject")
@click.option("--yes", is_flag=True, help="Do not ask.")
@configuration
def erase_command(subject: str, yes: bool, config_file: Path | None, data_dir: Path | None) -> None:
    """Destroy the key of SUBJECT (a payer's public id, `pyr_…`): what was sealed about them is gone for good.

    Their transfers stay, with accounts and amounts, and the ledger stays provable. Write down whom you
    erased, outside of this database: after a backup from before is restored it must be done again.
    """
    from holdfast.base.clock import SystemClock  # noqa: PLC0415 - loaded when asked for
    from holdfast.platform import seals  # noqa: PLC0415

    dsn = _dsn(config_file, data_dir)
    if not yes:
        click.confirm(f"Destroy the key of {subject}? Nobody can undo that", abort=True)
    if not _ask(dsn, lambda database: seals.erase(database, subject, now=SystemClock().now())):
        click.echo(f"There is no key of {subject}: nothing about them is sealed in the ledger.")
        return
    click.echo(f"Erased: what the ledger has about {subject} cannot be read any more.")
    click.echo("Backups from before still have the key; docs/howto/erase-a-person.md tells what else to do.")


@command.command("archives")
@configuration
def archives_command(config_file: Path | None, data_dir: Path | None) -> None:
    """List the files that old transfers were moved to, with their SHA-256."""
    from holdfast.domains.ledger import queries  # noqa: PLC0415 - loaded when asked for

    for a in _ask(_dsn(config_file, data_dir), queries.archives):
        click.echo(
            f"{a.file}  until {a.last_at:%Y-%m-%d %H:%M:%S}  {a.transfers:>9,} transfers"
            f"  {a.bytes:>12,} bytes  {a.sha256.hex()}"
        )


@command.command("trial-balance")
@configuration
def trial_balance_command(config_file: Path | None, data_dir: Path | None) -> None:
    """Sum all accounts of each asset. Exit code 1 when debits and credits differ."""
    from holdfast.domains.ledger import queries  # noqa: PLC0415 - loaded when asked for

    rows = _ask(_dsn(config_file, data_dir), queries.trial_balance)
    for row in rows:
        t = row.totals
        click.echo(
            f"{row.asset:<8} {row.accounts:>10,} accounts  debits {t.debits_posted_minor:>20,}  credits "
            f"{t.credits_posted_minor:>20,}  pending {t.debits_pending_minor:,}"
            f"  {'balanced' if row.balanced else 'NOT BALANCED'}"
        )
    sys.exit(0 if all(row.balanced for row in rows) else 1)


async def _account(database: Database, which: str) -> AccountView:
    """Return the account of that name or number. Raises: `AccountMissing`, with names that there are."""
    from difflib import get_close_matches  # noqa: PLC0415 - loaded when asked for

    from holdfast.base.ids import AccountId  # noqa: PLC0415
    from holdfast.domains.ledger import queries  # noqa: PLC0415
    from holdfast.domains.ledger.errors import AccountMissing  # noqa: PLC0415

    try:
        return await queries.account(database, AccountId(int(which)) if which.isdigit() else which)
    except AccountMissing as error:
        names = [view.code for view in await queries.accounts(database, limit=NAMES_MAX)]
        near = get_close_matches(which, names, n=NEAR_MAX) or names[:NEAR_MAX]
        hint = f"Give a name or a number, such as {', '.join(near)}." if near else "The ledger has none yet."
        raise AccountMissing(f"{error.message} {hint}") from None
