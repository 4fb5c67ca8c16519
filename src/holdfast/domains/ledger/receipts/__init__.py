"""Receipts: proof of a single transfer that anyone checks offline, against a root that was published.

Over the hashes of all batches stands a Merkle tree. Its root, written down somewhere that nobody can alter,
binds every batch before it, and so every transfer. A receipt holds a transfer and the hashes that lead from
it to such a root. A proof of consistency shows that a later root is over the same batches and more.

Making them reads the tables and keeps subtrees that are complete. Checking them needs only the documents.
"""

from holdfast.domains.ledger.receipts.documents import (
    DOCUMENT_BYTES_MAX,
    ROOTS_BYTES_MAX,
    Content,
    Document,
    Proven,
    Root,
    parse,
    parse_roots,
    verify_consistency,
    verify_receipt,
)
from holdfast.domains.ledger.receipts.making import consistency, make_receipt, published_root

__all__ = [
    "DOCUMENT_BYTES_MAX", "ROOTS_BYTES_MAX", "Content", "Document", "Proven", "Root", "consistency",
    "make_receipt", "parse", "parse_roots", "published_root", "verify_consistency", "verify_receipt",
]  # fmt: skip
