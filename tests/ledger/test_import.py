"""`holdfast transfers import`: each line of a file once, whatever happens; and what was refused, with why."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from holdfast.base.ids import AccountId
from holdfast.base.limits import IMPORT_BATCH_LINES
from holdfast.domains.ledger.errors import CommitUnknown, WriterAway
from holdfast.domains.ledger.model import NewAccount, NewTransfer, Posting
from holdfast.domains.ledger.operations import PostgresLedger, Seat
from holdfast.flows.import_transfers import PART_LINES, Asked, Importer, identity, line_id
from holdfast.platform.db import Database
from tests.ledger.workload import StillClock

OPENED = [
    NewAccount(AccountId(11), "world:CNY", "CNY"),
    NewAccount(AccountId(12), "world:JPY", "JPY"),
    NewAccount(AccountId(21), "ann", "CNY", "debits_must_not_exceed_credits"),
    NewAccount(AccountId(22), "bob", "CNY", "debits_must_not_exceed_credits"),
    NewAccount(AccountId(23), "ken", "JPY", "debits_must_not_exceed_credits"),
]


@pytest.fixture
def books(dsn: str) -> str:
    """A database with a few accounts, and nobody at work on it."""

    async def fill() -> None:
        database = Database(dsn)
        await database.open()
        seat = Seat(database)
        await PostgresLedger(database, seat).open_accounts(OPENED)
        await seat.close()
        await database.close()

    asyncio.run(fill())
    return dsn


def begin(dsn: str, folder: Path, *arguments: object, stdin: Any = None) -> subprocess.Popen[str]:
    """Start an import in `folder`."""
    return subprocess.Popen(
        [sys.executable, "-m", "holdfast", "transfers", "import", *map(str, arguments)],
        env={**os.environ, "HOLDFAST_DSN": dsn, "HOLDFAST_DATA_DIR": str(folder / "data")}, cwd=folder,
        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(dsn: str, folder: Path, *arguments: object, text: str | None = None) -> tuple[int, str]:
    process = begin(dsn, folder, *arguments, stdin=subprocess.PIPE if text is not None else None)
    out, err = process.communicate(text, timeout=120)
    return process.returncode, out + err


def amounts(dsn: str) -> list[int]:
    """Return what was moved, in the order in which it was."""
    with psycopg.connect(dsn) as connection:
        return [
            amount for (amount,) in connection.execute("select amount from ledger.transfers order by seq")
        ]


def rows(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "select debit, credit, amount, asset, code, metadata from ledger.transfers order by seq"
        ).fetchall()


def test_a_csv_file_is_posted_line_by_line(books: str, tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    own = uuid4()
    file.write_text(
        "\N{ZERO WIDTH NO-BREAK SPACE}credit,debit,amount,asset,id,code,metadata.order,metadata.note\r\n"
        "ann,world:CNY,12.34,CNY,,,o-1,\r\n"
        f'bob,ann, 2.5 ,CNY,{own},7,,"two\r\nlines, ""quoted"""\r\n'
        "\r\n"
        "23,12,700,JPY,,,,\r\n"
    )
    code, said = run(books, tmp_path, file)
    assert (code, "3 posted." in said) == (0, True), said
    assert rows(books) == [
        (11, 21, 1234, 156, 0, {"order": "o-1"}),
        (21, 22, 250, 156, 7, {"note": 'two\r\nlines, "quoted"'}),
        (12, 23, 700, 392, 0, None),
    ]
    with psycopg.connect(books) as connection:
        ids = [id_ for (id_,) in connection.execute("select id from ledger.transfers order by seq")]
    assert (ids[1], ids[0].version, ids[2].version) == (own, 7, 7)
    code, said = run(books, tmp_path, file)
    assert (code, "nothing left to do" in said) == (0, True), said
    code, said = run(books, tmp_path, file, "--name", "again")
    assert (code, "2 posted, 1 stood already" in said) == (0, True), said
    beside = {path.name for path in tmp_path.iterdir()} - {"data"}
    assert beside == {"in.csv", "in.csv.again.import", "in.csv.import"}


def test_ndjson_is_posted_line_by_line_and_amounts_may_be_minor_units(books: str, tmp_path: Path) -> None:
    lines = [
        {"debit": "world:CNY", "credit": 21, "amount": 1234, "metadata": {"order": "o-1"}},
        {"debit": "ann", "credit": "bob", "amount": "250", "asset": "CNY", "code": 7, "id": str(uuid4())},
        {"debit": 12, "credit": "ken", "amount": 700, "asset": "JPY"},
    ]
    file = tmp_path / "in.jsonl"
    file.write_text("\n\n".join(json.dumps(line) for line in lines))
    code, said = run(books, tmp_path, file, "--minor", "--asset", "CNY")
    assert (code, "3 posted." in said) == (0, True), said
    assert rows(books) == [
        (11, 21, 1234, 156, 0, {"order": "o-1"}), (21, 22, 250, 156, 7, None), (12, 23, 700, 392, 0, None),
    ]  # fmt: skip


def test_what_is_said_beside_a_payers_transfer_enters_the_ledger_sealed(books: str, tmp_path: Path) -> None:
    """As over the API: it may be about a person, and can then be erased."""
    payer = NewAccount(AccountId(31), "payer:pyr_00000000000000000000000001:CNY", "CNY")

    async def ready() -> None:
        database = Database(books)
        await database.open()
        seat = Seat(database)
        await PostgresLedger(database, seat).open_accounts([payer])
        await seat.close()
        await database.close()

    asyncio.run(ready())
    file = tmp_path / "in.csv"
    line = "{},{},1,CNY,Mei Lin\n"
    pairs = [("world:CNY", payer.code), (payer.code, "ann"), ("ann", "31"), ("world:CNY", "ann")]
    file.write_text(
        "debit,credit,amount,asset,metadata.who\n" + "".join(line.format(*pair) for pair in pairs)
    )
    assert run(books, tmp_path, file)[0] == 0
    told = [row[5]["who"] for row in rows(books)]
    assert [text.startswith("sealed:") for text in told] == [True, True, True, False]
    assert "Mei Lin" not in "".join(told[:3])
    assert run(books, tmp_path, file, "--name", "again")[0] == 0
    (tmp_path / "in.csv.import").unlink()
    code, said = run(books, tmp_path, file)
    assert (code, len(rows(books))) == (0, 8), said


CSV: list[tuple[str, str]] = [
    ("world:CNY,ann,1.234,CNY,,", "up to 2 decimal places"),
    ("world:CNY,ann,-1,CNY,,", "no amount"),
    ("world:CNY,ann,0.00,CNY,,", "more than zero"),
    ('world:CNY,ann,"1,000.00",CNY,,', "no amount"),
    ("world:CNY,ann,1e3,CNY,,", "no amount"),
    ("world:CNY,ann,99999999999999.99,CNY,,", "up to 9007199254740991"),
    ("world:CNY,ken,700.0,JPY,,", "no decimal places"),
    ("world:CNY,ann,5,XYZ,,", "no asset 'XYZ'"),
    ("world:CNY,ann,5,,,", "names no asset"),
    (",ann,5,CNY,,", "no debit account"),
    ("world:CNY,nobody,5,CNY,,", "no account 'nobody'"),
    ("world:CNY,99999999999999999999,5,CNY,,", "no number of an account"),
    ("world:CNY,77,5,CNY,,", "There is no such account to put the money into."),
    ("ann,bob,500.00,CNY,,", "There is not enough money in the account."),
    ("ann,ann,5,CNY,,", "The two accounts must differ."),
    ("world:CNY,ken,5,CNY,,", "The two accounts hold different assets."),
    ("world:CNY,ann,5,CNY,7,", "no UUID"),
    (f"world:CNY,ann,5,CNY,{UUID(int=(2**48 - 1) << 80 | 7 << 76 | 2 << 62)},", "lies ahead"),
    ("world:CNY,ann,5,CNY,,x", "A code is a whole number"),
    ("world:CNY,ann,5,CNY", "It has 4 fields, and the first line 6."),
    ("world:CNY,ann,5,CNY,,,,,", "It has 9 fields, and the first line 6."),
    ('world:CNY,"ann"x,5,CNY,,', "no row of CSV"),
    ("world:CNY,ann," + "5" * 70_000 + ",CNY,,", "at most 65536 bytes"),
    ("world:CNY,\udcffann,5,CNY,,", "not UTF-8"),
]


def test_a_line_that_is_refused_stops_no_other_and_is_written_down_to_be_corrected(
    books: str, tmp_path: Path
) -> None:
    file = tmp_path / "in.csv"
    text = "debit,credit,amount,asset,id,code\n"
    for line, _ in CSV:
        text += f"world:CNY,ann,1,CNY,,\n{line}\n"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    code, said = run(books, tmp_path, file)
    assert code == 1, said
    assert f"{len(CSV)} posted, {len(CSV)} refused (" in said
    assert amounts(books) == [100] * len(CSV)
    report = tmp_path / "in.csv.refused.csv"
    with report.open(newline="") as opened:
        told = list(csv.DictReader(opened))
    assert [int(row["line"]) for row in told] == list(range(3, 2 * len(CSV) + 3, 2))
    for row, (line, why) in zip(told, CSV, strict=True):
        assert why in row["reason"], (line[:60], row)
    chosen = [row for row in told if "enough money" in row["reason"] or "decimal" in row["reason"]]
    with report.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(told[0]))
        writer.writeheader()
        for row in chosen:
            writer.writerow(row | {"debit": "world:CNY", "credit": "ann", "amount": "3", "asset": "CNY"})
    code, said = run(books, tmp_path, report)
    assert (code, f"{len(chosen)} posted." in said) == (0, True), said


NDJSON: list[tuple[str, str]] = [
    ('{"debit":"world:CNY","credit":"ann","amount":5,"asset":"CNY"}', "Write the amount as text"),
    ('{"debit":"world:CNY","credit":"ann","amount":5.5,"asset":"CNY"}', "got `float`"),
    ('{"debit":"world:CNY","credit":"ann","amount":"5","amount":"6","asset":"CNY"}', "stands twice"),
    ('{"debit":"world:CNY","credit":"ann","amount":"5","asset":"CNY","at":"2020-01-01"}', "no column 'at'"),
    ('{"debit":"world:CNY","credit":"ann","amount":"5","asset":"CNY","memo":"x"}', "unknown field `memo`"),
    ('{"debit":"world:CNY","credit":"ann","asset":"CNY"}', "missing required field `amount`"),
    ('{"debit":"world:CNY","credit":"ann","amount":"5","asset":"CNY","metadata":{"a":1}}', "metadata"),
    ('{"debit":"world:CNY","credit":"ann","amount":"5","asset":"CNY","metadata":{"a":"\\u0000"}}', "NUL"),
    ('{"debit":"world:CNY"', "not JSON"),
    ("[]", "Expected `object`"),
    ("\udcff", "not UTF-8"),
    ("[" * 60_000, "nests"),
    ('{"debit":"' + "x" * 70_000 + '"}', "at most 65536 bytes"),
]


def test_a_line_of_ndjson_that_is_refused_is_written_down_too(books: str, tmp_path: Path) -> None:
    good = '{"debit":"world:CNY","credit":"ann","amount":"1","asset":"CNY"}\n'
    text = "".join(f"{good}{line}\n" for line, _ in NDJSON)
    file = tmp_path / "in.ndjson"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    code, said = run(books, tmp_path, file)
    assert (code, amounts(books)) == (1, [100] * len(NDJSON)), said
    told = [json.loads(line) for line in (tmp_path / "in.ndjson.refused.ndjson").read_text().splitlines()]
    assert [one["line"] for one in told] == list(range(2, 2 * len(NDJSON) + 2, 2))
    for one, (line, why) in zip(told, NDJSON, strict=True):
        assert why in one["reason"], (line[:80], one["reason"])
    assert told[0]["credit"] == "ann"
    assert told[8]["text"] == NDJSON[8][0]


STOPS: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("an empty file", "", "The file is empty", ()),
    ("a column twice", "debit,credit,debit\n", "stands twice", ()),
    ("a column that nobody knows", "debit,credit,amount,asset,memo\n", "no column 'memo'", ()),
    ("dates", "debit,credit,amount,asset,at\n", "Keep the original date as metadata.at", ()),
    ("a column missing", "debit,credit,asset\n", "names no column amount", ()),
    ("no asset", "debit,credit,amount\n", "Give one with --asset", ()),
    ("an asset that is none", "debit,credit,amount\n", "no asset 'XYZ'", ("--asset", "XYZ")),
    ("a name with a slash", "debit,credit,amount,asset\n", "--name has", ("--name", "../x")),
]


@pytest.mark.parametrize(
    ("text", "says", "options"), [row[1:] for row in STOPS], ids=[row[0] for row in STOPS]
)
def test_what_cannot_be_begun_says_why_with_a_code_of_its_own(
    books: str, tmp_path: Path, text: str, says: str, options: tuple[str, ...]
) -> None:
    file = tmp_path / "in.csv"
    file.write_text(text)
    code, said = run(books, tmp_path, file, *options)
    assert (code, says in said) == (2, True), said
    assert "Traceback" not in said


def test_a_file_that_is_not_there_and_one_of_no_known_kind_are_refused(books: str, tmp_path: Path) -> None:
    code, said = run(books, tmp_path, "none.csv")
    assert (code, "No such file" in said) == (2, True), said
    code, said = run(books, tmp_path, "none.txt")
    assert (code, "--format" in said) == (2, True), said
    code, said = run(books, tmp_path, "-", "--format", "csv")
    assert (code, "needs a --name" in said) == (2, True), said
    code, said = run("postgresql://nobody@127.0.0.1:1/none", tmp_path, "none.csv")
    assert (code, "Traceback" in said) == (2, False), said


def test_a_quotation_mark_that_is_never_closed_ends_it_and_what_stands_before_is_done(
    books: str, tmp_path: Path
) -> None:
    file = tmp_path / "in.csv"
    line = "world:CNY,ann,1,CNY\n"
    file.write_text("debit,credit,amount,asset\n" + line * 3 + '"world:CNY,ann,1,CNY\n' + line * 20_000)
    code, said = run(books, tmp_path, file)
    assert (code, "From line 5 on nothing can be read" in said) == (2, True), said
    assert amounts(books) == [100] * 3


def test_a_dry_run_checks_every_line_and_posts_nothing(books: str, tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_text("debit,credit,amount,asset\nworld:CNY,ann,1,CNY\nworld:CNY,eve,1,CNY\nann,bob,x,CNY\n")
    code, said = run(books, tmp_path, file, "--dry-run")
    assert (code, amounts(books)) == (1, []), said
    assert "line 3: There is no account 'eve'." in said
    assert "line 4: 'x' is no amount of CNY" in said
    assert "1 lines can be posted" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


def test_a_file_that_changed_other_options_and_a_foreign_report_are_refused(
    books: str, tmp_path: Path
) -> None:
    file = tmp_path / "in.csv"
    head, line = "debit,credit,amount,asset\n", "world:CNY,ann,1,CNY\n"
    file.write_text(head + line)
    assert run(books, tmp_path, file)[0] == 0
    code, said = run(books, tmp_path, file, "--minor")
    assert (code, "begun with other options" in said) == (2, True), said
    file.write_text(head + line * 2)
    code, said = run(books, tmp_path, file)
    assert (code, "has changed since its import was begun" in said) == (2, True), said
    (tmp_path / "in.csv.x.refused.csv").write_text("mine")
    code, said = run(books, tmp_path, file, "--name", "x")
    assert (code, "is there already" in said) == (2, True), said
    assert (tmp_path / "in.csv.x.refused.csv").read_text() == "mine"
    assert amounts(books) == [100]


LINES = 24_000
BAD_EVERY = 397


def long_file(folder: Path) -> tuple[Path, list[int], list[int]]:
    """Write a file each of whose lines moves another amount; return what it moves, and what is refused."""
    good, bad = [], []
    file = folder / "long.csv"
    with file.open("w") as out:
        out.write("debit,credit,amount,asset\n")
        for n in range(LINES):
            if n % BAD_EVERY == 7:  # by turns refused by its look and by the books
                out.write("world:CNY,ann,x,CNY\n" if n % 2 else "bob,ann,9.99,CNY\n")
                bad.append(n + 2)
            else:
                out.write(f"world:CNY,ann,{n + 1},CNY\n")
                good.append(100 * (n + 1))
    return file, good, bad


def refused_lines(path: Path) -> list[int]:
    with path.open(newline="") as opened:
        return [int(row["line"]) for row in csv.DictReader(opened)]


@pytest.mark.parametrize("forgets", [False, True])
def test_killed_at_any_moment_and_started_again_it_posts_each_line_once(
    books: str, tmp_path: Path, forgets: bool
) -> None:
    """Also when what it keeps beside the file is lost: the books know what was posted."""
    chosen = int(os.environ.get("SEED", secrets.randbelow(10**9)))
    print(f"SEED={chosen}")
    rng = Random(chosen)
    file, good, bad = long_file(tmp_path)
    kept, report = tmp_path / "long.csv.import", tmp_path / "long.csv.refused.csv"
    killed = 0
    for _ in range(4):
        process = begin(books, tmp_path, file)
        reached = position(kept)
        deadline = time.monotonic() + 60
        while process.poll() is None and position(kept) <= reached and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.3)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate(timeout=30)
        if forgets:
            kept.unlink()
            report.unlink(missing_ok=True)
    assert killed
    code, said = run(books, tmp_path, file)
    assert code == 1, said
    assert f"{len(good):,} posted, {len(bad)} refused" in said
    assert Counter(amounts(books)) == Counter(good)
    assert refused_lines(report) == bad
    with report.open(newline="") as opened:
        reasons = {row["reason"] for row in csv.DictReader(opened)}
    assert len(reasons) == 2, "also what was refused before the kill says why"
    if not forgets:
        assert amounts(books) == good, "in the order of the file"


def position(kept: Path) -> int:
    try:
        number: int = json.loads(kept.read_bytes())["number"]
    except (FileNotFoundError, ValueError):
        return 0
    return number


def test_from_standard_input_it_goes_on_too_and_notices_other_lines(books: str, tmp_path: Path) -> None:
    file, good, bad = long_file(tmp_path)
    text = file.read_text()
    how = ("-", "--format", "csv", "--name", "january")
    process = begin(books, tmp_path, *how, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(text[: len(text) // 2])
    process.stdin.flush()
    kept = tmp_path / "data" / "imports" / "january.import"
    deadline = time.monotonic() + 60
    while position(kept) < IMPORT_BATCH_LINES and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=30)
    code, said = run(books, tmp_path, *how, text=text)
    assert (code, Counter(amounts(books)) == Counter(good)) == (1, True), said
    assert refused_lines(tmp_path / "january.refused.csv") == bad
    code, said = run(books, tmp_path, *how, text=text)
    assert (code, "nothing left to do" in said) == (1, True), said
    text += "world:CNY,ann,5,CNY\n"
    code, said = run(books, tmp_path, *how, text=text)
    assert (code, len(amounts(books))) == (1, len(good) + 1), said
    code, said = run(books, tmp_path, *how, text=text.replace("world:CNY", "world:JPY", 1))
    assert (code, "does not begin as what was imported" in said) == (2, True), said
    code, said = run(books, tmp_path, *how, text=text[:1_000])
    assert (code, "ends before the place" in said) == (2, True), said


def test_on_books_that_have_lost_it_everything_is_posted_again(
    books: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The database was restored from before; what is kept beside the file says that all is done."""
    file = tmp_path / "in.csv"
    file.write_text("debit,credit,amount,asset\n" + "world:CNY,ann,1,CNY\n" * 5 + "ann,nobody,1,CNY\n")
    assert run(books, tmp_path, file)[0] == 1
    with psycopg.connect(books, autocommit=True) as connection:
        for statement in (
            "drop table ledger.transfers_000000",
            "truncate ledger.segments, ledger.refusals, ledger.batches, ledger.marks, ledger.snapshots, "
            "ledger.snapshot_parts",
            "update ledger.head set commits = 0, batch = 0, seq = -1, at = '1970-01-01Z', hash = ''",
        ):
            connection.execute(statement.encode())
    code, said = run(books, tmp_path, file)
    assert (code, "do not have what was posted" in said, amounts(books)) == (1, True, [100] * 5), said
    assert refused_lines(tmp_path / "in.csv.refused.csv") == [7]


class Stumbling:
    """A ledger of whose answers two in three are lost: before anything was posted, and after."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger
        self._calls = 0

    async def post(self, wanted: Sequence[NewTransfer]) -> list[Posting]:
        self._calls += 1
        if self._calls % 3 == 1:
            raise WriterAway
        postings = await self._ledger.post(wanted)
        if self._calls % 3 == 2:
            raise CommitUnknown
        return postings

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


async def test_an_answer_that_is_lost_is_asked_for_again(books: str) -> None:
    database = Database(books)
    await database.open()
    seat = Seat(database)
    try:
        ledger: Any = Stumbling(PostgresLedger(database, seat))
        importer = Importer(database, seat, ledger, StillClock(), identity(b"file", ""), {})
        lines = [Asked(n + 2, "world:CNY" if n else "ann", "bob", "CNY", 100) for n in range(20)]
        for _ in range(2):
            told = await importer.post(lines)
            assert [bool(one.why) for one in told] == [True] + [False] * 19
            assert told[0].why == "There is not enough money in the account."
            assert not any(one.existed for one in told)
        assert len(amounts(books)) == 19
    finally:
        await seat.close()
        await database.close()


def test_ids_of_lines_are_all_different_and_ordered_by_the_time_of_their_part() -> None:
    one, other = identity(b"a file", ""), identity(b"a file", "again")
    ids = [line_id(of, 1_790_000_000_000 + part, number) for of in (one, other) for part in (0, 1)
           for number in range(part * PART_LINES, part * PART_LINES + 500)]  # fmt: skip
    assert len(set(ids)) == len(ids)
    assert {id_.version for id_ in ids} == {7}
    assert max(ids[:500]) < min(ids[500:1_000])
    assert line_id(one, 5, 7) == line_id(identity(b"a file", ""), 5, 7)
