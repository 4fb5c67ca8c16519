"""What crosses between a process and the ledger's writer, as bytes: frames, calls, answers, errors.

    frame    length of the body (4 bytes), number of the call (8), what it is (1), time left in ms (4); body
    body     MessagePack; arrays of fixed order, no names of fields

A row crosses as its values in PostgreSQL's binary form (`arrays.RowShape`), so that the writer only joins
them, and a statement as its name: no SQL crosses, and no type is named. What arrives is decoded by a fixed
type with bounds, never by what it says of itself; whatever else it holds is `Broken`, for that call alone.
A frame that is too long is `FrameTooLong`, and ends the connection.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from struct import Struct
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from holdfast.base import errors as base_errors
from holdfast.base.errors import Broken, HoldfastError, Unavailable
from holdfast.base.ids import AccountId, TransferId
from holdfast.base.limits import (
    BATCH_TRANSFERS_MAX,
    FORWARD_ACCOUNTS_MAX,
    FORWARD_COLUMNS_MAX,
    FORWARD_FRAME_BYTES_MAX,
    FORWARD_ROWS_MAX,
    HISTORY_SCAN_ROWS_MAX,
    LINKED_TRANSFERS_MAX,
    METADATA_KEY_CHARS_MAX,
    METADATA_KEYS_MAX,
    METADATA_VALUE_CHARS_MAX,
    REFERENCE_CHARS_MAX,
    SEGMENTS_BEHIND_MAX,
)
from holdfast.domains.ledger import errors as ledger_errors
from holdfast.domains.ledger.errors import (
    AccountInvalid,
    BatchTooLarge,
    TransferInvalid,
    WriterAway,
    WriteRejected,
)
from holdfast.domains.ledger.forward.greeting import OTHER_VERSION
from holdfast.domains.ledger.model import (
    Balance,
    Group,
    NewAccount,
    Newest,
    NewTransfer,
    Outcome,
    Posting,
    Rule,
    TransferKind,
    Unit,
    UnitOutcome,
)
from holdfast.platform import arrays, db
from holdfast.platform.unit import Guard, Statement, UnitStatus, Write, statement_named

T = TypeVar("T")

_HEADER: Final = Struct("!IQBI")
_MESSAGE_CHARS_MAX: Final = 2_000
_RETRY_S_MAX: Final = 3_600
_LEFT_S_MAX: Final = 4_000_000.0
"""46 days: what the header holds."""


class Kind(IntEnum):
    """What a frame is: a call of one of the door's operations, an answer, or what the writer says first.

    `GOODBYE` is said by a writer that leaves, and answered by the caller: it was its last frame, and whatever
    it sent before has been read.
    """

    SUBMIT = 1
    POST = 2
    OPEN_ACCOUNTS = 3
    CLOSE_ACCOUNTS = 4
    SET_LIMITS = 5
    EXPIRE_DUE = 6
    BALANCES = 7
    NEWEST = 8
    DONE = 64
    FAILED = 65
    STATEMENTS = 66
    GOODBYE = 67


class FrameTooLong(Exception):
    """A frame says that it is longer than any may be."""


Frame = tuple[int, int, int, bytes]
"""Number of the call, kind, time left in milliseconds, body."""


def frame(number: int, kind: int, body: bytes, left_s: float = 0.0) -> bytes:
    """Return a frame as it is sent; `left_s`: the time left to the call. Raises: `FrameTooLong`."""
    if len(body) > FORWARD_FRAME_BYTES_MAX:
        raise FrameTooLong
    return _HEADER.pack(len(body), number, kind, int(min(left_s, _LEFT_S_MAX) * 1000)) + body


class Frames:
    """Cuts what arrives into frames, and keeps a part of one until the rest is there."""

    __slots__ = ("_needed", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = 0

    def feed(self, data: bytes) -> Iterable[Frame]:
        """Yield the frames that `data` completes. Raises: `FrameTooLong`."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest = bytearray()
        at, end, head = 0, len(data), _HEADER.size
        while end - at >= head:
            length, number, kind, left_ms = _HEADER.unpack_from(data, at)
            if length > FORWARD_FRAME_BYTES_MAX:
                raise FrameTooLong
            start = at + head
            at = start + length
            if at > end:
                at, self._needed = start - head, head + length
                break
            yield number, kind, left_ms, data[start:at]
        else:
            self._needed = head
        if at < end:
            self._rest += data[at:]


_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Name = Annotated[str, Meta(max_length=REFERENCE_CHARS_MAX)]
_Metadata = Annotated[
    dict[
        Annotated[str, Meta(max_length=METADATA_KEY_CHARS_MAX)],
        Annotated[str, Meta(max_length=METADATA_VALUE_CHARS_MAX)],
    ],
    Meta(max_length=METADATA_KEYS_MAX),
]
_Moment = Annotated[datetime, Meta(tz=True)]
_Balancing = Literal["debit", "credit"]
_Transfer = tuple[
    UUID, _Int64, _Int64, _Name, _Int64 | None, TransferKind, UUID | None, _Moment | None, _Balancing | None,
    _Int64, bool, _Metadata, bool, _Int64,
]  # fmt: skip
"""The fields of `NewTransfer`, in its order."""
_Chain = Annotated[list[_Transfer], Meta(max_length=LINKED_TRANSFERS_MAX)]
_Together = Annotated[list[_Transfer], Meta(max_length=BATCH_TRANSFERS_MAX)]
"""A chain of a list, which may be as long as a batch."""
_Row = Annotated[list[bytes | None], Meta(max_length=FORWARD_COLUMNS_MAX)]
_Writes = Annotated[list[tuple[_Name, _Row]], Meta(max_length=FORWARD_ROWS_MAX)]
_Key = Annotated[list[str | int | tuple[UUID]], Meta(max_length=FORWARD_COLUMNS_MAX)]
"""A guard's key; a UUID stands in an array of its own, to be told from a text.

The number has no bounds here: beside them msgspec 0.22 misreads the length of the tuple.
"""
_Guards = Annotated[list[tuple[_Name, _Row, _Key, bool]], Meta(max_length=FORWARD_ROWS_MAX)]
_Unit = tuple[_Chain, _Writes, _Writes, _Guards, bool]
_Groups = Annotated[list[tuple[_Together, bool]], Meta(max_length=BATCH_TRANSFERS_MAX)]
_Accounts = Annotated[
    list[tuple[_Int64, _Name, _Name, Rule, _Int64]], Meta(max_length=FORWARD_ACCOUNTS_MAX)
]  # the fields of `NewAccount`, in its order
_Numbers = Annotated[list[_Int64], Meta(max_length=FORWARD_ACCOUNTS_MAX)]
_Closing = tuple[_Numbers, bool]
_Limits = Annotated[dict[_Int64, _Int64], Meta(max_length=FORWARD_ACCOUNTS_MAX)]
_Postings = Annotated[list[tuple[UUID, Outcome, _Int64]], Meta(max_length=BATCH_TRANSFERS_MAX)]
_Sums = tuple[_Int64, _Int64, _Int64, _Int64]
"""The fields of `Balance`, in its order."""
_Balances = Annotated[dict[_Int64, _Sums], Meta(max_length=FORWARD_ACCOUNTS_MAX)]
_Wanted = tuple[_Int64, _Int64, Annotated[int, Meta(ge=1, le=HISTORY_SCAN_ROWS_MAX)]]
_Newest = tuple[
    _Int64, _Sums | None, Annotated[list[_Int64], Meta(max_length=SEGMENTS_BEHIND_MAX + 2)],
    Annotated[list[tuple[_Int64, UUID]], Meta(max_length=HISTORY_SCAN_ROWS_MAX)],
]  # fmt: skip
"""The fields of `Newest`, in its order."""
_UnitOutcome = tuple[UnitStatus, _Postings, _Int64 | None, _Balances]
_Error = tuple[
    _Name, Annotated[str, Meta(max_length=_MESSAGE_CHARS_MAX)], Annotated[float, Meta(ge=0, le=_RETRY_S_MAX)]
]
_Statements = Annotated[
    dict[_Name, Annotated[bytes, Meta(min_length=32, max_length=32)]], Meta(max_length=FORWARD_ROWS_MAX)
]

_encode: Final = msgspec.msgpack.Encoder(uuid_format="bytes").encode


def encode(value: object, wrong: type[HoldfastError] = Broken) -> bytes:
    """Encode a call or an answer. Raises: `wrong` for numbers beyond 64 bits and texts not Unicode."""
    try:
        return _encode(value)
    except (OverflowError, UnicodeEncodeError) as error:
        raise wrong("Numbers have at most 64 bits, and texts are Unicode.") from error
    except TypeError as error:
        raise Broken(f"what goes to the ledger's writer has a value of a wrong type: {error}") from error


def _reader(kind: Any) -> Callable[[bytes], Any]:  # noqa: ANN401 - a type, as msgspec takes it
    """Return what decodes exactly `kind`. It raises `Broken` when that is not what the bytes hold."""
    decode = msgspec.msgpack.Decoder(kind).decode

    def read(body: bytes) -> Any:  # noqa: ANN401 - of the type `kind`
        try:
            return decode(body)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            raise Broken(f"what the other process sent is not well formed: {error}") from error

    return read


_read_unit: Final = _reader(_Unit)
_read_groups: Final = _reader(_Groups)
_read_accounts: Final = _reader(_Accounts)
_read_closing: Final = _reader(_Closing)
_read_limits: Final = _reader(_Limits)
_read_count: Final = _reader(_Int64)
_read_numbers: Final = _reader(_Numbers)
_read_balances: Final = _reader(_Balances)
_read_wanted: Final = _reader(_Wanted)
_read_newest: Final = _reader(_Newest)
_read_outcome: Final = _reader(_UnitOutcome)
_read_postings: Final = _reader(_Postings)
_read_error: Final = _reader(_Error)
_read_nothing: Final = _reader(None)
_read_statements: Final = _reader(_Statements)


def _transfer(t: NewTransfer) -> tuple[object, ...]:
    return (
        t.id, t.debit, t.credit, t.asset, t.amount_minor, t.kind, t.pending_id, t.expires_at, t.balancing,
        t.code, t.linked, t.metadata, t.settles, t.over_minor,
    )  # fmt: skip


def _key(guard: Guard) -> list[object]:
    key = guard.key
    if type(key) is not tuple or not all(isinstance(part, str | int | UUID) for part in key):
        raise Broken(f"the key of a guard ({guard.statement.name}) is a tuple of texts, numbers and UUIDs")
    return [(part,) if isinstance(part, UUID) else part for part in key]


class Agreed:
    """The statements that the writer knows as this process does: what may be sent to it."""

    __slots__ = ("_shapes", "_theirs")

    def __init__(self, theirs: Mapping[str, bytes]) -> None:
        self._theirs = theirs
        self._shapes: dict[str, arrays.RowShape] = {}

    def _row(self, statement: Statement, row: Sequence[object]) -> tuple[str, arrays.PackedRow]:
        """Pack a row. Raises: `WriterAway` when the writer knows no statement, or another, by that name."""
        name = statement.name
        shape = self._shapes.get(name)
        if shape is None:
            if self._theirs.get(name) != statement.digest():
                raise WriterAway(
                    f"The ledger's writer runs another version, which does not know {name} as it is here."
                    " Nothing has moved; it goes on when both run the same."
                )
            shape = self._shapes[name] = arrays.row_shape(statement.columns)
        return name, shape.pack(row)

    def encode_unit(self, unit: Unit) -> bytes:
        """Encode a unit. Raises: `WriterAway`, `TransferInvalid`, `Broken` when a row does not fit."""
        row = self._row
        return encode(
            (
                [_transfer(t) for t in unit.transfers],
                [row(*write) for write in unit.writes],
                [row(*write) for write in unit.writes_if_refused],
                [(*row(g.statement, g.row), _key(g), g.claims) for g in unit.guards],
                unit.balances,
            ),
            TransferInvalid,
        )


def read_statements(body: bytes, ours: Iterable[Statement]) -> Agreed:
    """Read which statements the writer knows. Raises: `WriterAway` when it knows one of `ours` otherwise."""
    theirs: dict[str, bytes] = _read_statements(body)
    for statement in ours:
        if theirs.get(statement.name, statement.digest()) != statement.digest():
            raise WriterAway(OTHER_VERSION)
    return Agreed(theirs)


def write_statements(ours: Iterable[Statement]) -> bytes:
    """Encode which statements this process knows."""
    return encode({statement.name: statement.digest() for statement in ours})


_known: Final[dict[str, tuple[Statement, arrays.RowShape]]] = {}
"""Statements that rows have come for: as many as this process knows, at most."""


def _known_row(name: str, row: list[bytes | None]) -> tuple[Statement, arrays.PackedRow]:
    found = _known.get(name)
    if found is None:
        statement = statement_named(name)
        if statement is None:
            raise Broken(f"the ledger's writer knows no statement {name!r}")
        found = _known[name] = statement, arrays.row_shape(statement.columns)
    try:
        return found[0], found[1].check(row)
    except Broken as error:
        raise WriteRejected(f"A row for {name} does not fit its columns.") from error


def _guard(name: str, row: list[bytes | None], key: list[Any], claims: bool) -> Guard:
    parts = tuple([part[0] if type(part) is tuple else part for part in key])
    return Guard(*_known_row(name, row), parts, claims)


def read_unit(body: bytes) -> Unit:
    """Read a unit. Raises: `Broken`, also for a statement that is not known or a row that does not fit."""
    transfers, writes, writes_if_refused, guards, balances = _read_unit(body)
    return Unit(
        tuple([NewTransfer(*t) for t in transfers]),
        tuple([Write(*_known_row(name, row)) for name, row in writes]),
        tuple([Write(*_known_row(name, row)) for name, row in writes_if_refused]),
        tuple([_guard(*guard) for guard in guards]),
        balances,
    )


def encode_groups(groups: Sequence[Group]) -> bytes:
    """Encode chains of transfers. Raises: `TransferInvalid`."""
    return encode(
        [([_transfer(t) for t in group.transfers], group.unfinished) for group in groups], TransferInvalid
    )


def read_groups(body: bytes) -> list[Group]:
    """Read chains of transfers. Raises: `Broken`, `BatchTooLarge`."""
    groups = [Group(tuple([NewTransfer(*t) for t in chain]), open_) for chain, open_ in _read_groups(body)]
    if sum(len(group.transfers) for group in groups) > BATCH_TRANSFERS_MAX:
        raise BatchTooLarge
    return groups


def encode_accounts(accounts: Sequence[NewAccount]) -> bytes:
    """Encode accounts to open. Raises: `AccountInvalid`."""
    return encode([(a.number, a.code, a.asset, a.rule, a.limit_minor) for a in accounts], AccountInvalid)


def read_accounts(body: bytes) -> list[NewAccount]:
    """Read accounts to open. Raises: `Broken`."""
    return [NewAccount(*account) for account in _read_accounts(body)]


def read_closing(body: bytes) -> tuple[list[AccountId], bool]:
    """Read which accounts to close, or to open again. Raises: `Broken`."""
    numbers, closed = _read_closing(body)
    return numbers, closed


def read_limits(body: bytes) -> dict[AccountId, int]:
    """Read credit limits by account. Raises: `Broken`."""
    limits: dict[AccountId, int] = _read_limits(body)
    return limits


def read_count(body: bytes) -> int:
    """Read a number. Raises: `Broken`."""
    count: int = _read_count(body)
    return count


def read_nothing(body: bytes) -> None:
    """Read an answer that says nothing but that it is done. Raises: `Broken`."""
    _read_nothing(body)


def encode_outcome(outcome: UnitOutcome) -> bytes:
    """Encode what became of a unit."""
    return encode(
        (outcome.status, _postings(outcome.postings), outcome.guard_failed, _balances(outcome.balances))
    )


def read_outcome(body: bytes) -> UnitOutcome:
    """Read what became of a unit. Raises: `Broken`."""
    status, postings, guard_failed, balances = _read_outcome(body)
    return UnitOutcome(
        status,
        tuple([Posting(*posting) for posting in postings]),
        guard_failed,
        _balances_of(balances),
    )


def _balances(balances: Mapping[AccountId, Balance]) -> dict[AccountId, tuple[int, int, int, int]]:
    return {number: balance.sums for number, balance in balances.items()}


def _balances_of(balances: Mapping[int, tuple[int, int, int, int]]) -> dict[AccountId, Balance]:
    return {AccountId(number): Balance(*sums) for number, sums in balances.items()}


def encode_balances(balances: Mapping[AccountId, Balance]) -> bytes:
    """Encode balances by account."""
    return encode(_balances(balances))


def read_balances(body: bytes) -> dict[AccountId, Balance]:
    """Read balances by account. Raises: `Broken`."""
    return _balances_of(_read_balances(body))


def read_numbers(body: bytes) -> list[AccountId]:
    """Read numbers of accounts. Raises: `Broken`."""
    numbers: list[AccountId] = _read_numbers(body)
    return numbers


def read_wanted(body: bytes) -> tuple[AccountId, int, int]:
    """Read of which account, below which number and how many transfers are wanted. Raises: `Broken`."""
    account, below, limit = _read_wanted(body)
    return AccountId(account), below, limit


def encode_newest(newest: Newest) -> bytes:
    """Encode what the writer remembers of an account."""
    sums = None if newest.balance is None else newest.balance.sums
    return encode((newest.upto, sums, newest.segments, newest.transfers))


def read_newest(body: bytes) -> Newest:
    """Read what the writer remembers of an account. Raises: `Broken`."""
    upto, sums, segments, transfers = _read_newest(body)
    return Newest(upto, None if sums is None else Balance(*sums), tuple(segments), tuple(transfers))


def _postings(postings: Iterable[Posting]) -> list[tuple[TransferId, Outcome, int]]:
    return [(posting.id, posting.outcome, posting.amount_minor) for posting in postings]


def encode_postings(postings: Iterable[Posting]) -> bytes:
    """Encode what became of transfers."""
    return encode(_postings(postings))


def read_postings(body: bytes) -> list[Posting]:
    """Read what became of transfers. Raises: `Broken`."""
    return [Posting(*posting) for posting in _read_postings(body)]


_ERRORS: Final[dict[str, type[HoldfastError]]] = {
    each.code: each
    for module in (base_errors, ledger_errors, db)
    for each in vars(module).values()
    if inspect.isclass(each) and issubclass(each, HoldfastError)
}
"""The errors that cross as what they are, by code; of others the family crosses."""


def encode_error(error: HoldfastError) -> bytes:
    """Encode an error: its code, its message, and when to try again (seconds)."""
    code = next(each.code for each in type(error).__mro__ if _ERRORS.get(getattr(each, "code", "")) is each)
    message = error.message.encode(errors="replace").decode()[:_MESSAGE_CHARS_MAX]
    retry_s = error.retry_after_s if isinstance(error, Unavailable) else 0.0
    return encode((code, message, min(max(0.0, float(retry_s)), _RETRY_S_MAX)))


def read_error(body: bytes) -> HoldfastError:
    """Read an error as one of the same class; `Broken` when its code is not known. Raises: `Broken`."""
    code, message, retry_s = _read_error(body)
    kind = _ERRORS.get(code)
    if kind is None:
        return Broken(
            f"the ledger's writer answered with an error that is not known here ({code}): {message}"
        )
    if issubclass(kind, Unavailable):
        return kind(message, retry_after_s=retry_s)
    return kind(message)
