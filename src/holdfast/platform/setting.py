"""One raw setting with where it stands, and how it is read or refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from holdfast.base.errors import Refused
from holdfast.base.secret import Secret

SECRET_CHARS_MIN: Final = 8


class ConfigInvalid(Refused):
    """The configuration is wrong: the message names the setting, where it stands and what to do."""

    code = "config_invalid"


@dataclass(frozen=True, slots=True)
class Given:
    """One raw value with where it stands, for messages."""

    name: str
    value: object
    place: str

    def refuse(self, wanted: str) -> ConfigInvalid:
        """Return the refusal, with the setting's name, where it stands, and what is wanted."""
        return ConfigInvalid(f"{self.name} ({self.place}): {wanted}", setting=self.name)


Parser = Callable[[Given], Any]
"""Reads a setting, or refuses it."""


def text(given: Given) -> str:
    """Read a text that is not empty. Raises: `ConfigInvalid`."""
    if not isinstance(given.value, str) or not given.value:
        raise given.refuse("write a text here.")
    return given.value


def one_of(*choices: str) -> Parser:
    """Return what reads one of some choices."""

    def parse(given: Given) -> str:
        if given.value not in choices:
            raise given.refuse(f"{given.value!r} is not one of {', '.join(choices)}.")
        return str(given.value)

    return parse


def whole(low: int, high: int) -> Parser:
    """Return what reads a whole number within bounds."""

    def parse(given: Given) -> int:
        value = given.value
        if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value.strip()):
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise given.refuse(f"{given.value!r} is not a whole number from {low} to {high}.")
        return value

    return parse


def flag(given: Given) -> bool:
    """Read true or false. Raises: `ConfigInvalid`."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(given.value, bool):
        return given.value
    if isinstance(given.value, str) and given.value.lower() in words:
        return words[given.value.lower()]
    raise given.refuse(f"{given.value!r} is not true or false.")


def url(given: Given) -> str:
    """Read an address; empty stays empty. Raises: `ConfigInvalid`."""
    if given.value == "":
        return ""
    address = text(given).rstrip("/")
    split = urlsplit(address)
    if split.scheme not in ("http", "https") or not split.hostname or split.username or split.query:
        raise given.refuse(f"{address!r} is not an address like https://host:port/path.")
    return address


def path(given: Given) -> Path:
    """Read a path, made absolute. Raises: `ConfigInvalid`."""
    if isinstance(given.value, Path):
        return given.value.absolute()
    return Path(text(given)).expanduser().absolute()


def secret(given: Given) -> Secret:
    """Read a secret. Raises: `ConfigInvalid`."""
    if not isinstance(given.value, str) or len(given.value) < SECRET_CHARS_MIN:
        raise given.refuse(f"a secret has at least {SECRET_CHARS_MIN} characters.")
    return Secret(given.value)


def dsn(given: Given) -> Secret | None:
    """Read a connection string of PostgreSQL; empty is none. Raises: `ConfigInvalid`."""
    if given.value == "":
        return None
    if not isinstance(given.value, str) or not re.match(r"postgres(ql)?://|\w+\s*=", given.value):
        raise given.refuse(
            "write a PostgreSQL connection string, postgresql://user:password@host:port/database."
        )
    return Secret(given.value)


def matching(pattern: str, words: str) -> Parser:
    """Return what reads a text that matches a pattern, told in `words`."""

    def parse(given: Given) -> str:
        if not isinstance(given.value, str) or not re.fullmatch(pattern, given.value):
            raise given.refuse(f"{given.value!r} is not {words}.")
        return given.value

    return parse
