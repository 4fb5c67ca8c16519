"""Is this body fit to be parsed? Checks that cost little and come before anything that costs more.

JSON lets the same key stand twice, and readers disagree about which one counts (RFC 8259 section 4): a body
that one part of a system checks and another executes must not be ambiguous. Nesting costs stack. PostgreSQL
keeps no NUL.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import msgspec

from holdfast.base.errors import Refused
from holdfast.base.limits import BODY_BYTES_MAX, BODY_DEPTH_MAX

_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
_NUMBER_CHARS_MAX: Final = 40
_WHOLE_MAX: Final = 2**64
_decode: Final = msgspec.json.Decoder().decode


class BodyTooLarge(Refused):
    """The request's body is too large."""

    code = "body_too_large"


class BodyTooDeep(Refused):
    """The request's body is nested too deeply."""

    code = "body_too_deep"


class BodyMalformed(Refused):
    """The request's body is not JSON that means one thing only."""

    code = "body_malformed"


class ContentTypeUnsupported(Refused):
    """The body's type must be application/json."""

    code = "content_type_unsupported"


def depth(body: bytes) -> int:
    """Return how deeply arrays and objects nest in `body`; braces inside strings do not count."""
    deepest = here = 0
    for token in _TOKENS.finditer(body):
        first = body[token.start()]
        if first in b"[{":
            here += 1
            deepest = max(deepest, here)
        elif first in b"]}":
            here -= 1
    return deepest


def _plainly_fit(body: bytes) -> bool:
    """Tell whether `body` is fit beyond doubt; when False, it must be looked at with more care.

    Without a backslash, a quotation mark begins or ends a string, and with no space before any colon, each
    name of a member ends in `":`. What else looks like that is a text that begins with a colon, which only
    adds to the count. So when there are as many as members were read, no name stood twice.
    """
    if b"\\" in body or b" :" in body or b"\t:" in body or b"\n:" in body or b"\r:" in body:
        return False
    try:
        return _members(_decode(body)) == body.count(b'":')
    except (ValueError, RecursionError):
        return False


def _members(value: object) -> int:
    """Count the members of all objects in `value`.

    Raises: `ValueError` for numbers that are not whole or beyond 64 bits, which are looked at by their text.
    """
    if isinstance(value, dict):
        count = len(value)
        for each in value.values():
            if type(each) is not str:
                count += _members(each)
        return count
    if isinstance(value, list):
        return sum(map(_members, value))
    if isinstance(value, float) or (isinstance(value, int) and not -_WHOLE_MAX <= value <= _WHOLE_MAX):
        raise ValueError
    return 0


def check_json(body: bytes) -> None:
    """Raise unless `body` is JSON (RFC 8259) in UTF-8, shallow, with no key twice, and without NUL.

    Raises: `BodyTooLarge`, `BodyTooDeep`, `BodyMalformed`.
    """
    if len(body) > BODY_BYTES_MAX:
        raise BodyTooLarge(f"A body has at most {BODY_BYTES_MAX} bytes.")
    if body.count(b"{") + body.count(b"[") > BODY_DEPTH_MAX and depth(body) > BODY_DEPTH_MAX:
        raise BodyTooDeep(f"A body nests at most {BODY_DEPTH_MAX} levels.")
    if _plainly_fit(body):
        return
    if b"\\u0000" in body:
        raise BodyMalformed("The body holds the character NUL, which cannot be kept.")
    try:
        _read(body.decode())
    except UnicodeDecodeError:
        raise BodyMalformed("The body is not UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise BodyMalformed(f"The body is not JSON: {error}.") from None


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len({key for key, _ in pairs}) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BodyMalformed(f"The key {key[:40]!r} stands twice in one object.")
            seen.add(key)


def _constant(text: str) -> NoReturn:
    raise BodyMalformed(f"{text} is not a JSON number.")


def _int(text: str) -> int:
    if len(text) > _NUMBER_CHARS_MAX:
        raise BodyMalformed("A number has too many digits.")
    return 0


_read: Final = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_int).decode
