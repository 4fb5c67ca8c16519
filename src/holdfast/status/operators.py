"""Operators and their sign-in, which works while the wallet is down: a password and a one-time code.

Passwords are kept as scrypt (RFC 7914, N 2^17, r 8, p 1, as OWASP advises); codes are TOTP (RFC 6238), each
used once. After `FAILURES_MAX` wrong tries a name waits. Sessions live in memory: a restart ends them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

import msgspec
import pyotp

from holdfast.base.clock import Clock
from holdfast.base.errors import Refused
from holdfast.status.store import Store

SESSION_S: Final = 12 * 3_600
IDLE_S: Final = 3_600
SESSIONS_MAX: Final = 1_000
FAILURES_MAX: Final = 5
FAILURES_S: Final = 300
OPERATORS_MAX: Final = 200
PASSWORD_CHARS: Final = (12, 128)
"""Shortest and longest (ASVS 5.0, 6.2.1 and 6.2.9)."""
_SETTING: Final = "operators"
_STEP_S: Final = 30
_SCRYPT: Final = {"n": 2**17, "r": 8, "p": 1, "maxmem": 256 * 1024 * 1024, "dklen": 32}


class SignInWrong(Refused):
    """Name, password or code is wrong, or the code was used already. Wait for the next code and try again."""

    code = "status_sign_in_wrong"


class SignInTooOften(Refused):
    """There were too many wrong tries. Wait five minutes."""

    code = "status_sign_in_too_often"


class OperatorInvalid(Refused):
    """An operator has a name of 1 to 60 characters and a password of 12 to 128."""

    code = "status_operator_invalid"


class _Operator(msgspec.Struct, frozen=True):
    name: str
    salt: str
    password: str
    totp: str


@dataclass(slots=True)
class Session:
    """Somebody who signed in. `form` has to come with everything that changes something."""

    name: str
    form: str
    until_s: float
    seen_s: float


class Operators:
    """Who may use the pages of operators."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._failed: dict[str, list[float]] = {}
        self._used: dict[str, int] = {}
        """By name: the last step whose code was used."""

    def _all(self) -> list[_Operator]:
        kept = self._store.get(_SETTING)
        return [] if kept is None else msgspec.json.decode(kept, type=list[_Operator])

    def add(self, name: str, password: str) -> str:
        """Add an operator, or give one a new password and secret; return the secret of the codes, base 32."""
        shortest, longest = PASSWORD_CHARS
        if not 0 < len(name.strip()) <= 60 or not shortest <= len(password) <= longest:
            raise OperatorInvalid
        others = [one for one in self._all() if one.name != name]
        if len(others) >= OPERATORS_MAX:
            raise OperatorInvalid(f"There are {OPERATORS_MAX} operators already. Remove some.")
        salt, secret = secrets.token_bytes(16), pyotp.random_base32(32)
        made = _Operator(name, base64.b64encode(salt).decode(), _hash(password, salt), secret)
        self._store.put(_SETTING, msgspec.json.encode([*others, made]))
        return secret

    def remove(self, name: str) -> bool:
        """Remove an operator. False: there was none."""
        before = self._all()
        left = [one for one in before if one.name != name]
        self._store.put(_SETTING, msgspec.json.encode(left))
        return len(left) < len(before)

    def sign_in(self, name: str, password: str, code: str) -> str:
        """Return the token of a new session. Raises: `SignInWrong`, `SignInTooOften`."""
        now_s = self._clock.now().timestamp()
        failed = [at for at in self._failed.get(name, []) if now_s - at < FAILURES_S]
        if len(failed) >= FAILURES_MAX:
            raise SignInTooOften
        one = next((each for each in self._all() if each.name == name), None)
        salt = base64.b64decode(one.salt) if one else b"nobody of this name"
        right = hmac.compare_digest(
            _hash(password[: PASSWORD_CHARS[1] + 1], salt), one.password if one else ""
        )
        step = self._step(one, code, now_s) if one else None
        if one is None or not right or step is None:
            if len(self._failed) > OPERATORS_MAX * 5:
                self._failed.clear()
            self._failed[name] = [*failed, now_s]
            raise SignInWrong
        self._used[name] = step
        self._failed.pop(name, None)
        token = secrets.token_urlsafe(32)
        if len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[_sum(token)] = Session(name, secrets.token_urlsafe(24), now_s + SESSION_S, now_s)
        return token

    def _step(self, one: _Operator, code: str, now_s: float) -> int | None:
        totp = pyotp.TOTP(one.totp)
        here = int(now_s // _STEP_S)
        for step in (here - 1, here, here + 1):
            if hmac.compare_digest(totp.at(step * _STEP_S), code.strip()[:10]):
                return step if step > self._used.get(one.name, -1) else None
        return None

    def session(self, token: str) -> Session | None:
        """Return the session of a token, while it lasts and its operator is one."""
        found = self._sessions.get(_sum(token))
        now_s = self._clock.now().timestamp()
        if found is None or now_s > found.until_s or now_s - found.seen_s > IDLE_S:
            return None
        if all(one.name != found.name for one in self._all()):
            return None
        found.seen_s = now_s
        return found

    def sign_out(self, token: str) -> None:
        """End a session."""
        self._sessions.pop(_sum(token), None)


def _hash(password: str, salt: bytes) -> str:
    return base64.b64encode(hashlib.scrypt(password.encode(), salt=salt, **_SCRYPT)).decode()


def _sum(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
