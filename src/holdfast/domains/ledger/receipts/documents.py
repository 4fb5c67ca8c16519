"""Receipts, published roots and proofs of consistency as JSON, and how they are checked without a database.

docs/reference/ledger.md describes the formats. Nothing here trusts its input: every field is looked at, and
every list has a bound.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from holdfast.domains.ledger.errors import ReceiptFalse, ReceiptUnreadable, RootUnknown
from holdfast.domains.ledger.receipts import tree
from holdfast.domains.ledger.rules import chain

RECEIPT: Final = "holdfast-receipt-1"
ROOT: Final = "holdfast-root-1"
CONSISTENCY: Final = "holdfast-consistency-1"
DOCUMENT_BYTES_MAX: Final = 2**16
"""The largest receipt: metadata, and a few hundred hashes."""
ROOTS_BYTES_MAX: Final = 2**24
"""A file of published roots: about 100,000 of them."""
_LEVELS_MAX: Final = 8
_BIG: Final = 2**63 - 1
_KINDS: Final = ("posted", "pending", "post_pending", "void_pending", "expire_pending", "settle_pending")
_BALANCING: Final = ("debit", "credit")
_CONTENT: Final = (
    "id", "debit", "credit", "amount", "code", "asset", "kind", "balancing", "asked", "held", "pending_id",
    "expires_at", "over", "settles", "metadata",
)  # fmt: skip
_BATCH: Final = ("number", "first_seq", "at", "transfers", "before", "refusals", "refused")
_TREE: Final = ("size", "path", "root")
_MOMENT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
_LEAF: Final = struct.Struct("!B16sqqqihh").pack
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Content:
    """A transfer as it is hashed. `kind` and `asset` are numbers; docs/reference/ledger.md has the kinds."""

    id: UUID
    debit: int
    credit: int
    amount_minor: int
    code: int
    asset: int
    kind: int
    balancing: int | None = None
    asked: int | None = None
    held: int | None = None
    pending_id: UUID | None = None
    expires_at: datetime | None = None
    over: int | None = None
    settles: bool | None = None
    metadata: Mapping[str, str] | None = None

    @property
    def kind_name(self) -> str:
        """The kind in words."""
        return _KINDS[self.kind]

    def leaf(self) -> bytes:
        """Hash it."""
        fixed = _LEAF(
            0, self.id.bytes, self.debit, self.credit, self.amount_minor, self.code, self.asset, self.kind
        )
        more = chain.extension(
            balancing=self.balancing,
            asked=self.asked,
            held=self.held,
            pending_id=None if self.pending_id is None else self.pending_id.bytes,
            expires_at=self.expires_at,
            over=self.over,
            settles=self.settles,
            metadata=chain.canonical(self.metadata) if self.metadata else None,
        )
        return sha256(fixed + more).digest()

    def document(self) -> Document:
        """Write it as JSON has it; what it does not have is left out."""
        more: Document = {
            "balancing": None if self.balancing is None else _BALANCING[self.balancing - 1],
            "asked": self.asked,
            "held": self.held,
            "pending_id": None if self.pending_id is None else str(self.pending_id),
            "expires_at": None if self.expires_at is None else written(self.expires_at),
            "over": self.over,
            "settles": self.settles,
            "metadata": dict(self.metadata) if self.metadata else None,
        }
        return {
            "id": str(self.id),
            "debit": str(self.debit),
            "credit": str(self.credit),
            "amount": self.amount_minor,
            "code": self.code,
            "asset": self.asset,
            "kind": self.kind_name,
            **{name: value for name, value in more.items() if value is not None},
        }


@dataclass(frozen=True, slots=True)
class Root:
    """The root over the first `size` batches. `at`: the time of the last of them."""

    size: int
    hash: bytes
    at: datetime | None = None

    def document(self) -> Document:
        """Write it as JSON has it."""
        return {
            "format": ROOT,
            "size": self.size,
            "root": self.hash.hex(),
            "at": None if self.at is None else written(self.at),
        }


@dataclass(frozen=True, slots=True)
class Proven:
    """What a receipt proves: that `transfer` was made at `at` in `batch`, under `root`.

    `published`: whether that root was among those that it was compared with.
    """

    transfer: Content
    at: datetime
    batch: int
    root: Root
    published: bool


def written(moment: datetime) -> str:
    """Write a moment as documents have it."""
    return moment.astimezone(UTC).strftime(_MOMENT)


def parse(text: str | bytes) -> Document:
    """Read a document. Raises: `ReceiptUnreadable`."""
    if len(text) > DOCUMENT_BYTES_MAX:
        raise ReceiptUnreadable(f"A document of more than {DOCUMENT_BYTES_MAX:,} bytes is not read.")
    found = _load(text)
    if not isinstance(found, dict):
        raise ReceiptUnreadable
    return found


def parse_roots(text: str | bytes) -> tuple[Root, ...]:
    """Read published roots: one, a list of them, or one in each line. Raises: `ReceiptUnreadable`."""
    if len(text) > ROOTS_BYTES_MAX:
        raise ReceiptUnreadable(f"A file of roots of more than {ROOTS_BYTES_MAX:,} bytes is not read.")
    try:
        found = _load(text)
    except ReceiptUnreadable:
        found = [_load(line) for line in text.splitlines() if line.strip()]
    roots = tuple(_root(one) for one in (found if isinstance(found, list) else [found]))
    if not roots:
        raise ReceiptUnreadable("There is no root in it.")
    return roots


def verify_receipt(document: Mapping[str, object], roots: Sequence[Root] | None = None) -> Proven:
    """Check a receipt against published roots; without any, only that it leads to the root that it names.

    Raises: `ReceiptUnreadable` when it is no receipt, `ReceiptFalse` when its hashes do not lead there,
    `RootUnknown` when that root is not among `roots`.
    """
    _format(document, RECEIPT, "transfer", "position", "path", "batch", "tree")
    transfer = _content(_mapping(document.get("transfer"), *_CONTENT))
    batch, above = _mapping(document.get("batch"), *_BATCH), _mapping(document.get("tree"), *_TREE)
    number, at = _whole(batch, "number", 1), _moment(batch, "at")
    count, position = _whole(batch, "transfers", 1, 2**31 - 1), _whole(document, "position")
    root = _climb(transfer.leaf(), position, count, _list(document, "path", _LEVELS_MAX))
    digest = chain.batch_hash(
        _hex(batch, "before", 0 if number == 1 else 32),
        number=number,
        first_seq=_whole(batch, "first_seq"),
        at=at,
        transfers=count,
        refusals=_whole(batch, "refusals", 0, 2**31 - 1),
        root=root,
        refused=_hex(batch, "refused", 32),
    )
    size, path = _whole(above, "size", number), _hashes(above, "path", tree.PATH_HASHES_MAX)
    reached = tree.root_by_inclusion(tree.leaf(digest), number - 1, size, path)
    if reached is None or reached != _hex(above, "root", 32):
        raise ReceiptFalse
    known = _published(Root(size, reached), roots)
    return Proven(transfer, at, number, known or Root(size, reached), known is not None)


def verify_consistency(
    document: Mapping[str, object], roots: Sequence[Root] | None = None
) -> tuple[Root, Root]:
    """Check that the older root of a proof is over the beginning of what the newer is over; return both.

    Raises: `ReceiptUnreadable`, `ReceiptFalse`, and `RootUnknown` when one of them is not among `roots`.
    """
    _format(document, CONSISTENCY, "old", "new", "path")
    old, new = _root(document.get("old")), _root(document.get("new"))
    path = _hashes(document, "path", tree.PATH_HASHES_MAX)
    if not tree.consistent(old.size, old.hash, new.size, new.hash, path):
        raise ReceiptFalse("The older root is not over the beginning of what the newer root is over.")
    known = [_published(root, roots) or Root(root.size, root.hash) for root in (old, new)]
    return known[0], known[1]


def _published(root: Root, roots: Sequence[Root] | None) -> Root | None:
    if roots is None:
        return None
    same_size = [known for known in roots if known.size == root.size]
    for known in same_size:
        if known.hash == root.hash:
            return known
    if same_size:
        raise ReceiptFalse(f"It leads to another root over {root.size:,} batches than the published one.")
    raise RootUnknown(f"None of the roots that were given is over {root.size:,} batches.")


def climb_path(levels: Sequence[Sequence[bytes]], position: int) -> list[Document]:
    """Return the path of a leaf through the levels of a batch's tree."""
    path = []
    for level in levels[:-1]:
        start = position - position % chain.BRANCHES
        left, right = level[start:position], level[position + 1 : start + chain.BRANCHES]
        path.append({"left": [h.hex() for h in left], "right": [h.hex() for h in right]})
        position //= chain.BRANCHES
    return path


def _climb(reached: bytes, position: int, count: int, path: Sequence[object]) -> bytes:
    """Return the root of the batch's tree to which a leaf and its path lead."""
    if position >= count:
        raise ReceiptFalse
    for step in path:
        sides = _mapping(step, "left", "right")
        left, right = (_hashes(sides, side, chain.BRANCHES - 1) for side in ("left", "right"))
        start = position - position % chain.BRANCHES
        beside = min(chain.BRANCHES, count - start) - 1
        if count < 2 or len(left) != position - start or len(left) + len(right) != beside:
            raise ReceiptFalse
        reached = sha256(b"".join((b"\x01", *left, reached, *right))).digest()
        position, count = position // chain.BRANCHES, -(-count // chain.BRANCHES)
    if count != 1:
        raise ReceiptFalse
    return reached


def _content(found: Mapping[str, object]) -> Content:
    kind, balancing = found.get("kind"), found.get("balancing")
    if kind not in _KINDS or (balancing is not None and balancing not in _BALANCING):
        raise ReceiptUnreadable
    if "settles" in found and found["settles"] is not True:
        raise ReceiptUnreadable("`settles` is true, or is not there.")
    metadata = found.get("metadata")
    if metadata is not None:
        named = isinstance(metadata, Mapping) and metadata
        if not named or not all(isinstance(value, str) for value in named.values()):
            raise ReceiptUnreadable("`metadata` is not texts by name.")
    return Content(
        id=_uuid(found, "id"),
        debit=_number(found, "debit"),
        credit=_number(found, "credit"),
        amount_minor=_whole(found, "amount", 1),
        code=_whole(found, "code", 0, 2**31 - 1),
        asset=_whole(found, "asset", 0, 2**15 - 1),
        kind=_KINDS.index(str(kind)),
        balancing=None if balancing is None else _BALANCING.index(str(balancing)) + 1,
        asked=_whole(found, "asked", -1) if "asked" in found else None,
        held=_whole(found, "held", 1) if "held" in found else None,
        pending_id=_uuid(found, "pending_id") if "pending_id" in found else None,
        expires_at=_moment(found, "expires_at") if "expires_at" in found else None,
        over=_whole(found, "over", 1) if "over" in found else None,
        settles=True if "settles" in found else None,
        metadata=dict(metadata) if isinstance(metadata, Mapping) else None,
    )


def _root(value: object) -> Root:
    found = _mapping(value, "format", "size", "root", "at")
    if found.get("format", ROOT) != ROOT:
        raise ReceiptUnreadable(f"It is not a root of the format {ROOT}.")
    at = _moment(found, "at") if found.get("at") is not None else None
    return Root(_whole(found, "size"), _hex(found, "root", 32), at)


def _load(text: str | bytes) -> object:
    def once(pairs: list[tuple[str, object]]) -> Document:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ReceiptUnreadable("A field stands twice in it.")
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise ReceiptUnreadable("It is not JSON.") from None


def _format(document: Mapping[str, object], name: str, *fields: str) -> None:
    if document.get("format") != name:
        raise ReceiptUnreadable(f"It is not a document of the format {name}.")
    _mapping(document, "format", *fields)


def _mapping(value: object, *fields: str) -> Mapping[str, object]:
    """Return a mapping with no field but `fields`: nothing may stand in a document that it does not prove."""
    if not isinstance(value, Mapping) or not value.keys() <= set(fields):
        raise ReceiptUnreadable("A field in it is missing, or is none that it should have.")
    return value


def _list(found: Mapping[str, object], name: str, most: int) -> Sequence[object]:
    value = found.get(name)
    if not isinstance(value, list) or len(value) > most:
        raise ReceiptUnreadable(f"`{name}` is not a list of at most {most}.")
    return value


def _whole(found: Mapping[str, object], name: str, low: int = 0, high: int = _BIG) -> int:
    value = found.get(name)
    if type(value) is not int or not low <= value <= high:
        raise ReceiptUnreadable(f"`{name}` is not a whole number from {low} to {high}.")
    return value


def _number(found: Mapping[str, object], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, str) or not re.fullmatch(r"[1-9][0-9]{0,18}", value) or int(value) > _BIG:
        raise ReceiptUnreadable(f"`{name}` is not the number of an account, as text.")
    return int(value)


def _hex(found: Mapping[str, object], name: str, size: int | None = None) -> bytes:
    value = found.get(name)
    found_hex = isinstance(value, str) and _HEX.fullmatch(value)
    if not found_hex or (size is not None and len(str(value)) != 2 * size):
        length = "bytes" if size is None else f"{size} bytes"
        raise ReceiptUnreadable(f"`{name}` is not {length} as hexadecimal.")
    return bytes.fromhex(str(value))


def _hashes(found: Mapping[str, object], name: str, most: int) -> list[bytes]:
    return [_hex({name: value}, name, 32) for value in _list(found, name, most)]


def _uuid(found: Mapping[str, object], name: str) -> UUID:
    value = found.get(name)
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value):
        raise ReceiptUnreadable(f"`{name}` is not a UUID.")
    return UUID(value)


def _moment(found: Mapping[str, object], name: str) -> datetime:
    value = found.get(name)
    try:
        return datetime.strptime(str(value), _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        raise ReceiptUnreadable(f"`{name}` is not a time like 2026-03-01T12:00:00.000000Z.") from None
