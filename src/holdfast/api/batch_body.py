"""The body of a batch: decoded by its shape in one pass, and shown to mean one thing only.

`body.check_json` looks at a body key by key, which for megabytes would hold up everybody else. Here the shape
itself bounds depth and numbers and refuses fields that are not known. What is left is a key that stands twice
(RFC 8259 section 4), of which a decoder takes the last: then the body holds more strings than what came out
of it. So the strings of both are counted. In a body, each quotation mark begins or ends one, unless a
backslash stands before it that is not itself escaped.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET

from holdfast.api.body import BodyMalformed, BodyTooDeep, check_json
from holdfast.api.errors import RequestInvalid
from holdfast.api.strict import decode
from holdfast.api.wire import TransfersAsked

_STRINGS: Final = 8
"""Of every transfer: its keys source, destination, amount, asset, amount_minor, and the texts of three."""


class _Parts(msgspec.Struct):
    """A body whose transfers are not decoded."""

    transfers: list[msgspec.Raw]


def read_transfers(body: bytes) -> TransfersAsked:
    """Decode a batch.

    Raises: `RequestInvalid`, which names transfer and field, `BodyMalformed`, `BodyTooDeep`.
    """
    try:
        asked = decode(body, TransfersAsked)
    except UnicodeDecodeError:
        raise BodyMalformed("The body is not UTF-8.") from None
    except RequestInvalid:
        _check_is_json(body)
        raise
    if _strings_in(body) != _strings_of(asked):
        raise BodyMalformed(_doubled(body))
    return asked


def _check_is_json(body: bytes) -> None:
    """Raises: `BodyMalformed`, `BodyTooDeep`."""
    try:
        msgspec.json.decode(body or b"null")
    except UnicodeDecodeError:
        raise BodyMalformed("The body is not UTF-8.") from None
    except RecursionError:
        raise BodyTooDeep from None
    except msgspec.DecodeError as error:
        raise BodyMalformed(f"The body is not JSON: {error}.") from None


def _strings_in(body: bytes) -> int:
    """Count the strings, keys among them, of a body that is JSON. Raises: `BodyMalformed` for a NUL."""
    if b"\\" not in body:
        return body.count(b'"') // 2
    plain = body.replace(b"\\\\", b"")
    if b"\\u0000" in plain:
        raise BodyMalformed("The body holds the character NUL, which cannot be kept.")
    return (plain.count(b'"') - plain.count(b'\\"')) // 2


def _strings_of(asked: TransfersAsked) -> int:
    """Count the strings, keys among them, that a body with `asked` in it has when none stands twice."""
    count = 1 + (asked.all_or_none is not UNSET) + _STRINGS * len(asked.transfers)
    for item in asked.transfers:
        if item.id is not UNSET:
            count += 2
        if item.reference is not UNSET:
            count += 2
        if item.metadata is not UNSET:
            count += 1 + 2 * len(item.metadata)
    return count


def _doubled(body: bytes) -> str:
    """Say where a key stands twice. Only asked when one does: this is the long way."""
    for number, part in enumerate(msgspec.json.decode(body, type=_Parts).transfers):
        try:
            check_json(bytes(part))
        except BodyMalformed as error:
            return f"transfers[{number}]: {error.message}"
    return "A key stands twice in one object."
