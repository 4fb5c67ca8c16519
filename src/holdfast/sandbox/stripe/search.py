"""The query language of `/search`, the part of it that finds an object by what the caller knows.

Clauses `metadata['key']:'value'` and `status:'value'` joined by AND. Source: Stripe API, "Search query
language".
"""

from __future__ import annotations

import re
from typing import Final

from holdfast.sandbox.store import Doc
from holdfast.sandbox.stripe import errors

_CLAUSE: Final = re.compile(
    r"""^(?:metadata\[(?P<q>['"])(?P<key>.+?)(?P=q)\]|(?P<field>status|currency)):(?P<r>['"])(?P<value>.*)(?P=r)$"""
)
CLAUSES_MAX: Final = 10


def parse(query: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the metadata and the fields that must be equal. Refuses what it does not understand."""
    metadata: dict[str, str] = {}
    fields: dict[str, str] = {}
    clauses = re.split(r"\s+AND\s+", query.strip(), flags=re.IGNORECASE)
    if len(clauses) > CLAUSES_MAX:
        raise errors.invalid("Too many clauses in the query.", param="query")
    for clause in clauses:
        match = _CLAUSE.match(clause.strip())
        if match is None:
            raise errors.invalid(f"We were unable to parse your search query: {clause}", param="query")
        if match["key"] is not None:
            metadata[match["key"]] = match["value"]
        else:
            fields[match["field"]] = match["value"]
    return metadata, fields


def matches(doc: Doc, metadata: dict[str, str], fields: dict[str, str]) -> bool:
    """Tell whether `doc` is one that the query asks for."""
    return all(doc["metadata"].get(key) == value for key, value in metadata.items()) and all(
        doc.get(name) == value for name, value in fields.items()
    )
