"""`holdfast transfers`: import transfers from a file."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click

from holdfast.base.errors import HoldfastError, Refused
from holdfast.cli.options import configuration

if TYPE_CHECKING:
    from holdfast.cli.transfer_lines import Format, Line, Lines, Reading
    from holdfast.cli.transfer_state import Report, State
    from holdfast.flows.import_transfers import Accounts, Importer, Told
    from holdfast.platform.config import Config

ALL_POSTED, SOME_REFUSED, NOT_DONE = 0, 1, 2
"""Exit codes."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
SHOWN_MAX: Final = 20
"""Refused lines that `--dry-run` shows."""
SAID_EVERY_S: Final = 10.0
"""Where no bar can be drawn, a line is said this often."""
_PATIENCE_S: Final = 2.0
"""For so long an import leaves an empty seat at the ledger to servers, which need it more."""
_CHUNK_BYTES: Final = 1 << 20


class ImportNotPossible(Refused):
    """The import cannot begin as it was asked for."""

    code = "import_not_possible"


@click.group()
def command() -> None:
    """Import transfers from a file.

    docs/howto/import-transfers.md walks through it.
    """


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for on the command line. `file` is None for standard input."""

    file: Path | None
    format: Format
    how: Reading
    name: str
    refused: Path
    state: Path

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name if self.file is None else str(self.file)


@command.command("import")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option(
    "--format", "format_", type=click.Choice(["csv", "ndjson"]), help="When FILE's name does not tell it."
)
@click.option(
    "--minor", is_flag=True,
    help="Amounts are whole minor units: 1234 for 12.34 yuan. Else they are decimals: 12.34.",
)  # fmt: skip
@click.option("--asset", default="", metavar="CODE", help="The asset of lines that name none.")
@click.option(
    "--name", default="", metavar="NAME",
    help="What this import is called. The same lines under another name are posted again. Needed with -.",
)  # fmt: skip
@click.option(
    "--refused", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Where refused lines go; FILE.refused.csv or FILE.refused.ndjson if left out.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Read and check everything, and post nothing.")
@configuration
def import_command(
    file: Path,
    format_: Format | None,
    minor: bool,
    asset: str,
    name: str,
    refused: Path | None,
    dry_run: bool,
    config_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Post the transfers in FILE, each line once; - reads standard input.

    CSV with the columns debit, credit, amount, asset and, if you like, id, code and metadata.… of your own,
    named in the first line; or NDJSON, one object with these fields to a line, metadata an object in it.
    Accounts are named by name or number. Started again after it broke off, however it did, the import goes on
    where it was, and no line is posted twice. Refused lines are written down with the reason; corrected, that
    file can be imported.

    Exit code 0: all lines are posted. 1: some were refused. 2: not all of it could be done; start it again.
    """
    from holdfast.cli.transfer_lines import Reading  # noqa: PLC0415 - loaded when asked for
    from holdfast.platform import config, log  # noqa: PLC0415
    from holdfast.platform.db import DatabaseError  # noqa: PLC0415
    from holdfast.platform.postgres import database_dsn  # noqa: PLC0415

    log.configure("warning", "auto", mode="development", process="import")
    try:
        read = config.load(file=config_file, data_dir=data_dir)
        dsn = database_dsn(read.dsn.reveal() if read.dsn else None, read.data_dir)
        wanted = _wanted(read, file, format_, Reading(minor, asset), name, refused)
        code = asyncio.run(_check(wanted, dsn) if dry_run else _import(wanted, read, dsn))
    except HoldfastError as error:
        _stop(error.message)
    except DatabaseError as error:
        _stop(f"The database broke off: {' '.join(str(error).split())}. Start it again to go on.")
    except OSError as error:
        _stop(f"{error.filename or file}: {error.strerror or error}.")
    except KeyboardInterrupt:
        _stop("Stopped. Start it again to go on.")
    sys.exit(code)


def _stop(words: str) -> None:
    click.secho(f"holdfast: {words}", fg="red", err=True)
    sys.exit(NOT_DONE)


def _wanted(
    read: Config, file: Path, format_: Format | None, how: Reading, name: str, refused: Path | None
) -> Wanted:
    """Raises: `ImportNotPossible`."""
    from holdfast.base.money import ASSETS  # noqa: PLC0415 - loaded when asked for

    if how.asset and how.asset not in ASSETS:
        raise ImportNotPossible(f"There is no asset {how.asset!r}; there are {', '.join(ASSETS)}.")
    if format_ is None:
        formats: dict[str, Format] = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
        format_ = formats.get(file.suffix.lower())
        if format_ is None:
            raise ImportNotPossible("Say with --format what it is, csv or ndjson: the name does not tell it.")
    if name and _NAME.fullmatch(name) is None:
        raise ImportNotPossible(
            "A --name has up to 60 letters, digits, dots and dashes, and begins with one."
        )
    if str(file) != "-":
        called = f"{file.name}.{name}" if name else file.name
        report = refused or file.with_name(f"{called}.refused.{format_}")
        return Wanted(file, format_, how, name, report, file.with_name(f"{called}.import"))
    if not name:
        raise ImportNotPossible(
            "What comes from standard input needs a --name: by it the next try knows which lines are done."
        )
    kept = read.data_dir / "imports" / f"{name}.import"
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Wanted(None, format_, how, name, refused or Path(f"{name}.refused.{format_}"), kept)


@contextmanager
def _opened(wanted: Wanted) -> Iterator[BinaryIO]:
    """Open what is imported, for this process alone. Raises: `OSError`, `ImportNotPossible`."""
    import fcntl  # noqa: PLC0415 - loaded when asked for

    if wanted.file is None:
        yield sys.stdin.buffer
        return
    with wanted.file.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImportNotPossible(f"{wanted.file} is being imported by another process.") from None
        yield file


async def _check(wanted: Wanted, dsn: str) -> int:
    """Read everything and post nothing."""
    from holdfast.base.limits import IMPORT_BATCH_LINES  # noqa: PLC0415 - loaded when asked for
    from holdfast.cli.transfer_lines import lines_of  # noqa: PLC0415
    from holdfast.flows.import_transfers import Accounts  # noqa: PLC0415
    from holdfast.platform.db import Database  # noqa: PLC0415

    database = Database(dsn, connections_min=1, connections_max=1)
    await database.open()
    try:
        with _opened(wanted) as file, _Progress(wanted, "checked") as progress:
            lines = lines_of(file, wanted.format, wanted.how)
            accounts, good, wrong = Accounts(database), 0, 0
            while batch := await asyncio.to_thread(lines.next_batch, IMPORT_BATCH_LINES):
                await accounts.find([line.asked for line in batch if line.asked is not None])
                for line in batch:
                    why = line.why or _stranger(line, accounts)
                    good += not why
                    wrong += bool(why)
                    if why and wrong <= SHOWN_MAX:
                        click.echo(f"line {line.number}: {why}", err=True)
                progress.reached(lines.end, good + wrong)
    finally:
        await database.close()
    if wrong > SHOWN_MAX:
        click.echo(f"… and {wrong - SHOWN_MAX:,} more", err=True)
    click.echo(f"{wanted.title}: {good:,} lines can be posted as far as can be said, {wrong:,} cannot.")
    click.echo("Nothing was posted. Whether there is enough money is seen when it is.")
    return SOME_REFUSED if wrong else ALL_POSTED


def _stranger(line: Line, accounts: Accounts) -> str:
    asked = line.asked
    for name in () if asked is None else (asked.debit, asked.credit):
        if accounts.number(name) is None:
            return f"There is no account {name!r}."
    return ""


async def _import(wanted: Wanted, read: Config, dsn: str) -> int:
    from holdfast.base.secret import Secret  # noqa: PLC0415 - loaded when asked for
    from holdfast.boot import open_app  # noqa: PLC0415
    from holdfast.cli.transfer_lines import lines_of  # noqa: PLC0415
    from holdfast.flows.import_transfers import Importer  # noqa: PLC0415
    from holdfast.platform import migrate  # noqa: PLC0415

    with _opened(wanted) as file:
        state = await asyncio.to_thread(_begun, wanted, file)
        stream = wanted.file is None
        lines = lines_of(file, wanted.format, wanted.how, stream=stream)
        await asyncio.to_thread(migrate.require, dsn, migrate.shipped())
        app = await open_app(replace(read, dsn=Secret(dsn)), patience_s=_PATIENCE_S)
        try:
            identity = bytes.fromhex(state.identity)
            importer = Importer(app.database, app.lane, app.ledger, app.clock, identity, state.times)
            began_s, before = time.monotonic(), state.lines
            await _go(wanted, lines, importer, state)
        finally:
            await app.close()
    return _tell(wanted, state, state.lines - before, time.monotonic() - began_s)


def _begun(wanted: Wanted, file: BinaryIO) -> State:
    """Return how far the import has come. Raises: `ImportChanged`, `ImportNotPossible`."""
    from holdfast.cli import transfer_state  # noqa: PLC0415 - loaded when asked for
    from holdfast.flows.import_transfers import identity  # noqa: PLC0415

    digest = b"" if wanted.file is None else _digest(file)
    options = [wanted.format, str(wanted.how.minor), wanted.how.asset, str(wanted.refused)]
    kept = transfer_state.read(wanted.state)
    if kept is None:
        if wanted.refused.exists():
            raise ImportNotPossible(
                f"{wanted.refused} is there already, and not of this import. Move it away, or say with "
                "--refused where refused lines should go."
            )
        fresh = transfer_state.State(digest.hex(), identity(digest, wanted.name).hex(), options)
        transfer_state.write(wanted.state, fresh)
        return fresh
    if wanted.file is not None and kept.digest != digest.hex():
        raise transfer_state.ImportChanged(
            f"{wanted.file} has changed since its import was begun: lines that are posted already would be "
            "posted again. Put new or corrected lines into a file of their own. If this is another file by "
            "the same name, give it a --name."
        )
    if kept.options != options:
        raise transfer_state.ImportChanged(
            f"The import of {wanted.title} was begun with other options ({_options(kept.options)}): go on "
            "with those."
        )
    return kept


def _options(given: Sequence[str]) -> str:
    format_, minor, asset, refused = given
    words = [f"--format {format_}", f"--refused {refused}", *(["--minor"] if minor == "True" else [])]
    return " ".join([*words, f"--asset {asset}"] if asset else words)


def _digest(file: BinaryIO) -> bytes:
    from hashlib import blake2b  # noqa: PLC0415 - loaded when asked for

    digest = blake2b(digest_size=32)
    while part := file.read(_CHUNK_BYTES):
        digest.update(part)
    file.seek(0)
    return digest.digest()


async def _go(wanted: Wanted, lines: Lines, importer: Importer, state: State) -> None:
    """Post what is left, and note how far it has come after each commit."""
    from uuid import UUID  # noqa: PLC0415 - loaded when asked for

    from holdfast.base.ids import TransferId  # noqa: PLC0415
    from holdfast.base.limits import IMPORT_BATCH_LINES  # noqa: PLC0415
    from holdfast.cli import transfer_state  # noqa: PLC0415

    if state.last and not await importer.knows(TransferId(UUID(state.last))):
        click.echo("These books do not have what was posted before; going through it again.", err=True)
        state.again()
    report = transfer_state.Report(wanted.refused, wanted.format, lines.columns, state.report_bytes)
    if state.end:
        click.echo(f"{wanted.title}: going on behind line {state.number:,}.", err=True)
        await asyncio.to_thread(lines.go_on, state.end, state.number)
        if wanted.file is None and lines.digest != state.digest:
            raise transfer_state.ImportChanged(
                f"What comes now does not begin as what was imported as {wanted.name}: give it a new --name."
            )
    with _Progress(wanted, "posted") as progress:
        batch = await asyncio.to_thread(lines.next_batch, IMPORT_BATCH_LINES)
        while batch:
            end, number, digest = lines.end, lines.number, lines.digest or state.digest
            following = asyncio.create_task(asyncio.to_thread(lines.next_batch, IMPORT_BATCH_LINES))
            try:
                told = await importer.post([line.asked for line in batch if line.asked is not None])
                _note(state, batch, told, report)
                state.end, state.number, state.digest = end, number, digest
                transfer_state.write(wanted.state, state)
            finally:
                batch = await following
            progress.reached(end, state.lines)
    state.done = True
    transfer_state.write(wanted.state, state)


def _note(state: State, batch: Sequence[Line], told: Sequence[Told], report: Report) -> None:
    """Count what became of a batch, and write down what was refused."""
    each = iter(told)
    refused: list[tuple[Line, str]] = []
    for line in batch:
        why = line.why
        if line.asked is not None:
            one = next(each)
            why = one.why
            if one.id is not None:
                state.last = str(one.id)
                state.existed += one.existed
                state.posted += not one.existed
        if why:
            refused.append((line, why))
    report.add(refused)
    state.refused += len(refused)
    state.report_bytes = report.size


def _tell(wanted: Wanted, state: State, lines: int, seconds: float) -> int:
    existed = f", {state.existed:,} stood already" if state.existed else ""
    refused = f", {state.refused:,} refused ({wanted.refused})" if state.refused else ""
    click.echo(f"{wanted.title}: {state.posted:,} posted{existed}{refused}.")
    if lines:
        click.echo(f"{lines:,} lines in {seconds:.1f} s ({lines / seconds:,.0f} lines/s).", err=True)
    else:
        click.echo("There was nothing left to do. To post the same lines once more, give a --name.", err=True)
    return SOME_REFUSED if state.refused else ALL_POSTED


class _Progress:
    """Shows how far it has come: a bar where somebody watches, else a line now and then."""

    def __init__(self, wanted: Wanted, what: str) -> None:
        from rich.console import Console  # noqa: PLC0415 - loaded when asked for
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._what = what
        self._total = wanted.file.stat().st_size if wanted.file is not None else None
        console = Console(stderr=True)
        self._watched = console.is_terminal
        columns = (
            TextColumn("{task.fields[lines]:,} lines " + what), BarColumn(), DownloadColumn(),
            TextColumn("{task.fields[rate]:,.0f} lines/s"), TimeRemainingColumn(),
        )  # fmt: skip
        self._bar = Progress(*columns, console=console, transient=True, disable=not self._watched)
        self._task = self._bar.add_task(what, total=self._total, lines=0, rate=0.0)
        self._first: tuple[float, int] | None = None
        self._said_s = time.monotonic()

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def reached(self, end: int, lines: int) -> None:
        """Tell how many bytes and lines are behind us."""
        now = time.monotonic()
        first_s, first = self._first = self._first or (now, lines)
        rate = (lines - first) / (now - first_s) if now > first_s else 0.0
        self._bar.update(self._task, completed=end, lines=lines, rate=rate)
        if not self._watched and now - self._said_s >= SAID_EVERY_S:
            self._said_s = now
            share = f", {100 * end // self._total}% of the file" if self._total else ""
            click.echo(f"{lines:,} lines {self._what}{share} ({rate:,.0f} lines/s)", err=True)
