"""Files of transfers, line by line: CSV with a row of names on top, or one JSON object to a line.

Nothing here posts. A line is read with a bound, and where it begins and ends is known, so that reading can go
on there another time. What is wrong with a line is said of that line, and the next one is read.
"""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, BinaryIO, Final, Literal
from uuid import UUID

import msgspec

from holdfast.api.body import check_json
from holdfast.base.errors import Refused
from holdfast.base.limits import (
    AMOUNT_MINOR_MAX,
    IMPORT_LINE_BYTES_MAX,
    METADATA_KEY_CHARS_MAX,
    METADATA_KEYS_MAX,
    METADATA_VALUE_CHARS_MAX,
)
from holdfast.base.money import ASSETS, Asset, read_decimal
from holdfast.flows.import_transfers import Asked

Format = Literal["csv", "ndjson"]
WANTED: Final = ("debit", "credit", "amount")
COLUMNS: Final = ("id", *WANTED, "asset", "code")
ADDED: Final = ("line", "reason")
"""What the file of refused lines has more; a corrected one may be imported as it is."""
METADATA: Final = "metadata."
DATES: Final = frozenset({"at", "date", "time", "timestamp", "created_at", "posted_at", "booked_at"})
NO_DATES: Final = (
    "A transfer is dated when it is posted, so there is no column {!r}. Keep the original date as "
    "metadata.{}."
)
_CODE_MAX: Final = 2**31 - 1
_SHOWN_CHARS_MAX: Final = 1_000


class FileUnreadable(Refused):
    """The file of transfers cannot be read any further."""

    code = "import_file_unreadable"


class LineRefused(Refused):
    """The line is no transfer."""

    code = "import_line_refused"


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it was read: where it begins (`number`, from 1) and ends (`end`, bytes), and what it says.

    `asked` is None when it was refused, for the reason `why`. `fields` are for the report of refused lines.
    """

    number: int
    end: int
    fields: Mapping[str, Any]
    asked: Asked | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """How amounts are written (`minor`: whole minor units), and the asset where a line names none."""

    minor: bool = False
    asset: str = ""


@dataclass(slots=True)
class _Raw:
    """The fields of a line as texts, in the order of `COLUMNS`."""

    id: str
    debit: str
    credit: str
    amount: str
    asset: str
    code: str
    metadata: dict[str, str]


def asked(raw: _Raw, number: int, how: Reading) -> Asked:
    """Return what a line asks for. Raises: `LineRefused`, `AmountInvalid`."""
    code = raw.asset or how.asset
    if code not in ASSETS:
        raise LineRefused(
            f"There is no asset {code!r}; there are {', '.join(ASSETS)}." if code else _NO_ASSET
        )
    for side, account in (("debit", raw.debit), ("credit", raw.credit)):
        if not account or "\0" in account:
            raise LineRefused(f"It names no {side} account.")
        if account.isascii() and account.isdigit() and not 0 < int(account[:20]) < 2**63:
            raise LineRefused(f"{account[:40]} is no number of an account.")
    _check_metadata(raw.metadata)
    return Asked(
        number, raw.debit, raw.credit, code, _amount_minor(raw.amount, ASSETS[code], how), _id(raw.id),
        _code(raw.code), raw.metadata,
    )  # fmt: skip


_NO_ASSET: Final = "It names no asset. Give one with --asset, if it is the same for all."


def _amount_minor(text: str, of: Asset, how: Reading) -> int:
    if how.minor:
        if not (text.isascii() and text.isdigit() and len(text) <= 16):
            raise LineRefused(f"{text[:40]!r} is no whole number of minor units.")
        amount_minor = int(text)
    else:
        amount_minor = read_decimal(text, of).amount_minor
    if not 0 < amount_minor <= AMOUNT_MINOR_MAX:
        raise LineRefused(f"An amount is more than zero and at most {AMOUNT_MINOR_MAX} minor units.")
    return amount_minor


def _id(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise LineRefused(f"The id {text[:60]!r} is no UUID.") from None


def _code(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _CODE_MAX):
        raise LineRefused(f"A code is a whole number from 0 to {_CODE_MAX}.")
    return int(text)


def _check_metadata(metadata: Mapping[str, str]) -> None:
    if len(metadata) > METADATA_KEYS_MAX:
        raise LineRefused(f"Metadata has at most {METADATA_KEYS_MAX} keys.")
    for key, value in metadata.items():
        if len(key) > METADATA_KEY_CHARS_MAX or len(value) > METADATA_VALUE_CHARS_MAX:
            raise LineRefused(
                f"A key of metadata has at most {METADATA_KEY_CHARS_MAX} characters, a value "
                f"{METADATA_VALUE_CHARS_MAX}."
            )
        if "\0" in key or "\0" in value:
            raise LineRefused("Metadata holds the character NUL, which cannot be kept.")


class Lines(ABC):
    """The lines of a file, from its beginning. `end`: bytes read so far, `number`: lines read so far.

    A `stream` cannot be gone back to; what was read of it is known by its `digest`.
    """

    def __init__(self, file: BinaryIO, how: Reading, *, stream: bool = False) -> None:
        self.end = 0
        self.number = 0
        self._file = file
        self._how = how
        self._quotes = 0
        self._digest = blake2b(digest_size=32) if stream else None
        self._begins = self.end, self.number, self._digest
        self._stop: FileUnreadable | None = None

    @property
    def columns(self) -> Sequence[str]:
        """The names on top of a CSV file."""
        return ()

    @property
    def digest(self) -> str:
        """What is known of a stream so far, in hexadecimal digits; empty for a file."""
        return self._digest.hexdigest() if self._digest is not None else ""

    def go_on(self, end: int, number: int) -> None:
        """Go on behind what was read another time. Raises: `FileUnreadable` when there is not so much."""
        if self._digest is None:
            self._file.seek(end)
            self.end = end
        while self.end < end:
            part = self._file.read(min(end - self.end, IMPORT_LINE_BYTES_MAX))
            if not part:
                raise FileUnreadable("What comes now ends before the place that was reached before.")
            self._past(part)
        self.number = number

    def _past(self, part: bytes) -> None:
        self.end += len(part)
        if self._digest is not None:
            self._digest.update(part)

    def next_batch(self, count: int) -> list[Line]:
        """Read up to `count` lines, none at the end.

        Raises: `FileUnreadable`, once all that stands before the place has been returned.
        """
        if self._stop is not None:
            raise self._stop
        found = []
        try:
            for line in self:
                found.append(line)
                if len(found) == count:
                    break
        except FileUnreadable as error:
            if not found:
                raise
            self._stop = error
            self.end, self.number, self._digest = self._begins
        return found

    def _begin(self) -> None:
        """Note that a line, or record, begins here."""
        self._begins = self.end, self.number, self._digest.copy() if self._digest is not None else None

    @abstractmethod
    def __iter__(self) -> Iterator[Line]:
        """Read on."""

    def _bytes(self) -> bytes | None:
        """Read one line; None at the end. One that is too long is read past, and comes back cut off."""
        line = self._file.readline(IMPORT_LINE_BYTES_MAX + 1)
        if not line:
            return None
        self._past(line)
        self.number += 1
        self._quotes += line.count(b'"')
        more = line
        while len(more) > IMPORT_LINE_BYTES_MAX and not more.endswith(b"\n"):
            more = self._file.readline(IMPORT_LINE_BYTES_MAX + 1)
            self._past(more)
            self._quotes += more.count(b'"')
        return line


class JsonLines(Lines):
    """One JSON object to a line. Empty lines say nothing."""

    def __iter__(self) -> Iterator[Line]:
        """Read on."""
        while (line := self._bytes()) is not None:
            if line.strip():
                yield self._line(line)

    def _line(self, line: bytes) -> Line:
        try:
            if len(line) > IMPORT_LINE_BYTES_MAX:
                raise LineRefused(f"A line has at most {IMPORT_LINE_BYTES_MAX} bytes.")
            check_json(line)
            raw = self._raw(line)
            return Line(self.number, self.end, {}, asked(raw, self.number, self._how))
        except Refused as refused:
            why = refused.message.replace("The body", "The line").replace("A body", "A line")
            return Line(self.number, self.end, _object(line), None, why)

    def _raw(self, line: bytes) -> _Raw:
        try:
            shape = _decode(line)
        except msgspec.DecodeError as error:
            said = str(error)
            for name in DATES:
                if f"unknown field `{name}`" in said:
                    raise LineRefused(NO_DATES.format(name, name)) from None
            raise LineRefused(f"{said}.") from None
        if isinstance(shape.amount, int) and not self._how.minor:
            raise LineRefused('Write the amount as text, as in "12.34"; a number is for --minor.')
        return _Raw(
            shape.id or "", str(shape.debit), str(shape.credit), str(shape.amount), shape.asset,
            str(shape.code or ""), shape.metadata,
        )  # fmt: skip


class _Shape(msgspec.Struct, forbid_unknown_fields=True):
    debit: str | int
    credit: str | int
    amount: str | int
    asset: str = ""
    id: str | None = None
    code: int | None = None
    metadata: dict[str, str] = {}
    line: Any = None
    reason: Any = None


_decode: Final = msgspec.json.Decoder(_Shape).decode


def _object(line: bytes) -> dict[str, Any]:
    """Return a line as the report shows it: the object that it holds, or its beginning as text."""
    try:
        found = msgspec.json.decode(line, type=dict[str, Any])
        msgspec.json.encode(found)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {"text": line.decode("utf-8", "replace").rstrip("\r\n")[:_SHOWN_CHARS_MAX]}
    return {name: value for name, value in found.items() if name not in ADDED}


class CsvLines(Lines):
    """CSV (RFC 4180) in UTF-8, with the names of its columns on top.

    Raises, when made: `FileUnreadable` unless these are names that are known, each once.
    """

    def __init__(self, file: BinaryIO, how: Reading, *, stream: bool = False) -> None:
        super().__init__(file, how, stream=stream)
        self._is_text = True
        self._record: list[bytes] = []
        self._size = 0
        self._columns: list[str] = []
        try:
            self._columns = [name.strip() for name in next(csv.reader(self._texts(), strict=True))]
        except StopIteration:
            raise FileUnreadable("The file is empty.") from None
        except csv.Error as error:
            raise FileUnreadable(f"The first line is no row of CSV: {error}.") from None
        if self._columns:
            self._columns[0] = self._columns[0].removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
        _check_columns(self._columns, how)
        place = {name: number for number, name in enumerate(self._columns)}
        self._places = [place.get(name, -1) for name in COLUMNS]
        self._own = [
            (name.removeprefix(METADATA), n) for name, n in place.items() if name.startswith(METADATA)
        ]

    @property
    def columns(self) -> Sequence[str]:
        """The names on top."""
        return self._columns

    def _texts(self) -> Iterator[str]:
        """Read lines, and remember those of the record that is being read."""
        while True:
            inside = self._quotes % 2
            line = self._bytes()
            if line is None:
                return
            if len(line) > IMPORT_LINE_BYTES_MAX:
                if inside or self._quotes % 2:
                    raise FileUnreadable(_ENDLESS.format(self.number - len(self._record)))
                line = b"\n"  # the rest was read past: it is refused, and the next line is a record again
            self._record.append(line)
            self._size += len(line)
            if self._size > _RECORD_BYTES_MAX:
                raise FileUnreadable(_ENDLESS.format(self.number - len(self._record) + 1))
            try:
                yield line.decode()
            except UnicodeDecodeError:
                self._is_text = False
                yield line.decode("utf-8", "replace")

    def __iter__(self) -> Iterator[Line]:
        """Read on."""
        rows = csv.reader(self._texts(), strict=True)
        while True:
            self._begin()
            first, before = self.number + 1, self.end
            self._quotes = self._size = 0
            self._is_text = True
            self._record.clear()
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end of data" in str(error) or "field larger" in str(error):
                    raise FileUnreadable(_ENDLESS.format(first)) from None
                yield self._broken(first, str(error))
                continue
            if row or self.end - before > IMPORT_LINE_BYTES_MAX:
                yield self._line(first, self.end - before, row)

    def _broken(self, first: int, why: str) -> Line:
        """Refuse all lines of a record that cannot be read: nobody knows which of them are text."""
        what = f"Lines {first} to {self.number} are" if self.number > first else "The line is"
        text = b"".join(self._record).decode("utf-8", "replace").rstrip("\r\n")
        return Line(first, self.end, {self._columns[0]: text}, None, f"{what} no row of CSV: {why}.")

    def _line(self, number: int, size: int, row: list[str]) -> Line:
        cells = dict(zip(self._columns, row, strict=False))
        try:
            if size > IMPORT_LINE_BYTES_MAX:
                raise LineRefused(f"A line has at most {IMPORT_LINE_BYTES_MAX} bytes.")
            if len(row) != len(self._columns):
                raise LineRefused(f"It has {len(row)} fields, and the first line {len(self._columns)}.")
            if not self._is_text:
                raise LineRefused("It is not UTF-8.")
            return Line(number, self.end, cells, asked(self._raw(row), number, self._how))
        except Refused as refused:
            return Line(number, self.end, cells, None, refused.message)

    def _raw(self, row: Sequence[str]) -> _Raw:
        id_, debit, credit, amount, asset, code = [
            row[place].strip() if place >= 0 else "" for place in self._places
        ]
        own = {key: row[place] for key, place in self._own if row[place]}
        return _Raw(id_, debit, credit, amount, asset, code, own)


_RECORD_BYTES_MAX: Final = 4 * IMPORT_LINE_BYTES_MAX
_ENDLESS: Final = (
    "From line {} on nothing can be read: a quotation mark opens a text that does not end. What stands "
    "before is done. Put that line and those after it, corrected, into a file of their own."
)


def _check_columns(names: Sequence[str], how: Reading) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise FileUnreadable(f"The column {name!r} stands twice in the first line.")
        seen.add(name)
        if name.lower() in DATES:
            raise FileUnreadable(NO_DATES.format(name, name))
        if name not in COLUMNS + ADDED and not (name.startswith(METADATA) and name != METADATA):
            raise FileUnreadable(
                f"There is no column {name[:60]!r}; there are {', '.join(COLUMNS)} and your own metadata.…"
            )
    missing = [name for name in WANTED if name not in seen]
    if missing:
        raise FileUnreadable(f"The first line names no column {', '.join(missing)}.")
    if "asset" not in seen and not how.asset:
        raise FileUnreadable(
            "The first line names no column asset. Give one with --asset, if it is the same for all."
        )


def lines_of(file: BinaryIO, format_: Format, how: Reading, *, stream: bool = False) -> Lines:
    """Return the lines of a file, from its beginning. Raises: `FileUnreadable`."""
    kind = CsvLines if format_ == "csv" else JsonLines
    return kind(file, how, stream=stream)
