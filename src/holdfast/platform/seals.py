"""Seals personal texts under a key for each person, opens them, and destroys a key.

What a ledger has hashed can never be changed nor taken out. So personal texts go into it sealed: AES-256-GCM
under a key that belongs to the person they are about. Without that key they are noise, while every hash over
them still holds: destroying one row of `seals.keys` erases them in all tables, archives and receipts at once.

Sealing is deterministic: the nonce is an HMAC of the text and of where it stands (`context`, such as the id
of a transfer, and the name of the field), so that a request that is sent again seals to the same and is
recognised. Where it stands is authenticated too: a sealed text that was moved elsewhere does not open.

The keys lie in the database as they are: nothing here protects from who can read all of it. They are meant to
be destroyed, not to be kept from its owner.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from holdfast.base.sealed import ERASED, PREFIX, any_sealed, is_sealed
from holdfast.platform.db import Connection, Database, DatabaseUnavailable

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_ID_BYTES: Final = 12
_TRIES_MAX: Final = 8
_KEYS: Final = "select subject, id, key from seals.keys where subject = any (%s)"
_MAKE: Final = """
insert into seals.keys (id, subject, key, made_at)
select * from unnest(%s::text[], %s::text[], %s::bytea[], %s::timestamptz[])
on conflict (subject) do nothing"""
_OPEN: Final = "select id, key from seals.keys where id = any (%s) and key is not null"
_ERASE: Final = """
update seals.keys set key = null, subject = null, erased_at = %s where subject = %s returning id"""
_VACUUM: Final = "vacuum seals.keys"


@dataclass(frozen=True, slots=True)
class Note:
    """Texts by name that are about `subject` and stand at `context`."""

    subject: str
    context: UUID
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Key:
    id: str
    key: bytes

    def seal(self, context: UUID, name: str, text: str) -> str:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - loaded when used

        where, plain = _where(context, name), text.encode()
        nonce = hmac.digest(_derived(self.key, b"nonce"), where + b"\0" + plain, "sha256")[:_NONCE_BYTES]
        sealed = AESGCM(_derived(self.key, b"seal")).encrypt(nonce, plain, where)
        return f"{PREFIX}{self.id}:{base64.urlsafe_b64encode(nonce + sealed).decode().rstrip('=')}"

    def open(self, context: UUID, name: str, body: str) -> str:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - loaded when used
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        try:
            raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            plain = AESGCM(_derived(self.key, b"seal")).decrypt(
                raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _where(context, name)
            )
            return plain.decode()
        except (InvalidTag, ValueError):
            return ERASED  # it never was one of ours, or stands where it was not sealed


def _where(context: UUID, name: str) -> bytes:
    return context.bytes + name.encode()


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, purpose, "sha256")


async def seal(database: Database, notes: Sequence[Note], *, now: datetime) -> list[dict[str, str]]:
    """Seal texts and return them in order. Whoever has no key yet is given one.

    Raises: `DatabaseUnavailable`.
    """
    if not any(note.texts for note in notes):
        return [{} for _ in notes]
    async with database.connection() as connection:
        keys = await _keys(connection, sorted({note.subject for note in notes if note.texts}), now)
    return [
        {name: keys[note.subject].seal(note.context, name, text) for name, text in note.texts.items()}
        for note in notes
    ]


async def _keys(connection: Connection, subjects: list[str], now: datetime) -> dict[str, _Key]:
    found = await _existing(connection, subjects)
    for _ in range(_TRIES_MAX):  # once more where another process destroyed one in between
        missing = [subject for subject in subjects if subject not in found]
        if not missing:
            return found
        ids = [secrets.token_urlsafe(_ID_BYTES) for _ in missing]
        keys = [secrets.token_bytes(_KEY_BYTES) for _ in missing]
        await connection.execute(_MAKE, (ids, missing, keys, [now] * len(missing)))
        found |= await _existing(connection, missing)
    raise DatabaseUnavailable


async def _existing(connection: Connection, subjects: list[str]) -> dict[str, _Key]:
    rows = await (await connection.execute(_KEYS, (subjects,))).fetchall()
    return {subject: _Key(id_, bytes(key)) for subject, id_, key in rows}


async def opened(database: Database, texts: Iterable[tuple[UUID, Mapping[str, str]]]) -> list[dict[str, str]]:
    """Open what is sealed of texts that stand at some contexts; what was never sealed stays as it is.

    Of what cannot be opened any more `ERASED` is returned. Raises: `DatabaseUnavailable`.
    """
    asked = list(texts)
    ids = {
        _split(text)[0] for _, some in asked if any_sealed(some) for text in some.values() if is_sealed(text)
    }
    keys: dict[str, _Key] = {}
    if ids:
        async with database.connection() as connection:
            rows = await (await connection.execute(_OPEN, (sorted(ids),))).fetchall()
        keys = {id_: _Key(id_, bytes(key)) for id_, key in rows}
    return [
        {name: _opened(keys, context, name, text) for name, text in some.items()} for context, some in asked
    ]


def _opened(keys: Mapping[str, _Key], context: UUID, name: str, text: str) -> str:
    if not is_sealed(text):
        return text
    id_, body = _split(text)
    return keys[id_].open(context, name, body) if id_ in keys else ERASED


def _split(text: str) -> tuple[str, str]:
    id_, _, body = text.removeprefix(PREFIX).partition(":")
    return id_, body


async def erase(database: Database, subject: str, *, now: datetime) -> bool:
    """Destroy the key of `subject`; tell whether there was one. What is sealed later gets a new key.

    The old row is overwritten in the table at once. In the write-ahead log, on replicas that lag, and in
    backups it lives on until these are gone. Raises: `DatabaseUnavailable`.
    """
    async with database.connection() as connection:
        rows = await (await connection.execute(_ERASE, (now, subject))).fetchall()
        if rows:
            await connection.execute(_VACUUM)
    return bool(rows)
