"""Who may tell the service something: tokens, of which the SHA-256 is kept.

Nothing is asked of the wallet.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final, Literal, get_args

import msgspec

from holdfast.base.errors import Refused
from holdfast.status.store import Store

Role = Literal["facts", "operator"]
"""`facts`: a process of the wallet, which may report outcomes and nothing else. `operator`: a person."""

TOKENS_MAX: Final = 1_000
_PREFIX: Final = "hfst_"
_SETTING: Final = "tokens"


class TokenMissing(Refused):
    """A token is needed: send Authorization: Bearer and a token that `holdfast status token` made."""

    code = "status_token_missing"


class TokenWrong(Refused):
    """The token is not in force, or may not do that."""

    code = "status_token_wrong"


class _Token(msgspec.Struct, frozen=True):
    role: Role
    name: str
    sha256: str


class Doorman:
    """Knows the tokens. Reads them anew each time: another process may have made or revoked one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _tokens(self) -> list[_Token]:
        kept = self._store.get(_SETTING)
        return [] if kept is None else msgspec.json.decode(kept, type=list[_Token])

    def issue(self, role: Role, name: str) -> str:
        """Make a token and return it: it is shown this once. One of the same name and role ends."""
        if role not in get_args(Role) or not 0 < len(name) <= 60:
            raise Refused("A token has a role (facts, operator) and a name of 1 to 60 characters.")
        others = [t for t in self._tokens() if (t.role, t.name) != (role, name)]
        if len(others) >= TOKENS_MAX:
            raise Refused(f"There are {TOKENS_MAX} tokens already. Revoke some.")
        token = _PREFIX + secrets.token_urlsafe(32)
        self._store.put(_SETTING, msgspec.json.encode([*others, _Token(role, name, _sum(token))]))
        return token

    def revoke(self, role: Role, name: str) -> bool:
        """End a token. False: there was none."""
        before = self._tokens()
        left = [t for t in before if (t.role, t.name) != (role, name)]
        self._store.put(_SETTING, msgspec.json.encode(left))
        return len(left) < len(before)

    def name_of(self, authorization: str | None, role: Role) -> str:
        """Return whose token a request bears. Raises: `TokenMissing`, `TokenWrong`."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenMissing
        digest = _sum(token.strip())
        for one in self._tokens():
            if one.role == role and secrets.compare_digest(one.sha256, digest):
                return one.name
        raise TokenWrong


def _sum(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
