"""Reading parameters: each reader returns a value of the right type or refuses as Stripe does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from holdfast.sandbox.stripe import errors
from holdfast.sandbox.stripe.forms import Form

AMOUNT_MAX: Final = 99_999_999
_INTEGER: Final = re.compile(r"^[+-]?\d{1,30}$")


def only(form: Form, allowed: Iterable[str]) -> None:
    """Refuse parameters that are not `allowed`."""
    extra = sorted(set(form) - set(allowed))
    if extra:
        raise errors.unknown(extra)


def text(form: Form, name: str, *, longest: int = 5000) -> str | None:
    """Return a text, or None when it is absent or empty."""
    value = form.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > longest:
        raise errors.invalid(f"Invalid string: {name}", param=name)
    return value


def integer(form: Form, name: str) -> int | None:
    """Return a whole number, or None when absent."""
    value = text(form, name)
    if value is None:
        return None
    if not _INTEGER.match(value):
        raise errors.invalid(f"Invalid integer: {value}", param=name, code="parameter_invalid_integer")
    return int(value)


def amount(form: Form, name: str) -> int | None:
    """Return a positive amount in minor units, or None when absent."""
    value = integer(form, name)
    if value is None:
        return None
    if value < 1:
        raise errors.invalid(
            "This value must be greater than or equal to 1.", param=name, code="parameter_invalid_integer"
        )
    if value > AMOUNT_MAX:
        raise errors.invalid("Amount must be no more than 999,999.99.", param=name, code="amount_too_large")
    return value


def boolean(form: Form, name: str) -> bool:
    """Return a truth value; False when absent."""
    value = form.get(name)
    if value in (None, "", "false"):
        return False
    if value == "true":
        return True
    raise errors.invalid(f"Invalid boolean: {value}", param=name)


def choice(form: Form, name: str, options: tuple[str, ...]) -> str | None:
    """Return one of `options`, or None when absent."""
    value = text(form, name)
    if value is not None and value not in options:
        raise errors.invalid(f"Invalid {name}: must be one of {', '.join(options)}", param=name)
    return value


def metadata(form: Form, before: dict[str, str] | None = None) -> dict[str, str]:
    """Merge `metadata[…]` into what was there; an empty text removes a key.

    At most 50 keys of 40, values of 500 characters.
    """
    merged = dict(before or {})
    given = form.get("metadata", {})
    if given == "":
        return {}
    if not isinstance(given, dict):
        raise errors.invalid("Invalid object", param="metadata")
    for key, value in given.items():
        if not isinstance(value, str) or len(key) > 40 or len(value) > 500:
            raise errors.invalid(f"Invalid metadata: {key}", param=f"metadata[{key}]")
        merged[key] = value
        if value == "":
            del merged[key]
    if len(merged) > 50:
        raise errors.invalid("You can have at most 50 metadata keys.", param="metadata")
    return merged


def texts(form: Form, name: str) -> list[str]:
    """Return a list of texts; empty when absent."""
    value: Any = form.get(name, [])
    if value == "":
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise errors.invalid("Invalid array", param=name)
    return value
